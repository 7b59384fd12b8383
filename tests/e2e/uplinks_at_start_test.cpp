// Uplinks that cannot be told for a while, at the agent's start.
#include <gmock/gmock.h>

#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/e2e/e2e.h"

namespace bpfnet::e2e {
namespace {

// S60: which devices are uplinks follows from the default routes and from manifests; while one of them is
// away at a start, what an earlier agent attached goes on carrying traffic.
class UplinksAtStart : public testing::Test {
 public:
  static void SetUpTestSuite() {
    cluster_ = std::make_unique<Cluster>(cluster_options({"node-a"}));
    cluster_->add_pod(0, "web-a");
    cluster_->apply("web", echo_service("web", 10, {cluster_->backend("web-a")}, 30080).yaml());
  }
  static void TearDownTestSuite() { cluster_.reset(); }

 protected:
  void SetUp() override {
    ASSERT_TRUE(cluster_) << "the cluster could not be made";
    ASSERT_TRUE(served_from_outside());
    node().kill_agent();
    routes_ = {node().netns().ip_show("-4 route show default"),
               node().netns().ip_show("-6 route show default")};
  }
  void TearDown() override {
    node().kill_agent();
    node().netns().ip("route replace 0.0.0.0/0 " + way_of(routes_[0]) + "\nroute replace ::/0 " +
                      way_of(routes_[1]));
    if (node().netns().ip_show("link show").find("other0") != std::string::npos)
      node().netns().ip("link del other0");
    node().start();
    EXPECT_TRUE(served_from_outside());
  }
  /// `default via 192.0.2.1 dev eth0` without its first word.
  static std::string way_of(const std::string& route) {
    return route.substr(route.find(' '), route.find('\n') - route.find(' '));
  }
  static void remove_default_routes() { node().netns().ip("route del 0.0.0.0/0\nroute del ::/0"); }
  static Node& node() { return cluster_->node(0); }
  /// From the wire, by the programs at the uplink.
  static testing::AssertionResult served_from_outside() {
    for (const Family family : {Family::kIpv4, Family::kIpv6}) {
      const auto answer = ask(cluster_->network().client().netns(), "tcp", {node().ip(family), 30080});
      if (!answer) return worked(answer);
    }
    return testing::AssertionSuccess();
  }
  /// The agent answers, ready or not: attaching is behind it.
  static bool answers() {
    return node().agent().running() && node().ctl_text({"status"}).out.find("agent: running") == 0;
  }

  std::array<std::string, 2> routes_;
  static std::unique_ptr<Cluster> cluster_;
};
std::unique_ptr<Cluster> UplinksAtStart::cluster_;

// The default route leads over another device just now, and nothing says yet whether the old one is the
// Node's.
TEST_F(UplinksAtStart, StayWhileTheManifestsCannotBeRead) {
  remove_default_routes();
  node().netns().ip(
      "link add other0 type veth peer name other1\n"
      "link set other0 up\n"
      "link set other1 up\n"
      "route add default dev other0");
  const std::string manifests = node().dir("manifests");
  std::filesystem::rename(manifests, manifests + ".away");
  node().launch();
  EXPECT_TRUE(eventually([] { return answers(); }, milliseconds(20000)));
  EXPECT_FALSE(node().api("/v1/status").at("ready")) << "the manifests are away";
  EXPECT_EQ(node().api("/v1/status").at("uplinks"), nlohmann::json({"other0"}));
  EXPECT_TRUE(served_from_outside());
  std::filesystem::rename(manifests + ".away", manifests);
}

// No default route, and no Node that names an address.
TEST_F(UplinksAtStart, StayWhileNothingTellsTheUplink) {
  remove_default_routes();
  const std::string objects = read_text(node().dir("manifests/00-cluster.yaml"));
  std::string without = objects;
  const size_t name = without.find("name: node-a");
  ASSERT_NE(name, std::string::npos);
  without.replace(name, 12, "name: nobody");
  node().write_manifest("00-cluster", without);
  node().launch();
  EXPECT_TRUE(eventually([] { return answers(); }, milliseconds(20000)));
  EXPECT_NE(node().api("/v1/problems").dump().find("no uplink: "), std::string::npos);
  EXPECT_TRUE(served_from_outside());
  node().write_manifest("00-cluster", objects);
}

// S65: as hardening guides have it. Nothing of IPv6 is wanted of the host then, and no trouble is told for
// ever.
TEST(HostWithoutIpv6, IsServedOverIpv4AndHasNoTrouble) {
  Cluster cluster(cluster_options({"node-a"}));
  Node& node = cluster.node(0);
  ASSERT_TRUE(agent_removed(node));
  for (const char* conf : {"all", "default"})
    node.netns().sysctl(std::string("net/ipv6/conf/") + conf + "/disable_ipv6", "1");
  node.start({"--pod-cidr", "10.244.1.0/24"});
  EXPECT_THAT(node.api("/v1/problems").dump(), testing::Not(testing::HasSubstr("route")));
  cluster.add_pod(0, "web-a");
  cluster.apply("web", echo_service("web", 10, {cluster.backend("web-a")}, 30080).yaml());
  EXPECT_TRUE(worked(ask(cluster.network().client().netns(), "tcp", {node.ip(Family::kIpv4), 30080})));
}

}  // namespace
}  // namespace bpfnet::e2e
