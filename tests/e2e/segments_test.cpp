// Nodes on segments of their own, with a router between them: natively its routes lead to pods, an overlay needs
// none. The same paths and sources in both modes.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/e2e/e2e.h"

namespace bpfnet::e2e {
namespace {

using testing::HasSubstr;

constexpr size_t kBulk = 4 << 20;

class Segments : public TwoNodes {
 public:
  static void SetUpTestSuite() {
    ClusterOptions options = cluster_options();
    options.routed = true;
    set_up(std::move(options));
  }

 protected:
  [[nodiscard]] static bool overlay() { return cluster().options().routing == "overlay"; }
  static void expect_both(const Netns& from, const HostPort& to, const std::string& server, const Address& source) {
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
  EXPECT_TRUE(worked(client->bulk(kBulk)));
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

INSTANTIATE_TEST_SUITE_P(E2e, Segments, testing::Values(Family::kIpv4, Family::kIpv6), family_name);

}  // namespace
}  // namespace bpfnet::e2e
