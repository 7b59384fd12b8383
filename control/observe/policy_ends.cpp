// Whom `bpfnetctl policy verdict` is asked about.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <set>

#include "control/compile/explain.h"
#include "control/observe/policy_verdict.h"
#include "maps/convert.h"

namespace bpfnet::observe {
namespace {

using Ends = std::vector<End>;

Status add(Ends& ends, const maps::Maps& maps, const std::string& name, const Address& address) {
  auto party = find_party(maps, address);
  if (!party) return pass(party);
  ends.push_back({name, address, address.family(), *party});
  return ok();
}

/// Those of a record's two addresses that are set.
std::vector<Address> both(const addr& ip4, const addr& ip6) {
  std::vector<Address> addresses;
  for (const addr& each : {ip4, ip6})
    if (const Address address = maps::from_abi(each); !address.is_unspecified()) addresses.push_back(address);
  return addresses;
}

Result<Ends> of_host(const maps::Maps& maps, const std::string& what) {
  auto interfaces = maps.interfaces.entries();
  if (!interfaces) return pass(interfaces);
  Ends ends;
  for (const auto& [ifindex, record] : *interfaces)
    if (record.kind == INTERFACE_HOST)
      for (const Address& address : both(record.ip4, record.ip6))
        BPFNET_TRY(add(ends, maps, "host", address));
  if (ends.empty()) return fail("{} host: the maps have no address of this node yet; give one", what);
  return ends;
}

Result<Ends> of_world(const maps::Maps& maps) {
  Ends ends;
  for (const Family family : {Family::kIpv4, Family::kIpv6}) {
    auto party = find_world(maps, family);
    if (!party) return pass(party);
    ends.push_back({"world", std::nullopt, family, *party});
  }
  return ends;
}

Result<Ends> of_endpoint(const maps::Maps& maps, const Names& names, const std::string& what,
                         uint16_t index) {
  auto record =
      index < maps.endpoints.max_entries() ? maps.endpoints.get(index) : Result<endpoint>(endpoint{});
  if (!record) return pass(record);
  if (record->state == ENDPOINT_FREE)
    return fail("{} {}: no endpoint has this index; `bpfnetctl endpoint list` shows all", what, index);
  Ends ends;
  for (const Address& address : both(record->ip4, record->ip6))
    BPFNET_TRY(add(ends, maps, names.endpoint(index), address));
  return ends;
}

Result<Ends> of_pod(const maps::Maps& maps, const Names& names, const std::string& what,
                    const std::string& text) {
  const auto local = names.endpoint_of(text);
  const bool full_name = text.find('/') != std::string::npos;
  if (local && full_name) return of_endpoint(maps, names, what, *local);
  const std::vector<PodName> pods = names.pods_called(text);
  std::set<std::string> found;
  for (const PodName& pod : pods) found.insert(pod.name);
  if (local) found.insert(names.endpoint(*local));
  if (found.size() > 1)
    return fail("{} {}: {} are called so; name one as NAMESPACE/NAME", what, text,
                compile::enumerate({found.begin(), found.end()}));
  if (local) return of_endpoint(maps, names, what, *local);
  if (pods.empty() && !names.problem().empty())
    return fail(
        "{} {}: pods are known by name to the agent alone ({}); give an address, or an index as "
        "`bpfnetctl endpoint list` shows it",
        what, text, names.problem());
  if (pods.empty())
    return fail("{} {}: no such pod; name it as NAMESPACE/NAME, or give an address, host or world", what,
                text);
  Ends ends;
  for (const Address& address : pods.front().ips) BPFNET_TRY(add(ends, maps, pods.front().name, address));
  if (ends.empty()) return fail("{} {}: the pod has no address yet", what, text);
  return ends;
}

}  // namespace

Result<std::vector<End>> find_ends(const maps::Maps& maps, const Names& names, const std::string& what,
                                   const std::string& text) {
  if (text == "host") return of_host(maps, what);
  if (text == "world") return of_world(maps);
  uint16_t index = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), index);
  if (!text.empty() && error == std::errc{} && end == text.data() + text.size())
    return of_endpoint(maps, names, what, index);
  if (const auto address = Address::parse(text)) {
    Ends ends;
    const auto party = find_party(maps, *address);
    if (!party) return pass(party);
    std::string name = names.endpoint(party->endpoint);
    if (name.empty() && (party->flags & ADDRESS_POD) != 0) name = names.pod_at(*address);
    ends.push_back({std::move(name), *address, address->family(), *party});
    return ends;
  }
  return of_pod(maps, names, what, text);
}

}  // namespace bpfnet::observe
