// Clients outside that look alike: one source port, one node port, a backend on another node. Masquerade must
// keep them apart; and one client's port may go through a service and past it at once.
#include <fmt/format.h>

#include <set>

#include "tests/e2e/three_nodes.h"

namespace bpfnet::e2e {
namespace {

constexpr int kTwoClientsNumber = 60;
constexpr int kConnections = 200;

class TwoClients : public ThreeNodes, public testing::WithParamInterface<Family> {
 protected:
  /// All of them speak before any is listened to.
  static void each_hears_its_own(std::vector<TcpClient>& connections) {
    for (size_t i = 0; i < connections.size(); i++)
      ASSERT_TRUE(worked(connections[i].send(fmt::format("{:08}", i))));
    for (size_t i = 0; i < connections.size(); i++)
      EXPECT_TRUE(worked(connections[i].collect(fmt::format("{:08}", i)))) << i;
  }
  static Family family() { return GetParam(); }
  void SetUp() override {
    cluster().apply("clients", open_service("clients", kTwoClientsNumber, {backend("web-b")}).yaml());
  }
  void TearDown() override {
    if (HasFailure()) show_state();
  }
  static std::vector<const Netns*> outside() {
    return {&network().client().netns(), &network().other_client().netns(), &network().far().netns()};
  }
  static HostPort by_node_a() { return {node(0).ip(family()), node_port(kTwoClientsNumber)}; }
};

TEST_P(TwoClients, OneSourcePortStaysApartByTcp) {
  std::vector<TcpClient> connections;
  for (uint16_t port = 45000; port < 45000 + kConnections; port++) {
    for (const Netns* from : outside()) {
      auto client = TcpClient::connect(*from, by_node_a(), {.source_port = port, .timeout = kPatience});
      ASSERT_TRUE(worked(client)) << port << " " << from->name();
      EXPECT_EQ(client->seen().peer.address, node(0).ip(family()));
      connections.push_back(std::move(*client));
    }
  }
  std::set<uint16_t> ports;
  for (const auto& client : connections) ports.insert(client.seen().peer.port);
  EXPECT_EQ(ports.size(), connections.size());
  // All at once: an answer in the wrong connection would be other bytes.
  each_hears_its_own(connections);
}

TEST_P(TwoClients, OneSourcePortStaysApartByUdp) {
  std::vector<UdpClient> sockets;
  for (uint16_t port = 45000; port < 45000 + kConnections; port++) {
    for (const Netns* from : outside()) {
      auto client = UdpClient::open(*from, by_node_a(), {.source_port = port, .timeout = kPatience});
      ASSERT_TRUE(worked(client));
      sockets.push_back(std::move(*client));
    }
  }
  std::set<uint16_t> ports;
  for (size_t i = 0; i < sockets.size(); i++) {
    const auto seen = sockets[i].request(fmt::format("{:08}", i));
    ASSERT_TRUE(worked(seen)) << i;
    ports.insert(seen->peer.port);
  }
  EXPECT_EQ(ports.size(), sockets.size());
}

TEST_P(TwoClients, FixedPortsThroughTheServiceAndDirectly) {
  const std::vector<HostPort> ways = {{cluster_ip(kTwoClientsNumber, family()), 80},
                                      {load_balancer_ip(kTwoClientsNumber, family()), 80},
                                      {pod("web-b").ip(family()), Pod::kPort}};
  std::vector<TcpClient> connections;
  for (uint16_t port = 46000; port < 46000 + kConnections; port++) {
    for (const auto& to : ways) {
      auto client =
          TcpClient::connect(pod("client-a").netns(), to, {.source_port = port, .timeout = kPatience});
      ASSERT_TRUE(worked(client)) << port << " " << to.to_string();
      connections.push_back(std::move(*client));
    }
  }
  each_hears_its_own(connections);
}

/// A node port whose backend is a process of node-a's own network.
class ServiceAndProcess : public TwoClients {
 protected:
  static constexpr uint16_t kProcess = 9095;
  void SetUp() override {
    auto service = open_service(
        "process", kTwoClientsNumber + 1,
        {{.ips = {node(0).ip(Family::kIpv4), node(0).ip(Family::kIpv6)}, .node = node(0).name()}});
    for (auto& port : service.ports) port.target = kProcess;
    cluster().apply("process", service.yaml());
  }
  void TearDown() override {
    cluster().remove("process");
    TwoClients::TearDown();
  }
  /// The node port and the process itself, in either order.
  static std::vector<HostPort> ways(bool service_first) {
    std::vector<HostPort> ways = {{node(0).ip(family()), node_port(kTwoClientsNumber + 1)},
                                  {node(0).ip(family()), kProcess}};
    if (!service_first) std::swap(ways[0], ways[1]);
    return ways;
  }
  const EchoServer process_{node(0).netns(), "process", kProcess};
};

TEST_P(ServiceAndProcess, OneSourcePortReachesBothByTcp) {
  std::vector<TcpClient> connections;
  for (uint16_t port = 47000; port < 47000 + kConnections; port++) {
    for (const auto& to : ways(port % 2 == 0)) {
      auto client =
          TcpClient::connect(network().client().netns(), to, {.source_port = port, .timeout = kPatience});
      ASSERT_TRUE(worked(client)) << port << " " << to.to_string();
      connections.push_back(std::move(*client));
    }
  }
  each_hears_its_own(connections);
}

TEST_P(ServiceAndProcess, OneSourcePortReachesBothByUdp) {
  for (uint16_t port = 47000; port < 47000 + kConnections; port++) {
    std::vector<UdpClient> sockets;
    for (const auto& to : ways(port % 2 == 0)) {
      auto client =
          UdpClient::open(network().client().netns(), to, {.source_port = port, .timeout = kPatience});
      ASSERT_TRUE(worked(client));
      sockets.push_back(std::move(*client));
    }
    for (size_t turn = 0; turn < 2; turn++)
      for (auto& socket : sockets) EXPECT_TRUE(worked(socket.request("question"))) << port;
  }
}

INSTANTIATE_TEST_SUITE_P(E2e, ServiceAndProcess, testing::ValuesIn(kFamilies), family_name);
INSTANTIATE_TEST_SUITE_P(E2e, TwoClients, testing::ValuesIn(kFamilies), family_name);

}  // namespace
}  // namespace bpfnet::e2e
