#include "control/compile/policies.h"

#include <algorithm>

#include "control/compile/host_ports.h"
#include "control/compile/numbers.h"
#include "control/compile/policy_update.h"
#include "maps/abi/endpoint.h"
#include "maps/abi/policy.h"

namespace bpfnet::compile {
namespace {

using model::ClusterState;
using model::ObjectName;

bool same_view(const NodeView& a, const NodeView& b) {
  return a.name == b.name && a.addresses == b.addresses && a.cluster_cidrs == b.cluster_cidrs &&
         a.service_cidrs == b.service_cidrs && a.node_port_addresses == b.node_port_addresses &&
         a.node_port_primary == b.node_port_primary;
}

bool same_endpoint(const LocalEndpoint& a, const LocalEndpoint& b) {
  return a.pod == b.pod && a.ips == b.ips && a.net == b.net;
}

}  // namespace

void PolicyDelta::merge(const PolicyDelta& later) {
  addresses.insert(later.addresses.begin(), later.addresses.end());
  cidrs.insert(later.cidrs.begin(), later.cidrs.end());
  for (const auto& [id, identities] : later.sets) {
    const auto [known, is_new] = sets.try_emplace(id, identities);
    if (is_new || known->second.empty()) continue;
    if (identities.empty()) known->second.clear();
    known->second.insert(identities.begin(), identities.end());
  }
}

PolicyDelta PolicyCompiler::update(const ClusterState& state, const NodeView& node,
                                   const std::vector<LocalEndpoint>& endpoints, const PolicyChanges& changes,
                                   PolicyNumbers& numbers) {
  if (changes.everything) *this = PolicyCompiler();
  Update update{.state = state,
                .node = node,
                .endpoints = endpoints,
                .changes = changes,
                .numbers = numbers,
                .pods = changes.pods};
  take_up_policies(update);
  take_up_namespaces(update);
  take_up_endpoints(update);
  take_up_nodes(update);
  if (first_) {
    image_.identities = identities_.texts();  // those that are always there
    for (const auto& [name, pod] : state.pods) occupants_.update_pod(state, name, update.addresses);
  } else {
    for (const ObjectName& name : changes.pods) occupants_.update_pod(state, name, update.addresses);
  }
  identify(update);
  place_cidrs(update);
  update.turnover = identities_.settle();
  for (const uint32_t id : update.turnover.dead) image_.identities.erase(id);
  for (const Identity& each : update.turnover.born)
    image_.identities[each.id] = identities_.texts().at(each.id);
  derive_endpoints(update);
  image_.warnings.clear();
  occupants_.warn(state, image_.warnings);
  forget_unused(numbers.identities, image_.identities);
  forget_unused(numbers.sets, image_.sets);
  forget_unused(numbers.rules, image_.rules);
  first_ = false;
  return std::move(update.delta);
}

void PolicyCompiler::take_up_policies(Update& update) {
  std::set<ObjectName> changed = update.changes.policies;
  for (const std::string& name : update.changes.cluster_policies) changed.insert({"", name});
  if (first_) {
    for (const auto& [name, policy] : update.state.policies) changed.insert(name);
    for (const auto& [name, policy] : update.state.cluster_policies) changed.insert({"", name});
  }
  for (const ObjectName& name : changed) {
    take_up_policy(update, name, use_of(update.state, name));
    update.namespaces.insert(name.ns);
    update.all_subjects |= name.ns.empty();
  }
}

PolicyCompiler::PolicyUse PolicyCompiler::use_of(const ClusterState& state, const ObjectName& name) {
  PolicyUse use;
  const auto note = [&use](const model::PolicyRule& rule, Direction direction) {
    for (const auto& peer : rule.peers) {
      if (peer.cidr) use.prefixes.insert(*peer.cidr);
      use.prefixes.insert(peer.except.begin(), peer.except.end());
      if (peer.nodes) use.nodes.emplace(to_text(*peer.nodes), *peer.nodes);
    }
    for (const auto& port : rule.ports)
      if (direction == Direction::kEgress && !port.name.empty())
        use.egress_ports.insert({port.name, port.protocol});
  };
  if (const auto policy = state.policies.find(name); policy != state.policies.end()) {
    for (const auto& rule : policy->second.ingress) note(rule, Direction::kIngress);
    for (const auto& rule : policy->second.egress) note(rule, Direction::kEgress);
  }
  const auto policy = name.ns.empty() ? state.cluster_policies.find(name.name) : state.cluster_policies.end();
  if (policy != state.cluster_policies.end()) {
    for (const auto& rule : policy->second.ingress)
      if (!rule.fails_closed) note(rule.traffic, Direction::kIngress);
    for (const auto& rule : policy->second.egress)
      if (!rule.fails_closed) note(rule.traffic, Direction::kEgress);
  }
  return use;
}

void PolicyCompiler::take_up_policy(Update& update, const ObjectName& name, PolicyUse use) {
  PolicyUse& known = policies_[name];
  // What comes before what goes: a prefix that stays does not go and come again.
  std::set<Cidr> moved;
  std::set<PortName> ports;
  for (const Cidr& cidr : use.prefixes)
    if (prefixes_.insert(cidr)) moved.insert(cidr);
  for (const Cidr& cidr : known.prefixes)
    if (prefixes_.erase(cidr)) moved.insert(cidr);
  for (const PortName& port : use.egress_ports)
    if (++egress_ports_[port] == 1) ports.insert(port);
  for (const PortName& port : known.egress_ports)
    if (--egress_ports_.at(port) == 0) {
      egress_ports_.erase(port);
      ports.insert(port);
    }
  for (const auto& [text, selector] : use.nodes) {
    auto& [held, users] = node_selectors_[text];
    held = selector;
    update.node_selectors |= ++users == 1;
  }
  for (const auto& [text, selector] : known.nodes)
    if (--node_selectors_.at(text).second == 0) {
      node_selectors_.erase(text);
      update.node_selectors = true;
    }
  known = std::move(use);
  if (known.empty()) policies_.erase(name);

  update.cidrs |= !moved.empty();
  if (first_) return;  // all addresses are identified anyway
  for (const Cidr& cidr : moved) occupants_.within(cidr, update.addresses);
  if (ports.empty()) return;
  for (const auto& [pod_name, pod] : update.state.pods)
    if (std::ranges::any_of(pod.ports, [&](const auto& each) {
          return ports.contains({each.name, each.protocol});
        }))
      see_differently(update, pod_name);
}

void PolicyCompiler::see_differently(Update& update, const ObjectName& pod) {
  update.pods.insert(pod);
  occupants_.of_pod(pod, update.addresses);
}

void PolicyCompiler::take_up_namespaces(Update& update) {
  for (const std::string& ns : update.changes.namespaces) {
    const auto known = namespaces_.find(ns);
    const auto found = update.state.namespaces.find(ns);
    if (known == namespaces_.end()) continue;  // nobody asked for it yet
    if (found != update.state.namespaces.end() && found->second.labels == known->second.labels) continue;
    namespaces_.erase(known);
    update.namespaces.insert(ns);
    for (auto pod = update.state.pods.lower_bound({ns, ""});
         pod != update.state.pods.end() && pod->first.ns == ns; ++pod)
      see_differently(update, pod->first);
  }
}

void PolicyCompiler::take_up_endpoints(Update& update) {
  std::map<uint16_t, LocalEndpoint> wanted;
  for (const LocalEndpoint& endpoint : update.endpoints) wanted[endpoint.index] = endpoint;
  for (const auto& [index, endpoint] : endpoints_) {
    if (wanted.contains(index)) continue;
    occupants_.update_endpoint(index, nullptr, update.addresses);
    update.subjects.insert(index);
  }
  for (const auto& [index, endpoint] : wanted) {
    const auto known = endpoints_.find(index);
    if (known == endpoints_.end() || !same_endpoint(known->second, endpoint)) {
      occupants_.update_endpoint(index, &endpoint, update.addresses);
      update.subjects.insert(index);
    }
    if (update.all_subjects) update.subjects.insert(index);
    if (update.pods.contains(endpoint.pod) || update.namespaces.contains(endpoint.pod.ns)) {
      update.subjects.insert(index);
      for (const Address& address : endpoint.ips) update.addresses.insert({endpoint.net, address});
    }
  }
  endpoints_ = std::move(wanted);
}

void PolicyCompiler::take_up_nodes(Update& update) {
  if (first_ || update.changes.nodes || update.node_selectors) classify_nodes(update);
  if (!first_ && !update.changes.nodes && same_view(node_, update.node)) return;
  index_nodes(update);
  occupants_.update_nodes(update.state, update.node, update.addresses);
  for (const Address& address : update.node.addresses) update.addresses.insert({0, address});  // NodePorts
  node_ = update.node;
  update.cidrs = true;
}

/// Nodes seldom come and go: then their pods are looked through.
void PolicyCompiler::index_nodes(Update& update) {
  const std::set<std::string> changed = node_index_.update(update.state, update.node, update.numbers);
  image_.nodes = node_index_.all();
  if (first_) return;
  for (const auto& [name, node] : update.state.nodes)
    for (const Address& address : node.internal_ips) update.addresses.insert({0, address});
  if (changed.empty()) return;
  for (const auto& [name, pod] : update.state.pods)
    if (changed.contains(pod.node_name)) occupants_.of_pod(name, update.addresses);
}

void PolicyCompiler::classify_nodes(Update& update) {
  std::map<Address, std::set<std::string>> classes;
  for (const auto& [text, selector] : node_selectors_)
    for (const auto& [name, node] : update.state.nodes) {
      if (!selector.first.matches(node.labels)) continue;
      for (const auto* ips : {&node.internal_ips, &node.external_ips})
        for (const Address& ip : *ips) classes[ip].insert(text);
    }
  if (classes == node_classes_) return;
  for (const auto* each : {&classes, &node_classes_})
    for (const auto& [address, texts] : *each) update.addresses.insert({0, address});
  node_classes_ = std::move(classes);
  update.cidrs = true;
}

const PolicyCompiler::NamespaceLabels& PolicyCompiler::namespace_labels(const ClusterState& state,
                                                                        const std::string& ns) {
  const auto [known, is_new] = namespaces_.try_emplace(ns);
  if (is_new) {
    known->second.labels = labels_of_namespace(state, ns);
    known->second.text = to_text(known->second.labels);
  }
  return known->second;
}

Identity PolicyCompiler::identity_of(const Occupant& occupant, const AddressKey& key) const {
  Identity identity;
  identity.kind = occupant.kind;
  identity.cidr = prefixes_.longest(key.second);
  const auto classes = node_classes_.find(key.second);
  if (key.first == 0 && classes != node_classes_.end()) identity.nodes = classes->second;
  if (occupant.kind == IdentityKind::kUnknownPod) identity.ns = occupant.ns;
  if (occupant.kind != IdentityKind::kPod) return identity;
  identity.ns = occupant.pod->name.ns;
  identity.labels = occupant.pod->labels;
  for (const auto& port : occupant.pod->ports)
    if (port.port != 0 && egress_ports_.contains({port.name, port.protocol}))
      identity.ports.push_back({port.name, port.protocol, port.port});
  std::ranges::sort(identity.ports);
  const auto rest = std::ranges::unique(identity.ports);
  identity.ports.erase(rest.begin(), rest.end());
  return identity;
}

/// Addresses that may have another occupant, or whose occupant may be seen differently.
void PolicyCompiler::identify(Update& update) {
  const std::vector<Cidr> open = node_port_cidrs(update.state, update.node);
  for (const AddressKey& key : update.addresses) {
    const auto occupant = occupants_.occupant(key, update.state, update.node);
    const auto held = image_.addresses.find(key);
    if (!occupant) {
      if (held == image_.addresses.end()) continue;
      identities_.release(held->second.identity);
      image_.addresses.erase(held);
      update.delta.addresses.insert(key);
      continue;
    }
    Identity identity = identity_of(*occupant, key);
    std::string ns_text;
    if (!identity.ns.empty()) {
      const NamespaceLabels& labels = namespace_labels(update.state, identity.ns);
      identity.ns_labels = labels.labels;
      ns_text = labels.text;
    }
    const std::string text = text_of(identity, ns_text);
    AddressEntry entry{identities_.acquire(std::move(identity), text, update.numbers), occupant->endpoint,
                       occupant->flags, key.first == 0 ? node_index_.of(*occupant, key.second) : uint16_t{0}};
    if ((entry.flags & ADDRESS_LOCAL_NODE) && serves_node_ports(key.second, open))
      entry.flags |= ADDRESS_NODE_PORT;
    if (held == image_.addresses.end()) {
      image_.addresses.emplace(key, entry);
    } else {
      identities_.release(held->second.identity);
      if (held->second == entry) continue;
      held->second = entry;
    }
    update.delta.addresses.insert(key);
  }
}

/// Every prefix that means something, each with the flags of those that cover it. Both families always have
/// their /0: an IPv4 address would otherwise find an IPv6 prefix such as ::/0, under which IPv4 is mapped.
void PolicyCompiler::place_cidrs(Update& update) {
  if (!update.cidrs) return;
  std::map<Cidr, uint32_t> flags;
  PrefixSet flagged;
  const auto flag = [&](const Cidr& cidr, uint32_t bit) {
    flags[cidr] |= bit;
    flagged.insert(cidr);
  };
  for (const Cidr& cidr : update.node.cluster_cidrs) flag(cidr, CIDR_CLUSTER);
  for (const Cidr& cidr : service_cidrs(update.state, update.node)) flag(cidr, CIDR_SERVICE);
  for (const auto& [name, each] : update.state.nodes)
    for (const Cidr& cidr : each.pod_cidrs) flag(cidr, CIDR_CLUSTER);

  std::set<Cidr> all;
  for (const auto& [cidr, bits] : flags) all.insert(cidr);
  for (const auto& [cidr, users] : prefixes_.all()) all.insert(cidr);
  // Addresses of Nodes that nobody has as far as this node knows, such as external ones.
  std::map<Cidr, const std::set<std::string>*> node_classes;
  for (const auto& [address, classes] : node_classes_) {
    if (occupants_.of_node({0, address})) continue;
    node_classes[Cidr(address, address.bits())] = &classes;
  }
  for (const auto& [cidr, classes] : node_classes) all.insert(cidr);
  for (const Family family : {Family::kIpv4, Family::kIpv6})
    all.insert(Cidr(Address::unspecified(family), 0));

  std::map<std::pair<uint16_t, Cidr>, CidrEntry> wanted;
  for (const Cidr& cidr : all) {
    uint32_t merged = 0;
    for (auto cover = flagged.longest(cidr); cover;) {
      merged |= flags.at(*cover);
      if (cover->length() == 0) break;
      cover = flagged.longest(Cidr(cover->address(), cover->length() - 1));
    }
    Identity identity;
    identity.cidr = prefixes_.longest(cidr);
    if (const auto classes = node_classes.find(cidr); classes != node_classes.end())
      identity.nodes = *classes->second;
    const std::string text = text_of(identity, "");
    wanted[{0, cidr}] = {identities_.acquire(std::move(identity), text, update.numbers), merged,
                         node_index_.of_prefix(cidr)};
  }
  for (const auto& [key, entry] : image_.cidrs) {
    identities_.release(entry.identity);
    if (!wanted.contains(key)) update.delta.cidrs.insert(key);
  }
  for (const auto& [key, entry] : wanted) {
    const auto held = image_.cidrs.find(key);
    if (held == image_.cidrs.end() || !(held->second == entry)) update.delta.cidrs.insert(key);
  }
  image_.cidrs = std::move(wanted);
}

PolicyImage compile_policy(const ClusterState& state, const NodeView& node,
                           const std::vector<LocalEndpoint>& endpoints, PolicyNumbers& numbers) {
  PolicyCompiler compiler;
  compiler.update(state, node, endpoints, {.everything = true}, numbers);
  return std::move(compiler).take_image();
}

}  // namespace bpfnet::compile
