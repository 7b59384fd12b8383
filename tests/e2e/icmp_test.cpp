// ICMP errors find the socket they are about, through masquerade and through service translation, and carry
// addresses that the sender knows.
#include "tests/e2e/e2e.h"

namespace bpfnet::e2e {
namespace {

constexpr uint16_t kClosedPort = 9;

class IcmpErrors : public TwoNodes {
 protected:
  static bool v4() { return family() == Family::kIpv4; }
  static UdpClient udp(const Netns& from, const HostPort& to, const SocketOptions& options = {}) {
    auto client = UdpClient::open(from, to, options);
    if (!client) throw std::runtime_error(client.error().message);
    return std::move(*client);
  }
  static Result<IcmpError> error_of(const Netns& from, const HostPort& to,
                                    const SocketOptions& options = {}) {
    auto client = udp(from, to, options);
    BPFNET_TRY(client.send("x"));
    return client.error();
  }
  static void expect_unreachable(const Result<IcmpError>& error, const HostPort& to,
                                 const Address& offender) {
    ASSERT_TRUE(worked(error));
    EXPECT_EQ(error->code, ECONNREFUSED);
    EXPECT_EQ(error->icmp_type, v4() ? 3 : 1);
    EXPECT_EQ(error->icmp_code, v4() ? 3 : 4);
    EXPECT_EQ(error->offender, offender);
    EXPECT_EQ(error->target, to);
  }
};

TEST_P(IcmpErrors, PortUnreachableBetweenPods) {
  for (const auto* to : {"web-a", "web-b"}) {
    const HostPort target{pod(to).ip(family()), kClosedPort};
    expect_unreachable(error_of(pod("client-a").netns(), target), target, target.address);
  }
}

TEST_P(IcmpErrors, PortUnreachableThroughMasquerade) {
  const HostPort target{network().far().ip(family()), kClosedPort};
  expect_unreachable(error_of(pod("client-a").netns(), target), target, target.address);
}

// The pod behind the service has nothing on that port; the client must see the service's address, not the
// pod's.
TEST_P(IcmpErrors, PortUnreachableThroughService) {
  ServiceManifest closed;
  closed.name = "closed";
  closed.cluster_ips = {service_ip(20, Family::kIpv4), service_ip(20, Family::kIpv6)};
  closed.ports = {{"udp", "UDP", 80, kClosedPort, 0}};
  for (const auto* backend : {"web-a", "web-b"}) {
    closed.backends = {cluster().backend(backend)};
    cluster().apply("closed", closed.yaml());
    const HostPort target{service_ip(20, family()), 80};
    expect_unreachable(error_of(pod("client-a").netns(), target), target, target.address);
  }
  cluster().remove("closed");
}

TEST_P(IcmpErrors, TooBigThroughMasqueradeTellsTheMtu) {
  const HostPort target{network().far().ip(family()), kClosedPort};
  auto client = udp(pod("client-a").netns(), target);
  client.dont_fragment();
  ASSERT_TRUE(worked(client.send(std::string(Network::kFarMtu, 'x'))));
  const auto error = client.error();
  ASSERT_TRUE(worked(error));
  EXPECT_EQ(error->code, EMSGSIZE);
  EXPECT_EQ(error->mtu, static_cast<uint32_t>(Network::kFarMtu));
  EXPECT_EQ(error->offender, network().router().ip(family()));
  EXPECT_EQ(error->target, target);
}

// A far client, a node port, a backend on the other node: the backend's segments are larger than the far
// link, and the router's complaint must find the way back to it through both translations.
TEST_P(IcmpErrors, PathMtuIsLearntThroughNodePortByTcp) {
  for (const uint16_t port : {30081, 30082}) {
    auto client = TcpClient::connect(network().far().netns(), {node_a().ip(family()), port});
    ASSERT_TRUE(worked(client));
    EXPECT_TRUE(worked(client->bulk(2 << 20)));
  }
}

TEST_P(IcmpErrors, TimeExceededThroughMasqueradeNamesTheRouter) {
  // Pod to node is one hop, node to router the second: the router finds it used up.
  const HostPort target{network().far().ip(family()), kClosedPort};
  const auto error = error_of(pod("client-a").netns(), target, {.ttl = 2});
  ASSERT_TRUE(worked(error));
  EXPECT_EQ(error->code, EHOSTUNREACH);
  EXPECT_EQ(error->icmp_type, v4() ? 11 : 3);
  EXPECT_EQ(error->offender, network().router().ip(family()));
}

TEST_P(IcmpErrors, TimeExceededByTheNodeItself) {
  for (const HostPort& target :
       {HostPort{network().far().ip(family()), kClosedPort}, HostPort{pod("web-b").ip(family()), kClosedPort},
        HostPort{service(12).address, 80}}) {
    const auto error = error_of(pod("client-a").netns(), target, {.ttl = 1});
    ASSERT_TRUE(worked(error)) << target.to_string();
    EXPECT_EQ(error->code, EHOSTUNREACH);
    EXPECT_EQ(error->icmp_type, v4() ? 11 : 3);
    EXPECT_EQ(error->offender, node_a().ip(family()));
  }
}

TEST_P(IcmpErrors, ServiceWithoutBackendsAnswersPortUnreachable) {
  const HostPort target = service(13);
  const auto error = error_of(pod("client-a").netns(), target);
  ASSERT_TRUE(worked(error));
  EXPECT_EQ(error->code, ECONNREFUSED);
  EXPECT_EQ(error->icmp_type, v4() ? 3 : 1);
  EXPECT_EQ(error->icmp_code, v4() ? 3 : 4);
}

TEST_P(IcmpErrors, FragmentedDatagramsThroughServices) {
  for (const int number : {11, 12}) {
    for (const size_t size : {2000, 8000}) {
      auto client = udp(pod("client-a").netns(), service(number));
      EXPECT_TRUE(worked(client.request(std::string(size, 'f')))) << number << " " << size;
    }
  }
}

TEST_P(IcmpErrors, HopLimitFallsByOneOnEachNode) {
  const auto local = ping(pod("client-a").netns(), pod("web-a").ip(family()));
  const auto remote = ping(pod("client-a").netns(), pod("web-b").ip(family()));
  ASSERT_TRUE(worked(local));
  ASSERT_TRUE(worked(remote));
  EXPECT_EQ(local->ttl, 63);
  EXPECT_EQ(remote->ttl, 62);
}

INSTANTIATE_TEST_SUITE_P(E2e, IcmpErrors, testing::Values(Family::kIpv4, Family::kIpv6), family_name);

}  // namespace
}  // namespace bpfnet::e2e
