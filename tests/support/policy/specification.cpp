#include "tests/support/policy/specification.h"

#include <algorithm>
#include <optional>

namespace bpfnet::test {
namespace {

using compile::Direction;
using compile::LocalEndpoint;
using compile::NodeView;
using model::ClusterNetworkPolicy;
using model::ClusterState;
using model::Labels;
using model::Pod;
using model::PolicyAction;
using model::PolicyTier;
using model::SelectorOperator;

/// A pod whose object is not known yet has a namespace, but neither labels nor ports one could rely on.
enum class Match { kNo, kMaybe, kYes };

Match both(Match a, Match b) {
  return std::min(a, b);
}
Match either(Match a, Match b) {
  return std::max(a, b);
}
Match sure(bool matches) {
  return matches ? Match::kYes : Match::kNo;
}

/// P9.
bool matches(const model::Selector& selector, const Labels& labels) {
  for (const auto& each : selector.requirements) {
    const bool has_key = labels.contains(each.key);
    const bool has_value = has_key && each.values.count(labels.at(each.key)) > 0;
    switch (each.op) {
      case SelectorOperator::kIn:
        if (!has_value) return false;
        break;
      case SelectorOperator::kNotIn:
        if (has_value) return false;
        break;
      case SelectorOperator::kExists:
        if (!has_key) return false;
        break;
      case SelectorOperator::kDoesNotExist:
        if (has_key) return false;
        break;
    }
  }
  return true;
}

struct SomePod {
  std::string ns;
  const Pod* object = nullptr;  ///< null: not known yet
};

/// Everything there is to know of one connection at one of its ends.
struct Question {
  const ClusterState& state;
  const NodeView& node;
  const std::vector<LocalEndpoint>& endpoints;
  SomePod subject;
  Direction direction;
  Address peer;
  std::optional<SomePod> peer_pod;  ///< P14: host-network pods are no pods here; P21: finished ones neither
  uint8_t proto;
  uint16_t port;
};

bool is_node_address(const Question& ask) {
  if (std::ranges::count(ask.node.addresses, ask.peer)) return true;
  for (const auto& [name, each] : ask.state.nodes)
    if (name != ask.node.name && std::ranges::count(each.internal_ips, ask.peer)) return true;
  return false;
}

std::optional<SomePod> pod_at_peer(const Question& ask) {
  if (is_node_address(ask)) return std::nullopt;
  for (const auto& endpoint : ask.endpoints) {
    if (!std::ranges::count(endpoint.ips, ask.peer)) continue;
    if (endpoint.pod.name.empty()) return std::nullopt;
    const auto object = ask.state.pods.find(endpoint.pod);
    if (object == ask.state.pods.end()) return SomePod{endpoint.pod.ns, nullptr};
    if (object->second.finished()) return std::nullopt;
    return SomePod{endpoint.pod.ns, &object->second};
  }
  // P22: a terminating pod has its address for as long as no other claims it.
  for (const bool deleting : {false, true}) {
    for (const auto& [name, pod] : ask.state.pods) {
      if (pod.host_network || pod.finished() || pod.deleting != deleting) continue;
      if (std::ranges::count(pod.ips, ask.peer)) return SomePod{name.ns, &pod};
    }
  }
  return std::nullopt;
}

Match pod_matches(const Question& ask, const SomePod& pod, const std::optional<model::Selector>& namespaces,
                  const std::optional<model::Selector>& pods) {
  if (namespaces) {
    Labels labels = {{"kubernetes.io/metadata.name", pod.ns}};
    if (ask.state.namespaces.count(pod.ns)) labels = ask.state.namespaces.at(pod.ns).labels;
    if (!matches(*namespaces, labels)) return Match::kNo;
  }
  if (!pods || pods->requirements.empty()) return Match::kYes;
  return pod.object ? sure(matches(*pods, pod.object->labels)) : Match::kMaybe;
}

/// P8, P10, A9. `policy_ns`: of a NetworkPolicy.
Match peer_matches(const Question& ask, const model::PolicyPeer& rule_peer, const std::string& policy_ns) {
  if (rule_peer.cidr) {
    if (!rule_peer.cidr->contains(ask.peer)) return Match::kNo;
    return sure(
        std::ranges::none_of(rule_peer.except, [&](const Cidr& each) { return each.contains(ask.peer); }));
  }
  if (rule_peer.nodes) {
    return sure(std::ranges::any_of(ask.state.nodes, [&](const auto& named) {
      const model::Node& each = named.second;
      return matches(*rule_peer.nodes, each.labels) && (std::ranges::count(each.internal_ips, ask.peer) ||
                                                        std::ranges::count(each.external_ips, ask.peer));
    }));
  }
  if (!ask.peer_pod || (!rule_peer.pods && !rule_peer.namespaces)) return Match::kNo;
  if (!rule_peer.namespaces && ask.peer_pod->ns != policy_ns) return Match::kNo;
  return pod_matches(ask, *ask.peer_pod, rule_peer.namespaces, rule_peer.pods);
}

/// P5, P6, P7, A10. `destination`: the pod whose port it is; none: it is no pod, or it is meant by address.
Match port_matches(const Question& ask, const model::PolicyPort& rule_port,
                   const std::optional<SomePod>& destination) {
  if (!rule_port.name.empty()) {
    if (!destination) return Match::kNo;
    if (!destination->object) return Match::kMaybe;
    return sure(std::ranges::any_of(destination->object->ports, [&](const model::ContainerPort& each) {
      return each.name == rule_port.name && each.protocol == rule_port.protocol && each.port == ask.port &&
             static_cast<uint8_t>(each.protocol) == ask.proto;
    }));
  }
  if (static_cast<uint8_t>(rule_port.protocol) != ask.proto) return Match::kNo;
  if (!rule_port.port) return Match::kYes;
  return sure(ask.port >= *rule_port.port && ask.port <= rule_port.end_port.value_or(*rule_port.port));
}

Match rule_matches(const Question& ask, const model::PolicyRule& rule, const std::string& policy_ns) {
  const auto some_port = [&](bool by_address) {
    if (rule.ports.empty()) return Match::kYes;  // P4
    // P6: the destination of ingress is the subject; an egress destination named by address is no pod.
    std::optional<SomePod> destination = ask.subject;
    if (ask.direction == Direction::kEgress) destination = by_address ? std::nullopt : ask.peer_pod;
    Match match = Match::kNo;
    for (const auto& each : rule.ports) match = either(match, port_matches(ask, each, destination));
    return match;
  };
  if (rule.peers.empty()) return some_port(false);  // P4
  Match match = Match::kNo;
  for (const auto& each : rule.peers) {
    const bool by_address = each.cidr || each.nodes;
    match = either(match, both(peer_matches(ask, each, policy_ns), some_port(by_address)));
  }
  return match;
}

/// A3 to A6, A8, A12: the final verdict of a tier, if there is one.
std::optional<Decision> tier_decides(const Question& ask, PolicyTier tier, bool with_audited) {
  std::vector<const ClusterNetworkPolicy*> policies;
  for (const auto& [name, policy] : ask.state.cluster_policies)
    if (policy.tier == tier && (with_audited || !policy.audit)) policies.push_back(&policy);
  // Equal priorities: by name, which is our choice.
  std::ranges::stable_sort(policies, {}, &ClusterNetworkPolicy::priority);
  for (const ClusterNetworkPolicy* policy : policies) {
    const Match selected = pod_matches(ask, ask.subject, policy->subject.namespaces, policy->subject.pods);
    const auto& rules = ask.direction == Direction::kIngress ? policy->ingress : policy->egress;
    for (size_t i = 0; i < rules.size(); ++i) {
      const Decision denied{POLICY_DENY, {{policy->name, i}}};
      const bool accepts = rules[i].action == PolicyAction::kAccept;
      if (rules[i].fails_closed && accepts) continue;
      const Match match =
          both(selected, rules[i].fails_closed ? Match::kYes : rule_matches(ask, rules[i].traffic, ""));
      if (match == Match::kNo) continue;
      if (rules[i].fails_closed && match == Match::kYes) return denied;
      // P20: what is not known yet counts against the pod.
      if (match == Match::kMaybe && accepts) continue;
      if (match == Match::kMaybe) return denied;
      if (accepts) return Decision{POLICY_ALLOW, {{policy->name, i}}};
      if (rules[i].action == PolicyAction::kDeny) return denied;
      return std::nullopt;  // Pass
    }
  }
  return std::nullopt;
}

/// P1, P3, A7: the verdict of the NetworkPolicies; none if the pod is not isolated.
std::optional<Decision> policies_decide(const Question& ask, bool with_audited) {
  bool isolated = false;
  Decision decision{POLICY_DENY, {}};
  for (const auto& [name, policy] : ask.state.policies) {
    if (name.ns != ask.subject.ns) continue;  // P25
    if (policy.audit && !with_audited) continue;
    const bool ingress = ask.direction == Direction::kIngress;
    if (!(ingress ? policy.isolates_ingress : policy.isolates_egress)) continue;
    const Match selected = pod_matches(ask, ask.subject, std::nullopt, policy.pods);
    isolated |= selected != Match::kNo;  // P20: what may select a pod isolates it until that is known
    if (selected != Match::kYes) continue;
    const auto& rules = ingress ? policy.ingress : policy.egress;
    for (size_t i = 0; i < rules.size(); ++i) {
      if (rule_matches(ask, rules[i], name.ns) != Match::kYes) continue;
      decision.verdict = POLICY_ALLOW;
      decision.by.emplace_back(name.to_string(), i);
    }
  }
  return isolated ? std::optional(decision) : std::nullopt;
}

/// A3.
Decision decide(const Question& ask, bool with_audited) {
  if (auto decision = tier_decides(ask, PolicyTier::kAdmin, with_audited)) return *decision;
  if (auto decision = policies_decide(ask, with_audited)) return *decision;
  if (auto decision = tier_decides(ask, PolicyTier::kBaseline, with_audited)) return *decision;
  return {};
}

}  // namespace

Decision specification_decides(const ClusterState& state, const NodeView& node,
                               const std::vector<LocalEndpoint>& endpoints, const LocalEndpoint& subject,
                               Direction direction, const Address& peer, uint8_t proto, uint16_t port) {
  if (subject.pod.name.empty()) return {};
  const auto object = state.pods.find(subject.pod);
  const Pod* pod = object == state.pods.end() ? nullptr : &object->second;
  if (pod && pod->finished()) return {};  // P21
  Question ask{state, node, endpoints, {subject.pod.ns, pod}, direction, peer, {}, proto, port};
  ask.peer_pod = pod_at_peer(ask);
  Decision enforced = decide(ask, false);
  Decision wanted = decide(ask, true);
  if (enforced.verdict == POLICY_ALLOW && wanted.verdict == POLICY_DENY)
    return {POLICY_AUDIT, std::move(wanted.by)};
  return enforced;
}

}  // namespace bpfnet::test
