// Programs at cgroups: when they come and go, whose they are, whom they know.
#include <filesystem>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "tests/e2e/e2e.h"

namespace bpfnet::e2e {
namespace {

using nlohmann::json;

json programs_at(const std::string& cgroup) {
  const std::string shown = check_run({.argv = {"bpftool", "-j", "cgroup", "show", cgroup}});
  return shown.empty() || shown == "\n" ? json::array() : json::parse(shown);  // it says nothing of none
}

class SocketsSetup : public testing::Test {};

TEST_F(SocketsSetup, CleanupLeavesNoProgramAtTheCgroup) {
  ClusterOptions options = cluster_options({"node-a"});
  options.sockets = "on";
  Cluster cluster(options);
  Node& node = cluster.node(0);
  const std::string cgroup = cgroup2_mount() + "/" + cgroup_name(options);
  EXPECT_EQ(programs_at(cgroup).size(), 10U);
  node.stop_agent();
  EXPECT_EQ(programs_at(cgroup).size(), 10U) << "the datapath outlives the agent";
  node.start();
  EXPECT_EQ(programs_at(cgroup).size(), 10U) << "replaced in place";
  EXPECT_TRUE(node.api("/v1/status").at("sockets").get<std::string>().starts_with("on"));
  ASSERT_TRUE(agent_removed(node));
  EXPECT_EQ(programs_at(cgroup).size(), 0U);
}

// Another agent's programs at the same cgroup stay, and its pods' sockets with them.
TEST_F(SocketsSetup, TwoAgentsAtOneCgroup) {
  ClusterOptions options = cluster_options();
  options.sockets = "on";
  Cluster cluster(options);
  const std::string cgroup = cgroup2_mount() + "/" + cgroup_name(options);
  EXPECT_EQ(programs_at(cgroup).size(), 20U);
  ASSERT_TRUE(agent_removed(cluster.node(0)));
  EXPECT_EQ(programs_at(cgroup).size(), 10U);
}

// A path /proc/PID/ns/net leads to another namespace once the number is another process's: here, at a
// restart, to the node's own and to another pod's.
TEST_F(SocketsSetup, APathThatLeadsElsewhereByNowIsNotThePods) {
  ClusterOptions options = cluster_options({"node-a"});
  options.sockets = "on";
  Cluster cluster(options);
  Node& node = cluster.node(0);
  const Pod& other = cluster.add_pod(0, "other");
  const Netns moved(netns_name("p-moved"));
  const std::string path = node.dir("netns-of-moved");
  std::filesystem::create_symlink(moved.path(), path);
  CniCall call{.command = "ADD", .container_id = "moved", .netns = path};
  const CniAnswer added = node.cni(call);
  ASSERT_EQ(added.status, 0) << added.text;
  EXPECT_NE(node.api("/v1/endpoints").dump().find(path), std::string::npos) << "what the agent has stored";
  const auto namespaces = [&] { return node.ctl({"map", "dump", "socket_namespaces"}); };
  const json before = namespaces();
  EXPECT_EQ(before.size(), 3U) << before.dump();
  for (const std::string& elsewhere : {node.netns().path(), other.netns().path()}) {
    node.kill_agent();
    std::filesystem::remove(path);
    std::filesystem::create_symlink(elsewhere, path);
    node.start();
    EXPECT_EQ(namespaces(), before) << elsewhere;
  }
  call.command = "DEL";
  EXPECT_EQ(node.cni(call).status, 0);
}

TEST_F(SocketsSetup, SwitchedOffAtTheNextStart) {
  ClusterOptions options = cluster_options({"node-a"});
  options.sockets = "";
  options.agent_args = {"--cgroup", cgroup2_mount() + "/" + cgroup_name(options)};
  const Cgroup cgroup(cgroup_name(options));
  Cluster cluster(options);
  Node& node = cluster.node(0);
  EXPECT_EQ(programs_at(cgroup.path()).size(), 10U) << "auto, which is the default";
  node.stop_agent();
  node.start({"--sockets", "off"});
  EXPECT_EQ(programs_at(cgroup.path()).size(), 0U);
  EXPECT_EQ(node.api("/v1/status").at("sockets"), "off: --sockets off");
}

TEST_F(SocketsSetup, NoCgroup2IsToldAndNoObstacle) {
  ClusterOptions options = cluster_options({"node-a"});
  options.sockets = "";
  options.agent_args = {"--cgroup", options.run_root};
  Cluster cluster(options);
  Node& node = cluster.node(0);
  const std::string state = node.api("/v1/status").at("sockets");
  EXPECT_TRUE(state.starts_with("off: cgroup " + options.run_root)) << state;
  EXPECT_NE(state.find("cgroup2 is mounted at " + cgroup2_mount()), std::string::npos) << state;
  EXPECT_NE(node.log().find("--sockets off"), std::string::npos) << "the way out";
  node.stop_agent();
  EXPECT_THROW(node.start({"--sockets", "on"}), std::runtime_error) << "what was asked for is not left out";
}

}  // namespace
}  // namespace bpfnet::e2e
