#pragma once

#include <string>
#include <vector>

#include "control/compile/images.h"
#include "control/compile/policy_text.h"

namespace bpfnet::compile {

/// A policy that has a say about a pod in one direction.
struct AppliedPolicy {
  std::string kind;  ///< `NetworkPolicy`, `ClusterNetworkPolicy`
  std::string name;  ///< `default/allow-web`, `guard`
  std::string tier;  ///< of a ClusterNetworkPolicy: `Admin`, `Baseline`
  int priority = 0;  ///< of a ClusterNetworkPolicy
  bool audit = false;
  model::Origin origin;
  std::vector<std::string> rules;  ///< in order, as drops and verdicts name them
};

/// What decides about a pod in one direction, in the order of judgement (A3).
struct AppliedPolicies {
  std::vector<AppliedPolicy> policies;
  std::string otherwise;  ///< what happens to connections that no rule is about
};

/// Pure. By the rules of the compiler, for people.
AppliedPolicies applied_policies(const model::ClusterState& state, const NodeView& node,
                                 const LocalEndpoint& endpoint, Direction direction);

}  // namespace bpfnet::compile
