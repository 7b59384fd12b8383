#include "control/compile/policy_rules.h"

#include <algorithm>
#include <bit>

namespace bpfnet::compile {
namespace {

using model::NetworkPolicy;
using model::PolicyPeer;

bool matches_block(const PolicyPeer& peer, const Identity& identity) {
  // The class is the longest prefix any policy names, so it lies within the block and outside its exceptions
  // exactly if the address does (P10).
  return identity.cidr && peer.cidr->contains(*identity.cidr) &&
         std::ranges::none_of(peer.except, [&](const Cidr& each) { return each.contains(*identity.cidr); });
}

bool matches_pods(const PolicyPeer& peer, const Identity& identity, const std::string& policy_namespace) {
  const bool is_pod = identity.kind == IdentityKind::kPod || identity.kind == IdentityKind::kUnknownPod;
  if (!is_pod || (!peer.pods && !peer.namespaces)) return false;
  if (peer.namespaces ? !peer.namespaces->matches(*identity.ns_labels) : identity.ns != policy_namespace)
    return false;
  if (!peer.pods || peer.pods->requirements.empty()) return true;
  return identity.labels && peer.pods->matches(*identity.labels);
}

}  // namespace

std::vector<PortPrefix> split_range(uint8_t proto, uint16_t first, uint16_t last) {
  std::vector<PortPrefix> prefixes;
  for (uint32_t port = first; port <= last;) {
    // The largest aligned block that starts here and does not pass the end.
    const uint32_t aligned = port == 0 ? 1U << 16 : port & (~port + 1);
    const uint32_t size = std::min(aligned, std::bit_floor(static_cast<uint32_t>(last) - port + 1));
    prefixes.push_back(
        {proto, static_cast<uint16_t>(port), static_cast<uint8_t>(16 - std::countr_zero(size))});
    port += size;
  }
  return prefixes;
}

std::vector<PortPrefix> prefixes_of(const model::PolicyPort& port) {
  const auto proto = static_cast<uint8_t>(port.protocol);
  if (!port.name.empty()) return {};
  if (!port.port) return {{proto, 0, 0}};
  return split_range(proto, *port.port, port.end_port.value_or(*port.port));
}

const std::vector<size_t>& PeerMatcher::match(const PolicyPeer& peer, const std::string& policy_namespace) {
  const auto [known, is_new] = known_.try_emplace(&peer);
  if (is_new) {
    for (size_t i = 0; i < identities_.size(); ++i) {
      if (peer.cidr ? matches_block(peer, identities_[i])
                    : matches_pods(peer, identities_[i], policy_namespace))
        known->second.push_back(i);
    }
  }
  return known->second;
}

Applicable applicable_policies(const model::ClusterState& state, const std::string& ns, const model::Pod* pod,
                               Direction direction) {
  Applicable result;
  for (auto each = state.policies.lower_bound({ns, ""}); each != state.policies.end() && each->first.ns == ns;
       ++each) {
    const NetworkPolicy& policy = each->second;
    if (!(direction == Direction::kIngress ? policy.isolates_ingress : policy.isolates_egress)) continue;
    const bool selects = pod ? policy.pods.matches(pod->labels) : policy.pods.requirements.empty();
    if (selects) result.policies.push_back(&policy);
    if (selects || !pod) result.isolated_by.push_back(policy.name.to_string());
  }
  return result;
}

}  // namespace bpfnet::compile
