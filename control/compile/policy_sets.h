#pragma once

#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "control/compile/identities.h"
#include "control/compile/policy_order.h"
#include "control/compile/policy_rules.h"

namespace bpfnet::compile {

/// What decides about the contents of a set, whatever identities there are. `text` is made of numbers of
/// rules, so it means the same after a restart.
struct SetKey {
  std::string text;
  std::set<uint32_t> rules;  ///< numbers of all rules that have a part in it
};

/// Makes the contents of policy sets. A set is a pure function of its key and of each identity by itself:
/// what it says of one identity does not depend on which others there are. So a set can grow by the entries
/// of new identities while it is in use.
class SetBuilder {
 public:
  /// Rules that get a number are described in `rules`.
  SetBuilder(const std::vector<Identity>& identities, PolicyNumbers& numbers,
             std::map<uint32_t, RuleInfo>& rules)
      : identities_(identities), matcher_(identities), numbers_(numbers), rules_(rules) {}

  /// `pod` resolves named ports of ingress rules; null: they are not known yet.
  SetKey key(const Applicable& applicable, const model::Pod* pod, Direction direction);
  /// What `applicable` decides about traffic to (ingress) or from (egress) the pod: entries of IDENTITY_ANY
  /// and of the builder's identities.
  PolicySet build(const Applicable& applicable, const model::Pod* pod, Direction direction);
  uint32_t rule_id(const AppliedRule& rule, Direction direction);
  /// Spares the writing of the rule's text.
  void know(const AppliedRule& rule, uint32_t id) { rule_ids_.try_emplace(rule.traffic, id); }
  /// What cluster policies decide about a pod that reaches itself by a service over one family (A11): the
  /// entries of IDENTITY_SELF or IDENTITY_SELF6. `self`: the identities of its addresses; where they differ
  /// the strictest counts. What is not among the entries is allowed.
  PrefixVerdicts about_itself(const Applicable& applicable, const model::Pod* pod,
                              const std::vector<Identity>& self, Direction direction);

 private:
  const std::vector<Identity>& identities_;
  PeerMatcher matcher_;
  PolicyNumbers& numbers_;
  std::map<uint32_t, RuleInfo>& rules_;
  std::unordered_map<const model::PolicyRule*, uint32_t> rule_ids_;
};

}  // namespace bpfnet::compile
