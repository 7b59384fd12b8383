// Nodes on segments of their own, with a router between them: natively its routes lead to pods, an overlay
// needs none. The same paths and sources in both modes. And nodes on one segment, whose own routes lead to
// pods.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/e2e/e2e.h"

namespace bpfnet::e2e {
namespace {

using testing::HasSubstr;

constexpr size_t kSegmentedBulk = 4 << 20;

class Segments : public TwoNodes {
 public:
  static void SetUpTestSuite() {
    ClusterOptions options = cluster_options();
    options.routed = true;
    set_up(std::move(options));
  }

 protected:
  [[nodiscard]] static bool overlay() { return cluster().options().routing == "overlay"; }
  static void expect_both(const Netns& from, const HostPort& to, const std::string& server,
                          const Address& source) {
    EXPECT_TRUE(answered(ask(from, "tcp", to), server, source)) << "tcp";
    EXPECT_TRUE(answered(ask(from, "udp", to), server, source)) << "udp";
  }
};

TEST_P(Segments, PodToPod) {
  expect_both(pod("client-a").netns(), {pod("web-b").ip(family()), Pod::kPort}, "web-b",
              pod("client-a").ip(family()));
  expect_both(pod("client-b").netns(), {pod("web-a").ip(family()), Pod::kPort}, "web-a",
              pod("client-b").ip(family()));
  EXPECT_TRUE(worked(ping(pod("client-a").netns(), pod("web-b").ip(family()))));
}

TEST_P(Segments, PodToAnotherNodeKeepsItsAddress) {
  const EchoServer server(node_b().netns(), "host-b", 9090);
  expect_both(pod("client-a").netns(), {node_b().ip(family()), 9090}, "host-b", pod("client-a").ip(family()));
}

TEST_P(Segments, NodeToAPodOfAnother) {
  expect_both(node_a().netns(), {pod("web-b").ip(family()), Pod::kPort}, "web-b", node_a().ip(family()));
}

TEST_P(Segments, PodToAServiceWhoseBackendIsElsewhere) {
  expect_both(pod("client-a").netns(), service(12), "web-b", pod("client-a").ip(family()));
}

// S21: the backend sees the node that the client came by.
TEST_P(Segments, OutsideByANodePortToABackendElsewhere) {
  expect_both(network().client().netns(), {node_a().ip(family()), 30082}, "web-b", node_a().ip(family()));
}

TEST_P(Segments, BulkArrivesUnchanged) {
  auto client = TcpClient::connect(pod("client-a").netns(), {pod("web-b").ip(family()), Pod::kPort});
  ASSERT_TRUE(worked(client));
  EXPECT_TRUE(worked(client->bulk(kSegmentedBulk)));
}

TEST_P(Segments, DatagramsLargerThanTheLinkArrive) {
  auto client = UdpClient::open(pod("client-a").netns(), {pod("web-b").ip(family()), Pod::kPort});
  ASSERT_TRUE(worked(client));
  EXPECT_TRUE(worked(client->request(std::string(6000, 'x'))));
}

TEST_P(Segments, OnlyNativeRoutingDependsOnTheNetworkAndSaysSo) {
  const std::string problems = node_a().api("/v1/problems").dump();
  const auto hint = HasSubstr("routes to its pods are left to the network");
  if (overlay()) {
    EXPECT_THAT(problems, testing::Not(hint));
  } else {
    EXPECT_THAT(problems, hint);
  }
}

/// Routes to other nodes' pods, where the nodes are neighbours.
class NativeNodes : public TwoNodes {
 public:
  static void SetUpTestSuite() {
    ClusterOptions options = cluster_options();
    options.routing = "native";
    set_up(std::move(options));
  }

 protected:
  static std::string route_to_b() {
    const bool v4 = family() == Family::kIpv4;
    return node_a().netns().ip_show(
        fmt::format("{} route show {}", v4 ? "-4" : "-6", node_b().pod_cidrs().at(v4 ? 0 : 1)));
  }
  static bool routed_by(const std::string& gateway) {
    return route_to_b().find("via " + gateway + " ") != std::string::npos;
  }
};

TEST_P(NativeNodes, ConnectionsFollowANodeToAnotherAddress) {
  auto client = TcpClient::connect(pod("client-a").netns(), {pod("web-b").ip(family()), Pod::kPort},
                                   {.timeout = milliseconds(10000)});
  ASSERT_TRUE(worked(client));
  const Address before = node_b().ip(family());
  const Address after = pick(family(), "192.0.2.77", "2001:db8:1::77");
  const Address other = node_b().ip(family() == Family::kIpv4 ? Family::kIpv6 : Family::kIpv4);
  const int length = family() == Family::kIpv4 ? 24 : 64;
  const char* nodad = family() == Family::kIpv4 ? "" : " nodad";
  const Netns& node = node_b().netns();
  node.sysctl("net/ipv4/conf/eth0/promote_secondaries", "1");
  for (const auto& [from, to] : {std::pair{before, after}, {after, before}}) {
    node.ip(fmt::format("addr add {}/{} dev eth0{}", to.to_string(), length, nodad));
    cluster().list_node_addresses(1, {to, other});
    node.ip(fmt::format("addr del {}/{} dev eth0", from.to_string(), length));
    EXPECT_TRUE(eventually([&, gateway = to] { return routed_by(gateway.to_string()); })) << route_to_b();
    EXPECT_TRUE(worked(client->echo(to.to_string())));
  }
}

TEST_P(NativeNodes, RoutesGoWithTheNodeAndComeBack) {
  ASSERT_TRUE(routed_by(node_b().ip(family()).to_string())) << route_to_b();
  const NodeManifest own{.name = node_a().name(),
                         .labels = {},
                         .addresses = {node_a().ip(Family::kIpv4), node_a().ip(Family::kIpv6)},
                         .pod_cidrs = node_a().pod_cidrs()};
  node_a().apply("00-cluster", own.yaml() + "---\n" + NamespaceManifest{"default", {}}.yaml());
  EXPECT_TRUE(eventually([&] { return route_to_b().empty(); })) << route_to_b();
  cluster().list_node_addresses(1, {node_b().ip(Family::kIpv4), node_b().ip(Family::kIpv6)});
  EXPECT_TRUE(eventually([&] { return routed_by(node_b().ip(family()).to_string()); })) << route_to_b();
  EXPECT_TRUE(worked(ask(pod("client-a").netns(), "tcp", {pod("web-b").ip(family()), Pod::kPort})));
}

INSTANTIATE_TEST_SUITE_P(E2e, NativeNodes, testing::Values(Family::kIpv4, Family::kIpv6), family_name);

INSTANTIATE_TEST_SUITE_P(E2e, Segments, testing::Values(Family::kIpv4, Family::kIpv6), family_name);

}  // namespace
}  // namespace bpfnet::e2e
