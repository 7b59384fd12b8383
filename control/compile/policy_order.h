#pragma once

#include <map>
#include <string>
#include <vector>

#include "control/compile/policy_text.h"

namespace bpfnet::compile {

/// The order of evaluation (A3): a final verdict of one stage ends it.
enum class Stage : uint8_t { kAdmin, kPolicies, kBaseline };

/// A rule that applies to a pod in one direction. Points into the policy's object.
struct AppliedRule {
  Stage stage = Stage::kPolicies;
  model::PolicyAction action = model::PolicyAction::kAccept;
  const model::PolicyRule* traffic = nullptr;
  const model::ClusterPolicyRule* cluster = nullptr;  ///< of a ClusterNetworkPolicy
  model::ObjectName policy;
  size_t index = 0;     ///< in its direction's list
  int priority = 0;     ///< of a ClusterNetworkPolicy
  bool audit = false;   ///< its policy is in audit mode
  bool certain = true;  ///< false: whether its policy selects the pod is not known yet
  /// About everybody and everything, whatever `traffic` says (A12).
  [[nodiscard]] bool fails_closed() const { return cluster && cluster->fails_closed; }
};

/// What applies to one pod in one direction.
struct Applicable {
  std::vector<AppliedRule> rules;        ///< in the order they are tried
  std::vector<std::string> isolated_by;  ///< NetworkPolicies in force; empty: not isolated (P1)
  std::vector<std::string> audited_by;   ///< NetworkPolicies in audit mode that would isolate
  /// Of a pod that reaches itself: NetworkPolicies that isolate it allow that (P15).
  bool of_itself = false;
  [[nodiscard]] bool empty() const { return rules.empty() && isolated_by.empty() && audited_by.empty(); }
};

/// Finds what applies to pods; for one state, which must outlive it.
///
/// A pod whose labels are not known yet is never open where it will be closed (P20): it counts as isolated by
/// every NetworkPolicy of its namespace, as any of them may select it, and only those that select all pods
/// allow something. Rules of cluster policies that may select it are not certain.
class PolicyOrder {
 public:
  explicit PolicyOrder(const model::ClusterState& state);
  /// `pod` null: its labels are not known yet.
  Applicable applicable(const std::string& ns, const model::Pod* pod, Direction direction);

 private:
  using ClusterPolicies = std::vector<const model::ClusterNetworkPolicy*>;
  const ClusterPolicies& about(const std::string& ns);
  void add_cluster_rules(Stage stage, const std::string& ns, const model::Pod* pod, Direction direction,
                         Applicable& result);
  void add_policies(const std::string& ns, const model::Pod* pod, Direction direction,
                    Applicable& result) const;

  const model::ClusterState& state_;
  ClusterPolicies cluster_policies_;                     ///< by priority (A4), equal ones by name
  std::map<std::string, ClusterPolicies> by_namespace_;  ///< those that select something in it
};

/// `ingress[0] probes: Pass from pods app=prober in all namespaces to any port`; the name of a
/// NetworkPolicy's rule and its action are left out.
std::string to_text(const AppliedRule& rule, Direction direction);

}  // namespace bpfnet::compile
