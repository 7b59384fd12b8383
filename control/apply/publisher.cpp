#include "control/apply/publisher.h"

#include <algorithm>

#include "maps/convert.h"

namespace bpfnet::apply {
namespace {

Records<address_key, address_info> address_records(const compile::PolicyImage& image) {
  Records<address_key, address_info> records;
  for (const auto& [where, entry] : image.addresses) {
    address_info info{};
    info.identity = entry.identity;
    info.endpoint = entry.endpoint;
    info.flags = entry.flags;
    records[maps::make_address_key(where.second, where.first)] = info;
  }
  return records;
}

Records<cidr_key, cidr_info> cidr_records(const compile::PolicyImage& image) {
  Records<cidr_key, cidr_info> records;
  for (const auto& [where, entry] : image.cidrs) {
    cidr_info info{};
    info.identity = entry.identity;
    info.flags = entry.flags;
    records[maps::make_cidr_key(where.second, where.first)] = info;
  }
  return records;
}

/// Puts what differs, then erases what is not wanted.
template <typename Key, typename Value>
void replace(Mirror<Key, Value>& mirror, const Records<Key, Value>& wanted, Problems& problems) {
  const std::string& map = mirror.table().name();
  for (const auto& [key, value] : wanted) {
    auto written = mirror.put(key, value);
    if (!written) problems.push_back({map, written.error().message});
  }
  std::vector<Key> gone;
  for (const auto& [key, value] : mirror.held())
    if (!wanted.contains(key)) gone.push_back(key);
  for (const Key& key : gone) {
    auto erased = mirror.erase(key);
    if (!erased) problems.push_back({map, erased.error().message});
  }
}

/// Collects identities that `held` has and `wanted` does not have at the same key. True: any difference.
template <typename Key, typename Value>
bool compare_identities(const Records<Key, Value>& held, const Records<Key, Value>& wanted,
                        const compile::PolicyImage& image, std::set<uint32_t>& lost) {
  bool changed = false;
  for (const auto& [key, value] : held) {
    auto next = wanted.find(key);
    if (next != wanted.end() && next->second.identity == value.identity) continue;
    changed = true;
    if (next != wanted.end() && !image.identities.contains(value.identity)) lost.insert(value.identity);
  }
  return changed || std::any_of(wanted.begin(), wanted.end(),
                                [&held](const auto& entry) { return !held.contains(entry.first); });
}

}  // namespace

Publisher::Publisher(MapWriter maps, ServicePublisher::Options options)
    : maps_(std::move(maps)),
      grace_(options.grace),
      clock_(options.clock),
      services_(maps_, options),
      sets_(*maps_.policies),
      endpoints_(*maps_.endpoints, sets_),
      interfaces_(*maps_.interfaces),
      addresses_(*maps_.addresses),
      cidrs_(*maps_.cidrs) {}

Status Publisher::adopt() {
  BPFNET_TRY(services_.adopt());
  BPFNET_TRY(sets_.adopt());
  BPFNET_TRY(endpoints_.adopt());
  BPFNET_TRY(interfaces_.load());
  BPFNET_TRY(addresses_.load());
  return cidrs_.load();
}

Publisher::IdentityChange Publisher::identity_change(const Records<address_key, address_info>& addresses,
                                                     const Records<cidr_key, cidr_info>& cidrs,
                                                     const compile::PolicyImage& image) const {
  IdentityChange change;
  const bool by_address = compare_identities(addresses_.held(), addresses, image, change.lost);
  const bool by_cidr = compare_identities(cidrs_.held(), cidrs, image, change.lost);
  change.any = by_address || by_cidr;
  return change;
}

Problems Publisher::publish(const Wanted& wanted, Clock::time_point now) {
  Problems problems;
  const auto addresses = address_records(wanted.policy);
  const auto cidrs = cidr_records(wanted.policy);
  const IdentityChange change = identity_change(addresses, cidrs, wanted.policy);

  // A pod's record is closed before its device is known, and opens last.
  endpoints_.close_new(wanted.endpoints, problems);
  for (const auto& [ifindex, record] : wanted.interfaces) {
    auto written = interfaces_.put(ifindex, record);
    if (!written) problems.push_back({fmt::format("interface {}", ifindex), written.error().message});
  }
  // Sets know new identities before any address has them.
  wanted_sets_.clear();
  for (const auto& [id, set] : wanted.policy.sets) {
    wanted_sets_.insert(id);
    Status written = sets_.write(id, set);
    if (!written) problems.push_back({fmt::format("policy set {}", id), written.error().message});
  }
  endpoints_.move_to_sets(wanted.endpoints, wanted.policy, change.lost, problems);
  endpoints_.free_gone(wanted.endpoints, problems);
  replace(cidrs_, cidrs, problems);
  replace(addresses_, addresses, problems);
  endpoints_.move_identities(wanted.policy, problems);
  // Services before pods open, so that a pod's first packet finds them.
  Problems of_services;
  services_.publish(wanted.services, now, of_services);
  endpoints_.settle(wanted.endpoints, wanted.policy, change.any, problems);

  Records<uint32_t, interface> interfaces;
  for (const auto& [ifindex, record] : wanted.interfaces) interfaces[ifindex] = record;
  replace(interfaces_, interfaces, problems);
  sets_.reclaim(wanted_sets_, endpoints_.sets_in_use(), clock_(), grace_);
  other_problems_ = std::move(problems);
  of_services.insert(of_services.end(), other_problems_.begin(), other_problems_.end());
  return of_services;
}

Problems Publisher::publish(const ServiceUpdate& services, Clock::time_point now) {
  Problems problems;
  services_.publish(services, now, problems);
  problems.insert(problems.end(), other_problems_.begin(), other_problems_.end());
  return problems;
}

uint64_t Publisher::resync(const Wanted& wanted, Clock::time_point now, Problems& problems) {
  // What is due anyway is not drift.
  problems = publish(wanted, now);
  const uint64_t before = writes();
  services_.repair(problems);
  const auto reload = [&problems](const char* what, Status read) {
    if (!read) problems.push_back({what, read.error().message});
    return read.has_value();
  };
  const bool known = reload("policies", sets_.reload()) && reload("endpoints", endpoints_.adopt()) &&
                     reload("interfaces", interfaces_.load()) && reload("addresses", addresses_.load()) &&
                     reload("cidrs", cidrs_.load());
  if (known) {
    Problems again = publish(wanted, now);
    problems.insert(problems.end(), again.begin(), again.end());
  }
  return writes() - before;
}

bool Publisher::reclaim(Clock::time_point now) {
  const bool runs = services_.reclaim(now);
  const bool sets = sets_.reclaim(wanted_sets_, endpoints_.sets_in_use(), now, grace_);
  return runs || sets;
}

std::optional<Clock::time_point> Publisher::deadline() const {
  const auto runs = services_.deadline();
  const auto sets = sets_.deadline();
  if (!runs) return sets;
  if (!sets) return runs;
  return std::min(*runs, *sets);
}

Status Publisher::verify_endpoint(uint16_t index, uint32_t ifindex, const std::vector<Address>& ips,
                                  uint16_t net) const {
  auto record = maps_.endpoints->get(index);
  if (!record) return pass(record);
  if (!*record || (*record)->state != ENDPOINT_OPEN || (*record)->ifindex != ifindex)
    return fail("map endpoints: record {} does not show an open endpoint at interface {}", index, ifindex);
  auto device = maps_.interfaces->get(ifindex);
  if (!device) return pass(device);
  if (!*device || (*device)->kind != INTERFACE_POD || (*device)->endpoint != index)
    return fail("map interfaces: interface {} does not lead to endpoint {}", ifindex, index);
  for (const Address& ip : ips) {
    auto info = maps_.addresses->get(maps::make_address_key(ip, net));
    if (!info) return pass(info);
    if (!*info || (*info)->endpoint != index)
      return fail("map addresses: {} does not lead to endpoint {}", ip.to_string(), index);
  }
  return ok();
}

Status Publisher::verify_frontends(const std::vector<compile::FrontendAddress>& frontends) const {
  for (const compile::FrontendAddress& wanted : frontends) {
    const bool block = wanted.port_bits < 16;
    auto found = block
                     ? maps_.frontend_ranges->get(maps::make_frontend_range_key(
                           wanted.ip, wanted.port, wanted.port_bits, wanted.proto, wanted.scope, wanted.net))
                     : maps_.frontends->get(maps::make_frontend_key(wanted.ip, wanted.port, wanted.proto,
                                                                    wanted.scope, wanted.net));
    if (!found) return pass(found);
    if (!*found)
      return fail("map {}: {} port {} is missing", block ? "frontend_ranges" : "frontends",
                  wanted.ip.to_string(), wanted.port);
  }
  return ok();
}

Publisher::HighestIds Publisher::highest_ids() const {
  HighestIds ids{.service = services_.highest_service()};
  for (const auto& [key, info] : addresses_.held()) ids.identity = std::max(ids.identity, info.identity);
  for (const auto& [key, info] : cidrs_.held()) ids.identity = std::max(ids.identity, info.identity);
  sets_.highest(ids.set, ids.identity, ids.rule);
  return ids;
}

std::vector<Publisher::MapCounts> Publisher::counts() const {
  std::vector<MapCounts> all;
  const auto add = [&all](const auto& table) { all.push_back({table->name(), table->counts()}); };
  add(maps_.frontends);
  add(maps_.frontend_ranges);
  add(maps_.source_ranges);
  add(maps_.affinities);
  add(maps_.backend_slots);
  add(maps_.backend_states);
  add(maps_.endpoints);
  add(maps_.interfaces);
  add(maps_.addresses);
  add(maps_.cidrs);
  add(maps_.policies);
  return all;
}

uint64_t Publisher::writes() const {
  uint64_t sum = 0;
  for (const MapCounts& map : counts()) sum += map.counts.puts + map.counts.erases;
  return sum;
}

}  // namespace bpfnet::apply
