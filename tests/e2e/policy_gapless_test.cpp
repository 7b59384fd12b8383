// Policy has no gaps: not at a pod's birth, not while it changes, not at the other end of a connection.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <poll.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/e2e/e2e.h"

namespace bpfnet::e2e {
namespace {

using std::chrono::steady_clock;

std::string policy(const std::string& name, const std::string& spec) {
  return fmt::format(
      "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {}, namespace: default}}\n"
      "spec: {}\n",
      name, spec);
}

/// A socket that counts the datagrams that reach a port of a namespace.
class Receiver {
 public:
  Receiver(const Netns& netns, uint16_t port) {
    fd_ = netns.in([] { return Fd(::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)); });
    const int size = 8 << 20;
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
    sockaddr_in6 name{};
    name.sin6_family = AF_INET6;
    name.sin6_port = htons(port);
    if (::bind(fd_.get(), reinterpret_cast<sockaddr*>(&name), sizeof(name)) != 0)
      throw std::runtime_error(fmt::format("bind port {}", port));
  }
  /// What has come since the last call.
  std::vector<std::string> take() {
    std::vector<std::string> all;
    char buffer[64];
    for (ssize_t n = 0; (n = ::recv(fd_.get(), buffer, sizeof(buffer), 0)) >= 0;)
      all.emplace_back(buffer, static_cast<size_t>(n));
    return all;
  }
  /// Waits for `text` and gives all that came before it; nullopt: it did not come.
  std::optional<std::vector<std::string>> until(const std::string& text, milliseconds timeout) {
    std::vector<std::string> all;
    const bool came = eventually(
        [&] {
          for (auto& each : take()) all.push_back(std::move(each));
          return std::ranges::find(all, text) != all.end();
        },
        timeout);
    if (!came) return std::nullopt;
    return all;
  }

 private:
  Fd fd_;
};

/// An unconnected UDP socket of a namespace: it may exist before there is a way out of it.
class Sender {
 public:
  Sender(const Netns& netns, Family family)
      : fd_(netns.in([&] {
          const int domain = family == Family::kIpv4 ? AF_INET : AF_INET6;
          return Fd(::socket(domain, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        })) {}
  bool send(const HostPort& to, const std::string& text) const {
    sockaddr_storage name{};
    const socklen_t length = to_sockaddr(to, name);
    return ::sendto(fd_.get(), text.data(), text.size(), 0, reinterpret_cast<sockaddr*>(&name), length) ==
           static_cast<ssize_t>(text.size());
  }

 private:
  Fd fd_;
};

/// Traffic that a policy of any form allows: streams, and connections that begin anew all the time.
class AllowedTraffic {
 public:
  AllowedTraffic(const Netns& from, const HostPort& to) {
    threads_.emplace_back([&from, to, this] {
      auto client = TcpClient::connect(from, to);
      if (!client) return failed("connect", client.error());
      while (!stop_) note(client->echo("stream"), "stream");
      retransmits_ += client->retransmits();
    });
    threads_.emplace_back([&from, to, this] {
      auto client = UdpClient::open(from, to);
      while (!stop_) note(client->request("datagram"), "datagram");
    });
    for (const char* protocol : {"tcp", "udp"}) {
      threads_.emplace_back([&from, to, protocol, this] {
        while (!stop_) note(ask(from, protocol, to), protocol);
      });
    }
  }
  ~AllowedTraffic() { finish(); }
  void finish() {
    stop_ = true;
    for (auto& thread : threads_)
      if (thread.joinable()) thread.join();
  }
  [[nodiscard]] uint64_t done() const { return done_; }
  [[nodiscard]] uint64_t retransmits() const { return retransmits_; }
  [[nodiscard]] std::vector<std::string> failures() {
    const std::lock_guard lock(mutex_);
    return failures_;
  }

 private:
  template <typename R>
  void note(const R& result, const char* what) {
    ++done_;
    if (!result) failed(what, result.error());
  }
  void failed(const char* what, const Error& error) {
    const std::lock_guard lock(mutex_);
    failures_.push_back(fmt::format("{}: {}", what, error.message));
  }
  std::atomic<bool> stop_ = false;
  std::atomic<uint64_t> done_ = 0;
  std::atomic<uint64_t> retransmits_ = 0;
  std::mutex mutex_;
  std::vector<std::string> failures_;
  std::vector<std::thread> threads_;
};

/// The same to every packet, never the same text: rules, and so sets, are new ones each time.
std::string equivalent(int i) {
  const std::string values = i % 2 == 0 ? "[client-a, client-b]" : "[client-b, client-a, nobody]";
  const std::string rule = fmt::format(
      "{{from: [{{podSelector: {{matchExpressions: [{{key: app, operator: In, values: {}}}]}}}}], ports: "
      "[{{protocol: TCP, port: 8080}}, {{protocol: UDP, port: {}, endPort: 8080}}, {{protocol: TCP, port: "
      "{}}}]}}",
      values, 8000 + i % 50, 10000 + i);
  return fmt::format("{{podSelector: {{matchLabels: {{app: web-a}}}}, ingress: [{}]}}", rule);
}

class Gapless : public TwoNodes {
 protected:
  void TearDown() override {
    if (has_cluster())
      for (const char* file : {"policy", "policy-2", "ns-new"}) cluster().remove(file);
    TwoNodes::TearDown();
  }
  static HostPort target(const std::string& name, uint16_t port = Pod::kPort) {
    return {pod(name).ip(family()), port};
  }
  /// Packets that policy, or its absence, has cost both nodes.
  static uint64_t policy_drops() {
    uint64_t packets = 0;
    for (Node* node : {&node_a(), &node_b()}) {
      for (const auto& row : node->ctl({"drops"})) {
        for (const char* reason :
             {"policy-ingress", "policy-egress", "endpoint-closed", "not-configured", "no-flow"})
          if (row.at("reason") == reason) packets += row.at("packets").get<uint64_t>();
      }
    }
    return packets;
  }
  static void replace_by_equivalents(int times) {
    cluster().apply("policy", policy("same", equivalent(0)));
    const uint64_t drops = policy_drops();
    std::vector<std::unique_ptr<AllowedTraffic>> all;
    for (const char* client : {"client-a", "client-b"})
      all.push_back(std::make_unique<AllowedTraffic>(pod(client).netns(), target("web-a")));
    for (int i = 1; i <= times; ++i) cluster().apply("policy", policy("same", equivalent(i)));
    for (auto& traffic : all) {
      traffic->finish();
      EXPECT_THAT(traffic->failures(), testing::IsEmpty());
      EXPECT_EQ(traffic->retransmits(), 0U);
      EXPECT_GT(traffic->done(), static_cast<uint64_t>(times));
    }
    EXPECT_EQ(policy_drops(), drops);
  }
};

class GaplessMany : public Gapless {};

// P20: a pod under deny-egress whose first instruction is to send, tried from before its device exists until
// after ADD: no packet leaves it, be its object known or not.
TEST_P(Gapless, NoPacketLeavesANewPodUnderDenyEgress) {
  constexpr uint16_t kPort = 9191;
  Receiver outside(network().far().netns(), kPort);
  Receiver beside(pod("web-a").netns(), kPort);
  Receiver across(pod("web-b").netns(), kPort);
  const std::vector<HostPort> targets = {
      {network().far().ip(family()), kPort}, target("web-a", kPort), target("web-b", kPort)};
  cluster().apply("policy",
                  policy("shut", "{podSelector: {matchLabels: {app: new}}, policyTypes: [Egress]}"));
  for (int round = 0; round < 6; ++round) {
    const std::string name = fmt::format("new-{}", round);
    if (round % 2 == 0)
      cluster().apply("ns-new",
                      PodManifest{.name = name, .node = "node-a", .labels = {{"app", "new"}}}.yaml());
    const Netns netns(netns_name("p-" + name));
    std::atomic<bool> stop = false;
    std::atomic<uint64_t> sent = 0;
    std::thread process([&] {
      const Sender sender(netns, family());
      while (!stop)
        for (const HostPort& to : targets) sent += sender.send(to, "leak") ? 1 : 0;
    });
    const CniCall add{.command = "ADD",
                      .container_id = name,
                      .netns = netns.path(),
                      .args = fmt::format("K8S_POD_NAMESPACE=default;K8S_POD_NAME={}", name)};
    const CniAnswer answer = node_a().cni(add);
    EXPECT_EQ(answer.status, 0) << answer.text;
    // Long enough for the next hop to be known: what waits for it would leave now.
    EXPECT_TRUE(eventually([&] { return sent > 3000; })) << "the pod's stack sends";
    stop = true;
    process.join();
    CniCall del = add;
    del.command = "DEL";
    EXPECT_EQ(node_a().cni(del).status, 0);
  }
  // The counters say that it is policy that stopped them, and the sockets that they do receive.
  EXPECT_GT(policy_drops(), 1000U);
  const Sender marker(pod("client-a").netns(), family());
  Receiver* receivers[] = {&outside, &beside, &across};
  for (size_t i = 0; i < targets.size(); ++i) {
    ASSERT_TRUE(marker.send(targets[i], "end"));
    const auto seen = receivers[i]->until("end", milliseconds(5000));
    ASSERT_TRUE(seen) << targets[i].to_string();
    EXPECT_EQ(seen->size(), 1U) << targets[i].to_string() << " got " << seen->front();
  }
}

// P17: what stays allowed loses nothing, by however many replacements.
TEST_P(Gapless, ReplacingAPolicyByAnEquivalentOneDropsNothing) {
  replace_by_equivalents(150);
}

TEST_P(GaplessMany, ReplacingAPolicyAThousandTimesDropsNothing) {
  replace_by_equivalents(1000);
}

/// Both ends of one TCP connection.
struct Connection {
  Fd client;
  Fd server;

  Connection(const Netns& from, const Netns& to, const HostPort& at) {
    const int domain = at.address.is_ipv4() ? AF_INET : AF_INET6;
    const auto make = [domain] { return Fd(::socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0)); };
    const Fd listener = to.in(make);
    client = from.in(make);
    sockaddr_storage name{};
    const socklen_t length = to_sockaddr(at, name);
    const int on = 1;
    ::setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (::bind(listener.get(), reinterpret_cast<sockaddr*>(&name), length) != 0 ||
        ::listen(listener.get(), 1) != 0 ||
        ::connect(client.get(), reinterpret_cast<sockaddr*>(&name), length) != 0)
      throw std::runtime_error(fmt::format("connect {}: {}", at.to_string(), errno_name(errno)));
    server = Fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }
  /// What `from` writes is there for `to` before the time is over.
  static bool carries(const Fd& from, const Fd& to, milliseconds timeout) {
    char byte = 'x';
    if (::send(from.get(), &byte, 1, MSG_NOSIGNAL) != 1) return false;
    return wait_for(to.get(), POLLIN, timeout) && ::recv(to.get(), &byte, 1, 0) == 1;
  }
};

/// Which end's policy denies: each is judged by one node only.
struct Cut {
  const char* name;
  const char* spec;
};
constexpr Cut kCuts[] = {
    {"egress of the client", "{podSelector: {matchLabels: {app: client-a}}, policyTypes: [Egress]}"},
    {"ingress of the server", "{podSelector: {matchLabels: {app: web-b}}, policyTypes: [Ingress]}"},
};

// P17: over two nodes, of which only one has the policy: whoever sends next, it does not arrive.
TEST_P(Gapless, ADenyCutsALiveConnectionAtItsNextPacketAtBothNodes) {
  constexpr uint16_t kPort = 9292;
  for (const Cut& cut : kCuts) {
    for (const bool server_sends : {false, true}) {
      SCOPED_TRACE(fmt::format("{}, the {} sends", cut.name, server_sends ? "server" : "client"));
      const Connection connection(pod("client-a").netns(), pod("web-b").netns(), target("web-b", kPort));
      const Fd& from = server_sends ? connection.server : connection.client;
      const Fd& to = server_sends ? connection.client : connection.server;
      ASSERT_TRUE(Connection::carries(from, to, milliseconds(5000)));
      cluster().apply("policy", policy("cut", cut.spec));
      const uint64_t drops = policy_drops();
      EXPECT_FALSE(Connection::carries(from, to, kSilence));
      EXPECT_GT(policy_drops(), drops);
      // Nor the other way round, now that one node has forgotten it.
      EXPECT_FALSE(Connection::carries(to, from, kSilence));
      cluster().remove("policy");
    }
  }
}

// P17: to the packet: nothing sent after the change has arrived, each is counted.
TEST_P(Gapless, ADenyStopsADatagramFlowToThePacket) {
  constexpr uint16_t kPort = 9293;
  for (const Cut& cut : kCuts) {
    SCOPED_TRACE(cut.name);
    Receiver server(pod("web-b").netns(), kPort);
    const Sender client(pod("client-a").netns(), family());
    ASSERT_TRUE(client.send(target("web-b", kPort), "before"));
    ASSERT_TRUE(server.until("before", milliseconds(5000)));
    cluster().apply("policy", policy("cut", cut.spec));
    const uint64_t drops = policy_drops();
    for (int i = 0; i < 50; ++i) ASSERT_TRUE(client.send(target("web-b", kPort), "after"));
    EXPECT_TRUE(eventually([&] { return policy_drops() >= drops + 50; }));
    cluster().remove("policy");
    ASSERT_TRUE(client.send(target("web-b", kPort), "allowed again"));
    const auto seen = server.until("allowed again", milliseconds(5000));
    ASSERT_TRUE(seen);
    EXPECT_EQ(seen->size(), 1U);
  }
}

// P18: from the rename that is the event to the first packet that passes, on the pod's own node.
TEST_P(Gapless, AnAllowOpensSoon) {
  constexpr uint16_t kPort = 9393;
  Receiver server(pod("web-a").netns(), kPort);
  const Sender client(pod("client-a").netns(), family());
  const std::string shut =
      policy("gate", "{podSelector: {matchLabels: {app: web-a}}, policyTypes: [Ingress]}");
  const std::string open =
      policy("gate",
             "{podSelector: {matchLabels: {app: web-a}}, ingress: [{ports: [{protocol: UDP, port: 9393}]}]}");
  std::vector<double> milliseconds_taken;
  for (int round = 0; round < 25; ++round) {
    cluster().apply("policy", shut);
    for (const auto& late : server.take()) EXPECT_NE(late, fmt::format("{}", round));
    const auto begin = steady_clock::now();
    node_a().write_manifest("policy", open);
    bool passed = false;
    while (!passed && steady_clock::now() - begin < std::chrono::seconds(5)) {
      client.send(target("web-a", kPort), fmt::format("{}", round));
      passed = !server.take().empty();
    }
    const auto taken = steady_clock::now() - begin;
    EXPECT_TRUE(passed);
    EXPECT_LT(taken, std::chrono::seconds(1));  // P18
    milliseconds_taken.push_back(std::chrono::duration<double, std::milli>(taken).count());
    node_b().apply("policy", open);
  }
  std::ranges::sort(milliseconds_taken);
  fmt::print("an allow opened after {:.1f} ms (median), {:.1f} ms (slowest of {})\n",
             milliseconds_taken.at(milliseconds_taken.size() / 2), milliseconds_taken.back(),
             milliseconds_taken.size());
}

INSTANTIATE_TEST_SUITE_P(E2e, Gapless, testing::Values(Family::kIpv4, Family::kIpv6), family_name);
INSTANTIATE_TEST_SUITE_P(E2e, GaplessMany, testing::Values(Family::kIpv4, Family::kIpv6), family_name);

}  // namespace
}  // namespace bpfnet::e2e
