// UDP clients that keep their source port: their flow follows the service (S45-S47), and stays where the
// specification says that it must not be touched.
#include <fmt/format.h>

#include "tests/e2e/three_nodes.h"

namespace bpfnet::e2e {
namespace {

constexpr int kUdpMovesNumber = 50;

/// One client with a socket and a fixed port of its own.
struct Sender {
  std::string name;
  UdpClient socket;
};

class UdpMoves : public ThreeNodes, public testing::WithParamInterface<Family> {
 protected:
  static Family family() { return GetParam(); }
  static void apply(std::vector<BackendManifest> backends) {
    cluster().apply("moves", open_service("moves", kUdpMovesNumber, std::move(backends)).yaml());
  }
  static BackendManifest terminating(const std::string& pod, bool serving) {
    BackendManifest result = backend(pod);
    result.ready = false;
    result.serving = serving;
    result.terminating = true;
    return result;
  }
  /// A fresh port for every socket: no flow of an earlier test is met again.
  static Sender sender(const std::string& name, const Netns& from, const HostPort& to) {
    static uint16_t next_port = 20000;
    auto socket = UdpClient::open(from, to, {.source_port = next_port++, .timeout = kPatience});
    if (!socket) throw std::runtime_error(socket.error().message);
    return {fmt::format("{} to {}", name, to.to_string()), std::move(*socket)};
  }
  /// Pods and hosts (host-network pods are the same to us) with and without the backend on their node, and
  /// outside clients, by every kind of address.
  static std::vector<Sender> senders() {
    const HostPort service{cluster_ip(kUdpMovesNumber, family()), 80};
    const HostPort balancer{load_balancer_ip(kUdpMovesNumber, family()), 80};
    const HostPort external{external_ip(kUdpMovesNumber, family()), 80};
    const auto by_node = [](size_t index) {
      return HostPort{node(index).ip(family()), node_port(kUdpMovesNumber)};
    };
    std::vector<Sender> result;
    for (const size_t at : {0, 1, 2}) {
      const std::string name = fmt::format("client-{}", static_cast<char>('a' + at));
      result.push_back(sender(name, pod(name).netns(), service));
      result.push_back(sender(node(at).name(), node(at).netns(), service));
      result.push_back(sender("client", network().client().netns(), by_node(at)));
      result.push_back(sender("far", network().far().netns(), by_node(at)));
    }
    result.push_back(sender("client-a", pod("client-a").netns(), by_node(0)));
    result.push_back(sender("node-a", node(0).netns(), by_node(0)));
    result.push_back(
        sender("node-a", node(0).netns(), {pick(family(), "127.0.0.1", "::1"), node_port(kUdpMovesNumber)}));
    result.push_back(sender("client-a", pod("client-a").netns(), balancer));
    result.push_back(sender("client", network().client().netns(), balancer));
    result.push_back(sender("other client", network().other_client().netns(), external));
    return result;
  }
  static void expect_all_from(std::vector<Sender>& senders, const std::string& server) {
    for (auto& sender : senders) {
      const auto seen = sender.socket.request("to " + server);
      ASSERT_TRUE(worked(seen)) << sender.name;
      EXPECT_EQ(seen->server, server) << sender.name;
    }
  }
  /// As above for sockets that may still hold the error of an earlier packet, which their next calls report.
  static void expect_all_recover(std::vector<Sender>& senders, const std::string& server) {
    for (auto& sender : senders) {
      EXPECT_TRUE(eventually([&] {
        const auto seen = sender.socket.request("again");
        return seen && seen->server == server;
      })) << sender.name;
    }
  }
  void TearDown() override {
    if (HasFailure()) show_state();
    cluster().remove("moves");
  }
};

// S45: the very next packet, there and back again.
TEST_P(UdpMoves, NextPacketReachesTheNewBackend) {
  apply({backend("web-a")});
  auto all = senders();
  expect_all_from(all, "web-a");
  apply({backend("web-b")});
  expect_all_from(all, "web-b");
  apply({backend("web-a")});
  expect_all_from(all, "web-a");
}

TEST_P(UdpMoves, BackendThatStopsServingIsLeft) {
  apply({backend("web-a")});
  auto all = senders();
  expect_all_from(all, "web-a");
  BackendManifest unready = backend("web-a");
  unready.ready = false;
  unready.serving = false;
  apply({unready, backend("web-b")});
  expect_all_from(all, "web-b");
  apply({backend("web-a"), terminating("web-b", false)});
  expect_all_from(all, "web-a");
}

// S46: who still serves keeps its flows; new ones go elsewhere.
TEST_P(UdpMoves, TerminatingButServingKeepsItsFlows) {
  apply({backend("web-a")});
  auto all = senders();
  expect_all_from(all, "web-a");
  apply({terminating("web-a", true), backend("web-b")});
  expect_all_from(all, "web-a");
  auto fresh = senders();
  expect_all_from(fresh, "web-b");
  apply({backend("web-b")});
  expect_all_from(all, "web-b");
}

// S46: policy and topology move nothing.
TEST_P(UdpMoves, PolicyAndHintsMoveNoFlow) {
  apply({backend("web-a")});
  auto all = senders();
  expect_all_from(all, "web-a");
  BackendManifest hinted = backend("web-a");
  hinted.for_nodes = {"node-a"};
  BackendManifest other = backend("web-b");
  other.for_nodes = {"node-b", "node-c"};
  ServiceManifest service = open_service("moves", kUdpMovesNumber, {hinted, other});
  service.external_traffic_policy = "Local";
  service.internal_traffic_policy = "Local";
  cluster().apply("moves", service.yaml());
  expect_all_from(all, "web-a");
}

// S46: the same address with another port is another endpoint.
TEST_P(UdpMoves, PortOnlyChangeIsAMove) {
  const EchoServer other_port(pod("web-a").netns(), "web-a-9090", 9090);
  apply({backend("web-a")});
  auto all = senders();
  expect_all_from(all, "web-a");
  ServiceManifest service = open_service("moves", kUdpMovesNumber, {backend("web-a")});
  for (auto& port : service.ports) port.target = 9090;
  cluster().apply("moves", service.yaml());
  expect_all_from(all, "web-a-9090");
}

// S46: nobody to move to, nothing moved; likewise when the Service goes. S45: one that comes in its place has
// its flows within a tick of the datapath's clock.
TEST_P(UdpMoves, WithoutServingEndpointsAndWithoutServiceFlowsAreLeftAlone) {
  apply({backend("web-a")});
  auto all = senders();
  expect_all_from(all, "web-a");
  apply({});
  expect_all_from(all, "web-a");
  cluster().remove("moves");
  expect_all_from(all, "web-a");
  apply({backend("web-b")});
  expect_all_recover(all, "web-b");
}

// S47: refused while nobody was there; the same socket gets through as soon as somebody is.
TEST_P(UdpMoves, ClientThatSentTooEarlyRecovers) {
  apply({});
  auto all = senders();
  for (auto& sender : all) {
    EXPECT_TRUE(failed_with(sender.socket.request("too early"), ECONNREFUSED)) << sender.name;
  }
  apply({backend("web-a")});
  expect_all_recover(all, "web-a");
}

// S47: the same before there is a Service at all. Some are refused by the node, some hear nothing.
TEST_P(UdpMoves, ClientThatSentBeforeTheServiceExistedRecovers) {
  auto all = senders();
  for (auto& sender : all) EXPECT_TRUE(worked(sender.socket.send("before the service"))) << sender.name;
  apply({backend("web-b")});
  expect_all_recover(all, "web-b");
}

INSTANTIATE_TEST_SUITE_P(E2e, UdpMoves, testing::ValuesIn(kFamilies), family_name);

}  // namespace
}  // namespace bpfnet::e2e
