// UDP translated at sockets: by each datagram, whoever the socket talked to before. S-numbers are those of
// the service specification.
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>

#include "tests/e2e/socket_calls.h"

namespace bpfnet::e2e {
namespace {

class SocketsUdp : public SocketsOn {};

TEST_P(SocketsUdp, UnconnectedUdp) {
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
TEST_P(SocketsUdp, UdpToTheServiceAndToItsBackend) {
  Datagrams client(pod("client-a").netns(), family());
  const HostPort backend{pod("web-b").ip(family()), Pod::kPort};
  const Address own = pod("client-a").ip(family());
  EXPECT_TRUE(answered_as(client.ask(service(12)), "web-b", own, service(12)));
  EXPECT_TRUE(answered_as(client.ask(backend), "web-b", own, backend));
  EXPECT_TRUE(answered_as(client.ask(service(12)), "web-b", own, service(12)));
  EXPECT_TRUE(answered_as(client.ask(backend), "web-b", own, backend));
}

// More services than a socket remembers: the rest goes by the packet path.
TEST_P(SocketsUdp, UdpToManyServices) {
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
TEST_P(SocketsUdp, UdpMovesWithTheBackend) {
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
TEST_P(SocketsUdp, UdpFollowsItsAddressToAnotherService) {
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
TEST_P(SocketsUdp, ConnectedUdpOfAnIpv6Socket) {
  const Fd fd = make_socket(pod("client-a").netns(), AF_INET6, SOCK_DGRAM);
  sockaddr_storage name{};
  const socklen_t length = to_sockaddr6(service(12), name);
  ASSERT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&name), length), 0);
  ASSERT_EQ(::send(fd.get(), "x", 1, 0), 1);
  ASSERT_TRUE(worked(wait_for(fd.get(), POLLIN, milliseconds(2000))));
  EXPECT_EQ(peer_of(fd.get()), service(12));
}

// A port that a process of the node had before the NodePort: servers go on answering it.
TEST_P(SocketsUdp, AnswersToAClientOnANodePortAreNotTranslated) {
  auto client =
      UdpClient::open(node_a().netns(), {pod("web-a").ip(family()), Pod::kPort}, {.source_port = 30150});
  ASSERT_TRUE(worked(client));
  EXPECT_TRUE(answered(client->request("before"), "web-a", node_a().ip(family())));
  cluster().apply("late", echo_service("late", 45, {cluster().backend("web-b")}, 30150).yaml());
  EXPECT_TRUE(answered(client->request("after"), "web-a", node_a().ip(family())));
  EXPECT_GE(calls(node_a(), "left-answer"), 1U);
  cluster().remove("late");
}

INSTANTIATE_TEST_SUITE_P(E2e, SocketsUdp, testing::Values(Family::kIpv4, Family::kIpv6), family_name);

}  // namespace
}  // namespace bpfnet::e2e
