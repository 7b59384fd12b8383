#pragma once

#include <string>
#include <vector>

#include "bench/population.h"

namespace bpfnet::bench {

/// What kube-proxy is told about its cluster.
struct KubeProxyOptions {
  std::string cluster_cidr = "10.244.0.0/16";  ///< --cluster-cidr: sources outside of it are masqueraded
  std::string service_cidr = "10.96.0.0/12";
  std::string node_ip = "192.0.2.1";  ///< accepts node ports (nftables mode)
};

/// The rules that kube-proxy's iptables mode writes for these ClusterIP services, as input of
/// iptables-restore: one rule for each service in KUBE-SERVICES, in the order of the list; a chain for each
/// service, which chooses by probabilities; a chain for each endpoint. Above 1,000 endpoints the comments of
/// the latter two are left out, as there.
std::string iptables_rules(const std::vector<Service>& services, const KubeProxyOptions& options = {});

/// The same for its nftables mode, as input of nft -f: one verdict map from address, protocol and port to the
/// service's chain, another by a random number to the endpoint's chain.
std::string nftables_rules(const std::vector<Service>& services, const KubeProxyOptions& options = {});

}  // namespace bpfnet::bench
