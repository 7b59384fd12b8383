#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "control/compile/explain.h"
#include "control/observe/set_view.h"
#include "control/observe/table.h"
#include "control/observe/views.h"
#include "maps/abi/policy.h"
#include "maps/convert.h"
#include "maps/decode.h"
#include "maps/labels.h"

namespace bpfnet::observe {
namespace {

using nlohmann::ordered_json;

std::string isolation_text(const Names& names, uint32_t index, bool ingress) {
  return fmt::format(
      "{}", fmt::join(compile::isolating(names.isolated_by(index, ingress), names.audited_by(index, ingress)),
                      ", "));
}

/// Endpoints under each set, by direction.
struct Users {
  std::set<std::string> ingress;
  std::set<std::string> egress;
};

std::string users_text(const Users& users) {
  std::string text;
  if (!users.ingress.empty()) text = fmt::format("ingress of {}", fmt::join(users.ingress, ", "));
  if (!users.egress.empty())
    text += fmt::format("{}egress of {}", text.empty() ? "" : "; ", fmt::join(users.egress, ", "));
  return text.empty() ? "no endpoint" : text;
}

}  // namespace

Result<View> policies_view(const maps::Maps& maps, const Names& names) {
  auto endpoints = maps.endpoints.values();
  if (!endpoints) return pass(endpoints);
  auto entries = maps.policies.entries();
  if (!entries) return pass(entries);
  View view;
  view.json["endpoints"] = ordered_json::array();
  view.json["sets"] = ordered_json::array();
  std::map<uint32_t, Users> users;
  Table under({"INDEX", "POD", "INGRESS", "ISOLATED BY", "EGRESS", "ISOLATED BY"});
  for (uint32_t index = 1; index < endpoints->size(); ++index) {
    const endpoint& record = (*endpoints)[index];
    if (record.state == ENDPOINT_FREE) continue;
    const std::string pod = names.endpoint(index);
    users[record.ingress_set].ingress.insert(pod);
    users[record.egress_set].egress.insert(pod);
    under.add({std::to_string(index), pod, set_text(record.ingress_set), isolation_text(names, index, true),
               set_text(record.egress_set), isolation_text(names, index, false)});
    view.json["endpoints"].push_back({{"index", index},
                                      {"name", pod},
                                      {"ingress_set", record.ingress_set},
                                      {"ingress_isolated_by", names.isolated_by(index, true)},
                                      {"ingress_audited_by", names.audited_by(index, true)},
                                      {"egress_set", record.egress_set},
                                      {"egress_isolated_by", names.isolated_by(index, false)},
                                      {"egress_audited_by", names.audited_by(index, false)}});
  }
  view.text = under.text();

  for (const auto& [set, entries_of_set] : by_set(*entries)) {
    const View entries_view = set_view(entries_of_set, names);
    view.text += fmt::format("\nset {} ({})\n{}", set, users_text(users[set]), entries_view.text);
    view.json["sets"].push_back(
        {{"set", set}, {"used_by", users_text(users[set])}, {"entries", entries_view.json}});
  }
  return view;
}

Result<View> identities_view(const maps::Maps& maps, const Names& names) {
  auto addresses = maps.addresses.entries();
  if (!addresses) return pass(addresses);
  auto cidrs = maps.cidrs.entries();
  if (!cidrs) return pass(cidrs);
  std::map<uint32_t, std::vector<std::string>> who;
  for (const auto& [key, info] : *addresses)
    who[info.identity].push_back(maps::from_abi(key.addr).to_string());
  for (const auto& [key, info] : *cidrs) who[info.identity].push_back(maps::from_abi(key).to_string());

  View view;
  view.json = ordered_json::array();
  Table table({"IDENTITY", "WHO", "ADDRESSES"});
  for (auto& [identity, members] : who) {
    std::ranges::sort(members);
    constexpr size_t kShown = 4;
    std::string text = fmt::format(
        "{}", fmt::join(members.begin(),
                        members.begin() + static_cast<long>(std::min(kShown, members.size())), " "));
    if (members.size() > kShown) text += fmt::format(" and {} more", members.size() - kShown);
    table.add({std::to_string(identity), names.identity(identity), text});
    view.json.push_back({{"identity", identity}, {"text", names.identity(identity)}, {"addresses", members}});
  }
  view.text = table.text();
  return view;
}

}  // namespace bpfnet::observe
