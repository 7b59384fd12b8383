// What is said about packets to services, and what comes of it: echo requests to their addresses, traceroute,
// and the MTU of a path, from pods, from nodes and from outside.
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "tests/e2e/three_nodes.h"
#include "tests/support/cluster/traceroute.h"

namespace bpfnet::e2e {
namespace {

constexpr int kServiceErrorsNumber = 60;
constexpr int kPathMtu = 1300;

class ServiceErrors : public ThreeNodes, public testing::WithParamInterface<Family> {
 protected:
  static Family family() { return GetParam(); }
  /// A service of its own for each test: what hosts have learnt of an address is not met again.
  static void serve(const std::string& pod, int number = kServiceErrorsNumber) {
    cluster().apply("errors", open_service("errors", number, {backend(pod)}).yaml());
  }
  static HostPort cluster_address(int number = kServiceErrorsNumber) {
    return {cluster_ip(number, family()), 80};
  }
  static HostPort balancer_address(int number = kServiceErrorsNumber) {
    return {load_balancer_ip(number, family()), 80};
  }
  static HostPort node_address(size_t at, int number = kServiceErrorsNumber) {
    return {node(at).ip(family()), node_port(number)};
  }
  static Address router_towards_far() { return pick(family(), "198.51.100.1", "2001:db8:2::1"); }
  /// Both families' commands differ in a word only.
  static std::string ip(const Netns& netns, const std::string& command) {
    return netns.ip_show((family() == Family::kIpv4 ? "-4 " : "-6 ") + command);
  }
  /// Has `netns` learnt that packets to `to` must not be larger than `mtu`?
  static testing::AssertionResult knows_mtu(const Netns& netns, const Address& to, int mtu) {
    const std::string route = ip(netns, "route get " + to.to_string());
    if (route.find(fmt::format("mtu {}", mtu)) != std::string::npos) return testing::AssertionSuccess();
    return testing::AssertionFailure() << netns.name() << ": " << route;
  }
  static testing::AssertionResult goes_by(const Result<std::vector<Address>>& path,
                                          const std::vector<Address>& expected) {
    if (!path) return testing::AssertionFailure() << path.error().message;
    if (*path == expected) return testing::AssertionSuccess();
    auto result = testing::AssertionFailure();
    for (const Address& each : *path) result << each.to_string() << " ";
    return result;
  }
  static bool by_overlay() { return cluster().options().routing == "overlay"; }
  static int path_mtu(const TcpClient& client) {
    tcp_info info{};
    socklen_t length = sizeof(info);
    ::getsockopt(client.fd(), IPPROTO_TCP, TCP_INFO, &info, &length);
    return static_cast<int>(info.tcpi_pmtu);
  }
  void TearDown() override {
    if (HasFailure()) show_state();
    cluster().remove("errors");
  }
};

/// By an overlay nothing goes by a route to a pod; OverlayNodes has what does not fit into a tunnel.
constexpr const char* kNoRoutes = "needs a route to a pod, which an overlay has no use for";

/// A route from `node` to one pod that takes smaller packets only. Forwarding heeds none but a locked MTU.
class NarrowRoute {
 public:
  NarrowRoute(Node& node, const Pod& to, Family family)
      : netns_(node.netns()),
        route_(fmt::format("{} via {}", to.ip(family).to_string(), to.node().ip(family).to_string())) {
    netns_.ip(fmt::format("route add {} mtu lock {}", route_, kPathMtu));
  }
  ~NarrowRoute() { netns_.ip("route del " + route_); }
  NarrowRoute(const NarrowRoute&) = delete;

 private:
  const Netns& netns_;
  std::string route_;
};

TEST_P(ServiceErrors, EchoToAServiceAddressIsAnswered) {
  serve("web-b");
  const std::vector<const Netns*> clients = {&pod("client-a").netns(), &pod("web-b").netns(),
                                             &node(0).netns(), &network().client().netns(),
                                             &network().far().netns()};
  for (const Address& to :
       {cluster_ip(kServiceErrorsNumber, family()), load_balancer_ip(kServiceErrorsNumber, family())}) {
    for (const Netns* from : clients) {
      for (const size_t size : {56, 2000}) {
        const auto pong = ping(*from, to, {.size = size, .timeout = kPatience});
        ASSERT_TRUE(worked(pong)) << from->name() << " " << size;
        EXPECT_EQ(pong->from, to);
        EXPECT_EQ(pong->ttl, from == &network().far().netns() ? 63 : 64) << from->name();
      }
    }
  }
}

// By UDP and by TCP the nodes on the way are named, then the service itself answers; by ICMP the first node
// does.
TEST_P(ServiceErrors, TracerouteOfAPod) {
  const Netns& from = pod("client-a").netns();
  const HostPort to = cluster_address();
  const Address a = node(0).ip(family());
  const Address b = node(1).ip(family());
  serve("web-a");
  for (const char* protocol : {"udp", "tcp"})
    EXPECT_TRUE(goes_by(trace(from, protocol, to), {a, to.address}));
  serve("web-b");
  for (const char* protocol : {"udp", "tcp"})
    EXPECT_TRUE(goes_by(trace(from, protocol, to), {a, b, to.address}));
  EXPECT_TRUE(goes_by(trace(from, "icmp", to), {to.address}));
}

TEST_P(ServiceErrors, TracerouteOfANode) {
  const Netns& from = node(0).netns();
  const HostPort to = cluster_address();
  serve("web-b");
  for (const char* protocol : {"udp", "tcp"})
    EXPECT_TRUE(goes_by(trace(from, protocol, to), {node(1).ip(family()), to.address}));
  EXPECT_TRUE(goes_by(trace(from, "icmp", to), {to.address}));
}

// `client` enters by node-a, `far` by the router and node-b.
TEST_P(ServiceErrors, TracerouteFromOutside) {
  const Netns& near = network().client().netns();
  const Netns& far = network().far().netns();
  const Address router = router_towards_far();
  const HostPort to = balancer_address();
  const Address a = node(0).ip(family());
  const Address b = node(1).ip(family());
  serve("web-b");
  for (const char* protocol : {"udp", "tcp"}) {
    EXPECT_TRUE(goes_by(trace(near, protocol, to), {a, b, to.address}));
    EXPECT_TRUE(goes_by(trace(far, protocol, to), {router, b, to.address}));
    EXPECT_TRUE(goes_by(trace(far, protocol, node_address(0)), {router, a, b, a}));
  }
  EXPECT_TRUE(goes_by(trace(near, "icmp", to), {to.address}));
  EXPECT_TRUE(goes_by(trace(far, "icmp", to), {router, to.address}));
  serve("web-a");
  for (const char* protocol : {"udp", "tcp"})
    EXPECT_TRUE(goes_by(trace(far, protocol, to), {router, b, a, to.address}));
}

// The way to the backend takes less than the client's link: the client's node says so, in the client's words.
TEST_P(ServiceErrors, TooBigForTheWayToTheBackend) {
  if (by_overlay()) GTEST_SKIP() << kNoRoutes;
  constexpr int kOwn = kServiceErrorsNumber + 1;
  const NarrowRoute narrow(node(0), pod("web-b"), family());
  serve("web-b", kOwn);
  struct Case {
    const Netns& from;
    HostPort to;
  };
  for (const auto& [from, to] : {Case{pod("client-a").netns(), cluster_address(kOwn)},
                                 Case{network().client().netns(), balancer_address(kOwn)},
                                 Case{network().other_client().netns(), node_address(0, kOwn)}}) {
    SCOPED_TRACE(from.name());
    auto probe = UdpClient::open(from, to, {.timeout = kPatience});
    ASSERT_TRUE(worked(probe));
    probe->dont_fragment();
    ASSERT_TRUE(worked(probe->send(std::string(1400, 'x'))));
    const auto error = probe->error();
    ASSERT_TRUE(worked(error));
    EXPECT_EQ(error->code, EMSGSIZE);
    EXPECT_EQ(error->mtu, static_cast<uint32_t>(kPathMtu));
    EXPECT_EQ(error->offender, node(0).ip(family()));
    EXPECT_EQ(error->target, to);
    auto udp = UdpClient::open(from, to, {.timeout = kPatience});
    ASSERT_TRUE(worked(udp));
    EXPECT_TRUE(worked(udp->request(std::string(1400, 'y')))) << "in fragments now";
  }
}

TEST_P(ServiceErrors, TcpMakesItsSegmentsFitTheWayToTheBackend) {
  if (by_overlay()) GTEST_SKIP() << kNoRoutes;
  constexpr int kOwn = kServiceErrorsNumber + 2;
  const NarrowRoute narrow(node(0), pod("web-b"), family());
  serve("web-b", kOwn);
  const std::pair<const Netns*, HostPort> cases[] = {
      {&pod("client-a").netns(), cluster_address(kOwn)},
      {&network().client().netns(), balancer_address(kOwn)},
      {&network().other_client().netns(), node_address(0, kOwn)}};
  for (const auto& [from, to] : cases) {
    auto client = TcpClient::connect(*from, to, {.timeout = kPatience});
    ASSERT_TRUE(worked(client)) << from->name();
    EXPECT_TRUE(worked(client->bulk(1 << 20))) << from->name();
    EXPECT_EQ(path_mtu(*client), kPathMtu) << from->name();
  }
}

// The far link takes less than the backend's: the router's complaint is about the service's answer, and must
// make the backend's packets smaller, on the node that the client enters by and on another one.
TEST_P(ServiceErrors, TooBigForTheWayToTheClient) {
  constexpr int kOwn = kServiceErrorsNumber + 3;
  const Host& far = network().far();
  // Or its segments would be as small as its own link from the beginning.
  const auto far_route = [&](const char* more) {
    ip(far.netns(), fmt::format("route replace default via {} {}", router_towards_far().to_string(), more));
  };
  far_route("advmss 1440");
  for (const auto& [server, sees] : {std::pair{"web-b", far.ip(family())}, {"web-a", node(1).ip(family())}}) {
    serve(server, kOwn);
    const Netns& behind = pod(server).netns();
    for (const HostPort& to : {balancer_address(kOwn), node_address(1, kOwn)}) {
      SCOPED_TRACE(fmt::format("{} by {}", server, to.to_string()));
      ip(behind, "route flush cache");
      // The answer is longer than what it answers, which just fits.
      auto udp = UdpClient::open(far.netns(), to, {.timeout = kSilence});
      ASSERT_TRUE(worked(udp));
      EXPECT_TRUE(eventually([&] { return udp->request(std::string(1350, 'u')).has_value(); }));
      EXPECT_TRUE(knows_mtu(behind, sees, Network::kFarMtu));

      ip(behind, "route flush cache");
      auto tcp = TcpClient::connect(far.netns(), to, {.timeout = kPatience});
      ASSERT_TRUE(worked(tcp));
      EXPECT_TRUE(worked(tcp->bulk(1 << 20)));
      EXPECT_TRUE(knows_mtu(behind, sees, Network::kFarMtu));
    }
  }
  far_route("");
}

// The same towards a pod on another node: it is the backend's own node that complains.
TEST_P(ServiceErrors, TooBigForTheWayToAPod) {
  if (by_overlay()) GTEST_SKIP() << kNoRoutes;
  constexpr int kOwn = kServiceErrorsNumber + 4;
  const NarrowRoute narrow(node(1), pod("client-a"), family());
  serve("web-b", kOwn);
  const Netns& behind = pod("web-b").netns();
  auto udp = UdpClient::open(pod("client-a").netns(), cluster_address(kOwn), {.timeout = kSilence});
  ASSERT_TRUE(worked(udp));
  // The first answer finds the way, and the next one is measured by it.
  EXPECT_TRUE(eventually([&] {
    return udp->request(std::string(1400, 'u')).has_value() &&
           knows_mtu(behind, pod("client-a").ip(family()), kPathMtu);
  }));
  // What the client has learnt of the backend, if it was led there by its socket, would make small segments.
  for (const Netns* each : {&behind, &pod("client-a").netns()}) ip(*each, "route flush cache");
  auto tcp = TcpClient::connect(pod("client-a").netns(), cluster_address(kOwn), {.timeout = kPatience});
  ASSERT_TRUE(worked(tcp));
  EXPECT_TRUE(worked(tcp->bulk(1 << 20)));
  EXPECT_TRUE(knows_mtu(behind, pod("client-a").ip(family()), kPathMtu));
  ip(behind, "route flush cache");
}

INSTANTIATE_TEST_SUITE_P(E2e, ServiceErrors, testing::ValuesIn(kFamilies), family_name);

}  // namespace
}  // namespace bpfnet::e2e
