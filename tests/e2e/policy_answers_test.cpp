// What becomes of what policy denies: its sender is told (policy.bpfnet.io/denied, --policy-denied), or it is
// let through and reported (--policy-audit).
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <linux/errqueue.h>
#include <poll.h>

#include <nlohmann/json.hpp>

#include "tests/e2e/e2e.h"

namespace bpfnet::e2e {
namespace {

std::string deny_ingress(const std::string& ns, const std::string& app) {
  return fmt::format(
      "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: deny, namespace: {}}}\n"
      "spec: {{podSelector: {{matchLabels: {{app: {}}}}}, policyTypes: [Ingress]}}\n",
      ns, app);
}

class PolicyAnswers : public TwoNodes {
 protected:
  void TearDown() override {
    if (has_cluster())
      for (const char* file : {"policy", "answers"}) cluster().remove(file);
    TwoNodes::TearDown();
  }
  /// Namespace `told`, whose pods tell whom they deny, with a pod on node-a; another pod of it does not.
  static void add_told() {
    cluster().apply("told",
                    "apiVersion: v1\nkind: Namespace\nmetadata: {name: told, annotations: "
                    "{policy.bpfnet.io/denied: reject}}\n");
    cluster().add_pod(0, "told-a", {.ns = "told", .labels = {{"app", "told-a"}}});
  }
  static void remove_told() {
    cluster().remove_pod("told-a");
    cluster().remove("told");
  }
  static HostPort target(const std::string& name) { return {pod(name).ip(family()), Pod::kPort}; }
  /// connect() ends at once, by a reset.
  static void expect_refused(const Netns& from, const HostPort& to) {
    EXPECT_TRUE(failed_with(ask(from, "tcp", to, {.timeout = milliseconds(10000)}), ECONNREFUSED));
  }
  /// A datagram comes back as "administratively prohibited".
  static void expect_prohibited(const Netns& from, const HostPort& to) {
    auto client = UdpClient::open(from, to);
    ASSERT_TRUE(worked(client));
    ASSERT_TRUE(worked(client->send("question")));
    const auto error = client->error();
    ASSERT_TRUE(worked(error));
    const bool v4 = family() == Family::kIpv4;
    EXPECT_EQ(error->origin, v4 ? SO_EE_ORIGIN_ICMP : SO_EE_ORIGIN_ICMP6);
    EXPECT_EQ(error->icmp_type, v4 ? 3 : 1);
    EXPECT_EQ(error->icmp_code, v4 ? 13 : 1);
    EXPECT_EQ(error->target, to);
  }
};

TEST_P(PolicyAnswers, TheDeniedAreToldOnBothNodesAndOutside) {
  add_told();
  cluster().apply("policy", deny_ingress("told", "told-a"));
  for (const Netns* from : {&pod("client-a").netns(), &pod("client-b").netns(), &node_b().netns()}) {
    expect_refused(*from, target("told-a"));
    expect_prohibited(*from, target("told-a"));
  }
  // Its own node is let in (P13).
  EXPECT_TRUE(worked(ask(node_a().netns(), "tcp", target("told-a"))));
  remove_told();
}

TEST_P(PolicyAnswers, ThroughAServiceTheServiceAnswers) {
  add_told();
  cluster().apply("answers", echo_service("told", 50, {cluster().backend("told-a")}, 30050).yaml());
  cluster().apply("policy", deny_ingress("told", "told-a"));
  for (const char* client : {"client-a", "client-b"}) {
    expect_refused(pod(client).netns(), service(50));
    expect_prohibited(pod(client).netns(), service(50));
  }
  for (Node* node : {&node_a(), &node_b()})
    expect_refused(network().client().netns(), {node->ip(family()), 30050});
  remove_told();
}

// P17: both ends of a connection that a change cuts hear of it when they next send.
TEST_P(PolicyAnswers, ALiveConnectionThatIsCutIsReset) {
  add_told();
  auto near = TcpClient::connect(pod("client-a").netns(), target("told-a"));
  auto far = TcpClient::connect(pod("client-b").netns(), target("told-a"), {.timeout = milliseconds(10000)});
  for (auto* client : {&near, &far}) {
    ASSERT_TRUE(worked(*client));
    ASSERT_TRUE(worked((*client)->echo("before")));
  }
  cluster().apply("policy", deny_ingress("told", "told-a"));
  for (auto* client : {&near, &far}) EXPECT_TRUE(failed_with((*client)->echo("after"), ECONNRESET));
  remove_told();
}

/// A connection through a service, held at both ends: either can be the one that sends next.
struct Held {
  Fd client;
  Fd server;

  Held(const Netns& from, const HostPort& to, const Netns& at, const HostPort& listens) {
    const int domain = to.address.is_ipv4() ? AF_INET : AF_INET6;
    const auto make = [domain] { return Fd(::socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0)); };
    const Fd listener = at.in(make);
    client = from.in(make);
    sockaddr_storage name{};
    const int on = 1;
    ::setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    socklen_t length = to_sockaddr(listens, name);
    if (::bind(listener.get(), reinterpret_cast<sockaddr*>(&name), length) != 0 ||
        ::listen(listener.get(), 1) != 0)
      throw std::runtime_error(fmt::format("listen {}: {}", listens.to_string(), errno_name(errno)));
    length = to_sockaddr(to, name);
    if (::connect(client.get(), reinterpret_cast<sockaddr*>(&name), length) != 0)
      throw std::runtime_error(fmt::format("connect {}: {}", to.to_string(), errno_name(errno)));
    server = Fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }
  /// One byte from here to there.
  static bool carries(const Fd& from, const Fd& to) {
    char byte = 'x';
    return ::send(from.get(), &byte, 1, MSG_NOSIGNAL) == 1 &&
           wait_for(to.get(), POLLIN, milliseconds(10000)) && ::recv(to.get(), &byte, 1, 0) == 1;
  }
  /// Sends, and gives the error that ends the connection; nobody answers with data.
  static int told(const Fd& end) {
    char byte = 'x';
    if (::send(end.get(), &byte, 1, MSG_NOSIGNAL) != 1) return errno;
    if (!wait_for(end.get(), POLLIN, milliseconds(10000))) return ETIMEDOUT;
    return ::recv(end.get(), &byte, 1, 0) < 0 ? errno : 0;
  }
};

// P17: a client of a service, whose backend sends first after the cut, hears of it too. From outside: such a
// connection is translated by packets, on the backend's node and, masqueraded, on another.
TEST_P(PolicyAnswers, BothEndsOfACutServiceConnectionHearWhoeverSendsFirst) {
  constexpr uint16_t kPort = 9292;
  add_told();
  auto service = echo_service("told", 50, {cluster().backend("told-a")}, 30050);
  service.ports.at(0).target = kPort;
  cluster().apply("answers", service.yaml());
  for (Node* node : {&node_a(), &node_b()}) {
    for (const bool server_first : {true, false}) {
      SCOPED_TRACE(
          fmt::format("by {}, the {} sends first", node->name(), server_first ? "server" : "client"));
      const Held held(network().client().netns(), {node->ip(family()), 30050}, pod("told-a").netns(),
                      {pod("told-a").ip(family()), kPort});
      ASSERT_TRUE(Held::carries(held.client, held.server) && Held::carries(held.server, held.client));
      cluster().apply("policy", deny_ingress("told", "told-a"));
      EXPECT_EQ(Held::told(server_first ? held.server : held.client), ECONNRESET);
      EXPECT_EQ(Held::told(server_first ? held.client : held.server), ECONNRESET);
      cluster().remove("policy");
    }
  }
  remove_told();
}

TEST_P(PolicyAnswers, SilenceIsTheDefault) {
  cluster().apply("policy", deny_ingress("default", "web-a"));
  EXPECT_TRUE(
      failed_with(ask(pod("client-a").netns(), "tcp", target("web-a"), {.timeout = kSilence}), ETIMEDOUT));
  EXPECT_TRUE(
      failed_with(ask(pod("client-b").netns(), "udp", target("web-a"), {.timeout = kSilence}), ETIMEDOUT));
}

/// Agents with --policy-audit.
class PolicyAudit : public TwoNodes {
 public:
  static void SetUpTestSuite() { set_up(cluster_options({"node-a", "node-b"}, {"--policy-audit"})); }

 protected:
  void TearDown() override {
    if (has_cluster()) cluster().remove("policy");
    TwoNodes::TearDown();
  }
  static HostPort target(const std::string& name) { return {pod(name).ip(family()), Pod::kPort}; }
  /// Packets of node-a that ingress policy has audited or dropped.
  static uint64_t packets(bool audited) {
    uint64_t count = 0;
    for (const auto& row : node_a().ctl({"drops"}))
      if (row.at("reason") == "policy-ingress" && row.at("audited") == audited)
        count += row.at("packets").get<uint64_t>();
    return count;
  }
};

TEST_P(PolicyAudit, NothingIsDroppedAndEachConnectionIsCountedOnce) {
  cluster().apply("policy", deny_ingress("default", "web-a"));
  const uint64_t audited = packets(true);
  const uint64_t dropped = packets(false);
  auto stream = TcpClient::connect(pod("client-b").netns(), target("web-a"));
  ASSERT_TRUE(worked(stream));
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(worked(stream->echo("passes")));
  EXPECT_TRUE(worked(ask(pod("client-a").netns(), "udp", target("web-a"))));
  EXPECT_EQ(packets(true), audited + 2);
  EXPECT_EQ(packets(false), dropped);
}

// P17: what lived by audit mode alone is cut when an agent without it takes over; the rest lives on.
TEST_P(PolicyAudit, ItsEndCutsWhatItHadLetThrough) {
  cluster().apply("policy", deny_ingress("default", "web-a"));
  auto denied = TcpClient::connect(pod("client-b").netns(), target("web-a"), {.timeout = kSilence});
  auto allowed = TcpClient::connect(pod("web-a").netns(), target("client-b"));
  for (auto* client : {&denied, &allowed}) ASSERT_TRUE(worked((*client)->echo("before")));
  node_a().stop_agent();
  EXPECT_TRUE(worked(denied->echo("no agent")));
  node_a().start({"--policy-audit=false"});
  EXPECT_TRUE(failed_with(denied->echo("after"), ETIMEDOUT));
  EXPECT_TRUE(worked(allowed->echo("after")));
  EXPECT_EQ(allowed->retransmits(), 0U);
  EXPECT_FALSE(worked(ask(pod("client-a").netns(), "tcp", target("web-a"), {.timeout = kSilence})));
  node_a().stop_agent();
  node_a().start();
  EXPECT_TRUE(worked(ask(pod("client-a").netns(), "tcp", target("web-a"))));
}

INSTANTIATE_TEST_SUITE_P(E2e, PolicyAnswers, testing::Values(Family::kIpv4, Family::kIpv6), family_name);
INSTANTIATE_TEST_SUITE_P(E2e, PolicyAudit, testing::Values(Family::kIpv4, Family::kIpv6), family_name);

}  // namespace
}  // namespace bpfnet::e2e
