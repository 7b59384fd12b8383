#include "control/observe/policy_show.h"

#include <fmt/format.h>

#include "control/compile/explain.h"
#include "control/observe/policy_verdict.h"
#include "control/observe/set_view.h"
#include "maps/abi/policy.h"
#include "maps/labels.h"

namespace bpfnet::observe {
namespace {

using nlohmann::ordered_json;

std::string text_of(const ordered_json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

/// `1. NetworkPolicy default/web (web.yaml:3)` and its rules.
std::string applied_text(const ordered_json& applied) {
  std::string text;
  size_t number = 0;
  for (const ordered_json& policy : applied.value("policies", ordered_json::array())) {
    text += fmt::format("  {}. {} {}", ++number, text_of(policy, "kind"), text_of(policy, "name"));
    if (const std::string tier = text_of(policy, "tier"); !tier.empty())
      text += fmt::format(", {} tier, priority {}", tier, policy.value("priority", 0));
    if (policy.value("audit", false)) text += ", audited: denies nothing";
    if (const std::string source = text_of(policy, "source"); !source.empty())
      text += fmt::format(" ({}:{})", source, policy.value("line", 0));
    text += "\n";
    const auto rules = policy.value("rules", ordered_json::array());
    if (rules.empty()) text += "     no rules: nothing is allowed by it\n";
    for (const ordered_json& rule : rules) text += fmt::format("     {}\n", rule.get<std::string>());
  }
  return text + fmt::format("  {}. otherwise {}\n", ++number, text_of(applied, "otherwise"));
}

std::string set_sentence(uint32_t set) {
  if (set == POLICY_SET_ALLOW_ALL) return "open: everything is allowed, without a lookup\n";
  if (set == POLICY_SET_DENY_ALL) return "deny-all: nothing is allowed\n";
  if (set == POLICY_SET_CLOSED) return "closed: nothing is allowed until its policies have room in the map\n";
  return set_text(set) + ":\n";
}

}  // namespace

Result<View> endpoint_policy_view(const maps::Maps& maps, const Names& names, uint16_t index,
                                  const Result<ordered_json>& applied) {
  auto record = maps.endpoints.get(index);
  if (!record) return pass(record);
  auto entries = maps.policies.entries();
  if (!entries) return pass(entries);
  const auto sets = by_set(std::move(*entries));

  View view;
  view.json = {{"index", index},
               {"name", names.endpoint(index)},
               {"identity", record->identity},
               {"identity_text", names.identity(record->identity)},
               {"state", maps::endpoint_state_label(record->state)}};
  view.text = fmt::format("{}: endpoint {}, {}, identity {}: {}\n", names.endpoint(index), index,
                          maps::endpoint_state_label(record->state), record->identity,
                          names.identity(record->identity));
  if (record->state == ENDPOINT_CLOSED)
    view.text += "nothing passes to or from it until its policy is in place\n";
  for (const bool ingress : {true, false}) {
    const char* direction = ingress ? "ingress" : "egress";
    const uint32_t set = ingress ? record->ingress_set : record->egress_set;
    const auto found = sets.find(set);
    const View compiled = set_view(found == sets.end() ? SetEntries{} : found->second, names);
    ordered_json json = ordered_json::object();
    view.text += fmt::format("\n{}, in the order of judgement:\n", direction);
    if (applied) {
      const ordered_json part = applied->value(direction, ordered_json::object());
      json.update(part);
      view.text += applied_text(part);
    } else {
      view.text += fmt::format("  not known: {}\n", applied.error().message);
    }
    json["set"] = set;
    json["isolated_by"] = names.isolated_by(index, ingress);
    json["audited_by"] = names.audited_by(index, ingress);
    json["entries"] = compiled.json;
    view.text += fmt::format("{} compiled to {}", direction, set_sentence(set));
    if (found != sets.end()) view.text += compiled.text;
    if (const auto wanted = names.wanted_set(index, ingress); wanted && *wanted != set) {
      json["wanted_set"] = *wanted;
      view.text += fmt::format("the agent wants {}, which is not in place: `bpfnetctl status` says why\n",
                               set_text(*wanted));
    }
    view.json[direction] = std::move(json);
  }
  return view;
}

Result<View> policy_show_view(const maps::Maps& maps, const Names& names, const std::string& socket,
                              const std::string& pod) {
  auto ends = find_ends(maps, names, "POD", pod);
  if (!ends) return pass(ends);
  const uint16_t index = ends->empty() ? uint16_t{0} : ends->front().party.endpoint;
  if (index == 0)
    return fail("POD {}: it is no pod of this node; `bpfnetctl endpoint list` shows those, ask on its own",
                pod);
  return endpoint_policy_view(maps, names, index,
                              ask_agent(socket, fmt::format("/v1/policy/show?endpoint={}", index)));
}

}  // namespace bpfnet::observe
