#include "control/compile/policy_order.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace bpfnet::compile {
namespace {

using model::ClusterNetworkPolicy;
using model::NetworkPolicy;
using model::Pod;
using model::PolicyAction;

}  // namespace

PolicyOrder::PolicyOrder(const model::ClusterState& state) : state_(state) {
  for (const auto& [name, policy] : state.cluster_policies) cluster_policies_.push_back(&policy);
  std::ranges::stable_sort(cluster_policies_, {}, &ClusterNetworkPolicy::priority);
}

const PolicyOrder::ClusterPolicies& PolicyOrder::about(const std::string& ns) {
  const auto [known, is_new] = by_namespace_.try_emplace(ns);
  if (is_new) {
    const model::Labels labels = labels_of_namespace(state_, ns);
    std::ranges::copy_if(cluster_policies_, std::back_inserter(known->second),
                         [&](const auto* policy) { return policy->subject.namespaces->matches(labels); });
  }
  return known->second;
}

void PolicyOrder::add_cluster_rules(Stage stage, const std::string& ns, const Pod* pod, Direction direction,
                                    Applicable& result) {
  const auto tier = stage == Stage::kAdmin ? model::PolicyTier::kAdmin : model::PolicyTier::kBaseline;
  for (const ClusterNetworkPolicy* policy : about(ns)) {
    if (policy->tier != tier) continue;
    const auto& pods = policy->subject.pods;
    const bool selects_all = !pods || pods->requirements.empty();
    if (pod && !selects_all && !pods->matches(pod->labels)) continue;
    const auto& rules = direction == Direction::kIngress ? policy->ingress : policy->egress;
    for (size_t i = 0; i < rules.size(); ++i)
      result.rules.push_back({stage,
                              rules[i].action,
                              &rules[i].traffic,
                              &rules[i],
                              {"", policy->name},
                              i,
                              policy->priority,
                              policy->audit,
                              pod || selects_all});
  }
}

void PolicyOrder::add_policies(const std::string& ns, const Pod* pod, Direction direction,
                               Applicable& result) const {
  for (auto each = state_.policies.lower_bound({ns, ""});
       each != state_.policies.end() && each->first.ns == ns; ++each) {
    const NetworkPolicy& policy = each->second;
    const bool ingress = direction == Direction::kIngress;
    if (!(ingress ? policy.isolates_ingress : policy.isolates_egress)) continue;
    const bool selects = pod ? policy.pods.matches(pod->labels) : policy.pods.requirements.empty();
    if (selects || !pod)
      (policy.audit ? result.audited_by : result.isolated_by).push_back(policy.name.to_string());
    if (!selects) continue;
    const auto& rules = ingress ? policy.ingress : policy.egress;
    for (size_t i = 0; i < rules.size(); ++i)
      result.rules.push_back({Stage::kPolicies, PolicyAction::kAccept, &rules[i], nullptr, policy.name, i, 0,
                              policy.audit, true});
  }
}

Applicable PolicyOrder::applicable(const std::string& ns, const Pod* pod, Direction direction) {
  Applicable result;
  add_cluster_rules(Stage::kAdmin, ns, pod, direction, result);
  add_policies(ns, pod, direction, result);
  // A7: whom a NetworkPolicy isolates never gets to the Baseline tier.
  if (result.isolated_by.empty()) add_cluster_rules(Stage::kBaseline, ns, pod, direction, result);
  return result;
}

std::string to_text(const AppliedRule& rule, Direction direction) {
  if (!rule.cluster) return to_text(*rule.traffic, direction, rule.index);
  return to_text(*rule.cluster, direction, rule.index);
}

}  // namespace bpfnet::compile
