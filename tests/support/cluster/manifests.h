#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/address.h"

namespace bpfnet::e2e {

using LabelMap = std::map<std::string, std::string>;

/// Kubernetes manifests as text: what a test writes into a node's directory.
struct NodeManifest {
  std::string name;
  LabelMap labels;
  std::vector<Address> addresses;
  std::vector<std::string> pod_cidrs;
  [[nodiscard]] std::string yaml() const;
};

struct NamespaceManifest {
  std::string name;
  LabelMap labels;
  [[nodiscard]] std::string yaml() const;
};

struct PodPort {
  std::string name;
  uint16_t port = 0;
  std::string protocol = "TCP";
};

struct PodManifest {
  std::string ns = "default";
  std::string name;
  std::string node;
  LabelMap labels;
  std::vector<Address> ips;  ///< empty until the runtime has added it
  bool host_network = false;
  std::vector<PodPort> ports;
  std::string phase;         ///< empty: Running once it has addresses, else Pending
  bool terminating = false;  ///< metadata.deletionTimestamp is set
  [[nodiscard]] std::string yaml() const;
};

struct ServicePortManifest {
  std::string name;
  std::string protocol = "TCP";
  uint16_t port = 0;
  uint16_t target = 0;
  uint16_t node_port = 0;
};

struct BackendManifest {
  std::vector<Address> ips;  ///< one of each family it has
  std::string node;          ///< empty: no nodeName
  bool ready = true;
  std::optional<bool> serving;      ///< not written: nil
  std::optional<bool> terminating;  ///< not written: nil
  std::vector<std::string> for_zones;
  std::vector<std::string> for_nodes;
};

/// A dual-stack Service with its EndpointSlices, one a family.
struct ServiceManifest {
  std::string ns = "default";
  std::string name;
  LabelMap labels;
  std::string type;  ///< empty: LoadBalancer, NodePort or ClusterIP, as the rest of it wants
  std::vector<Address> cluster_ips;
  std::vector<ServicePortManifest> ports;
  std::vector<BackendManifest> backends;
  std::string external_traffic_policy;  ///< empty: not written
  std::string internal_traffic_policy;  ///< empty: not written
  std::vector<Address> external_ips;
  std::vector<Address> load_balancer_ips;
  std::string load_balancer_ip_mode;       ///< empty: not written
  std::vector<std::string> source_ranges;  ///< loadBalancerSourceRanges
  std::optional<int> affinity_seconds;     ///< sessionAffinity ClientIP with this timeout
  bool allocate_node_ports = true;         ///< false is written as allocateLoadBalancerNodePorts
  [[nodiscard]] std::string yaml() const;
  /// The Service alone.
  [[nodiscard]] std::string service_yaml() const;
  /// One more pair of slices for the same service, named after `suffix`, with `others` alone.
  [[nodiscard]] std::string more_slices(const std::string& suffix,
                                        const std::vector<BackendManifest>& others) const;
};

}  // namespace bpfnet::e2e
