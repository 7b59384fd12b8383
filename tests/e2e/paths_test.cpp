// Every path a packet can take between pods, hosts and the outside without a service: real sockets, TCP, UDP
// and ICMP echo, IPv4 and IPv6. The source which the answering side saw is part of each claim.
#include "tests/e2e/e2e.h"

namespace bpfnet::e2e {
namespace {

constexpr uint16_t kHostPort = 9090;
constexpr size_t kBulk = 16 << 20;

class Paths : public TwoNodes {
 protected:
  /// TCP and UDP from `from` to `server`, which must see `source`; then an echo request.
  static void expect_path(const Netns& from, const Netns& to_netns, const Address& to, uint16_t port,
                          const std::string& server, const Address& source) {
    EXPECT_TRUE(answered(ask(from, "tcp", {to, port}), server, source)) << "tcp";
    EXPECT_TRUE(answered(ask(from, "udp", {to, port}), server, source)) << "udp";
    PingWatch watch(to_netns, to.family());
    const auto pong = ping(from, to);
    ASSERT_TRUE(worked(pong));
    EXPECT_EQ(pong->from, to);
    const auto seen = watch.next_source();
    ASSERT_TRUE(worked(seen));
    EXPECT_EQ(*seen, source) << "icmp";
  }
  static void expect_pod_to_pod(const std::string& from, const std::string& to) {
    expect_path(pod(from).netns(), pod(to).netns(), pod(to).ip(family()), Pod::kPort, to,
                pod(from).ip(family()));
  }
};

TEST_P(Paths, PodToPodOnOneNode) {
  expect_pod_to_pod("client-a", "web-a");
}

TEST_P(Paths, PodToPodAcrossNodes) {
  expect_pod_to_pod("client-a", "web-b");
  expect_pod_to_pod("client-b", "web-a");
}

TEST_P(Paths, PodToItself) {
  expect_pod_to_pod("web-a", "web-a");
}

TEST_P(Paths, PodToItsHost) {
  const EchoServer server(node_a().netns(), "host-a", kHostPort);
  expect_path(pod("client-a").netns(), node_a().netns(), node_a().ip(family()), kHostPort, "host-a",
              pod("client-a").ip(family()));
}

TEST_P(Paths, HostToItsPod) {
  expect_path(node_a().netns(), pod("web-a").netns(), pod("web-a").ip(family()), Pod::kPort, "web-a",
              node_a().ip(family()));
}

TEST_P(Paths, PodToAnotherHostKeepsItsAddress) {
  const EchoServer server(node_b().netns(), "host-b", kHostPort);
  expect_path(pod("client-a").netns(), node_b().netns(), node_b().ip(family()), kHostPort, "host-b",
              pod("client-a").ip(family()));
}

TEST_P(Paths, HostToPodOfAnotherNode) {
  expect_path(node_a().netns(), pod("web-b").netns(), pod("web-b").ip(family()), Pod::kPort, "web-b",
              node_a().ip(family()));
}

TEST_P(Paths, PodToOutsideOnTheSegmentIsMasqueraded) {
  Host& client = network().client();
  const EchoServer server(client.netns(), "outside", kHostPort);
  expect_path(pod("client-a").netns(), client.netns(), client.ip(family()), kHostPort, "outside",
              node_a().ip(family()));
}

TEST_P(Paths, PodToOutsideBehindTheRouterIsMasqueraded) {
  Host& far = network().far();
  const EchoServer server(far.netns(), "far", kHostPort);
  expect_path(pod("client-b").netns(), far.netns(), far.ip(family()), kHostPort, "far",
              node_b().ip(family()));
}

TEST_P(Paths, HostToOutsideIsUntouched) {
  Host& far = network().far();
  const EchoServer server(far.netns(), "far", kHostPort);
  expect_path(node_a().netns(), far.netns(), far.ip(family()), kHostPort, "far", node_a().ip(family()));
}

TEST_P(Paths, OutsideToHostIsUntouched) {
  const EchoServer server(node_a().netns(), "host-a", kHostPort);
  expect_path(network().far().netns(), node_a().netns(), node_a().ip(family()), kHostPort, "host-a",
              network().far().ip(family()));
}

TEST_P(Paths, BulkTransferArrivesUnchanged) {
  for (const auto* to : {"web-a", "web-b"}) {
    auto client = TcpClient::connect(pod("client-a").netns(), {pod(to).ip(family()), Pod::kPort});
    ASSERT_TRUE(worked(client)) << to;
    EXPECT_TRUE(worked(client->bulk(kBulk))) << to;
  }
}

TEST_P(Paths, BulkTransferThroughMasqueradeArrivesUnchanged) {
  const EchoServer server(network().far().netns(), "far", kHostPort);
  auto client = TcpClient::connect(pod("client-a").netns(), {network().far().ip(family()), kHostPort});
  ASSERT_TRUE(worked(client));
  EXPECT_TRUE(worked(client->bulk(kBulk)));
}

// Two pods, one source port, one destination: masquerade must keep them apart.
TEST_P(Paths, MasqueradedPodsWithOneSourcePortStayApart) {
  cluster().add_pod(0, "twin-a", {});
  const EchoServer server(network().client().netns(), "outside", kHostPort);
  const HostPort to{network().client().ip(family()), kHostPort};
  auto first = TcpClient::connect(pod("client-a").netns(), to, {.source_port = 40000});
  auto second = TcpClient::connect(pod("twin-a").netns(), to, {.source_port = 40000});
  ASSERT_TRUE(worked(first));
  ASSERT_TRUE(worked(second));
  EXPECT_NE(first->seen().peer.port, second->seen().peer.port);
  EXPECT_TRUE(worked(first->echo("one")));
  EXPECT_TRUE(worked(second->echo("two")));
  cluster().remove_pod("twin-a");
}

TEST_P(Paths, AntiSpoofingStopsForeignSourceAddress) {
  const Address foreign = pick(family(), "10.244.1.250", "fd00:10:244:1::250");
  const Netns& netns = pod("client-a").netns();
  netns.ip("addr add " + foreign.to_string() + (foreign.is_ipv4() ? "/32 dev eth0" : "/128 dev eth0 nodad"));
  EXPECT_TRUE(failed_with(
      ask(netns, "udp", {pod("web-a").ip(family()), Pod::kPort}, {.source = foreign, .timeout = kSilence}),
      ETIMEDOUT));
  EXPECT_TRUE(failed_with(
      ask(netns, "udp", {node_b().ip(family()), kHostPort}, {.source = foreign, .timeout = kSilence}),
      ETIMEDOUT));
  netns.ip("addr del " + foreign.to_string() + (foreign.is_ipv4() ? "/32 dev eth0" : "/128 dev eth0"));
}

INSTANTIATE_TEST_SUITE_P(E2e, Paths, testing::Values(Family::kIpv4, Family::kIpv6), family_name);

}  // namespace
}  // namespace bpfnet::e2e
