#pragma once

#include <netinet/in.h>

#include <ostream>
#include <string>
#include <vector>

#include "tests/e2e/policy_world.h"

namespace bpfnet::e2e {

/// One pattern of the policy specification: its policies, and whom they let call and be called. Empty:
/// everybody. Which connections it allows is written down by hand.
struct Pattern {
  std::string name;  ///< the behaviour
  std::string policies;
  Allows egress;
  Allows ingress;
  bool tiers = false;  ///< see expected()
};

inline void PrintTo(const Pattern& pattern, std::ostream* out) {
  *out << pattern.policies;
}

std::vector<Pattern> isolation_patterns();
std::vector<Pattern> peer_patterns();
std::vector<Pattern> port_patterns();
std::vector<Pattern> block_patterns();
/// Of ClusterNetworkPolicies, alone and beside NetworkPolicies.
std::vector<Pattern> tier_patterns();

// What the tables are made of.
inline bool tcp(const Cell& cell) {
  return cell.proto == IPPROTO_TCP;
}
inline bool udp(const Cell& cell) {
  return cell.proto == IPPROTO_UDP;
}
inline bool sctp(const Cell& cell) {
  return cell.proto == IPPROTO_SCTP;
}
inline bool ipv4(const Cell& cell) {
  return cell.dialled.address.is_ipv4();
}
inline bool in(const Party& party, const std::string& ns) {
  return party.ns == ns;
}
inline bool app(const Party& party, const std::string& name) {
  return party.is_pod() && party.labels.at("app") == name;
}
/// Nothing is let in to (out of) the pods of a namespace but what `allows`.
inline Allows into(const std::string& ns, const Allows& allows = nullptr) {
  return [=](const Cell& cell) { return !in(cell.to, ns) || (allows && allows(cell)); };
}
inline Allows out_of(const std::string& ns, const Allows& allows = nullptr) {
  return [=](const Cell& cell) { return !in(cell.from, ns) || (allows && allows(cell)); };
}

}  // namespace bpfnet::e2e
