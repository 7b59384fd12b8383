#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "base/address.h"

namespace bpfnet::bench {

/// How much of everything. Names, labels and addresses follow from the numbers alone.
struct PolicyNumbers {
  size_t namespaces = 50;
  size_t pods = 10000;
  size_t policies = 1000;
  size_t identities = 2000;  ///< different sets of labels, counted over all namespaces
  size_t local = 100;        ///< pods of the own node
  size_t per_file = 10;
};

/// A pod of the benchmark; addresses of other nodes' pods count up from 10.128.0.1.
struct BenchPod {
  std::string ns;
  std::string name;
  size_t app = 0;      ///< of its namespace; with the namespace, its identity
  size_t policy_tier;  ///< what policies select it by
  bool local = false;
  Address ip;  ///< of a local pod: what CNI gave, unspecified before
};

/// Pods and policies as manifests. Each pod is selected by policies / namespaces / 4 policies of five kinds:
/// from single apps of its namespace, from teams of namespaces (a port and a block of ports), from ipBlocks,
/// to DNS and the world outside, and to a named port.
class PolicyPopulation {
 public:
  PolicyPopulation(const PolicyNumbers& numbers, std::string own_node);

  [[nodiscard]] const std::vector<BenchPod>& pods() const { return pods_; }
  [[nodiscard]] std::vector<size_t> local_pods() const;
  void set_ip(size_t pod, const Address& ip) { pods_[pod].ip = ip; }

  [[nodiscard]] std::string namespaces_yaml() const;
  /// `version` is one label more; empty: none.
  [[nodiscard]] std::string pod_yaml(size_t pod, const std::string& version = "") const;
  /// `port`: what the first port of its rules is raised by.
  [[nodiscard]] std::string policy_yaml(size_t policy, size_t port = 0) const;
  /// A policy of the ingress kind that selects the pod.
  [[nodiscard]] size_t policy_of(size_t pod) const;

  [[nodiscard]] size_t pod_files() const;
  [[nodiscard]] size_t policy_files() const;
  [[nodiscard]] size_t file_of(size_t object) const { return object / numbers_.per_file; }
  [[nodiscard]] static std::string pod_file_name(size_t file);
  [[nodiscard]] static std::string policy_file_name(size_t file);
  /// The file's text; `pod` is written with a version.
  [[nodiscard]] std::string pod_file(size_t file, size_t pod = SIZE_MAX,
                                     const std::string& version = "") const;
  [[nodiscard]] std::string policy_file(size_t file, size_t policy = SIZE_MAX, size_t port = 0) const;

 private:
  PolicyNumbers numbers_;
  std::string own_node_;
  std::vector<BenchPod> pods_;
};

}  // namespace bpfnet::bench
