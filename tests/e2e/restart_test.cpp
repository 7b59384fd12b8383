// The agent dies and comes back under traffic; and what works while it is away.
#include <fmt/format.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/e2e/e2e.h"
#include "tests/e2e/traffic.h"

namespace bpfnet::e2e {
namespace {

constexpr int kConnections = 1000;

class Restart : public TwoNodes {
 protected:
  void TearDown() override {
    if (!has_cluster()) return;
    for (auto* node : {&node_a(), &node_b()}) {
      if (!node->agent().running()) node->start();
    }
    TwoNodes::TearDown();
  }
};

/// A request-response stream on a thread: every datagram must be answered.
class UdpStream {
 public:
  UdpStream(const Netns& from, const HostPort& to)
      : client_(UdpClient::open(from, to).value()), requests_([this] {
          if (!client_.request(std::to_string(sent_++))) lost_++;
        }) {}
  void finish() { requests_.finish(); }
  [[nodiscard]] int sent() const { return sent_; }
  [[nodiscard]] int lost() const { return lost_; }

 private:
  UdpClient client_;
  std::atomic<int> sent_ = 0;
  std::atomic<int> lost_ = 0;
  Repeated requests_;
};

TEST_P(Restart, ThousandConnectionsThroughAServiceSurviveSigkill) {
  std::vector<TcpClient> clients;
  for (int i = 0; i < kConnections; i++) {
    auto client = TcpClient::connect(pod("client-a").netns(), service(10), {.timeout = milliseconds(5000)});
    ASSERT_TRUE(worked(client)) << "connection " << i;
    clients.push_back(std::move(*client));
  }
  const auto round = [&](const std::string& text) {
    int failed = 0;
    for (auto& client : clients) failed += client.send(text) ? 0 : 1;
    for (auto& client : clients) failed += client.collect(text) ? 0 : 1;
    return failed;
  };
  ASSERT_EQ(round("before"), 0);
  UdpStream stream(pod("client-a").netns(), service(12));

  node_a().kill_agent();
  EXPECT_EQ(round("agent dead"), 0);
  std::atomic<int> failed = 0;
  std::atomic<bool> started = false;
  std::thread traffic([&] {
    while (!started) failed += round("agent starting");
  });
  node_a().start();
  started = true;
  traffic.join();
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(round("agent back"), 0);
  stream.finish();

  uint32_t retransmits = 0;
  for (const auto& client : clients) retransmits += client.retransmits();
  EXPECT_EQ(retransmits, 0U);
  EXPECT_GT(stream.sent(), 100);
  EXPECT_EQ(stream.lost(), 0);
  // Nothing had changed: nothing was written.
  const auto status = node_a().api("/v1/status");
  ASSERT_TRUE(status.contains("map_writes")) << status.dump();
  EXPECT_EQ(status["map_writes"], 0) << status.dump();
}

TEST_P(Restart, DatapathServesWhileNoAgentRuns) {
  node_a().kill_agent();
  for (const auto* protocol : {"tcp", "udp"}) {
    EXPECT_TRUE(worked(ask(pod("client-a").netns(), protocol, service(11))));
    EXPECT_TRUE(worked(ask(pod("client-a").netns(), protocol, service(12))));
    EXPECT_TRUE(worked(ask(network().client().netns(), protocol, {node_a().ip(family()), 30081})));
    EXPECT_TRUE(worked(ask(pod("client-a").netns(), protocol, {pod("web-b").ip(family()), Pod::kPort})));
  }
}

TEST_P(Restart, SigtermLeavesTheDatapathServing) {
  auto client = TcpClient::connect(pod("client-a").netns(), service(11));
  ASSERT_TRUE(worked(client));
  node_a().stop_agent();
  EXPECT_TRUE(worked(client->echo("old connection")));
  EXPECT_TRUE(worked(ask(pod("client-a").netns(), "tcp", service(11))));
}

TEST_P(Restart, ToolReadsTheMapsWhileNoAgentRuns) {
  auto client = TcpClient::connect(pod("client-a").netns(), service(11));
  ASSERT_TRUE(worked(client));
  node_a().kill_agent();
  const Output flows = node_a().ctl_text({"flow", "list"});
  EXPECT_EQ(flows.status, 0) << flows.err;
  EXPECT_NE(flows.out.find(service(11).address.to_string()), std::string::npos) << flows.out;
  const Output status = node_a().ctl_text({"status"});
  EXPECT_NE((status.out + status.err).find("agent"), std::string::npos) << status.out << status.err;
}

// What changed while it was away is applied, and only then: a service taken away and another added.
TEST_P(Restart, ChangesMadeWhileAwayAreAppliedAtStart) {
  node_a().kill_agent();
  const auto yaml = echo_service("new", 40, {cluster().backend("web-a")}).yaml();
  node_a().write_manifest("new", yaml);
  node_a().start();
  EXPECT_TRUE(worked(ask(pod("client-a").netns(), "tcp", service(40))));
  node_a().kill_agent();
  node_a().remove_manifest("new");
  node_a().start();
  EXPECT_FALSE(worked(ask(pod("client-a").netns(), "tcp", service(40), {.timeout = kSilence})));
}

TEST_P(Restart, AddWithoutAgentAsksToTryAgainAndDelIsWorkedOffLater) {
  cluster().add_pod(0, "late");
  const CniCall del = pod("late").call("DEL");
  node_a().kill_agent();
  const Netns netns(netns_name("p-early"));
  const CniAnswer add = node_a().cni({.command = "ADD", .container_id = "early", .netns = netns.path()});
  EXPECT_NE(add.status, 0);
  EXPECT_EQ(add.json->value("code", 0), 11) << add.text;
  EXPECT_EQ(node_a().cni(del).status, 0);
  node_a().start();
  EXPECT_TRUE(eventually(
      [&] { return node_a().api("/v1/endpoints").dump().find(del.container_id) == std::string::npos; }));
  cluster().remove_pod("late");
}

INSTANTIATE_TEST_SUITE_P(E2e, Restart, testing::Values(Family::kIpv4, Family::kIpv6), family_name);

}  // namespace
}  // namespace bpfnet::e2e
