#include "control/compile/identities.h"

#include <fmt/format.h>

#include <algorithm>

#include "control/compile/numbers.h"
#include "control/compile/policy_text.h"
#include "maps/abi/endpoint.h"
#include "maps/abi/policy.h"

namespace bpfnet::compile {
namespace {

using model::ClusterState;
using model::Pod;

constexpr auto kNamespaceNameLabel = "kubernetes.io/metadata.name";

/// Which of two pods that claim one address has it: the one that runs, then the first by name.
bool takes_over(const Pod& challenger, const Pod& holder) {
  const bool runs = challenger.phase == model::PodPhase::kRunning;
  return runs && holder.phase != model::PodPhase::kRunning;
}

}  // namespace

void PrefixSet::insert(const Cidr& cidr) {
  prefixes_.insert(cidr);
  lengths_[cidr.family() == Family::kIpv4 ? 0 : 1].insert(cidr.length());
}

std::optional<Cidr> PrefixSet::longest(const Address& address, int at_most) const {
  for (const int length : lengths_[address.is_ipv4() ? 0 : 1]) {
    if (length > at_most) continue;
    if (const Cidr candidate(address, length); prefixes_.contains(candidate)) return candidate;
  }
  return std::nullopt;
}

const Pod* pod_of(const LocalEndpoint& endpoint, const ClusterState& state, const NodeView& node) {
  if (endpoint.pod.name.empty()) return nullptr;
  const auto found = state.pods.find(endpoint.pod);
  if (found == state.pods.end() || found->second.host_network) return nullptr;
  const std::string& placed = found->second.node_name;
  return placed.empty() || placed == node.name ? &found->second : nullptr;
}

Occupants find_occupants(const ClusterState& state, const NodeView& node,
                         const std::vector<LocalEndpoint>& endpoints, std::vector<Warning>& warnings) {
  Occupants occupants;
  for (const Address& address : node.addresses)
    occupants[{0, address}] = {IdentityKind::kHost, nullptr, {}, 0, ADDRESS_LOCAL_NODE};
  for (const auto& [name, each] : state.nodes) {
    if (name == node.name) continue;
    // An address that only the outside sees is a destination outside: pods go there masqueraded.
    auto addresses = each.internal_ips;
    for (const Family family : {Family::kIpv4, Family::kIpv6})
      if (const auto address = each.address(family)) addresses.push_back(*address);
    for (const Address& address : addresses)
      occupants.try_emplace({0, address},
                            Occupant{IdentityKind::kRemoteNode, nullptr, {}, 0, ADDRESS_REMOTE_NODE});
  }
  for (const LocalEndpoint& endpoint : endpoints) {
    const Pod* pod = pod_of(endpoint, state, node);
    Occupant occupant{IdentityKind::kContainer, pod, endpoint.pod.ns, endpoint.index,
                      ADDRESS_POD | ADDRESS_LOCAL_POD};
    if (pod && !pod->finished()) occupant.kind = IdentityKind::kPod;
    if (pod && pod->finished()) occupant.kind = IdentityKind::kAddress;
    if (!pod && !endpoint.pod.name.empty()) occupant.kind = IdentityKind::kUnknownPod;
    for (const Address& address : endpoint.ips) {
      const auto [holder, is_new] = occupants.try_emplace({endpoint.net, address}, occupant);
      if (!is_new)
        warnings.push_back(
            {{},
             fmt::format(
                 "endpoint {} ({}): its address {} is taken by {}; it is left to that", endpoint.index,
                 endpoint.pod.to_string(), address.to_string(),
                 holder->second.endpoint ? fmt::format("endpoint {}", holder->second.endpoint) : "a node")});
    }
  }
  for (const auto& [name, pod] : state.pods) {
    if (pod.host_network || pod.finished()) continue;
    for (const Address& address : pod.ips) {
      const Occupant occupant{IdentityKind::kPod, &pod, {}, 0, ADDRESS_POD};
      const auto [holder, is_new] = occupants.try_emplace({0, address}, occupant);
      if (is_new || holder->second.pod == &pod || holder->second.endpoint != 0 || !holder->second.pod)
        continue;
      const Pod& other = *holder->second.pod;
      warnings.push_back(
          {pod.origin, fmt::format("pods {} and {} both claim {}; policy takes it for the one that "
                                   "runs, else for the first by name",
                                   other.name.to_string(), name.to_string(), address.to_string())});
      if (takes_over(pod, other)) holder->second = occupant;
    }
  }
  return occupants;
}

IdentityTable::IdentityTable(const ClusterState& state, PolicyNumbers& numbers)
    : state_(state), numbers_(numbers) {
  for (const auto& [name, policy] : state.policies) {
    for (const auto* rules : {&policy.ingress, &policy.egress})
      for (const auto& rule : *rules)
        for (const auto& peer : rule.peers) {
          if (peer.cidr) prefixes_.insert(*peer.cidr);
          for (const Cidr& except : peer.except) prefixes_.insert(except);
        }
    for (const auto& rule : policy.egress)
      for (const auto& port : rule.ports)
        if (!port.name.empty()) egress_port_names_.insert({port.name, port.protocol});
  }
  for (const auto& [kind, id] : {std::pair{IdentityKind::kHost, IDENTITY_HOST},
                                 std::pair{IdentityKind::kRemoteNode, IDENTITY_REMOTE_NODE},
                                 std::pair{IdentityKind::kAddress, IDENTITY_WORLD}}) {
    Identity reserved;
    reserved.kind = kind;
    reserved.id = id;
    const std::string text = text_of(reserved);
    known_[text] = id;
    texts_[id] = text;
    identities_.push_back(reserved);
  }
}

uint32_t IdentityTable::intern(const Occupant& occupant, const Address& address) {
  Identity identity;
  identity.kind = occupant.kind;
  identity.cidr = prefixes_.longest(address);
  if (occupant.kind == IdentityKind::kUnknownPod) {
    identity.ns = occupant.ns;
    identity.ns_labels = &namespace_labels(occupant.ns);
  }
  if (occupant.kind == IdentityKind::kPod) {
    identity.ns = occupant.pod->name.ns;
    identity.ns_labels = &namespace_labels(identity.ns);
    identity.labels = &occupant.pod->labels;
    for (const auto& port : occupant.pod->ports)
      if (port.port != 0 && egress_port_names_.contains({port.name, port.protocol}))
        identity.ports.push_back({port.name, port.protocol, port.port});
    std::ranges::sort(identity.ports);
    const auto rest = std::ranges::unique(identity.ports);
    identity.ports.erase(rest.begin(), rest.end());
  }
  return add(std::move(identity));
}

uint32_t IdentityTable::intern(const Cidr& cidr) {
  Identity identity;
  identity.cidr = prefixes_.longest(cidr);
  return add(std::move(identity));
}

uint32_t IdentityTable::add(Identity identity) {
  const std::string text = text_of(identity);
  const auto [known, is_new] = known_.try_emplace(text, 0);
  if (is_new) {
    known->second = number_of(numbers_.identities, numbers_.next_identity, IDENTITY_FIRST, text);
    identity.id = known->second;
    texts_[identity.id] = text;
    identities_.push_back(std::move(identity));
  }
  return known->second;
}

std::string IdentityTable::text_of(const Identity& identity) {
  const auto text_of_labels = [&](const model::Labels* labels) -> const std::string& {
    const auto [known, is_new] = label_texts_.try_emplace(labels);
    if (is_new) known->second = to_text(*labels);
    return known->second;
  };
  std::string text;
  switch (identity.kind) {
    case IdentityKind::kPod:
      text = fmt::format("pod {} {{{}}} ns{{{}}}", escape(identity.ns), to_text(*identity.labels),
                         text_of_labels(identity.ns_labels));
      break;
    case IdentityKind::kUnknownPod:
      text = fmt::format("pod {} (labels not known yet) ns{{{}}}", escape(identity.ns),
                         text_of_labels(identity.ns_labels));
      break;
    case IdentityKind::kContainer:
      text = "container";
      break;
    case IdentityKind::kHost:
      text = "host";
      break;
    case IdentityKind::kRemoteNode:
      text = "remote-node";
      break;
    case IdentityKind::kAddress:
      return identity.cidr ? fmt::format("cidr {}", identity.cidr->to_string()) : "world";
  }
  if (!identity.ports.empty()) {
    text += " ports{";
    for (const NamedPort& port : identity.ports)
      text += fmt::format("{}{}/{}={}", &port == &identity.ports.front() ? "" : ",", escape(port.name),
                          model::to_string(port.protocol), port.port);
    text += "}";
  }
  if (identity.cidr) text += " in " + identity.cidr->to_string();
  return text;
}

const model::Labels& IdentityTable::namespace_labels(const std::string& ns) {
  if (const auto found = state_.namespaces.find(ns); found != state_.namespaces.end())
    return found->second.labels;
  const auto [implied, is_new] = implied_namespaces_.try_emplace(ns);
  if (is_new) implied->second[kNamespaceNameLabel] = ns;
  return implied->second;
}

}  // namespace bpfnet::compile
