#include "control/compile/policy_rules.h"

#include <algorithm>

#include "control/compile/policy_text.h"

namespace bpfnet::compile {
namespace {

using model::PolicyPeer;
using model::PolicyPort;

enum class Match { kNo, kMaybe, kYes };

Match matches_block(const PolicyPeer& peer, const Identity& identity) {
  // The class is the longest prefix any policy names, so it lies within the block and outside its exceptions
  // exactly if the address does (P10).
  const bool matches =
      identity.cidr && peer.cidr->contains(*identity.cidr) &&
      std::ranges::none_of(peer.except, [&](const Cidr& each) { return each.contains(*identity.cidr); });
  return matches ? Match::kYes : Match::kNo;
}

Match matches_pods(const PolicyPeer& peer, const Identity& identity, const std::string& policy_namespace) {
  const bool is_pod = identity.kind == IdentityKind::kPod || identity.kind == IdentityKind::kUnknownPod;
  if (!is_pod || (!peer.pods && !peer.namespaces)) return Match::kNo;
  if (peer.namespaces ? !peer.namespaces->matches(identity.ns_labels) : identity.ns != policy_namespace)
    return Match::kNo;
  if (!peer.pods || peer.pods->requirements.empty()) return Match::kYes;
  if (!identity.labels) return Match::kMaybe;
  return peer.pods->matches(*identity.labels) ? Match::kYes : Match::kNo;
}

}  // namespace

PortSpans numeric_ports(const std::vector<PolicyPort>& ports) {
  if (ports.empty()) return whole_line();
  PortSpans spans;
  for (const PolicyPort& each : ports) {
    if (!each.name.empty()) continue;
    const uint16_t first = each.port.value_or(0);
    const uint16_t last = each.port ? each.end_port.value_or(first) : uint16_t{UINT16_MAX};
    spans.push_back(span_of(each.protocol, first, last));
  }
  return merged(std::move(spans));
}

bool names_ports(const std::vector<PolicyPort>& ports) {
  return std::ranges::any_of(ports, [](const PolicyPort& each) { return !each.name.empty(); });
}

const std::vector<PeerMatcher::Matched>& PeerMatcher::match(const PolicyPeer& peer,
                                                            const std::string& policy_namespace) {
  const auto [known, is_new] = known_.try_emplace(&peer);
  if (!is_new) return known->second;
  const std::string nodes = peer.nodes ? to_text(*peer.nodes) : "";
  for (size_t i = 0; i < identities_.size(); ++i) {
    Match match = Match::kNo;
    if (peer.cidr) {
      match = matches_block(peer, identities_[i]);
    } else if (peer.nodes) {
      match = identities_[i].nodes.contains(nodes) ? Match::kYes : Match::kNo;
    } else {
      match = matches_pods(peer, identities_[i], policy_namespace);
    }
    if (match != Match::kNo) known->second.push_back({i, match == Match::kYes});
  }
  return known->second;
}

}  // namespace bpfnet::compile
