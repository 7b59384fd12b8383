// UDP has no beginning and no end: a flow follows its service's backends at the next packet (S45-S47).
#include "tests/support/fixture.h"

namespace bpfnet::test {
namespace {

constexpr uint16_t kPort = 5353;  // the client's, which never changes
constexpr uint16_t kDns = 30053;  // every frontend's

class ServiceUdp : public DatapathFixture {
 protected:
  /// One way to a service: who asks, where.
  struct Way {
    const char* name;
    enum hook hook;
    std::string device;
    Address src;
    Address dst;
    uint8_t scope;
    uint32_t flags;
  };
  [[nodiscard]] std::vector<Way> ways() const {
    const Address balancer = pick("203.0.113.53", "2001:db8:80::53");
    return {
        {"pod, cluster IP", HOOK_from_pod, "pod1", who().client, who().vip, SCOPE_ADDRESS,
         FRONTEND_CLUSTER_IP},
        {"pod, node port", HOOK_from_pod, "pod1", who().client, who().node1, SCOPE_ANY_LOCAL,
         FRONTEND_NODE_PORT},
        {"pod, load balancer", HOOK_from_pod, "pod1", who().client, balancer, SCOPE_ADDRESS,
         FRONTEND_LOAD_BALANCER},
        {"outside, node port", HOOK_from_uplink, "uplink", who().outside, who().node1, SCOPE_ANY_LOCAL,
         FRONTEND_NODE_PORT},
        {"outside, load balancer", HOOK_from_uplink, "uplink", who().outside, balancer, SCOPE_ADDRESS,
         FRONTEND_LOAD_BALANCER},
        {"host, cluster IP", HOOK_from_host, "bpfnet1", who().node1, who().vip, SCOPE_ADDRESS,
         FRONTEND_CLUSTER_IP},
        {"host, its node port", HOOK_from_host, "lo", who().node1, who().node1, SCOPE_ANY_LOCAL,
         FRONTEND_NODE_PORT},
        {"host, localhost node port", HOOK_from_host, "lo", who().loopback, who().loopback, SCOPE_ANY_LOCAL,
         FRONTEND_NODE_PORT},
        {"host, load balancer", HOOK_to_uplink, "uplink", who().node1, balancer, SCOPE_ADDRESS,
         FRONTEND_LOAD_BALANCER},
    };
  }
  uint32_t serve(const Way& way, std::vector<BackendSpec> backends, uint32_t id = 1) {
    return node().add_service({.address = way.scope == SCOPE_ADDRESS ? way.dst : who().any,
                               .port = kDns,
                               .proto = 17,
                               .backends = std::move(backends),
                               .flags = way.flags,
                               .scope = way.scope,
                               .id = id});
  }
  Outcome send(const Way& way) {
    const Eth eth = way.hook == HOOK_from_pod    ? from_pod(1)
                    : way.hook == HOOK_from_host ? from_stack()
                                                 : from_wire();
    return node().run(way.hook, way.device,
                      eth / Ip{.src = way.src, .dst = way.dst} / Udp{.sport = kPort, .dport = kDns});
  }
  Outcome server_answers(const Address& to, uint16_t from_port, uint16_t to_port) {
    return node().run(
        HOOK_from_pod, "pod2",
        from_pod(2) / Ip{.src = who().server, .dst = to} / Udp{.sport = from_port, .dport = to_port});
  }
  void backend_moves(uint32_t id) { must(node().maps().backend_states.put(id, {.generation = 2})); }
};

// S45: to another backend on this node, to one on another, and back again.
TEST_P(ServiceUdp, AFlowMovesWithItsNextPacket) {
  for (const auto& way : ways()) {
    SCOPED_TRACE(way.name);
    node().reset();
    const uint32_t first = serve(way, {{who().server, 1001}});
    EXPECT_EQ(send(way).packet.at<Udp>().dport, 1001);
    backend_moves(first);
    const uint32_t second = serve(way, {{who().remote, 1002}});
    const auto moved = send(way);
    EXPECT_THAT(moved, HasVerdict(VERDICT_TO_NEXT_HOP));
    EXPECT_EQ(moved.packet.at<Udp>().dport, 1002);
    EXPECT_EQ(node().flows().size(), 2U);
    backend_moves(second);
    serve(way, {{who().server, 1003}});
    const auto back = send(way);
    EXPECT_EQ(back.packet.at<Udp>().dport, 1003);
    const Address seen = who().v4() ? back.packet.at<Ip4>().src : back.packet.at<Ip6>().src;
    const auto answer = server_answers(seen, 1003, back.packet.at<Udp>().sport);
    EXPECT_EQ(answer.packet.at<Udp>().sport, kDns);
    EXPECT_EQ(answer.packet.at<Udp>().dport, kPort);
  }
}

// S45: once it has been answered as well.
TEST_P(ServiceUdp, AnEstablishedFlowMovesToo) {
  const Way way = ways().front();
  const uint32_t first = serve(way, {{who().server, 1001}});
  send(way);
  server_answers(who().client, 1001, kPort);
  backend_moves(first);
  // Answers that are on their way still arrive.
  EXPECT_THAT(
      server_answers(who().client, 1001, kPort).packet,
      IsPacket(Ip{.src = who().vip, .dst = who().client, .ttl = 63} / Udp{.sport = kDns, .dport = kPort}));
  serve(way, {{who().server, 1002}});
  EXPECT_EQ(send(way).packet.at<Udp>().dport, 1002);
}

// S46: nothing moved, nothing moves: the run may change as it likes while the backend serves.
TEST_P(ServiceUdp, AFlowWhoseBackendServesStays) {
  for (const auto& way : ways()) {
    SCOPED_TRACE(way.name);
    node().reset();
    serve(way, {{who().server, 1001}});
    send(way);
    serve(way, {{who().server, 1002}});
    EXPECT_EQ(send(way).packet.at<Udp>().dport, 1001);
    must(node().maps().frontends.clear());
    EXPECT_EQ(send(way).packet.at<Udp>().dport, 1001);
  }
}

// S47: refused at first, served by the next packet from the same port.
TEST_P(ServiceUdp, AClientThatWasRefusedRecovers) {
  for (const auto& way : ways()) {
    SCOPED_TRACE(way.name);
    node().reset();
    serve(way, {});
    const auto refused = send(way);
    EXPECT_EQ(refused.reason(), DROP_NO_BACKEND);
    EXPECT_THAT(refused, IsIcmp(who().v4() ? 3 : 1, who().v4() ? 3 : 4));
    EXPECT_EQ(refused.flow_delta, 0);
    serve(way, {{who().server, 1001}});
    EXPECT_EQ(send(way).packet.at<Udp>().dport, 1001);
  }
}

// S47: what was sent before there was a service at all went elsewhere, and must not go on there.
TEST_P(ServiceUdp, AFlowOlderThanItsServiceJoinsIt) {
  for (const auto& way : ways()) {
    SCOPED_TRACE(way.name);
    node().reset();
    const auto before = send(way);
    EXPECT_NE(before.verdict(), VERDICT_TO_ENDPOINT);
    serve(way, {});
    const auto tuple = key(way.src, kPort, way.dst, kDns, 17);
    if (node().find_flow(tuple)) {
      node().age_flow(tuple, 1);
      EXPECT_EQ(send(way).verdict(), before.verdict()) << "a service without backends takes nothing over";
      node().age_flow(tuple, 1);
    }
    serve(way, {{who().server, 1001}});
    EXPECT_EQ(send(way).packet.at<Udp>().dport, 1001);
    EXPECT_EQ(node().flows().size(), 2U);
  }
}

// S45: a deleted service's backend may live on under another one; its address is another service's now, and a
// client that never falls silent must not stay with the former.
TEST_P(ServiceUdp, AFlowFollowsItsAddressToAnotherService) {
  for (const auto& way : ways()) {
    SCOPED_TRACE(way.name);
    node().reset();
    serve(way, {{who().server, 1001}}, 7);
    EXPECT_EQ(send(way).packet.at<Udp>().dport, 1001);
    node().age_flow(key(way.src, kPort, way.dst, kDns, 17), 1);
    EXPECT_EQ(send(way).packet.at<Udp>().dport, 1001);
    serve(way, {}, 8);
    node().age_flow(key(way.src, kPort, way.dst, kDns, 17), 1);
    EXPECT_EQ(send(way).packet.at<Udp>().dport, 1001) << "a service without backends takes nothing over";
    serve(way, {{who().server, 1002}}, 8);
    node().age_flow(key(way.src, kPort, way.dst, kDns, 17), 1);
    EXPECT_EQ(send(way).packet.at<Udp>().dport, 1002);
    EXPECT_EQ(node().flows().size(), 2U);
  }
}

// S31, S45: the other service's backends are all elsewhere. Its clients here meet silence, not the former
// backend.
TEST_P(ServiceUdp, AFlowLeavesAnAddressThatPassesToAServiceWithBackendsElsewhere) {
  for (auto way : ways()) {
    SCOPED_TRACE(way.name);
    node().reset();
    serve(way, {{who().server, 1001}}, 7);
    EXPECT_EQ(send(way).packet.at<Udp>().dport, 1001);
    way.flags |= FRONTEND_DROP_EMPTY | FRONTEND_DROP_EMPTY_EXT;
    serve(way, {}, 8);
    node().age_flow(key(way.src, kPort, way.dst, kDns, 17), 1);
    EXPECT_EQ(send(way).reason(), DROP_NO_LOCAL_BACKEND);
    EXPECT_THAT(node().flows(), testing::IsEmpty());
  }
}

TEST_P(ServiceUdp, AFlowToNoServiceStays) {
  const Packet query =
      from_pod(1) / Ip{.src = who().client, .dst = who().outside} / Udp{.sport = kPort, .dport = kDns};
  const uint16_t port = node().run(HOOK_from_pod, "pod1", query).packet.at<Udp>().sport;
  node().age_flow(key(who().client, kPort, who().outside, kDns, 17), 1);
  EXPECT_EQ(node().run(HOOK_from_pod, "pod1", query).packet.at<Udp>().sport, port);
}

// S33.
TEST_P(ServiceUdp, TcpIsNeverMoved) {
  for (const auto& way : ways()) {
    SCOPED_TRACE(way.name);
    node().reset();
    const auto tcp = [&](uint8_t flags) {
      const Eth eth = way.hook == HOOK_from_pod    ? from_pod(1)
                      : way.hook == HOOK_from_host ? from_stack()
                                                   : from_wire();
      return node().run(
          way.hook, way.device,
          eth / Ip{.src = way.src, .dst = way.dst} / Tcp{.sport = kPort, .dport = kDns, .flags = flags});
    };
    const auto serve_tcp = [&](uint16_t port) {
      return node().add_service({.address = way.scope == SCOPE_ADDRESS ? way.dst : who().any,
                                 .port = kDns,
                                 .backends = {{who().server, port}},
                                 .flags = way.flags | FRONTEND_AFFINITY,
                                 .scope = way.scope,
                                 .affinity_ticks = 10});
    };
    const uint32_t first = serve_tcp(1001);
    EXPECT_EQ(tcp(SYN).packet.at<Tcp>().dport, 1001);
    backend_moves(first);
    serve_tcp(1002);
    EXPECT_EQ(tcp(ACK).packet.at<Tcp>().dport, 1001);
  }
}

INSTANTIATE_FAMILIES(ServiceUdp);

}  // namespace
}  // namespace bpfnet::test
