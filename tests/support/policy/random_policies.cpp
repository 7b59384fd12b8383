#include "tests/support/policy/random_policies.h"

#include <algorithm>

namespace bpfnet::test {
namespace {

using model::PolicyPeer;
using model::PolicyPort;
using model::Protocol;

}  // namespace

model::Labels PolicyGenerator::labels() {
  model::Labels labels;
  for (const auto& key : words_.keys)
    if (chance(70)) labels[key] = one_of(words_.values);
  return labels;
}

model::Selector PolicyGenerator::selector(bool of_namespaces) {
  model::Selector selector;
  for (size_t i = pick(3); i > 0; --i) {
    model::SelectorRequirement requirement;
    requirement.key = one_of(words_.keys);
    requirement.op = static_cast<model::SelectorOperator>(pick(4));
    const bool valued =
        requirement.op == model::SelectorOperator::kIn || requirement.op == model::SelectorOperator::kNotIn;
    for (size_t n = valued ? 1 + pick(2) : 0; n > 0; --n) requirement.values.insert(one_of(words_.values));
    if (valued && of_namespaces && chance(30)) {
      requirement.key = "kubernetes.io/metadata.name";
      requirement.values = {one_of(words_.namespaces)};
    }
    selector.requirements.push_back(std::move(requirement));
  }
  return selector;
}

Cidr PolicyGenerator::cidr() {
  static const std::vector<int> kLengths = {0, 8, 16, 22, 24, 28, 29, 30, 31, 32};
  const Address address = one_of(words_.addresses);
  const int length = one_of(kLengths);
  return {address, !address.is_ipv4() && length > 0 ? length + 96 : length};
}

PolicyPeer PolicyGenerator::peer() {
  PolicyPeer peer;
  if (!words_.addresses.empty() && chance(40)) {
    peer.cidr = cidr();
    for (size_t i = pick(3); i > 0; --i) {
      const Cidr inner = cidr();
      if (peer.cidr->contains(inner) && inner != *peer.cidr) peer.except.push_back(inner);
    }
    return peer;
  }
  const size_t kind = pick(4);
  if (kind != 1) peer.pods = selector(false);
  if (kind != 0) peer.namespaces = selector(true);
  return peer;
}

PolicyPort PolicyGenerator::port(bool named) {
  PolicyPort port;
  port.protocol = one_of(kProtocols);
  if (named) {
    port.name = one_of(words_.port_names);
  } else if (chance(80)) {
    port.port = one_of(words_.ports);
    if (chance(40)) port.end_port = static_cast<uint16_t>(*port.port + pick(65536U - *port.port));
  }
  return port;
}

model::PolicyRule PolicyGenerator::rule() {
  model::PolicyRule rule;
  for (size_t i = pick(3); i > 0; --i) rule.peers.push_back(peer());
  for (size_t i = pick(3); i > 0; --i) rule.ports.push_back(port(chance(50)));
  return rule;
}

model::NetworkPolicy PolicyGenerator::policy(const model::ObjectName& name) {
  model::NetworkPolicy policy;
  policy.name = name;
  policy.pods = selector(false);
  policy.isolates_egress = chance(60);
  policy.isolates_ingress = !policy.isolates_egress || chance(60);
  for (size_t i = pick(3); i > 0; --i) policy.ingress.push_back(rule());
  for (size_t i = pick(3); i > 0; --i) policy.egress.push_back(rule());
  policy.audit = chance(10);
  return policy;
}

/// Namespaces, or pods in namespaces.
PolicyPeer PolicyGenerator::selected() {
  PolicyPeer peer;
  peer.namespaces = selector(true);
  if (chance(60)) peer.pods = selector(false);
  return peer;
}

model::ClusterPolicyRule PolicyGenerator::cluster_rule(bool egress) {
  model::ClusterPolicyRule rule;
  rule.action = static_cast<model::PolicyAction>(pick(3));
  if (chance(30)) rule.name = "rule-" + one_of(words_.values);
  rule.fails_closed = chance(3);  // A12
  bool named = true;
  for (size_t i = 1 + pick(2); i > 0; --i) {
    const size_t kind = egress ? pick(8) : 7;
    if (kind < 3 && !words_.addresses.empty()) {
      rule.traffic.peers.emplace_back().cidr = cidr();
      named = false;
    } else if (kind == 3) {
      rule.traffic.peers.emplace_back().nodes = selector(false);
      named = false;
    } else {
      rule.traffic.peers.push_back(selected());
    }
  }
  if (chance(40)) return rule;
  for (size_t i = 1 + pick(2); i > 0; --i) {
    if (named && chance(30)) {  // A10: a name is of any protocol
      const std::string& name = one_of(words_.port_names);
      if (std::ranges::count(rule.traffic.ports, name, &PolicyPort::name)) continue;
      for (const Protocol protocol : kProtocols) rule.traffic.ports.push_back({protocol, {}, {}, name});
      continue;
    }
    PolicyPort each = port(false);
    if (!each.port) each.port = one_of(words_.ports);
    rule.traffic.ports.push_back(std::move(each));
  }
  return rule;
}

model::ClusterNetworkPolicy PolicyGenerator::cluster_policy(const std::string& name) {
  model::ClusterNetworkPolicy policy;
  policy.name = name;
  policy.tier = chance(60) ? model::PolicyTier::kAdmin : model::PolicyTier::kBaseline;
  policy.priority = static_cast<int>(pick(4));  // A4: often the same
  policy.subject = selected();
  for (size_t i = pick(4); i > 0; --i) policy.ingress.push_back(cluster_rule(false));
  for (size_t i = pick(4); i > 0; --i) policy.egress.push_back(cluster_rule(true));
  policy.audit = chance(10);
  return policy;
}

}  // namespace bpfnet::test
