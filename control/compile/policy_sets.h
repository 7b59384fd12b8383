#pragma once

#include <string>
#include <unordered_map>

#include "control/compile/identities.h"
#include "control/compile/policy_rules.h"

namespace bpfnet::compile {

/// Drops the entries that a broader one of the same set covers: they decide nothing and cost map space.
void remove_subsumed(PolicySet& set);

/// Equal contents have one digest on every node and in every run. A fingerprint, no proof of equality.
std::string content_digest(const PolicySet& set);

/// Makes policy sets; equal ones are one.
class SetBuilder {
 public:
  SetBuilder(const std::vector<Identity>& identities, PolicyNumbers& numbers, PolicyImage& image)
      : identities_(identities), matcher_(identities), numbers_(numbers), image_(image) {}

  /// The id of the set that allows what `applicable` allows to (ingress) or from (egress) a pod. `pod`
  /// resolves named ports of ingress rules; null: none can be.
  uint32_t build(const Applicable& applicable, const model::Pod* pod, Direction direction);

 private:
  void add_rule(PolicySet& set, const model::NetworkPolicy& policy, size_t index, const model::Pod* pod,
                Direction direction);
  uint32_t rule_id(const model::NetworkPolicy& policy, size_t index, Direction direction);
  uint32_t intern(PolicySet set);

  const std::vector<Identity>& identities_;
  PeerMatcher matcher_;
  PolicyNumbers& numbers_;
  PolicyImage& image_;
  std::unordered_map<std::string, uint32_t> built_;  ///< policies, direction and named ports -> set
  std::unordered_map<const model::PolicyRule*, uint32_t> rule_ids_;
};

}  // namespace bpfnet::compile
