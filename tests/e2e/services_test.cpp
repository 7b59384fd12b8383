// Services: ClusterIP, NodePort and hostPort, from pods, host processes and the outside, with backends here
// and on the other node; S-numbers are those of the services specification.
#include <set>

#include "tests/e2e/e2e.h"

namespace bpfnet::e2e {
namespace {

class ServicePaths : public TwoNodes {
 protected:
  static void expect(const Netns& from, const HostPort& to, const std::string& server,
                     const Address& source) {
    for (const auto* protocol : {"tcp", "udp"}) {
      EXPECT_TRUE(answered(ask(from, protocol, to), server, source)) << protocol << " " << to.to_string();
    }
  }
  static Address loopback() { return pick(family(), "127.0.0.1", "::1"); }
};

// S20: the source is kept.
TEST_P(ServicePaths, PodToClusterIpWithLocalBackend) {
  expect(pod("client-a").netns(), service(11), "web-a", pod("client-a").ip(family()));
}

TEST_P(ServicePaths, PodToClusterIpWithRemoteBackend) {
  expect(pod("client-a").netns(), service(12), "web-b", pod("client-a").ip(family()));
  expect(pod("client-b").netns(), service(11), "web-a", pod("client-b").ip(family()));
}

TEST_P(ServicePaths, HostProcessToClusterIp) {
  expect(node_a().netns(), service(11), "web-a", node_a().ip(family()));
  expect(node_a().netns(), service(12), "web-b", node_a().ip(family()));
}

// S27: the pod sees its node's address, not its own.
TEST_P(ServicePaths, PodReachesItselfThroughItsService) {
  expect(pod("web-a").netns(), service(11), "web-a", node_a().ip(family()));
}

TEST_P(ServicePaths, OutsideToNodePortWithLocalBackendKeepsTheClient) {
  for (Host* outside : {&network().client(), &network().far()}) {
    expect(outside->netns(), {node_a().ip(family()), 30081}, "web-a", outside->ip(family()));
  }
}

// S21: the answer must come back through the node that was asked.
TEST_P(ServicePaths, OutsideToNodePortWithRemoteBackendIsMasqueraded) {
  for (Host* outside : {&network().client(), &network().far()}) {
    expect(outside->netns(), {node_a().ip(family()), 30082}, "web-b", node_a().ip(family()));
  }
}

TEST_P(ServicePaths, PodToNodePortOfItsNode) {
  expect(pod("client-a").netns(), {node_a().ip(family()), 30081}, "web-a", pod("client-a").ip(family()));
  expect(pod("client-a").netns(), {node_a().ip(family()), 30082}, "web-b", pod("client-a").ip(family()));
}

TEST_P(ServicePaths, HostProcessToItsOwnNodePort) {
  for (const auto& address : {node_a().ip(family()), loopback()}) {
    expect(node_a().netns(), {address, 30081}, "web-a", node_a().ip(family()));
    expect(node_a().netns(), {address, 30082}, "web-b", node_a().ip(family()));
  }
}

TEST_P(ServicePaths, HostPortFromOutsideKeepsTheClient) {
  Host& outside = network().client();
  expect(outside.netns(), {node_a().ip(family()), 18080}, "hostport-a", outside.ip(family()));
}

// C21: by the host itself, by loopback, by another pod and by itself.
TEST_P(ServicePaths, HostPortFromInside) {
  expect(node_a().netns(), {node_a().ip(family()), 18080}, "hostport-a", node_a().ip(family()));
  expect(node_a().netns(), {loopback(), 18080}, "hostport-a", node_a().ip(family()));
  expect(pod("client-a").netns(), {node_a().ip(family()), 18080}, "hostport-a", pod("client-a").ip(family()));
  expect(pod("hostport-a").netns(), {node_a().ip(family()), 18080}, "hostport-a", node_a().ip(family()));
}

// S29: 40 connections all to one of two backends have a chance of 2 in 10^12.
TEST_P(ServicePaths, EveryBackendGetsConnections) {
  std::set<std::string> servers;
  for (int i = 0; i < 40; i++) {
    const auto seen = ask(pod("client-a").netns(), "tcp", service(10));
    ASSERT_TRUE(worked(seen));
    servers.insert(seen->server);
  }
  EXPECT_EQ(servers, (std::set<std::string>{"web-a", "web-b"}));
}

// S30: at once, from everywhere.
TEST_P(ServicePaths, ServiceWithoutBackendsRefuses) {
  for (const auto* protocol : {"tcp", "udp"}) {
    EXPECT_TRUE(failed_with(ask(pod("client-a").netns(), protocol, service(13)), ECONNREFUSED)) << protocol;
    EXPECT_TRUE(failed_with(ask(node_a().netns(), protocol, service(13)), ECONNREFUSED)) << protocol;
    EXPECT_TRUE(
        failed_with(ask(network().client().netns(), protocol, {node_a().ip(family()), 30083}), ECONNREFUSED))
        << protocol;
  }
}

// S32: an address of the service range that no service owns is dropped in silence.
TEST_P(ServicePaths, UnusedServiceAddressIsDropped) {
  const HostPort nobody{service_ip(99, family()), 80};
  EXPECT_TRUE(failed_with(ask(pod("client-a").netns(), "tcp", nobody, {.timeout = kSilence}), ETIMEDOUT));
}

TEST_P(ServicePaths, BulkTransferThroughServicesArrivesUnchanged) {
  struct Case {
    const Netns* from;
    HostPort to;
  };
  for (const auto& [from, to] :
       {Case{&pod("client-a").netns(), service(11)}, Case{&pod("client-a").netns(), service(12)},
        Case{&network().client().netns(), {node_a().ip(family()), 30082}}}) {
    auto client = TcpClient::connect(*from, to);
    ASSERT_TRUE(worked(client)) << to.to_string();
    EXPECT_TRUE(worked(client->bulk(8 << 20))) << to.to_string();
  }
}

// S5, S7: UDP and TCP of one port number are apart, and one client port may use both a service and its
// backend.
TEST_P(ServicePaths, OneSourcePortThroughTheServiceAndDirectly) {
  auto through = TcpClient::connect(pod("client-a").netns(), service(11), {.source_port = 41000});
  auto direct = TcpClient::connect(pod("client-a").netns(), {pod("web-a").ip(family()), Pod::kPort},
                                   {.source_port = 41000});
  ASSERT_TRUE(worked(through));
  ASSERT_TRUE(worked(direct));
  EXPECT_TRUE(worked(through->echo("one")));
  EXPECT_TRUE(worked(direct->echo("two")));
}

INSTANTIATE_TEST_SUITE_P(E2e, ServicePaths, testing::Values(Family::kIpv4, Family::kIpv6), family_name);

}  // namespace
}  // namespace bpfnet::e2e
