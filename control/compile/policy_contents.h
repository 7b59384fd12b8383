#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "control/compile/policy_order.h"
#include "control/compile/policy_rules.h"

namespace bpfnet::compile {

/// Flattens the rules that apply to a pod into the entries of one set. Identities that the same rules are
/// about, with the same ports, are judged once, together.
class SetContents {
 public:
  /// `pod`: as SetBuilder::key() has it.
  SetContents(const std::vector<Identity>& identities, PeerMatcher& matcher, const Applicable& applicable,
              const model::Pod* pod, Direction direction)
      : identities_(identities),
        matcher_(matcher),
        applicable_(applicable),
        pod_(pod),
        direction_(direction) {}

  /// Takes the rules in the order they are tried. `id`: the rule's number.
  void add(const AppliedRule& rule, uint32_t id);
  [[nodiscard]] PolicySet make() &&;
  /// The verdicts about one identity.
  [[nodiscard]] PortMap about(size_t identity) const;

 private:
  struct OrderedRule {
    const AppliedRule* rule = nullptr;
    uint32_t id = 0;
  };
  /// A rule (by its place in the order), whether it is certain that it is meant, and the ports it is about
  /// (by their place in ports_), in one number: ascending is the order to try them in. Among NetworkPolicies,
  /// whose order is ours (P3), what is said of everybody goes first: so it need not be said of each peer.
  using Part = uint64_t;
  using Parts = std::vector<Part>;
  /// Who a part is about.
  enum class Whom { kEveryone, kIdentity };

  void add_part(Whom whom, size_t identity, const PortSpans& ports, bool certain);
  /// The ports that the newest rule names of the destination pod `identity` (P6).
  void add_named(size_t identity, bool certain);
  /// All parts that are about an identity, in their order.
  [[nodiscard]] Parts with_everyone(Parts parts) const;
  [[nodiscard]] PortMap judge(const Parts& parts) const;
  [[nodiscard]] PortMap judge(const Parts& parts, bool with_audited) const;

  const std::vector<Identity>& identities_;
  PeerMatcher& matcher_;
  const Applicable& applicable_;
  const model::Pod* pod_;
  Direction direction_;
  std::vector<OrderedRule> rules_;
  std::vector<PortSpans> ports_;
  Parts of_everyone_;
  std::unordered_map<size_t, Parts> of_identity_;
};

}  // namespace bpfnet::compile
