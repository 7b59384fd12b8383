#include "tests/unit/compile_specification.h"

#include <algorithm>

namespace bpfnet::compile {
namespace {

using model::ClusterState;
using model::Labels;
using model::Pod;
using model::SelectorOperator;

/// P9.
bool matches(const model::Selector& selector, const Labels& labels) {
  for (const auto& each : selector.requirements) {
    const bool has_key = labels.count(each.key) > 0;
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

/// A pod as a peer: one whose object is not known has a namespace and no labels one could rely on.
struct PeerPod {
  std::string ns;
  const Pod* object = nullptr;
};

bool is_node_address(const ClusterState& state, const NodeView& node, const Address& address) {
  if (std::ranges::count(node.addresses, address)) return true;
  for (const auto& [name, each] : state.nodes)
    if (name != node.name && std::ranges::count(each.internal_ips, address)) return true;
  return false;
}

/// P14: host-network pods are no pods here. P21: finished ones neither.
std::optional<PeerPod> pod_at(const ClusterState& state, const NodeView& node,
                              const std::vector<LocalEndpoint>& endpoints, const Address& address) {
  if (is_node_address(state, node, address)) return std::nullopt;
  for (const auto& endpoint : endpoints) {
    if (!std::ranges::count(endpoint.ips, address)) continue;
    if (endpoint.pod.name.empty()) return std::nullopt;
    const auto object = state.pods.find(endpoint.pod);
    if (object == state.pods.end()) return PeerPod{endpoint.pod.ns, nullptr};
    if (object->second.finished()) return std::nullopt;
    return PeerPod{endpoint.pod.ns, &object->second};
  }
  for (const auto& [name, pod] : state.pods) {
    if (pod.host_network || pod.finished() || !std::ranges::count(pod.ips, address)) continue;
    return PeerPod{name.ns, &pod};
  }
  return std::nullopt;
}

/// P8 and P10.
bool peer_matches(const ClusterState& state, const model::PolicyPeer& rule_peer, const std::string& policy_ns,
                  const Address& address, const std::optional<PeerPod>& pod) {
  if (rule_peer.cidr) {
    if (!rule_peer.cidr->contains(address)) return false;
    return std::ranges::none_of(rule_peer.except, [&](const Cidr& each) { return each.contains(address); });
  }
  if (!pod || (!rule_peer.pods && !rule_peer.namespaces)) return false;
  if (rule_peer.namespaces) {
    Labels labels = {{"kubernetes.io/metadata.name", pod->ns}};
    if (state.namespaces.count(pod->ns)) labels = state.namespaces.at(pod->ns).labels;
    if (!matches(*rule_peer.namespaces, labels)) return false;
  } else if (pod->ns != policy_ns) {
    return false;
  }
  if (!rule_peer.pods || rule_peer.pods->requirements.empty()) return true;
  return pod->object && matches(*rule_peer.pods, pod->object->labels);
}

/// P5, P6 and P7. `destination`: the pod whose port it is, null when it is none or not known.
bool port_matches(const model::PolicyPort& rule_port, const Pod* destination, uint8_t proto, uint16_t port) {
  if (static_cast<uint8_t>(rule_port.protocol) != proto) return false;
  if (!rule_port.name.empty()) {
    if (!destination) return false;
    return std::ranges::any_of(destination->ports, [&](const model::ContainerPort& each) {
      return each.name == rule_port.name && each.protocol == rule_port.protocol && each.port == port;
    });
  }
  if (!rule_port.port) return true;
  return port >= *rule_port.port && port <= rule_port.end_port.value_or(*rule_port.port);
}

bool rule_allows(const ClusterState& state, const model::PolicyRule& rule, const std::string& policy_ns,
                 Direction direction, const Pod* subject, const Address& address,
                 const std::optional<PeerPod>& peer, uint8_t proto, uint16_t port) {
  const auto ports_allow = [&](bool by_block) {
    if (rule.ports.empty()) return true;  // P4
    // P6: the destination of ingress is the subject; an egress destination named by an ipBlock is no pod.
    const Pod* destination = direction == Direction::kIngress ? subject
                             : peer && !by_block              ? peer->object
                                                              : nullptr;
    return std::ranges::any_of(
        rule.ports, [&](const auto& each) { return port_matches(each, destination, proto, port); });
  };
  if (rule.peers.empty()) return ports_allow(false);  // P4
  return std::ranges::any_of(rule.peers, [&](const model::PolicyPeer& each) {
    return peer_matches(state, each, policy_ns, address, peer) && ports_allow(each.cidr.has_value());
  });
}

}  // namespace

bool specification_allows(const ClusterState& state, const NodeView& node,
                          const std::vector<LocalEndpoint>& endpoints, const LocalEndpoint& subject,
                          Direction direction, const Address& peer, uint8_t proto, uint16_t port) {
  if (subject.pod.name.empty()) return true;
  const auto object = state.pods.find(subject.pod);
  const Pod* pod = object == state.pods.end() ? nullptr : &object->second;
  if (pod && pod->finished()) return true;  // P21
  const auto peer_pod = pod_at(state, node, endpoints, peer);
  bool isolated = false;
  for (const auto& [name, policy] : state.policies) {
    if (name.ns != subject.pod.ns) continue;  // P25
    if (!(direction == Direction::kIngress ? policy.isolates_ingress : policy.isolates_egress)) continue;
    const bool surely_selects = pod ? matches(policy.pods, pod->labels) : policy.pods.requirements.empty();
    isolated |= surely_selects || !pod;  // P1; P20: what may select a pod isolates it until that is known
    if (!surely_selects) continue;
    for (const auto& rule : direction == Direction::kIngress ? policy.ingress : policy.egress)
      if (rule_allows(state, rule, name.ns, direction, pod, peer, peer_pod, proto, port)) return true;  // P3
  }
  return !isolated;
}

}  // namespace bpfnet::compile
