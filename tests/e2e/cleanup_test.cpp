// What the agent leaves behind: nothing, after --cleanup. And several of them on one kernel.
#include <fmt/format.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "maps/maps.h"
#include "tests/e2e/e2e.h"

namespace bpfnet::e2e {
namespace {

using nlohmann::json;

/// Everything a node's namespace shows that an agent could have changed.
std::map<std::string, std::string> snapshot(const Netns& netns) {
  std::map<std::string, std::string> all;
  for (const auto* what : {"link show", "addr show", "route show table all", "-6 route show table all",
                           "rule show", "-6 rule show", "neigh show nud permanent"}) {
    // Indexes, lifetimes and neighbour states move on their own; names, flags and addresses do not.
    json kept = json::array();
    for (auto entry : json::parse(netns.ip_show(std::string("-j ") + what))) {
      for (const auto* moving : {"ifindex", "link_index", "pref", "expires"}) entry.erase(moving);
      kept.push_back(entry);
    }
    all[what] = kept.dump(1);
  }
  netns.in([&] {
    for (const auto* root : {"/proc/sys/net/ipv4", "/proc/sys/net/ipv6", "/proc/sys/net/core"}) {
      for (const auto& file : std::filesystem::recursive_directory_iterator(root)) {
        const std::string path = file.path();
        // The router discovery secret and counters of the kernel itself are no setting.
        if (!file.is_regular_file() || path.find("stable_secret") != std::string::npos) continue;
        all[path] = read_text(path);
      }
    }
  });
  return all;
}

std::vector<uint32_t> map_ids(const Node& node) {
  std::vector<uint32_t> ids;
  for (const auto& pin : std::filesystem::recursive_directory_iterator(node.bpffs())) {
    if (!pin.is_regular_file() || pin.path().parent_path().filename() != "maps") continue;
    const auto shown =
        json::parse(check_run({.argv = {"bpftool", "-j", "map", "show", "pinned", pin.path()}}));
    ids.push_back(shown.at("id"));
  }
  return ids;
}

bool map_exists(uint32_t id) {
  return run({.argv = {"bpftool", "-j", "map", "show", "id", std::to_string(id)}}).status == 0;
}

class Cleanup : public testing::Test {};

TEST_F(Cleanup, NothingIsLeft) {
  ClusterOptions options = cluster_options({"node-a"});
  Cluster cluster(options);
  Node& node = cluster.node(0);
  // The state before any agent: this one's first start is undone first.
  ASSERT_TRUE(agent_removed(node));
  const auto before = snapshot(node.netns());
  node.start();
  cluster.add_pod(0, "web-a");
  cluster.add_pod(0, "client-a");
  cluster.apply("web", echo_service("web", 10, {cluster.backend("web-a")}, 30080).yaml());
  ASSERT_TRUE(
      worked(ask(cluster.pod("client-a").netns(), "tcp", {Address::parse("10.96.0.10").value(), 80})));
  const auto ids = map_ids(node);
  EXPECT_GT(ids.size(), 10U);
  EXPECT_NE(snapshot(node.netns()), before);
  cluster.remove_pod("client-a");
  cluster.remove_pod("web-a");
  ASSERT_TRUE(agent_removed(node));

  const auto after = snapshot(node.netns());
  for (const auto& [what, text] : before)
    EXPECT_EQ(after.count(what) ? after.at(what) : "gone", text) << what;
  for (const auto& [what, text] : after) EXPECT_TRUE(before.contains(what)) << what << " is new: " << text;
  EXPECT_FALSE(std::filesystem::exists(node.bpffs())) << "the agent made and mounted it";
  for (const uint32_t id : ids) EXPECT_TRUE(eventually([&] { return !map_exists(id); })) << "map " << id;
}

// An agent that still has pods: they are cut off, and still nothing stays.
TEST_F(Cleanup, WithPodsStillThere) {
  Cluster cluster(cluster_options({"node-a"}));
  Node& node = cluster.node(0);
  cluster.add_pod(0, "web-a");
  const auto ids = map_ids(node);
  node.kill_agent();
  ASSERT_EQ(node.cleanup(), 0) << read_text(node.dir("cleanup.log"));
  const std::string links = node.netns().ip_show("link show");
  EXPECT_EQ(links.find("bpfnet"), std::string::npos) << links;
  EXPECT_EQ(links.find("bpn"), std::string::npos) << links;
  for (const uint32_t id : ids) EXPECT_TRUE(eventually([&] { return !map_exists(id); })) << "map " << id;
}

// S62: an error is told by the exit status, and keeps nothing from being removed that can be. What is left to
// do is done by the next one.
TEST_F(Cleanup, ErrorsAreToldAndTheRestIsDone) {
  Cluster cluster(cluster_options({"node-a"}));
  Node& node = cluster.node(0);
  node.stop_agent();
  const std::string database = node.dir("state/bpfnet.db");
  const std::string sound = read_text(database);
  for (const char* side : {"-wal", "-shm"}) std::filesystem::remove(database + side);
  write_atomically(database, std::string(8192, 'x'));
  EXPECT_EQ(node.cleanup(), 1);
  const std::string log = read_text(node.dir("cleanup.log"));
  EXPECT_NE(log.find(database), std::string::npos) << log;
  EXPECT_EQ(node.netns().ip_show("link show").find("bpfnet"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(node.bpffs()));
  EXPECT_TRUE(std::filesystem::exists(database)) << "it says what the sysctls were";
  write_atomically(database, sound);
  EXPECT_EQ(node.cleanup(), 0) << read_text(node.dir("cleanup.log"));
  EXPECT_FALSE(std::filesystem::exists(node.dir("state")));
}

// Two agents share a kernel: cleaning one up leaves the other's traffic alone.
TEST_F(Cleanup, OtherAgentOnTheKernelIsNotTouched) {
  Cluster cluster(cluster_options());
  cluster.add_pod(1, "web-b");
  cluster.add_pod(1, "client-b");
  auto client = TcpClient::connect(cluster.pod("client-b").netns(),
                                   {cluster.pod("web-b").ip(Family::kIpv4), Pod::kPort});
  ASSERT_TRUE(worked(client));
  ASSERT_TRUE(agent_removed(cluster.node(0)));
  EXPECT_TRUE(worked(client->echo("still here")));
  EXPECT_TRUE(worked(
      ask(cluster.pod("client-b").netns(), "udp", {cluster.pod("web-b").ip(Family::kIpv6), Pod::kPort})));
  EXPECT_EQ(client->retransmits(), 0U);
}

// The agent's own start options: bound to a netns by --netns instead of by being started in it.
TEST_F(Cleanup, AgentBoundByNetnsOption) {
  Cluster cluster(cluster_options({"node-a"}));
  Node& node = cluster.node(0);
  node.stop_agent();
  node.start({"--netns", node.netns().path()});
  Pod& pod = cluster.add_pod(0, "web-a");
  EXPECT_TRUE(worked(ping(node.netns(), pod.ip(Family::kIpv6))));
}

}  // namespace
}  // namespace bpfnet::e2e
