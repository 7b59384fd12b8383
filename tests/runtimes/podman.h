#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/runtimes/recorder.h"

namespace bpfnet::e2e {

/// Podman on a node: with CNI as its network backend and with storage of its own.
class Podman {
 public:
  Podman(const Node& node, const PluginDirectory& cni);
  /// Removes every container.
  ~Podman();
  Podman(const Podman&) = delete;

  /// `podman ARGS`, run in the node's namespace.
  [[nodiscard]] Output run(const std::vector<std::string>& args) const;
  /// The same; throws with podman's words if it fails. Gives stdout without the newline at its end.
  std::string must(const std::vector<std::string>& args) const;
  /// Starts a web server in a container of this name; gives the id.
  std::string serve(const std::string& name, const std::vector<std::string>& options) const;
  /// `podman inspect`: what it says of one network of a container.
  [[nodiscard]] nlohmann::json network_of(const std::string& container, const std::string& network) const;

 private:
  const Node& node_;
  std::string dir_;
};

}  // namespace bpfnet::e2e
