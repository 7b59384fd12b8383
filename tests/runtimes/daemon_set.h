#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/runtimes/containerd.h"

namespace bpfnet::e2e {

/// A pod of a DaemonSet in deploy/kubernetes, made by containerd as kubelet would make it on this node: host
/// paths, propagation, capabilities, what else is read-only in a container that is not privileged, seccomp's
/// default. Host directories stand below a directory of the test; those that are the kernel's or the
/// runtime's are the real ones.
class DaemonSetPod {
 public:
  /// Runs the init containers, each to its end, then starts the containers. Throws when one fails, with its
  /// log.
  DaemonSetPod(const Node& node, Containerd& runtime, const std::string& name);
  ~DaemonSetPod();
  DaemonSetPod(const DaemonSetPod&) = delete;

  /// What a container of it has logged.
  [[nodiscard]] std::string log(const std::string& container) const;
  /// SIGTERM, and waits for its end; gives its exit status.
  int stop(const std::string& container);

  /// Where the test has a directory of the host.
  static std::string host_path(const Node& node, const std::string& path);

 private:
  std::string create(const nlohmann::json& config, const std::string& container_name);
  [[nodiscard]] nlohmann::json status(const std::string& id) const;
  void run_to_end(const std::string& id, const std::string& container);

  const Node& node_;
  Containerd& runtime_;
  std::string name_;
  nlohmann::json sandbox_config_;
  std::string sandbox_;
  std::map<std::string, std::string> containers_;  ///< name -> id
};

/// The name of the agent's image in deploy/kubernetes, as containerd spells it.
std::string agent_image_name();

}  // namespace bpfnet::e2e
