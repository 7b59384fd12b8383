#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "control/compile/identities.h"
#include "control/compile/policy_text.h"
#include "control/compile/port_map.h"

namespace bpfnet::compile {

/// The fewest disjoint prefixes that make up first..last, both included (P7).
std::vector<PortPrefix> split_range(uint8_t proto, uint16_t first, uint16_t last);

/// The prefixes of a numeric port or range of a rule (P5, P7). Named ports have none of their own.
std::vector<PortPrefix> prefixes_of(const model::PolicyPort& port);

/// The prefixes a named port stands for on a pod with `ports` (P6): by name and protocol; none if it has no
/// such.
template <typename Ports>
std::vector<PortPrefix> resolve(const model::PolicyPort& named, const Ports& ports) {
  std::vector<PortPrefix> prefixes;
  for (const auto& each : ports)
    if (each.name == named.name && each.protocol == named.protocol && each.port != 0)
      prefixes.push_back({static_cast<uint8_t>(each.protocol), each.port, 16});
  return prefixes;
}

/// Finds the identities that a peer of a rule matches; remembers what it found for each peer.
class PeerMatcher {
 public:
  explicit PeerMatcher(const std::vector<Identity>& identities) : identities_(identities) {}

  /// Indices into the identities. `policy_namespace`: where a podSelector alone looks (P8). `peer` must
  /// outlive the matcher.
  const std::vector<size_t>& match(const model::PolicyPeer& peer, const std::string& policy_namespace);

 private:
  const std::vector<Identity>& identities_;
  std::unordered_map<const model::PolicyPeer*, std::vector<size_t>> known_;
};

/// The policies that apply to one pod in one direction.
struct Applicable {
  std::vector<const model::NetworkPolicy*> policies;  ///< whose rules allow, in order of name
  std::vector<std::string> isolated_by;               ///< names; empty: not isolated (P1)
};

/// `pod` null: a pod of namespace `ns` whose labels are not known yet. It counts as isolated by every policy
/// of its namespace, as any of them may select it, and only those that select all pods allow something: so it
/// is never open where it will be closed (P20).
Applicable applicable_policies(const model::ClusterState& state, const std::string& ns, const model::Pod* pod,
                               Direction direction);

inline const std::vector<model::PolicyRule>& rules_of(const model::NetworkPolicy& policy,
                                                      Direction direction) {
  return direction == Direction::kIngress ? policy.ingress : policy.egress;
}

}  // namespace bpfnet::compile
