// Translation at sockets: what it does beyond being right, which the suites of service paths show by running
// with it. A translated connection has no service in the flow table: it was made to the backend.
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/e2e/socket_calls.h"

namespace bpfnet::e2e {
namespace {

class Sockets : public SocketsOn {
 protected:
  void TearDown() override {
    if (!has_cluster()) return;
    for (auto* node : {&node_a(), &node_b()})
      if (!node->agent().running()) node->start();
    SocketsOn::TearDown();
  }
};

// S20: the backend sees the pod; the pod sees the service.
TEST_P(Sockets, TcpOfPods) {
  for (const auto& [number, server] : {std::pair{11, "web-a"}, std::pair{12, "web-b"}}) {
    auto client = TcpClient::connect(pod("client-a").netns(), service(number));
    ASSERT_TRUE(worked(client));
    EXPECT_EQ(client->seen().server, server);
    EXPECT_EQ(client->seen().peer, (HostPort{pod("client-a").ip(family()), client->local().port}));
    EXPECT_EQ(peer_of(client->fd()), service(number));
    EXPECT_TRUE(worked(client->echo("through")));
    EXPECT_TRUE(made_to_the_backend(node_a(), client->local().port));
  }
}

// S20, S34: by the ClusterIP and by NodePorts of the node's address and of loopback.
TEST_P(Sockets, TcpOfTheHost) {
  for (const HostPort& to :
       {service(11), HostPort{node_a().ip(family()), 30081}, HostPort{loopback(), 30081}}) {
    auto client = TcpClient::connect(node_a().netns(), to);
    ASSERT_TRUE(worked(client)) << to.to_string();
    EXPECT_EQ(client->seen().server, "web-a");
    EXPECT_EQ(client->seen().peer.address, node_a().ip(family())) << to.to_string();
    EXPECT_EQ(peer_of(client->fd()), to);
    EXPECT_TRUE(made_to_the_backend(node_a(), client->local().port)) << to.to_string();
  }
}

/// As kubelet makes it: what goes to loopback from another address is dropped before our hook.
class KubeletFirewall {
 public:
  explicit KubeletFirewall(const Netns& netns) : netns_(netns) {
    check_run({.argv = {"nft", "-f", "-"},
               .input = "table inet kube-firewall { chain output { type filter hook output priority 0;\n"
                        "ip daddr 127.0.0.0/8 ip saddr != 127.0.0.0/8 drop\n"
                        "ip6 daddr ::1 ip6 saddr != ::1 drop\n}\n}\n",
               .netns = netns.fd()});
  }
  ~KubeletFirewall() {
    run({.argv = {"nft", "delete", "table", "inet", "kube-firewall"}, .netns = netns_.fd()});
  }
  KubeletFirewall(const KubeletFirewall&) = delete;
  KubeletFirewall& operator=(const KubeletFirewall&) = delete;

 private:
  const Netns& netns_;
};

// S34
TEST_P(Sockets, LoopbackIsTranslatedForWhoIsBoundToTheNodesAddress) {
  const KubeletFirewall firewall(node_a().netns());
  const HostPort to{loopback(), 30081};
  const Address node = node_a().ip(family());
  auto client = TcpClient::connect(node_a().netns(), to, {.source = node});
  ASSERT_TRUE(worked(client));
  EXPECT_EQ(client->seen().server, "web-a");
  EXPECT_EQ(client->seen().peer, (HostPort{node, client->local().port}));
  EXPECT_EQ(peer_of(client->fd()), to);
  EXPECT_TRUE(worked(client->echo("bound")));

  auto datagrams = UdpClient::open(node_a().netns(), to, {.source = node, .connect = false});
  ASSERT_TRUE(worked(datagrams));
  EXPECT_TRUE(answered(datagrams->request("bound"), "web-a", node));

  // Bound to loopback it comes through the firewall, and the packet path has it.
  const uint64_t before = calls(node_a(), "left-bound");
  EXPECT_TRUE(answered(ask(node_a().netns(), "tcp", to, {.source = loopback()}), "web-a", node));
  EXPECT_EQ(calls(node_a(), "left-bound"), before + 1);
  // So it is with a port alone.
  EXPECT_TRUE(answered(ask(node_a().netns(), "tcp", to, {.source_port = 42042}), "web-a", node));
  EXPECT_EQ(calls(node_a(), "left-bound"), before + 2);
}

// An IPv6 socket names IPv4 services as ::ffff:a.b.c.d.
TEST_P(Sockets, TcpOfAnIpv6Socket) {
  for (const Netns* from : {&pod("client-a").netns(), &node_a().netns()}) {
    const Fd fd = make_socket(*from, AF_INET6, SOCK_STREAM);
    sockaddr_storage name{};
    const socklen_t length = to_sockaddr6(service(11), name);
    ASSERT_TRUE(::connect(fd.get(), reinterpret_cast<sockaddr*>(&name), length) == 0 || errno == EINPROGRESS);
    ASSERT_TRUE(worked(wait_for(fd.get(), POLLOUT, milliseconds(2000))));
    EXPECT_EQ(peer_of(fd.get()), service(11));
    sockaddr_storage local{};
    socklen_t size = sizeof(local);
    ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&local), &size);
    EXPECT_TRUE(made_to_the_backend(node_a(), from_sockaddr(local).port));
  }
}

// S42: the choice is the datapath's, which remembers it for all ways in.
TEST_P(Sockets, AffinityIsLeftToThePacketPath) {
  std::string yaml =
      echo_service("sticky", 44, {cluster().backend("web-a"), cluster().backend("web-b")}).yaml();
  yaml.insert(yaml.find("spec:\n") + 6, "  sessionAffinity: ClientIP\n");
  cluster().apply("sticky", yaml);
  const uint64_t before = calls(node_a(), "left-affinity");
  std::set<std::string> servers;
  for (int i = 0; i < 16; i++) {
    const auto seen = ask(pod("client-a").netns(), "tcp", service(44));
    ASSERT_TRUE(worked(seen));
    servers.insert(seen->server);
  }
  EXPECT_EQ(servers.size(), 1U);
  EXPECT_EQ(calls(node_a(), "left-affinity"), before + 16);
  cluster().remove("sticky");
}

// S27, S29: a pod among the backends gets its share of its own calls, and sees them come from the node.
TEST_P(Sockets, CallerAmongTheBackendsIsLeftToThePacketPath) {
  const uint64_t before = calls(node_a(), "left-itself");
  std::map<std::string, Address> sources;
  for (int i = 0; i < 40; i++) {
    const auto seen = ask(pod("web-a").netns(), "tcp", service(10));
    ASSERT_TRUE(worked(seen));
    sources[seen->server] = seen->peer.address;
  }
  EXPECT_EQ(sources, (std::map<std::string, Address>{{"web-a", node_a().ip(family())},
                                                     {"web-b", pod("web-a").ip(family())}}));
  EXPECT_EQ(calls(node_a(), "left-itself"), before + 40);
}

// By another address of the node the backend sees that address, as by packets; beyond a tunnel, which only
// the node's main address enters, that one.
TEST_P(Sockets, OtherAddressesOfTheNodeAreLeftToThePacketPath) {
  const Address other = pick(family(), "192.0.2.211", "2001:db8:1::211");
  const auto change = [&](const char* what) {
    node_a().netns().ip(fmt::format("addr {} {}/{} dev eth0{}", what, other.to_string(), other.bits(),
                                    family() == Family::kIpv6 && what == std::string("add") ? " nodad" : ""));
  };
  change("add");
  EXPECT_TRUE(eventually([&] {
    return node_a().ctl({"map", "dump", "addresses"}).dump().find(other.to_string()) != std::string::npos;
  }));
  const uint64_t before = calls(node_a(), "left-bound");
  const bool overlay = cluster().options().routing == "overlay";
  EXPECT_TRUE(answered(ask(node_a().netns(), "tcp", {other, 30082}), "web-b",
                       overlay ? node_a().ip(family()) : other));
  EXPECT_EQ(calls(node_a(), "left-bound"), before + 1);
  change("del");
}

int bind_error(const Netns& netns, int type, const HostPort& at, bool dual_stack = true) {
  const Fd fd = make_socket(netns, at.address.is_ipv4() ? AF_INET : AF_INET6, type);
  const int only = dual_stack ? 0 : 1;
  if (!at.address.is_ipv4()) ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof(only));
  sockaddr_storage name{};
  const socklen_t length = to_sockaddr(at, name);
  return ::bind(fd.get(), reinterpret_cast<sockaddr*>(&name), length) == 0 ? 0 : errno;
}

// S36: a NodePort wins over a process that listens there; the process hears so at once.
TEST_P(Sockets, PortsOfNodePortsCannotBeBound) {
  cluster().apply("ports", echo_service("ports", 42, {cluster().backend("web-a")}, 30142).yaml());
  const Address any = pick(family(), "0.0.0.0", "::");
  for (const int type : {SOCK_STREAM, SOCK_DGRAM}) {
    for (const Address& address : {any, node_a().ip(family()), loopback()}) {
      EXPECT_EQ(bind_error(node_a().netns(), type, {address, 30142}), EADDRINUSE) << address.to_string();
      EXPECT_EQ(bind_error(node_a().netns(), type, {address, 18080}), EADDRINUSE) << "hostPort";
      EXPECT_EQ(bind_error(node_a().netns(), type, {address, 30143}), 0) << address.to_string();
    }
    EXPECT_EQ(bind_error(node_a().netns(), type, {any, 0}), 0);
    EXPECT_EQ(bind_error(pod("client-a").netns(), type, {any, 30142}), 0) << "a pod's own port";
    EXPECT_EQ(bind_error(network().client().netns(), type, {any, 30142}), 0) << "another machine's";
  }
  cluster().remove("ports");
  EXPECT_EQ(bind_error(node_a().netns(), SOCK_STREAM, {any, 30142}), 0);
}

// `::` means IPv4 as well, unless the socket says otherwise; 0.0.0.0 never means IPv6.
TEST_P(Sockets, AnyAddressCoversTheFamiliesItMeans) {
  auto manifest = echo_service("single", 43, {{.ips = {pod("web-a").ip(family())}, .node = "node-a"}}, 30144);
  manifest.cluster_ips = {service_ip(43, family())};
  cluster().apply("single", manifest.yaml());
  const bool v4 = family() == Family::kIpv4;
  const HostPort any4{Address::parse("0.0.0.0").value(), 30144};
  const HostPort any6{Address::parse("::").value(), 30144};
  for (const int type : {SOCK_STREAM, SOCK_DGRAM}) {
    EXPECT_EQ(bind_error(node_a().netns(), type, any6), EADDRINUSE);
    EXPECT_EQ(bind_error(node_a().netns(), type, any6, false), v4 ? 0 : EADDRINUSE);
    EXPECT_EQ(bind_error(node_a().netns(), type, any4), v4 ? EADDRINUSE : 0);
  }
  cluster().remove("single");
}

// Sockets of namespaces that are no node's and no pod's stay as they are, though their process is in the
// cgroup.
TEST_P(Sockets, OtherNamespacesAreNotTouched) {
  const uint64_t before = calls(node_a(), "connect");
  const HostPort node_port{node_a().ip(family()), 30081};
  auto client = TcpClient::connect(network().client().netns(), node_port);
  ASSERT_TRUE(worked(client));
  EXPECT_EQ(client->seen().peer.address, network().client().ip(family()));
  EXPECT_EQ(calls(node_a(), "connect"), before);
  EXPECT_FALSE(made_to_the_backend(node_a(), client->local().port));
}

// A pod's namespace is known from ADD to DEL.
TEST_P(Sockets, NamespacesComeAndGoWithPods) {
  const auto namespaces = [] { return node_a().ctl({"map", "dump", "socket_namespaces"}).size(); };
  const size_t before = namespaces();
  Pod& late = cluster().add_pod(0, "late");
  EXPECT_EQ(namespaces(), before + 1);
  auto client = TcpClient::connect(late.netns(), service(12));
  ASSERT_TRUE(worked(client));
  EXPECT_TRUE(made_to_the_backend(node_a(), client->local().port));
  cluster().remove_pod("late");
  EXPECT_EQ(namespaces(), before);
}

TEST_P(Sockets, TranslateWhileNoAgentRuns) {
  auto old = TcpClient::connect(pod("client-a").netns(), service(11));
  ASSERT_TRUE(worked(old));
  Datagrams datagrams(pod("client-a").netns(), family());
  const Address own = pod("client-a").ip(family());
  EXPECT_TRUE(answered_as(datagrams.ask(service(12)), "web-b", own, service(12)));
  node_a().kill_agent();
  for (int i = 0; i < 2; i++) {
    auto client = TcpClient::connect(pod("client-a").netns(), service(11));
    ASSERT_TRUE(worked(client));
    EXPECT_EQ(peer_of(client->fd()), service(11));
    EXPECT_TRUE(made_to_the_backend(node_a(), client->local().port));
    EXPECT_TRUE(worked(old->echo("still there")));
    EXPECT_EQ(peer_of(old->fd()), service(11));
    EXPECT_TRUE(answered_as(datagrams.ask(service(12)), "web-b", own, service(12)));
    if (i == 0) node_a().start();  // and after the next agent has taken over
  }
}

INSTANTIATE_TEST_SUITE_P(E2e, Sockets, testing::Values(Family::kIpv4, Family::kIpv6), family_name);

}  // namespace
}  // namespace bpfnet::e2e
