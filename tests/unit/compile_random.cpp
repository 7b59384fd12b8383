#include "tests/unit/compile_random.h"

#include <fmt/format.h>

#include <algorithm>

namespace bpfnet::compile {
namespace {

using model::Protocol;

const std::vector<std::string> kNamespaces = {"blue", "green", "red"};
const std::vector<std::string> kKeys = {"app", "tier"};
const std::vector<std::string> kValues = {"a", "b", "c"};
const std::vector<Protocol> kProtocols = {Protocol::kTcp, Protocol::kUdp, Protocol::kSctp};
const std::vector<uint16_t> kPorts = {1, 53, 80, 81, 443, 8080, 8081, 65535};
const std::vector<std::string> kPortNames = {"http", "dns"};

Address ipv4(size_t third, size_t fourth) {
  return Address::from_ipv4({10, 0, static_cast<uint8_t>(third), static_cast<uint8_t>(fourth)});
}

Address ipv6(size_t third, size_t fourth) {
  return Address::parse(fmt::format("fd00::{:x}:{:x}", third, fourth)).value();
}

}  // namespace

size_t ClusterGenerator::pick(size_t below) {
  return random_() % below;
}

Address ClusterGenerator::pod_address(bool v6) {
  const size_t third = pick(3);
  const size_t fourth = 1 + pick(14);
  return v6 ? ipv6(third, fourth) : ipv4(third, fourth);
}

model::Labels ClusterGenerator::labels() {
  model::Labels labels;
  for (const auto& key : kKeys)
    if (chance(70)) labels[key] = one_of(kValues);
  return labels;
}

model::Selector ClusterGenerator::selector(bool of_namespaces) {
  model::Selector selector;
  for (size_t i = pick(3); i > 0; --i) {
    model::SelectorRequirement requirement;
    requirement.key = one_of(kKeys);
    requirement.op = static_cast<model::SelectorOperator>(pick(4));
    const bool valued =
        requirement.op == model::SelectorOperator::kIn || requirement.op == model::SelectorOperator::kNotIn;
    for (size_t n = valued ? 1 + pick(2) : 0; n > 0; --n) requirement.values.insert(one_of(kValues));
    if (valued && of_namespaces && chance(30)) {
      requirement.key = "kubernetes.io/metadata.name";
      requirement.values = {one_of(kNamespaces)};
    }
    selector.requirements.push_back(std::move(requirement));
  }
  return selector;
}

Cidr ClusterGenerator::cidr() {
  const bool v6 = chance(30);
  static const std::vector<int> kLengths = {0, 8, 16, 22, 24, 28, 29, 30, 31, 32};
  const int length = one_of(kLengths);
  return Cidr(pod_address(v6), v6 && length > 0 ? length + 96 : length);
}

model::PolicyPeer ClusterGenerator::peer() {
  model::PolicyPeer peer;
  if (chance(40)) {
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

model::PolicyPort ClusterGenerator::port(bool named) {
  model::PolicyPort port;
  port.protocol = one_of(kProtocols);
  if (named) {
    port.name = one_of(kPortNames);
  } else if (chance(80)) {
    port.port = one_of(kPorts);
    if (chance(40)) port.end_port = static_cast<uint16_t>(*port.port + pick(65536U - *port.port));
  }
  return port;
}

model::PolicyRule ClusterGenerator::rule() {
  model::PolicyRule rule;
  for (size_t i = pick(3); i > 0; --i) rule.peers.push_back(peer());
  for (size_t i = pick(3); i > 0; --i) rule.ports.push_back(port(chance(50)));
  return rule;
}

model::NetworkPolicy ClusterGenerator::policy(const model::ObjectName& name) {
  model::NetworkPolicy policy;
  policy.name = name;
  policy.pods = selector(false);
  policy.isolates_ingress = chance(70);
  policy.isolates_egress = chance(60);
  for (size_t i = pick(3); i > 0; --i) policy.ingress.push_back(rule());
  for (size_t i = pick(3); i > 0; --i) policy.egress.push_back(rule());
  return policy;
}

model::Pod ClusterGenerator::pod(const model::ObjectName& name, std::vector<Address>& taken) {
  model::Pod pod;
  pod.name = name;
  pod.labels = labels();
  pod.phase = model::PodPhase::kRunning;
  pod.node_name = fmt::format("node{}", 1 + pick(3));
  for (const bool v6 : {false, true}) {
    if (v6 && chance(50)) continue;
    const Address address = pod_address(v6);
    // P21: a finished pod may name an address that a live one has by now.
    const bool reused = std::ranges::count(taken, address) > 0;
    if (reused && pod.phase == model::PodPhase::kRunning) pod.phase = model::PodPhase::kSucceeded;
    pod.ips.push_back(address);
  }
  if (pod.finished()) return pod;
  taken.insert(taken.end(), pod.ips.begin(), pod.ips.end());
  if (chance(5)) pod.phase = model::PodPhase::kFailed;  // its containers are gone, its network not yet
  for (const auto& port_name : kPortNames) {
    if (chance(50)) continue;
    pod.ports.push_back({port_name, kPorts[2 + pick(3)], 0, std::nullopt, one_of(kProtocols)});
  }
  return pod;
}

RandomCluster ClusterGenerator::make() {
  RandomCluster cluster;
  for (const auto& name : kNamespaces) {
    if (chance(10)) continue;  // its object has not come yet
    model::Namespace ns{name, labels(), {}};
    ns.labels["kubernetes.io/metadata.name"] = name;
    cluster.state.namespaces[name] = ns;
  }
  cluster.node.name = "node1";
  cluster.node.addresses = {ipv4(9, 1), ipv6(9, 1)};
  cluster.node.cluster_cidrs = {Cidr::parse("10.0.0.0/16").value()};
  cluster.node.service_cidrs = {Cidr::parse("10.96.0.0/12").value()};
  for (size_t i = 1; i <= 3; ++i) {
    model::Node node;
    node.name = fmt::format("node{}", i);
    node.internal_ips = {ipv4(9, i), ipv6(9, i)};
    cluster.state.nodes[node.name] = node;
  }
  std::vector<Address> taken;
  for (size_t i = 0, count = 4 + pick(12); i < count; ++i) {
    const model::ObjectName name{one_of(kNamespaces), fmt::format("pod{}", i)};
    model::Pod made = pod(name, taken);
    if (chance(10)) {
      made.host_network = true;
      made.ips = {ipv4(9, 1 + pick(3))};
    }
    const bool here = !made.host_network && (made.node_name == "node1" || chance(20));
    const bool unknown = chance(10);
    // Another live pod holds the address of a completed one, which has no endpoint any more.
    if (here && made.phase != model::PodPhase::kSucceeded) {
      made.node_name = "node1";
      cluster.endpoints.push_back(
          {static_cast<uint16_t>(cluster.endpoints.size() + 1), name, made.ips, 0, {}});
      if (chance(20)) made.ips.clear();  // its status has not come yet
    }
    if (!(here && unknown)) cluster.state.pods[name] = made;
  }
  if (chance(20))
    cluster.endpoints.push_back(
        {static_cast<uint16_t>(cluster.endpoints.size() + 1), {}, {ipv4(2, 200)}, 0, {}});
  for (size_t i = 0, count = pick(7); i < count; ++i) {
    const model::ObjectName name{one_of(kNamespaces), fmt::format("policy{}", i)};
    cluster.state.policies[name] = policy(name);
  }
  cluster.addresses = taken;
  for (size_t i = 1; i <= 3; ++i) cluster.addresses.insert(cluster.addresses.end(), {ipv4(9, i), ipv6(9, i)});
  for (size_t i = 0; i < 8; ++i) cluster.addresses.push_back(pod_address(chance(30)));
  cluster.addresses.push_back(Address::parse("192.0.2.7").value());
  cluster.addresses.push_back(Address::parse("2001:db8::7").value());
  cluster.ports = kPorts;
  cluster.ports.insert(cluster.ports.end(), kPorts.begin() + 2, kPorts.begin() + 5);
  for (size_t i = 0; i < 4; ++i) cluster.ports.push_back(static_cast<uint16_t>(pick(65536)));
  return cluster;
}

}  // namespace bpfnet::compile
