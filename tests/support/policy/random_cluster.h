#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "control/compile/images.h"
#include "tests/support/policy/random_policies.h"

namespace bpfnet::test {

/// A small cluster with everything in it that policies are about, and the addresses and ports worth asking
/// for.
struct RandomCluster {
  model::ClusterState state;
  compile::NodeView node;
  std::vector<compile::LocalEndpoint> endpoints;
  std::vector<Address> addresses;
  std::vector<uint16_t> ports;
};

/// The same cluster for the same seed, on every machine.
class ClusterGenerator {
 public:
  explicit ClusterGenerator(uint64_t seed);
  RandomCluster make();
  size_t pick(size_t below) { return random_.pick(below); }
  template <typename T>
  const T& one_of(const std::vector<T>& items) {
    return random_.one_of(items);
  }

 private:
  bool chance(int percent) { return random_.chance(percent); }
  Address pod_address(bool ipv6);
  model::Pod pod(const model::ObjectName& name, std::vector<Address>& taken);
  std::optional<model::Denied> denied();
  compile::NodeView node_view();
  void add_nodes(RandomCluster& cluster);
  void add_pods(RandomCluster& cluster);
  void add_policies(RandomCluster& cluster);

  PolicyGenerator random_;
};

}  // namespace bpfnet::test
