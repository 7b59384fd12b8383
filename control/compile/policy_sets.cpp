#include "control/compile/policy_sets.h"

#include <fmt/format.h>

#include <algorithm>

#include "control/compile/numbers.h"
#include "control/compile/policy_contents.h"
#include "maps/abi/policy.h"

namespace bpfnet::compile {
namespace {

std::string tier_text(const AppliedRule& rule) {
  if (!rule.cluster) return "NetworkPolicy";
  return fmt::format("{} {}", rule.stage == Stage::kAdmin ? "Admin" : "Baseline", rule.priority);
}

}  // namespace

SetKey SetBuilder::key(const Applicable& applicable, const model::Pod* pod, Direction direction) {
  SetKey key{std::string(to_string(direction)), {}};
  bool named = false;
  Stage stage = Stage::kPolicies;
  for (const AppliedRule& rule : applicable.rules) {
    if (rule.stage != stage) key.text += rule.stage == Stage::kBaseline ? " baseline" : " admin";
    if (stage == Stage::kAdmin && rule.stage == Stage::kPolicies) key.text += " policies";
    stage = rule.stage;
    const uint32_t id = rule_id(rule, direction);
    key.text += fmt::format(" {}{}{}", id, rule.audit ? "a" : "", rule.certain ? "" : "?");
    key.rules.insert(id);
    named |= names_ports(rule.traffic->ports);
  }
  if (!applicable.isolated_by.empty()) key.text += " isolated";
  if (!applicable.audited_by.empty()) key.text += " isolated-a";
  if (named && direction == Direction::kIngress) {
    if (!pod) key.text += " ports not known yet";
    if (pod)
      for (const auto& port : pod->ports)
        key.text += fmt::format(" {}/{}={}", escape(port.name), model::to_string(port.protocol), port.port);
  }
  return key;
}

PolicySet SetBuilder::build(const Applicable& applicable, const model::Pod* pod, Direction direction) {
  SetContents contents(identities_, matcher_, applicable, pod, direction);
  for (const AppliedRule& rule : applicable.rules) contents.add(rule, rule_id(rule, direction));
  return std::move(contents).make();
}

PrefixVerdicts SetBuilder::about_itself(const Applicable& applicable, const model::Pod* pod,
                                        const std::vector<Identity>& self, Direction direction) {
  Applicable of_cluster = applicable;
  of_cluster.of_itself = true;
  std::erase_if(of_cluster.rules, [](const AppliedRule& rule) { return !rule.cluster; });
  if (of_cluster.rules.empty() || self.empty()) return {};
  PeerMatcher matcher(self);
  SetContents contents(self, matcher, of_cluster, pod, direction);
  for (const AppliedRule& rule : of_cluster.rules) contents.add(rule, rule_id(rule, direction));
  PortMap verdicts = contents.about(0);
  for (size_t other = 1; other < self.size(); ++other) verdicts = strictest(verdicts, contents.about(other));
  PrefixVerdicts prefixes = to_prefixes(verdicts, uniform({0, POLICY_ALLOW}));
  // An Accept is as good as nothing said, and need not set pods apart.
  const bool all_allowed =
      std::ranges::all_of(prefixes, [](const auto& each) { return each.second.verdict == POLICY_ALLOW; });
  return all_allowed ? PrefixVerdicts{} : prefixes;
}

uint32_t SetBuilder::rule_id(const AppliedRule& rule, Direction direction) {
  const auto [known, is_new] = rule_ids_.try_emplace(rule.traffic, 0);
  if (is_new) {
    RuleInfo info{rule.policy.to_string(), to_text(rule, direction), tier_text(rule)};
    known->second = number_of(numbers_.rules, numbers_.next_rule, 1, info.policy + " " + info.text);
    rules_[known->second] = std::move(info);
  }
  return known->second;
}

}  // namespace bpfnet::compile
