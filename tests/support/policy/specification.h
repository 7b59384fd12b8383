#pragma once

#include <string>
#include <utility>
#include <vector>

#include "control/compile/images.h"
#include "control/compile/policy_text.h"
#include "maps/abi/policy.h"

namespace bpfnet::test {

/// What one end of a connection decides about it.
struct Decision {
  policy_verdict verdict = POLICY_ALLOW;
  /// The rules that decide, each {policy, index in its direction's list}: any one of them may be named as the
  /// reason. Empty: no rule does, but isolation (a denial) or that nothing isolates (a pass). Of
  /// POLICY_AUDIT: those that would deny.
  std::vector<std::pair<std::string, size_t>> by;
  bool operator==(const Decision&) const = default;
  [[nodiscard]] bool passes() const { return verdict != POLICY_DENY; }
};

/// NetworkPolicy and ClusterNetworkPolicy as spec/network-policy.md states them, statement by statement, one
/// connection at a time and with nothing in common with the compiler: what compiler and datapath are held
/// against. `peer` is the other end's address, after service translation (P11). Of the own node (P13) and of
/// a pod that calls itself (P15, A11) it says nothing: those are exempt whatever the policies are.
Decision specification_decides(const model::ClusterState& state, const compile::NodeView& node,
                               const std::vector<compile::LocalEndpoint>& endpoints,
                               const compile::LocalEndpoint& subject, compile::Direction direction,
                               const Address& peer, uint8_t proto, uint16_t port);

}  // namespace bpfnet::test
