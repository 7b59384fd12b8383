#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/cluster/cluster.h"

namespace bpfnet::e2e {

/// One call of the plugin, as the runtime made it.
struct RecordedCall {
  std::map<std::string, std::string> variables;  ///< CNI_*
  nlohmann::json config;                         ///< stdin

  [[nodiscard]] std::string variable(const std::string& name) const;
};

/// What a runtime needs on a node: a directory of plugins, in which a recorder stands before ours, and one of
/// configurations, which is empty.
class PluginDirectory {
 public:
  explicit PluginDirectory(const Node& node);

  [[nodiscard]] std::string plugins() const { return node_.dir("record"); }
  [[nodiscard]] std::string configurations() const { return node_.dir("net.d"); }
  [[nodiscard]] std::string conflist() const { return configurations() + "/10-bpfnet.conflist"; }
  /// Flags with which the agent installs its plugin behind the recorder and writes the conflist.
  [[nodiscard]] std::vector<std::string> agent_flags() const;

  /// The calls of `command` so far, oldest first.
  [[nodiscard]] std::vector<RecordedCall> calls(const std::string& command) const;
  void forget() const;

 private:
  const Node& node_;
};

/// The entry of GET /v1/endpoints of a container; null if there is none.
nlohmann::json endpoint_of(const Node& node, const std::string& container_id,
                           const std::string& ifname = "eth0");

/// Writes the image of the tests (tests/runtimes/image) to a file once, and gives its path.
std::string image_file(const std::string& directory);
inline constexpr const char* kImage = "bpfnet.test/busybox:1";

}  // namespace bpfnet::e2e
