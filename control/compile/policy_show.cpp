#include "control/compile/policy_show.h"

#include <algorithm>
#include <map>

#include "control/compile/occupants.h"
#include "control/compile/policy_order.h"

namespace bpfnet::compile {
namespace {

AppliedPolicy describe(const model::ClusterState& state, const AppliedRule& rule) {
  AppliedPolicy policy;
  policy.kind = "ClusterNetworkPolicy";
  policy.name = rule.policy.to_string();
  policy.tier = rule.stage == Stage::kAdmin ? "Admin" : "Baseline";
  policy.priority = rule.priority;
  policy.audit = rule.audit;
  const auto object = state.cluster_policies.find(rule.policy.name);
  if (object != state.cluster_policies.end()) policy.origin = object->second.origin;
  return policy;
}

void add_cluster_policies(const model::ClusterState& state, const Applicable& applicable, Stage stage,
                          Direction direction, std::vector<AppliedPolicy>& policies) {
  for (const AppliedRule& rule : applicable.rules) {
    if (rule.stage != stage) continue;
    const std::string name = rule.policy.to_string();
    if (policies.empty() || policies.back().name != name || policies.back().tier.empty())
      policies.push_back(describe(state, rule));
    policies.back().rules.push_back(to_text(rule, direction));
  }
}

/// By name, as their order means nothing (P3); also those that isolate and have no rules.
void add_policies(const model::ClusterState& state, const Applicable& applicable, Direction direction,
                  std::vector<AppliedPolicy>& policies) {
  std::map<std::string, AppliedPolicy> by_name;
  for (const auto* names : {&applicable.isolated_by, &applicable.audited_by})
    for (const std::string& name : *names)
      by_name[name] = {.kind = "NetworkPolicy", .name = name, .audit = names == &applicable.audited_by};
  for (const auto& [name, object] : state.policies)
    if (const auto found = by_name.find(name.to_string()); found != by_name.end())
      found->second.origin = object.origin;
  std::vector<const AppliedRule*> rules;
  for (const AppliedRule& rule : applicable.rules)
    if (rule.stage == Stage::kPolicies) rules.push_back(&rule);
  std::ranges::stable_sort(rules, {}, &AppliedRule::index);
  for (const AppliedRule* rule : rules)
    by_name[rule->policy.to_string()].rules.push_back(to_text(*rule, direction));
  for (auto& [name, policy] : by_name) policies.push_back(std::move(policy));
}

}  // namespace

AppliedPolicies applied_policies(const model::ClusterState& state, const NodeView& node,
                                 const LocalEndpoint& endpoint, Direction direction) {
  if (endpoint.pod.name.empty()) return {{}, "allowed: no policy is about a container that is no pod"};
  const model::Pod* pod = pod_of(endpoint, state, node);
  if (pod && pod->finished()) return {{}, "allowed: no policy is about a pod that has finished (P21)"};
  const Applicable applicable = PolicyOrder(state).applicable(endpoint.pod.ns, pod, direction);
  AppliedPolicies applied;
  add_cluster_policies(state, applicable, Stage::kAdmin, direction, applied.policies);
  add_policies(state, applicable, direction, applied.policies);
  add_cluster_policies(state, applicable, Stage::kBaseline, direction, applied.policies);
  applied.otherwise = applicable.isolated_by.empty() ? "allowed: no NetworkPolicy isolates it"
                                                     : "denied: NetworkPolicies isolate it";
  if (!pod) applied.otherwise += "; its labels are not known yet";
  return applied;
}

}  // namespace bpfnet::compile
