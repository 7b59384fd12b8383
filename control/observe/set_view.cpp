#include "control/observe/set_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "control/observe/table.h"
#include "maps/abi/policy.h"
#include "maps/convert.h"
#include "maps/decode.h"
#include "maps/labels.h"

namespace bpfnet::observe {
namespace {

std::string ports_text(const maps::Fields& key) {
  const auto field = [&](std::string_view name) {
    const auto found = std::ranges::find(key, name, &maps::Field::name);
    return found == key.end() ? std::string() : maps::to_text(found->value);
  };
  const std::string ports = field("ports");
  return ports == "*" ? field("protocol") : field("protocol") + "/" + ports;
}

}  // namespace

std::map<uint32_t, SetEntries> by_set(SetEntries entries) {
  std::ranges::sort(entries, [](const auto& a, const auto& b) {
    const auto left = maps::from_abi(a.first);
    const auto right = maps::from_abi(b.first);
    return std::tie(left.set, left.identity, left.proto, left.port, left.port_bits) <
           std::tie(right.set, right.identity, right.proto, right.port, right.port_bits);
  });
  std::map<uint32_t, SetEntries> sets;
  for (const auto& each : entries) sets[maps::from_abi(each.first).set].push_back(each);
  return sets;
}

View set_view(const SetEntries& entries, const Names& names) {
  View view;
  view.json = nlohmann::ordered_json::array();
  Table table({"  PEER", "PORTS", "VERDICT", "RULE"});
  for (const auto& [key, entry] : entries) {
    const uint32_t identity = maps::from_abi(key).identity;
    const maps::Fields fields = maps::decode(key);
    const std::string peer = identity == IDENTITY_ANY ? "anyone" : names.identity(identity);
    table.add(
        {"  " + peer, ports_text(fields), maps::policy_verdict_label(entry.verdict), names.rule(entry.rule)});
    nlohmann::ordered_json json = maps::to_json(fields);
    json["identity_number"] = identity;
    json["peer"] = peer;
    json.update(maps::to_json(maps::decode(entry)));
    json["rule_text"] = names.rule(entry.rule);
    view.json.push_back(std::move(json));
  }
  view.text = table.text();
  return view;
}

std::string set_text(uint32_t set) {
  switch (set) {
    case POLICY_SET_ALLOW_ALL:
      return "open";
    case POLICY_SET_DENY_ALL:
      return "deny-all";
    case POLICY_SET_CLOSED:
      return "closed";
    default:
      return fmt::format("set {}", set);
  }
}

}  // namespace bpfnet::observe
