#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "base/fd.h"
#include "control/cni/endpoint_manager.h"
#include "control/cni/plugin.h"
#include "loader/netns.h"

// An agent without a datapath: the endpoint manager over a real store and real namespaces, with the maps
// replaced by one file per endpoint, which outlives a killed process as pinned maps do.
namespace bpfnet::cni::test {

class FakeDatapath final : public EndpointHooks {
 public:
  explicit FakeDatapath(std::filesystem::path directory) : directory_(std::move(directory)) {}

  Status ready() override { return not_ready.empty() ? ok() : Status(fail("{}", not_ready)); }
  Status publish(const LiveEndpoint& endpoint) override;
  Status withdraw(const ipam::EndpointRecord& endpoint) override;
  Status verify(const LiveEndpoint& endpoint) override;
  std::optional<std::string> port_holder(const ipam::HostPort& port) override {
    if (port.host_port != services_port) return std::nullopt;
    return "Service default/web";
  }
  void reached(const AttachmentKey& key, AddStep step) override {
    if (on_step) on_step(key, step);
  }
  /// How many endpoints the "maps" hold.
  [[nodiscard]] size_t published() const;

  uint16_t services_port = 0;   ///< a port of the node that a Service has
  std::string not_ready;        ///< why, if it is not
  bool refuse_publish = false;  ///< publish fails after half of its work
  std::function<void(const AttachmentKey&, AddStep)> on_step;

 private:
  [[nodiscard]] std::filesystem::path file(const AttachmentKey& key) const;
  std::filesystem::path directory_;
};

/// A pod's network namespace, gone with this object.
class Pod {
 public:
  Pod() : netns_(loader::new_netns().value()), path_(fmt::format("/proc/{}/fd/{}", getpid(), netns_.get())) {}
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] int netns() const { return netns_.get(); }

 private:
  Fd netns_;
  std::string path_;
};

/// A node in a namespace of its own; the test's thread is inside.
class NodeTest : public ::testing::Test {
 protected:
  NodeTest();
  ~NodeTest() override;

  void SetUp() override;
  /// As after SIGKILL and a new start, but for recover().
  void restart_agent();
  void stop_agent();

  /// One run of the plugin, as a runtime does it; `conf` is completed with cniVersion and name.
  PluginOutcome plugin(const char* command, const std::string& container, const std::string& netns,
                       nlohmann::json conf = nlohmann::json::object(), const Variables& extra = {});
  /// The parsed result of an ADD that must succeed.
  nlohmann::json added(const std::string& container, const Pod& pod,
                       nlohmann::json conf = nlohmann::json::object(), const Variables& extra = {});

  /// Everything of ours that is left anywhere: empty after a DEL.
  std::string leftovers();
  /// Names of the devices in a netns but for lo.
  static std::string devices(int netns);

  std::filesystem::path directory_;
  Fd node_;
  std::optional<loader::NetnsGuard> inside_;
  std::optional<ipam::Store> store_;
  std::optional<ipam::Allocator> allocator_;
  std::optional<FakeDatapath> datapath_;
  std::unique_ptr<EndpointManager> manager_;
};

/// The code of an error on stdout (C7); 0 if the plugin succeeded.
int code_of(const PluginOutcome& outcome);
std::string message_of(const PluginOutcome& outcome);

}  // namespace bpfnet::cni::test
