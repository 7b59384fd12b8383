// The first minutes of an agent whose state comes from an API server: what is known late, what must wait for
// it, and what must not.
#include <fmt/format.h>
#include <net/if.h>

#include <atomic>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "maps/maps.h"
#include "tests/e2e/e2e.h"

namespace bpfnet::e2e {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class KubernetesStart : public testing::Test {
 protected:
  KubernetesStart() : cluster_(options()) {
    node().stop_agent();
    server().set_fault([this](const test::HttpRequest& request, test::HttpConnection& connection) {
      if (!held_ || request.path.find(held_kind_) == std::string::npos) return false;
      connection.answer(429, test::status_json(429, "TooManyRequests", "not yet"), "Retry-After: 1\r\n");
      return true;
    });
  }
  ~KubernetesStart() override {
    if (HasFailure()) fmt::print("---- {}:\n{}\n", node().name(), node().log());
    server().set_fault({});
  }
  static ClusterOptions options() {
    ClusterOptions options = cluster_options({"node-a"});
    options.source = "kubernetes-shared";
    return options;
  }
  Node& node() { return cluster_.node(0); }
  test::ApiServer& server() { return cluster_.api().server(); }
  /// Lists of this kind are refused until release().
  void hold(const std::string& kind) {
    held_kind_ = kind;
    held_ = true;
  }
  void release() { held_ = false; }
  /// As kubelet asks.
  int probe(const std::string& path) {
    return http_get(node().netns(), {Address::from_ipv4({127, 0, 0, 1}), 10256}, path).status;
  }
  /// Starts an agent that knows all but what is held.
  void launch_waiting(const std::vector<std::string>& flags = {}) {
    node().launch(flags);
    ASSERT_TRUE(eventually([&] { return probe("/livez") == 200; }, milliseconds(20000)));
    EXPECT_EQ(node().api("/v1/status").at("ready"), false);
  }
  bool gets_ready() {
    return eventually([&] { return probe("/readyz") == 200; }, milliseconds(20000));
  }
  uint32_t ifindex(const std::string& device) {
    return node().netns().in([&] { return if_nametoindex(device.c_str()); });
  }
  uint32_t primary_uplink() {
    auto maps = maps::Maps::open_pinned(node().bpffs());
    EXPECT_TRUE(worked(maps));
    return maps ? maps->node_config.get(0)->primary_uplink : 0;
  }
  bool has_programs(const std::string& device) {
    for (const auto& each : fs::recursive_directory_iterator(node().bpffs()))
      if (each.path().filename().string().starts_with(device + "_")) return true;
    return false;
  }
  bool shows(const std::string& device, const std::string& text) {
    return node().netns().ip_show("link show " + device).find(text) != std::string::npos;
  }
  void remove_default_routes() { node().netns().ip("route del 0.0.0.0/0\nroute del ::/0"); }

  std::atomic<bool> held_ = false;
  std::string held_kind_;
  Cluster cluster_;
};

// S54, S55: with a wrong API server or missing rights no load balancer sends to an empty datapath, and no
// rollout goes on; S60: where an earlier agent's datapath serves, only the rollout waits.
TEST_F(KubernetesStart, AFreshNodeTakesNoClientsBeforeTheFirstState) {
  ASSERT_EQ(node().cleanup(), 0);
  hold("/endpointslices");
  launch_waiting();
  EXPECT_EQ(probe("/healthz"), 503);
  EXPECT_EQ(probe("/readyz"), 503);
  node().kill_agent();
  launch_waiting();
  EXPECT_EQ(probe("/healthz"), 503) << "maps are there, and nothing was ever in them";
  release();
  ASSERT_TRUE(gets_ready());
  EXPECT_EQ(probe("/healthz"), 200);

  node().kill_agent();
  hold("/endpointslices");
  launch_waiting();
  EXPECT_EQ(probe("/healthz"), 200);
  EXPECT_EQ(probe("/readyz"), 503);
  release();
  EXPECT_TRUE(gets_ready());
}

// The Node alone tells the uplink: whose address ICMP errors come from and which MTU pods get follow from it.
TEST_F(KubernetesStart, TheUplinkMayBecomeKnownWithTheNode) {
  ASSERT_EQ(node().cleanup(), 0);
  remove_default_routes();
  node().netns().ip("link set eth0 mtu 3000");
  hold("/nodes");
  launch_waiting();
  EXPECT_EQ(node().api("/v1/status").at("uplinks"), json::array());
  EXPECT_EQ(primary_uplink(), 0U);
  release();
  ASSERT_TRUE(gets_ready());
  EXPECT_EQ(node().api("/v1/status").at("uplinks"), json({"eth0"}));
  EXPECT_EQ(primary_uplink(), ifindex("eth0"));
  EXPECT_TRUE(eventually([&] { return shows("bpfnet0", "mtu 3000") && shows("bpfnet1", "mtu 3000"); }));
  {
    const Pod pod(node(), cluster_.options(), "large", {});
    EXPECT_NE(pod.netns().ip_show("link show eth0").find("mtu 3000"), std::string::npos);
  }

  // And until it is known again, what was known holds (S60).
  node().kill_agent();
  hold("/nodes");
  launch_waiting();
  EXPECT_EQ(node().api("/v1/status").at("uplinks"), json::array());
  EXPECT_EQ(primary_uplink(), ifindex("eth0"));
  EXPECT_TRUE(shows("bpfnet0", "mtu 3000"));
  EXPECT_TRUE(has_programs("eth0"));
  release();
  EXPECT_TRUE(gets_ready());
}

// S60: programs stay at a former uplink while it may be one, and go when it is none.
TEST_F(KubernetesStart, AFormerUplinkIsLeftOnceTheNodeIsRead) {
  node().netns().ip("link add other0 type veth peer name other1\nlink set other0 up\nlink set other1 up");
  node().start({"--uplink", "eth0", "--uplink", "other0"});
  ASSERT_TRUE(has_programs("other0"));
  node().stop_agent();
  hold("/nodes");
  launch_waiting();
  EXPECT_TRUE(has_programs("other0"));
  release();
  ASSERT_TRUE(gets_ready());
  EXPECT_TRUE(eventually([&] { return !has_programs("other0"); }, milliseconds(20000)));
  EXPECT_TRUE(has_programs("eth0"));
}

// Whoever waits for NetworkUnavailable to become False schedules pods next.
TEST_F(KubernetesStart, TheNetworkIsAvailableWhenPodsCanBeMade) {
  const json whole = server().get("Node", "", "node-a");
  json object = whole;
  object["spec"].erase("podCIDR");
  object["spec"].erase("podCIDRs");
  object["status"]["conditions"] = {{{"type", "NetworkUnavailable"}, {"status", "True"}}};
  server().put(object);
  server().forget_requests();
  const std::string conflist = node().dir("net.d/10-bpfnet.conflist");
  node().start({"--cni-conf", conflist, "--cni-bin-dir", node().dir("cni-bin")});
  // What comes by the same connections after it has had its turn.
  cluster_.apply("later", echo_service("later", 10, {}).yaml());
  EXPECT_NE(node().log().find("Node node-a has no podCIDRs"), std::string::npos);
  for (const test::HttpRequest& request : server().requests()) {
    if (request.path.find("/nodes/") != std::string::npos) {
      EXPECT_NE(request.method, "PATCH") << request.path;
    }
  }
  object["spec"] = whole.at("spec");
  server().put(object);
  EXPECT_TRUE(eventually(
      [&] { return server().get("Node", "", "node-a")["status"]["conditions"][0]["status"] == "False"; }));
  EXPECT_TRUE(fs::exists(conflist));
}

}  // namespace
}  // namespace bpfnet::e2e
