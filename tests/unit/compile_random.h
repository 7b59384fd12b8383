#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "control/compile/images.h"

namespace bpfnet::compile {

/// A small cluster with everything in it that policies are about, and the addresses and ports worth asking
/// for.
struct RandomCluster {
  model::ClusterState state;
  NodeView node;
  std::vector<LocalEndpoint> endpoints;
  std::vector<Address> addresses;
  std::vector<uint16_t> ports;
};

/// The same cluster for the same seed, on every machine.
class ClusterGenerator {
 public:
  explicit ClusterGenerator(uint64_t seed) : random_(seed) {}
  RandomCluster make();
  /// A number in 0..below-1.
  size_t pick(size_t below);
  template <typename T>
  const T& one_of(const std::vector<T>& items) {
    return items[pick(items.size())];
  }

 private:
  bool chance(int percent) { return pick(100) < static_cast<size_t>(percent); }
  Address pod_address(bool ipv6);
  model::Labels labels();
  model::Selector selector(bool of_namespaces);
  Cidr cidr();
  model::PolicyPeer peer();
  model::PolicyPort port(bool named);
  model::PolicyRule rule();
  model::NetworkPolicy policy(const model::ObjectName& name);
  model::Pod pod(const model::ObjectName& name, std::vector<Address>& taken);

  std::mt19937_64 random_;
};

}  // namespace bpfnet::compile
