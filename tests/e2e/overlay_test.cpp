// What an overlay adds to the paths that all suites run over: its device and MTU, nodes that change their
// address, tunnels over IPv6, and the change from one kind of routing to the other under live connections.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/e2e/e2e.h"

namespace bpfnet::e2e {
namespace {

using nlohmann::json;
using testing::HasSubstr;

constexpr uint32_t kUplinkMtu = 1500;
constexpr uint32_t kMtuOver4 = kUplinkMtu - 50;
constexpr uint32_t kMtuOver6 = kUplinkMtu - 70;
constexpr size_t kBulk = 4 << 20;
constexpr uint16_t kHostPort = 8090;

uint32_t device_mtu(const Netns& netns, const std::string& device) {
  return json::parse(netns.ip_show("-j link show " + device)).at(0).at("mtu");
}

class OverlayNodes : public TwoNodes {
 public:
  static void SetUpTestSuite() {
    ClusterOptions options = cluster_options();
    options.routing = "overlay";
    set_up(std::move(options));
  }

 protected:
  /// Node b's address that tunnels end at, as node a has it.
  static std::string tunnel_to_b() {
    for (const json& node : node_a().ctl({"node", "list"}))
      if (node.at("name") == "node-b") return node.at("tunnel_to");
    return "";
  }
  static void list_addresses(const Address& of_a_first, const Address& of_a_second, const Address& of_b_first,
                             const Address& of_b_second) {
    cluster().list_node_addresses(0, {of_a_first, of_a_second});
    cluster().list_node_addresses(1, {of_b_first, of_b_second});
  }
};

TEST_P(OverlayNodes, PodsAreGivenWhatFitsIntoATunnel) {
  EXPECT_EQ(device_mtu(pod("client-a").netns(), "eth0"), kMtuOver4);
  EXPECT_EQ(device_mtu(node_a().netns(), "bpfnet3"), kMtuOver4);
  EXPECT_EQ(node_a().api("/v1/status").at("pod_mtu"), kMtuOver4);
  EXPECT_THAT(node_a().ctl_text({"status"}).out,
              HasSubstr("overlay by bpfnet3: VXLAN 1, UDP port 4789, over IPv4"));
}

TEST_P(OverlayNodes, TheToolShowsNodesAndWhatGoesToThem) {
  auto client = TcpClient::connect(pod("client-a").netns(), {pod("web-b").ip(family()), Pod::kPort});
  ASSERT_TRUE(worked(client));
  EXPECT_EQ(tunnel_to_b(), node_b().ip(Family::kIpv4).to_string());
  EXPECT_THAT(node_a().ctl_text({"flow", "list"}).out, HasSubstr("overlay node-b"));
  EXPECT_THAT(node_b().ctl_text({"flow", "list"}).out, HasSubstr("overlay node-a"));
}

// Nothing is left to the kernel's routes but the way into our host device.
TEST_P(OverlayNodes, HostsRouteOtherNodesPodsToTheHostDevice) {
  const std::string prefix = node_b().pod_cidrs().at(family() == Family::kIpv4 ? 0 : 1);
  const std::string routes = node_a().netns().ip_show(
      fmt::format("{} route show {}", family() == Family::kIpv4 ? "-4" : "-6", prefix));
  EXPECT_THAT(routes, HasSubstr("dev bpfnet0"));
  EXPECT_THAT(routes, HasSubstr(fmt::format("mtu {}", kMtuOver4)));
}

TEST_P(OverlayNodes, WhatDoesNotFitByAServiceIsAnswered) {
  auto client = UdpClient::open(network().client().netns(), {node_a().ip(family()), 30082},
                                {.timeout = milliseconds(2000)});
  ASSERT_TRUE(worked(client));
  client->dont_fragment();
  ASSERT_TRUE(worked(client->send(std::string(kUplinkMtu - 48, 'x'))));
  const auto error = client->error();
  ASSERT_TRUE(worked(error));
  EXPECT_EQ(error->code, EMSGSIZE);
  EXPECT_EQ(error->mtu, kMtuOver4);
}

TEST_P(OverlayNodes, ConnectionsFollowANodeToAnotherAddress) {
  auto to_b = TcpClient::connect(pod("client-a").netns(), {pod("web-b").ip(family()), Pod::kPort});
  auto to_a = TcpClient::connect(pod("client-b").netns(), {pod("web-a").ip(family()), Pod::kPort});
  ASSERT_TRUE(worked(to_b));
  ASSERT_TRUE(worked(to_a));
  const Address before = node_b().ip(Family::kIpv4);
  const Address after = Address::parse("192.0.2.77").value();
  const Netns& node = node_b().netns();
  // A second address of a subnet goes with the first one otherwise.
  node.sysctl("net/ipv4/conf/eth0/promote_secondaries", "1");
  node.ip(fmt::format("addr add {}/24 dev eth0", after.to_string()));
  cluster().list_node_addresses(1, {after, node_b().ip(Family::kIpv6)});
  node.ip(fmt::format("addr del {}/24 dev eth0", before.to_string()));
  ASSERT_TRUE(eventually([&] { return tunnel_to_b() == after.to_string(); }));
  for (auto* client : {&to_b, &to_a}) EXPECT_TRUE(worked((*client)->echo("at the new address")));
  EXPECT_TRUE(worked(ask(pod("client-a").netns(), "tcp", {pod("web-b").ip(family()), Pod::kPort})));

  node.ip(fmt::format("addr add {}/24 dev eth0", before.to_string()));
  cluster().list_node_addresses(1, {before, node_b().ip(Family::kIpv6)});
  node.ip(fmt::format("addr del {}/24 dev eth0", after.to_string()));
  ASSERT_TRUE(eventually([&] { return tunnel_to_b() == before.to_string(); }));
  for (auto* client : {&to_b, &to_a}) EXPECT_TRUE(worked((*client)->echo("back again")));
}

// The family of the Node's first address is the tunnels'. Pods that have a larger MTU are told of it.
TEST_P(OverlayNodes, TunnelsOverIpv6) {
  auto before = TcpClient::connect(pod("client-a").netns(), {pod("web-b").ip(family()), Pod::kPort});
  ASSERT_TRUE(worked(before));
  const auto& a = node_a();
  const auto& b = node_b();
  list_addresses(a.ip(Family::kIpv6), a.ip(Family::kIpv4), b.ip(Family::kIpv6), b.ip(Family::kIpv4));
  ASSERT_TRUE(eventually([&] { return tunnel_to_b() == b.ip(Family::kIpv6).to_string(); }));
  EXPECT_TRUE(worked(before->bulk(kBulk)));
  auto fresh = TcpClient::connect(pod("client-b").netns(), {pod("web-a").ip(family()), Pod::kPort});
  ASSERT_TRUE(worked(fresh));
  EXPECT_TRUE(worked(fresh->bulk(kBulk)));
  auto datagrams = UdpClient::open(pod("client-a").netns(), {pod("web-b").ip(family()), Pod::kPort});
  ASSERT_TRUE(worked(datagrams));
  datagrams->dont_fragment();
  const size_t headers = family() == Family::kIpv4 ? 28 : 48;
  ASSERT_TRUE(worked(datagrams->send(std::string(kMtuOver4 - headers, 'x'))));
  const auto error = datagrams->error();
  ASSERT_TRUE(worked(error));
  EXPECT_EQ(error->mtu, kMtuOver6);
  Pod& later = cluster().add_pod(0, "later-a", {.serve = false});
  EXPECT_EQ(device_mtu(later.netns(), "eth0"), kMtuOver6);
  cluster().remove_pod("later-a");
  list_addresses(a.ip(Family::kIpv4), a.ip(Family::kIpv6), b.ip(Family::kIpv4), b.ip(Family::kIpv6));
  ASSERT_TRUE(eventually([&] { return tunnel_to_b() == b.ip(Family::kIpv4).to_string(); }));
}

// What a stranger on the segment puts into a tunnel is counted and goes nowhere.
TEST_P(OverlayNodes, AStrangersTunnelIsRefused) {
  const Netns& stranger = network().client().netns();
  const std::string overlay = fmt::format(
      "link add vx0 type vxlan id 1 dstport 4789 remote {} dev eth0\n"
      "link set vx0 address 02:62:70:66:6e:02 up",
      node_a().ip(Family::kIpv4).to_string());
  stranger.ip(overlay);
  stranger.ip(fmt::format(
      "addr add {} dev vx0{}\nroute add {} dev vx0\nneigh add {} lladdr 02:62:70:66:6e:01 dev vx0",
      family() == Family::kIpv4 ? "10.244.2.99/32" : "fd00:10:244:2::99/128",
      family() == Family::kIpv4 ? "" : " nodad", pod("web-a").ip(family()).to_string(),
      pod("web-a").ip(family()).to_string()));
  const auto refused = [&] {
    for (const json& drop : node_a().ctl({"drops"}))
      if (drop.at("hook") == "from_overlay" && drop.at("reason") == "foreign-tunnel")
        return drop.at("packets").get<uint64_t>();
    return uint64_t{0};
  };
  const uint64_t before = refused();
  EXPECT_FALSE(ask(stranger, "udp", {pod("web-a").ip(family()), Pod::kPort}, {.timeout = kSilence}));
  EXPECT_GT(refused(), before);
  stranger.ip("link del vx0");
}

INSTANTIATE_TEST_SUITE_P(E2e, OverlayNodes, testing::Values(Family::kIpv4, Family::kIpv6), family_name);

/// Agents start again with the other kind of routing, one node after the other, as in a roll-out.
class RoutingChange : public TwoNodes {
 public:
  static void SetUpTestSuite() {
    ClusterOptions options = cluster_options();
    options.routing = "native";
    set_up(std::move(options));
  }

 protected:
  static void change_to(const std::string& routing) {
    for (auto* node : {&node_a(), &node_b()}) node->stop_agent();
    cluster().set_routing(routing);
    for (auto* node : {&node_a(), &node_b()}) node->start();
  }
};

TEST_P(RoutingChange, ConnectionsGoOnByTheOtherWay) {
  const SocketOptions patient{.timeout = milliseconds(20000)};
  const HostPort node_port{node_a().ip(family()), 30082};
  auto plain = TcpClient::connect(pod("client-a").netns(), {pod("web-b").ip(family()), Pod::kPort}, patient);
  auto served = TcpClient::connect(pod("client-a").netns(), service(12), patient);
  auto outside = TcpClient::connect(network().client().netns(), node_port, patient);
  // Between hosts and pods of the other node packets enter the stack by another device than before.
  const EchoServer on_host(node_b().netns(), "host-b", kHostPort);
  auto from_host = TcpClient::connect(node_a().netns(), {pod("web-b").ip(family()), Pod::kPort}, patient);
  auto to_host = TcpClient::connect(pod("client-a").netns(), {node_b().ip(family()), kHostPort}, patient);
  for (const std::string routing : {"overlay", "native"}) {
    change_to(routing);
    for (auto* client : {&plain, &served, &outside, &from_host, &to_host}) {
      ASSERT_TRUE(worked(*client));
      EXPECT_TRUE(worked((*client)->echo(routing))) << routing;
      EXPECT_TRUE(worked((*client)->bulk(kBulk))) << routing;
    }
    EXPECT_TRUE(worked(ask(pod("client-b").netns(), "tcp", service(11)))) << routing;
    const bool tunnels = node_a().netns().ip_show("link show").find("bpfnet3") != std::string::npos;
    EXPECT_EQ(tunnels, routing == "overlay");
  }
}

INSTANTIATE_TEST_SUITE_P(E2e, RoutingChange, testing::Values(Family::kIpv4, Family::kIpv6), family_name);

TEST(OverlaySetup, APortInUseIsToldWithTheWayOut) {
  ClusterOptions options = cluster_options({"node-a"});
  options.routing = "overlay";
  Cluster cluster(options);
  Node& node = cluster.node(0);
  ASSERT_TRUE(agent_removed(node));
  EXPECT_EQ(node.netns().ip_show("link show").find("bpfnet"), std::string::npos);
  node.netns().ip(
      "link add other type vxlan id 5 dstport 4789 remote 192.0.2.99 dev eth0\nlink set other up");
  node.launch();
  const auto status = node.agent().wait(milliseconds(10000));
  ASSERT_TRUE(status);
  EXPECT_EQ(*status, 1);
  EXPECT_THAT(node.log(), HasSubstr("UDP port 4789 is in use by another VXLAN device or process"));
  EXPECT_THAT(node.log(), HasSubstr("--overlay-port"));
  node.start({"--overlay-port", "4790"});
  EXPECT_THAT(node.netns().ip_show("-d link show bpfnet3"), HasSubstr("dstport 4790"));
}

}  // namespace
}  // namespace bpfnet::e2e
