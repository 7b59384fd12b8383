#include "tests/e2e/churn_pools.h"

#include <algorithm>
#include <stdexcept>

#include "tests/e2e/three_nodes.h"

namespace bpfnet::e2e::churn {
namespace {

/// More than Services: one is always free.
constexpr size_t kPool = 8;
/// The first number of each kind.
constexpr int kClusterIps = 101;
constexpr int kLoadBalancers = 1;
constexpr int kExternalIps = 51;
constexpr int kNodePorts = 1101;

bool uses(const World& world, const Address& address) {
  return std::ranges::any_of(world.services, [&](const auto& entry) {
    const ServiceManifest& service = entry.second;
    return std::ranges::count(service.cluster_ips, address) != 0 ||
           std::ranges::count(service.load_balancer_ips, address) != 0 ||
           std::ranges::count(service.external_ips, address) != 0;
  });
}

bool uses_port(const World& world, uint16_t port) {
  return std::ranges::any_of(world.services, [&](const auto& entry) {
    return std::ranges::count(entry.second.ports, port, &ServicePortManifest::node_port) != 0;
  });
}

/// One address of each family.
std::vector<Address> unused(const World& world, Address (*address)(int, Family), int first, size_t skip) {
  for (size_t i = 0; i < kPool; i++) {
    const int number = first + static_cast<int>((i + skip) % kPool);
    const std::vector<Address> both = {address(number, Family::kIpv4), address(number, Family::kIpv6)};
    if (std::ranges::none_of(both, [&](const Address& each) { return uses(world, each); })) return both;
  }
  throw std::logic_error("all addresses are used");
}

}  // namespace

std::vector<Address> unused_cluster_ips(const World& world, size_t skip) {
  return unused(world, cluster_ip, kClusterIps, skip);
}

std::vector<Address> unused_load_balancers(const World& world, size_t skip) {
  return unused(world, load_balancer_ip, kLoadBalancers, skip);
}

std::vector<Address> unused_external_ips(const World& world, size_t skip) {
  return unused(world, load_balancer_ip, kExternalIps, skip);
}

uint16_t unused_node_port(const World& world, size_t skip) {
  for (size_t i = 0; i < kPool; i++) {
    const uint16_t port = node_port(kNodePorts + static_cast<int>((i + skip) % kPool));
    if (!uses_port(world, port)) return port;
  }
  throw std::logic_error("all node ports are used");
}

}  // namespace bpfnet::e2e::churn
