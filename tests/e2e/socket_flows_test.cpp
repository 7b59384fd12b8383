// Unconnected UDP sockets that are translated at the socket, or were not when they began: they keep and leave
// their backends as flows of the packet path do (S45, S46).
#include <fmt/format.h>

#include "tests/e2e/socket_calls.h"

namespace bpfnet::e2e {
namespace {

class SocketFlows : public SocketsOn {
 protected:
  static UdpClient unconnected(const Netns& from, const HostPort& to) {
    auto socket = UdpClient::open(from, to, {.connect = false});
    if (!socket) throw std::runtime_error(socket.error().message);
    return std::move(*socket);
  }
  static std::vector<BackendManifest> both() {
    return {cluster().backend("web-a"), cluster().backend("web-b")};
  }
};

// S46: what left the Service to the packet path ends; that its flows should draw anew and all get the backend
// that they have is a chance of 1 in 2^16.
TEST_P(SocketFlows, FlowsThatBeganByPacketsStayWithTheirBackend) {
  ServiceManifest service = echo_service("free", 46, both());
  service.affinity_seconds = 10800;
  cluster().apply("free", service.yaml());
  struct Sender {
    UdpClient socket;
    std::string server;
  };
  std::vector<Sender> senders;
  for (const Netns* from : {&pod("client-a").netns(), &node_a().netns()}) {
    for (int i = 0; i < 8; i++) {
      senders.push_back({unconnected(*from, TwoNodes::service(46)), ""});
      const auto seen = senders.back().socket.request("bound");
      ASSERT_TRUE(worked(seen));
      senders.back().server = seen->server;
    }
  }
  service.affinity_seconds.reset();
  cluster().apply("free", service.yaml());
  for (auto& sender : senders) {
    const auto seen = sender.socket.request("free");
    ASSERT_TRUE(worked(seen));
    EXPECT_EQ(seen->server, sender.server);
  }
  cluster().remove("free");
}

// S45: the Service it was of lives on, by another address and with the same backend.
TEST_P(SocketFlows, SocketFollowsAnAddressThatPassesToAnotherService) {
  const HostPort at = service(47);
  cluster().apply("giver", echo_service("giver", 47, {cluster().backend("web-a")}).yaml());
  auto of_pod = unconnected(pod("client-a").netns(), at);
  auto of_host = unconnected(node_a().netns(), at);
  for (auto* socket : {&of_pod, &of_host}) {
    const auto seen = socket->request("to the giver");
    ASSERT_TRUE(worked(seen));
    ASSERT_EQ(seen->server, "web-a");
  }
  cluster().apply("giver", echo_service("giver", 48, {cluster().backend("web-a")}).yaml());
  cluster().apply("taker", echo_service("taker", 47, {cluster().backend("web-b")}).yaml());
  for (auto* socket : {&of_pod, &of_host}) {
    EXPECT_TRUE(eventually([&] {
      const auto seen = socket->request("to the taker");
      return seen && seen->server == "web-b";
    }));
  }
  cluster().remove("taker");
  cluster().remove("giver");
}

INSTANTIATE_TEST_SUITE_P(E2e, SocketFlows, testing::Values(Family::kIpv4, Family::kIpv6), family_name);

}  // namespace
}  // namespace bpfnet::e2e
