// Translation at sockets: what it does beyond being right, which the suites of service paths show by running
// with it. A translated connection has no service in the flow table: it was made to the backend.
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>

#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "tests/e2e/e2e.h"

namespace bpfnet::e2e {
namespace {

using nlohmann::json;

class Sockets : public TwoNodes {
 public:
  static void SetUpTestSuite() {
    ClusterOptions options = cluster_options();
    options.sockets = "on";
    set_up(std::move(options));
  }

 protected:
  static Address loopback() { return pick(family(), "127.0.0.1", "::1"); }
  void TearDown() override {
    if (!has_cluster()) return;
    for (auto* node : {&node_a(), &node_b()})
      if (!node->agent().running()) node->start();
    TwoNodes::TearDown();
  }
};

Fd make_socket(const Netns& netns, int family, int type) {
  return netns.in([&] { return Fd(::socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)); });
}

/// `to` as an IPv6 socket names it: IPv4 addresses v4-mapped.
socklen_t to_sockaddr6(const HostPort& to, sockaddr_storage& name) {
  name = {};
  auto& in = reinterpret_cast<sockaddr_in6&>(name);
  in.sin6_family = AF_INET6;
  in.sin6_port = htons(to.port);
  std::memcpy(&in.sin6_addr, to.address.bytes().data(), sizeof(in.sin6_addr));
  return sizeof(in);
}

HostPort peer_of(int fd) {
  sockaddr_storage name{};
  socklen_t length = sizeof(name);
  EXPECT_EQ(::getpeername(fd, reinterpret_cast<sockaddr*>(&name), &length), 0) << std::strerror(errno);
  return from_sockaddr(name);
}

/// A UDP socket that is not connected.
class Datagrams {
 public:
  /// `mapped`: an IPv6 socket also for IPv4.
  Datagrams(const Netns& netns, Family family, bool mapped = false)
      : six_(mapped || family == Family::kIpv6),
        fd_(make_socket(netns, six_ ? AF_INET6 : AF_INET, SOCK_DGRAM)) {}

  struct Answer {
    std::string server;
    HostPort client;  ///< as the server saw it
    HostPort from;    ///< as the application is told
  };
  Result<Answer> ask(const HostPort& to, milliseconds timeout = milliseconds(2000)) {
    const std::string payload = fmt::format("request {}", ++count_);
    sockaddr_storage name{};
    socklen_t length = six_ ? to_sockaddr6(to, name) : to_sockaddr(to, name);
    if (::sendto(fd_.get(), payload.data(), payload.size(), 0, reinterpret_cast<sockaddr*>(&name), length) <
        0)
      return fail_errno(errno, "sendto {}", to.to_string());
    BPFNET_TRY(wait_for(fd_.get(), POLLIN, timeout));
    char buffer[4096];
    length = sizeof(name);
    const ssize_t n =
        ::recvfrom(fd_.get(), buffer, sizeof(buffer), 0, reinterpret_cast<sockaddr*>(&name), &length);
    if (n < 0) return fail_errno(errno, "recvfrom");
    const std::string text(buffer, static_cast<size_t>(n));
    if (!text.ends_with("\n" + payload)) return fail("other bytes came back: {}", text);
    std::istringstream words(text);
    Answer answer;
    std::string address;
    words >> answer.server >> address >> answer.client.port;
    answer.client.address = Address::parse(address).value();
    answer.from = from_sockaddr(name);
    return answer;
  }
  [[nodiscard]] uint16_t port() const {
    sockaddr_storage name{};
    socklen_t length = sizeof(name);
    ::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&name), &length);
    return from_sockaddr(name).port;
  }

 private:
  bool six_;
  Fd fd_;
  int count_ = 0;
};

testing::AssertionResult answered_as(const Result<Datagrams::Answer>& answer, const std::string& server,
                                     const Address& client, const HostPort& from) {
  if (!answer) return testing::AssertionFailure() << answer.error().message;
  if (answer->server == server && answer->client.address == client && answer->from == from)
    return testing::AssertionSuccess();
  return testing::AssertionFailure() << answer->server << " answered, having seen "
                                     << answer->client.to_string() << ", as " << answer->from.to_string();
}

/// Does the flow table hold connections of this client port, and none of them translated?
testing::AssertionResult made_to_the_backend(const Node& node, uint16_t client_port) {
  int plain = 0;
  for (const json& flow : node.ctl({"flow", "list"})) {
    if (flow.at("client_port") != client_port) continue;
    for (const auto& flag : flow.at("flags"))
      if (flag == "service") return testing::AssertionFailure() << "translated by packet: " << flow.dump();
    plain++;
  }
  return plain > 0 ? testing::AssertionSuccess() : testing::AssertionFailure() << "no such flow";
}

uint64_t calls(const Node& node, const std::string& outcome) {
  return node.ctl({"status"}).at("datapath").at("sockets").value(outcome, uint64_t{0});
}

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

TEST_P(Sockets, UnconnectedUdp) {
  for (const bool mapped : {false, true}) {
    Datagrams of_pod(pod("client-a").netns(), family(), mapped);
    for (const auto& [number, server] :
         {std::pair{11, "web-a"}, std::pair{12, "web-b"}, std::pair{11, "web-a"}})
      EXPECT_TRUE(
          answered_as(of_pod.ask(service(number)), server, pod("client-a").ip(family()), service(number)));
    EXPECT_TRUE(made_to_the_backend(node_a(), of_pod.port()));

    Datagrams of_host(node_a().netns(), family(), mapped);
    EXPECT_TRUE(answered_as(of_host.ask(service(11)), "web-a", node_a().ip(family()), service(11)));
    const HostPort node_port{node_a().ip(family()), 30082};
    EXPECT_TRUE(answered_as(of_host.ask(node_port), "web-b", node_a().ip(family()), node_port));
    EXPECT_TRUE(made_to_the_backend(node_a(), of_host.port()));
  }
}

// One socket that talks to a service and to its backend is told which of them answers.
TEST_P(Sockets, UdpToTheServiceAndToItsBackend) {
  Datagrams client(pod("client-a").netns(), family());
  const HostPort backend{pod("web-b").ip(family()), Pod::kPort};
  const Address own = pod("client-a").ip(family());
  EXPECT_TRUE(answered_as(client.ask(service(12)), "web-b", own, service(12)));
  EXPECT_TRUE(answered_as(client.ask(backend), "web-b", own, backend));
  EXPECT_TRUE(answered_as(client.ask(service(12)), "web-b", own, service(12)));
  EXPECT_TRUE(answered_as(client.ask(backend), "web-b", own, backend));
}

// More services than a socket remembers: the rest goes by the packet path.
TEST_P(Sockets, UdpToManyServices) {
  std::string yaml;
  for (int number = 60; number < 68; number++)
    yaml += "---\n" + echo_service(fmt::format("many-{}", number), number,
                                   {cluster().backend(number % 2 ? "web-a" : "web-b")})
                          .yaml();
  cluster().apply("many", yaml);
  Datagrams client(pod("client-a").netns(), family());
  for (int round = 0; round < 2; round++)
    for (int number = 60; number < 68; number++)
      EXPECT_TRUE(answered_as(client.ask(service(number)), number % 2 ? "web-a" : "web-b",
                              pod("client-a").ip(family()), service(number)));
  cluster().remove("many");
}

// S45: by the next datagram, for sockets that are connected and that are not.
TEST_P(Sockets, UdpMovesWithTheBackend) {
  const HostPort moving = service(41);
  cluster().apply("moving", echo_service("moving", 41, {cluster().backend("web-a")}).yaml());
  Datagrams unconnected(pod("client-a").netns(), family());
  Datagrams of_host(node_a().netns(), family());
  auto connected = UdpClient::open(pod("client-a").netns(), moving);
  ASSERT_TRUE(worked(connected));
  EXPECT_EQ(peer_of(connected->fd()), moving);
  const Address own = pod("client-a").ip(family());
  EXPECT_TRUE(answered_as(unconnected.ask(moving), "web-a", own, moving));
  EXPECT_TRUE(answered_as(of_host.ask(moving), "web-a", node_a().ip(family()), moving));
  EXPECT_TRUE(answered(connected->request("before"), "web-a", own));

  cluster().apply("moving", echo_service("moving", 41, {cluster().backend("web-b")}).yaml());
  EXPECT_TRUE(answered_as(unconnected.ask(moving), "web-b", own, moving));
  EXPECT_TRUE(answered_as(of_host.ask(moving), "web-b", node_a().ip(family()), moving));
  EXPECT_TRUE(answered(connected->request("after"), "web-b", own));
  EXPECT_GE(calls(node_a(), "moved"), 2U);
  cluster().remove("moving");
}

// S45: an address that another Service has now is answered by that one's backend, within a tick, though the
// former backend lives on; one that no Service has any more keeps its clients where they are (S46).
TEST_P(Sockets, UdpFollowsItsAddressToAnotherService) {
  const HostPort address = service(46);
  const auto give_to = [](const std::string& name, const std::string& pod) {
    cluster().apply("passed-on", echo_service(name, 46, {cluster().backend(pod)}).yaml());
  };
  give_to("former", "web-a");
  Datagrams of_pod(pod("client-a").netns(), family());
  Datagrams of_host(node_a().netns(), family());
  const auto expect_all_from = [&](const std::string& server) {
    EXPECT_TRUE(answered_as(of_pod.ask(address), server, pod("client-a").ip(family()), address));
    EXPECT_TRUE(answered_as(of_host.ask(address), server, node_a().ip(family()), address));
  };
  const auto expect_all_move_to = [&](const std::string& server) {
    for (auto* client : {&of_pod, &of_host})
      EXPECT_TRUE(eventually([&] {
        const auto answer = client->ask(address);
        return answer && answer->server == server && answer->from == address;
      }));
  };
  expect_all_from("web-a");
  give_to("latter", "web-b");
  expect_all_move_to("web-b");
  cluster().remove("passed-on");
  expect_all_from("web-b");
  give_to("former", "web-a");
  expect_all_move_to("web-a");
  EXPECT_TRUE(made_to_the_backend(node_a(), of_pod.port()));
  cluster().remove("passed-on");
}

// An IPv6 socket connected to an IPv4 service sends by the hook of unconnected ones; its backend's answers
// would not reach it.
TEST_P(Sockets, ConnectedUdpOfAnIpv6Socket) {
  const Fd fd = make_socket(pod("client-a").netns(), AF_INET6, SOCK_DGRAM);
  sockaddr_storage name{};
  const socklen_t length = to_sockaddr6(service(12), name);
  ASSERT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&name), length), 0);
  ASSERT_EQ(::send(fd.get(), "x", 1, 0), 1);
  ASSERT_TRUE(worked(wait_for(fd.get(), POLLIN, milliseconds(2000))));
  EXPECT_EQ(peer_of(fd.get()), service(12));
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

// By another address of the node the backend sees that address, as by packets.
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
  EXPECT_TRUE(answered(ask(node_a().netns(), "tcp", {other, 30082}), "web-b", other));
  EXPECT_EQ(calls(node_a(), "left-bound"), before + 1);
  change("del");
}

// A port that a process of the node had before the NodePort: servers go on answering it.
TEST_P(Sockets, AnswersToAClientOnANodePortAreNotTranslated) {
  auto client =
      UdpClient::open(node_a().netns(), {pod("web-a").ip(family()), Pod::kPort}, {.source_port = 30150});
  ASSERT_TRUE(worked(client));
  EXPECT_TRUE(answered(client->request("before"), "web-a", node_a().ip(family())));
  cluster().apply("late", echo_service("late", 45, {cluster().backend("web-b")}, 30150).yaml());
  EXPECT_TRUE(answered(client->request("after"), "web-a", node_a().ip(family())));
  EXPECT_GE(calls(node_a(), "left-answer"), 1U);
  cluster().remove("late");
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

json programs_at(const std::string& cgroup) {
  const std::string shown = check_run({.argv = {"bpftool", "-j", "cgroup", "show", cgroup}});
  return shown.empty() || shown == "\n" ? json::array() : json::parse(shown);  // it says nothing of none
}

class SocketsSetup : public testing::Test {};

TEST_F(SocketsSetup, CleanupLeavesNoProgramAtTheCgroup) {
  ClusterOptions options = cluster_options({"node-a"});
  options.sockets = "on";
  Cluster cluster(options);
  Node& node = cluster.node(0);
  const std::string cgroup = cgroup2_mount() + "/" + cgroup_name(options);
  EXPECT_EQ(programs_at(cgroup).size(), 10U);
  node.stop_agent();
  EXPECT_EQ(programs_at(cgroup).size(), 10U) << "the datapath outlives the agent";
  node.start();
  EXPECT_EQ(programs_at(cgroup).size(), 10U) << "replaced in place";
  EXPECT_TRUE(node.api("/v1/status").at("sockets").get<std::string>().starts_with("on"));
  node.stop_agent();
  ASSERT_EQ(node.cleanup(), 0) << read_text(node.dir("cleanup.log"));
  EXPECT_EQ(programs_at(cgroup).size(), 0U);
}

// Another agent's programs at the same cgroup stay, and its pods' sockets with them.
TEST_F(SocketsSetup, TwoAgentsAtOneCgroup) {
  ClusterOptions options = cluster_options();
  options.sockets = "on";
  Cluster cluster(options);
  const std::string cgroup = cgroup2_mount() + "/" + cgroup_name(options);
  EXPECT_EQ(programs_at(cgroup).size(), 20U);
  cluster.node(0).stop_agent();
  ASSERT_EQ(cluster.node(0).cleanup(), 0);
  EXPECT_EQ(programs_at(cgroup).size(), 10U);
}

// A path /proc/PID/ns/net leads to another namespace once the number is another process's: here, at a
// restart, to the node's own and to another pod's.
TEST_F(SocketsSetup, APathThatLeadsElsewhereByNowIsNotThePods) {
  ClusterOptions options = cluster_options({"node-a"});
  options.sockets = "on";
  Cluster cluster(options);
  Node& node = cluster.node(0);
  const Pod& other = cluster.add_pod(0, "other");
  const Netns moved(netns_name("p-moved"));
  const std::string path = node.dir("netns-of-moved");
  std::filesystem::create_symlink(moved.path(), path);
  CniCall call{.command = "ADD", .container_id = "moved", .netns = path};
  const CniAnswer added = node.cni(call);
  ASSERT_EQ(added.status, 0) << added.text;
  EXPECT_NE(node.api("/v1/endpoints").dump().find(path), std::string::npos) << "what the agent has stored";
  const auto namespaces = [&] { return node.ctl({"map", "dump", "socket_namespaces"}); };
  const json before = namespaces();
  EXPECT_EQ(before.size(), 3U) << before.dump();
  for (const std::string& elsewhere : {node.netns().path(), other.netns().path()}) {
    node.kill_agent();
    std::filesystem::remove(path);
    std::filesystem::create_symlink(elsewhere, path);
    node.start();
    EXPECT_EQ(namespaces(), before) << elsewhere;
  }
  call.command = "DEL";
  EXPECT_EQ(node.cni(call).status, 0);
}

TEST_F(SocketsSetup, SwitchedOffAtTheNextStart) {
  ClusterOptions options = cluster_options({"node-a"});
  options.sockets = "";
  options.agent_args = {"--cgroup", cgroup2_mount() + "/" + cgroup_name(options)};
  const Cgroup cgroup(cgroup_name(options));
  Cluster cluster(options);
  Node& node = cluster.node(0);
  EXPECT_EQ(programs_at(cgroup.path()).size(), 10U) << "auto, which is the default";
  node.stop_agent();
  node.start({"--sockets", "off"});
  EXPECT_EQ(programs_at(cgroup.path()).size(), 0U);
  EXPECT_EQ(node.api("/v1/status").at("sockets"), "off: --sockets off");
}

TEST_F(SocketsSetup, NoCgroup2IsToldAndNoObstacle) {
  ClusterOptions options = cluster_options({"node-a"});
  options.sockets = "";
  options.agent_args = {"--cgroup", options.run_root};
  Cluster cluster(options);
  Node& node = cluster.node(0);
  const std::string state = node.api("/v1/status").at("sockets");
  EXPECT_TRUE(state.starts_with("off: cgroup " + options.run_root)) << state;
  EXPECT_NE(state.find("cgroup2 is mounted at " + cgroup2_mount()), std::string::npos) << state;
  EXPECT_NE(node.log().find("--sockets off"), std::string::npos) << "the way out";
  node.stop_agent();
  EXPECT_THROW(node.start({"--sockets", "on"}), std::runtime_error) << "what was asked for is not left out";
}

}  // namespace
}  // namespace bpfnet::e2e
