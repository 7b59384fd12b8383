#include "tests/support/policy/random_cluster.h"

#include <fmt/format.h>

#include <algorithm>

namespace bpfnet::test {
namespace {

using model::Protocol;

Address ipv4(size_t third, size_t fourth) {
  return Address::from_ipv4({10, 0, static_cast<uint8_t>(third), static_cast<uint8_t>(fourth)});
}

Address ipv6(size_t third, size_t fourth) {
  return Address::parse(fmt::format("fd00::{:x}:{:x}", third, fourth)).value();
}

/// Pods are in 10.0.0-2.1-14 and fd00::0-2:1-e, nodes in 10.0.9.0/24 and fd00::9:0/112.
Vocabulary words() {
  Vocabulary words;
  for (size_t third = 0; third < 3; ++third) {
    for (size_t fourth = 1; fourth <= 14; ++fourth) {
      words.addresses.push_back(ipv4(third, fourth));
      if (fourth % 2 == 0) words.addresses.push_back(ipv6(third, fourth));
    }
  }
  for (size_t node = 1; node <= 3; ++node) words.addresses.push_back(ipv4(9, node));
  return words;
}

}  // namespace

ClusterGenerator::ClusterGenerator(uint64_t seed) : random_(seed, words()) {}

Address ClusterGenerator::pod_address(bool v6) {
  const size_t third = pick(3);
  const size_t fourth = 1 + pick(14);
  return v6 ? ipv6(third, fourth) : ipv4(third, fourth);
}

model::Pod ClusterGenerator::pod(const model::ObjectName& name, std::vector<Address>& taken) {
  model::Pod pod;
  pod.name = name;
  pod.labels = random_.labels();
  pod.phase = model::PodPhase::kRunning;
  pod.node_name = fmt::format("node{}", 1 + pick(3));
  for (const bool v6 : {false, true}) {
    if (v6 && chance(50)) continue;
    const Address address = pod_address(v6);
    // P21, P22: a finished pod may name an address that a live one has by now, and so may one that has been
    // terminating elsewhere for so long that its network is gone.
    const bool reused = std::ranges::count(taken, address) > 0;
    if (reused && !pod.deleting && !pod.finished()) {
      pod.deleting = chance(50);
      if (!pod.deleting) pod.phase = model::PodPhase::kSucceeded;
    }
    pod.ips.push_back(address);
  }
  pod.denied = denied();
  if (pod.finished()) return pod;
  taken.insert(taken.end(), pod.ips.begin(), pod.ips.end());
  if (chance(5)) pod.phase = model::PodPhase::kFailed;  // its containers are gone, its network not yet
  std::vector<model::ContainerPort> ports;
  for (const auto& port_name : random_.words().port_names) {
    if (chance(50)) continue;
    ports.push_back({port_name, random_.words().ports[2 + pick(3)], 0, std::nullopt, one_of(kProtocols)});
  }
  pod.ports = std::move(ports);
  return pod;
}

std::optional<model::Denied> ClusterGenerator::denied() {
  if (chance(70)) return std::nullopt;
  return chance(50) ? model::Denied::kReject : model::Denied::kDrop;
}

/// As addresses and flags of a node change while its agent runs, or from one start to the next.
compile::NodeView ClusterGenerator::node_view() {
  compile::NodeView node;
  node.name = "node1";
  node.addresses = {ipv4(9, 1), ipv6(9, 1)};
  if (chance(70)) node.addresses.push_back(ipv4(9, 11));              // no address of the Node
  if (chance(20)) node.addresses.push_back(pod_address(chance(30)));  // one that a pod may think its own
  node.cluster_cidrs = {Cidr::parse("10.0.0.0/16").value()};
  if (chance(20)) node.cluster_cidrs.push_back(Cidr::parse("10.0.1.0/24").value());
  node.service_cidrs = {Cidr::parse(chance(80) ? "10.96.0.0/12" : "10.0.2.0/24").value()};
  if (chance(20)) node.node_port_addresses = {Cidr(one_of(node.addresses), chance(50) ? 32 : 24)};
  node.node_port_primary = chance(20);
  node.policy_audit = chance(20);
  node.denied = denied().value_or(model::Denied::kDrop);
  return node;
}

void ClusterGenerator::add_nodes(RandomCluster& cluster) {
  cluster.node = node_view();
  cluster.addresses.push_back(ipv4(9, 11));
  cluster.addresses.insert(cluster.addresses.end(), cluster.node.addresses.begin(),
                           cluster.node.addresses.end());
  for (size_t i = 1; i <= 3; ++i) {
    model::Node node;
    node.name = fmt::format("node{}", i);
    node.labels = random_.labels();
    node.internal_ips = {ipv4(9, i), ipv6(9, i)};
    if (chance(50)) node.external_ips = {ipv4(9, 20 + i)};
    for (const auto* ips : {&node.internal_ips, &node.external_ips})
      cluster.addresses.insert(cluster.addresses.end(), ips->begin(), ips->end());
    cluster.state.nodes[node.name] = node;
  }
}

void ClusterGenerator::add_pods(RandomCluster& cluster) {
  std::vector<Address> taken;
  for (size_t i = 0, count = 4 + pick(12); i < count; ++i) {
    const model::ObjectName name{one_of(random_.words().namespaces), fmt::format("pod{}", i)};
    model::Pod made = pod(name, taken);
    if (chance(10)) {
      made.host_network = true;
      made.ips = {ipv4(9, 1 + pick(3))};
    }
    const bool elsewhere = made.host_network || made.deleting;
    const bool here = !elsewhere && (made.node_name == "node1" || chance(20));
    if (elsewhere && made.deleting) made.node_name = "node2";
    if (chance(10)) made.deleting = true;  // and has its network still
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
  cluster.addresses.insert(cluster.addresses.end(), taken.begin(), taken.end());
}

void ClusterGenerator::add_policies(RandomCluster& cluster) {
  for (size_t i = 0, count = pick(7); i < count; ++i) {
    const model::ObjectName name{one_of(random_.words().namespaces), fmt::format("policy{}", i)};
    cluster.state.policies[name] = random_.policy(name);
  }
  for (size_t i = 0, count = chance(30) ? 0 : pick(5); i < count; ++i) {
    const std::string name = fmt::format("cluster-policy{}", i);
    cluster.state.cluster_policies[name] = random_.cluster_policy(name);
  }
}

RandomCluster ClusterGenerator::make() {
  RandomCluster cluster;
  for (const auto& name : random_.words().namespaces) {
    if (chance(10)) continue;  // its object has not come yet
    model::Namespace ns{name, random_.labels(), denied(), {}};
    ns.labels["kubernetes.io/metadata.name"] = name;
    cluster.state.namespaces[name] = ns;
  }
  add_nodes(cluster);
  add_pods(cluster);
  add_policies(cluster);
  for (size_t i = 0; i < 8; ++i) cluster.addresses.push_back(pod_address(chance(30)));
  cluster.addresses.push_back(Address::parse("192.0.2.7").value());
  cluster.addresses.push_back(Address::parse("2001:db8::7").value());
  const auto& ports = random_.words().ports;
  cluster.ports = ports;
  cluster.ports.insert(cluster.ports.end(), ports.begin() + 2, ports.begin() + 5);
  for (size_t i = 0; i < 4; ++i) cluster.ports.push_back(static_cast<uint16_t>(pick(65536)));
  return cluster;
}

}  // namespace bpfnet::test
