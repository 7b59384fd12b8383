// Published ranges of ports: a handful of entries for thousands of ports.
#include <linux/pkt_cls.h>

#include "tests/support/fixture.h"

namespace bpfnet::test {
namespace {

/// Ports 7999 to 8015 of the node lead to ports 9000 to 9016 of the server: one exact entry, one block.
class PortRange : public DatapathFixture {
 protected:
  void publish(const Address& address, uint8_t scope, uint8_t proto = 6, uint16_t backend_port = 9000) {
    ServiceSpec spec{.address = address,
                     .port = 7999,
                     .proto = proto,
                     .backends = {{who().server, backend_port}},
                     .flags = FRONTEND_HOST_PORT | FRONTEND_PORT_RANGE,
                     .scope = scope,
                     .range_first = 7999};
    node().add_service(spec);
    spec.port = 8000;
    spec.port_bits = 12;
    node().add_service(spec);
  }
  Outcome from_outside(uint16_t port, uint8_t flags = SYN) {
    return node().run(HOOK_from_uplink, "uplink",
                      from_wire() / Ip{.src = who().outside, .dst = who().node1} /
                          Tcp{.sport = kClientPort, .dport = port, .flags = flags});
  }
};

TEST_P(PortRange, TheNthPortLeadsToTheNth) {
  publish(who().any, SCOPE_ANY_LOCAL);
  for (const uint16_t port : {7999, 8000, 8001, 8010, 8015}) {
    EXPECT_THAT(from_outside(port),
                Sends(VERDICT_TO_ENDPOINT,
                      Ip{.src = who().outside, .dst = who().server, .ttl = 63} /
                          Tcp{.sport = kClientPort, .dport = static_cast<uint16_t>(port + 1001)}));
  }
}

TEST_P(PortRange, AnswersComeFromThePublishedPort) {
  publish(who().any, SCOPE_ANY_LOCAL);
  from_outside(8010);
  const Packet answer = from_pod(2) / Ip{.src = who().server, .dst = who().outside} /
                        Tcp{.sport = 9011, .dport = kClientPort, .flags = SYN | ACK};
  EXPECT_THAT(node().run(HOOK_from_pod, "pod2", answer).packet,
              IsPacket(Ip{.src = who().node1, .dst = who().outside, .ttl = 63} /
                       Tcp{.sport = 8010, .dport = kClientPort, .flags = SYN | ACK}));
}

TEST_P(PortRange, PortsBesideTheRangeAreLeftAlone) {
  publish(who().any, SCOPE_ANY_LOCAL);
  for (const uint16_t port : {7998, 8016}) EXPECT_THAT(from_outside(port), HasVerdict(VERDICT_PASS));
}

TEST_P(PortRange, OtherProtocolsAreLeftAlone) {
  publish(who().any, SCOPE_ANY_LOCAL, 17);
  EXPECT_THAT(from_outside(8005), HasVerdict(VERDICT_PASS));
  const Packet query =
      from_wire() / Ip{.src = who().outside, .dst = who().node1} / Udp{.sport = 5, .dport = 8005};
  EXPECT_EQ(node().run(HOOK_from_uplink, "uplink", query).packet.at<Udp>().dport, 9006);
}

TEST_P(PortRange, AnExactFrontendGoesFirst) {
  publish(who().any, SCOPE_ANY_LOCAL);
  node().add_service({.address = who().any,
                      .port = 8005,
                      .backends = {{who().client, 80}},
                      .flags = FRONTEND_NODE_PORT,
                      .scope = SCOPE_ANY_LOCAL});
  EXPECT_EQ(from_outside(8005).packet.at<Tcp>().dport, 80);
  EXPECT_EQ(from_outside(8006).packet.at<Tcp>().dport, 9007);
}

// hostIP: one address alone, and before what is published on all of them.
TEST_P(PortRange, OneAddressGoesBeforeAll) {
  publish(who().any, SCOPE_ANY_LOCAL);
  publish(who().node1, SCOPE_ADDRESS, 6, 7000);
  EXPECT_EQ(from_outside(8005).packet.at<Tcp>().dport, 7006);
}

TEST_P(PortRange, OnAnAddressThatIsClosedForNodePorts) {
  node().add_node_address(who().node1, ADDRESS_LOCAL_NODE);
  publish(who().any, SCOPE_ANY_LOCAL);
  EXPECT_THAT(from_outside(8005), HasVerdict(VERDICT_PASS));
  publish(who().node1, SCOPE_ADDRESS);
  EXPECT_EQ(from_outside(8005).packet.at<Tcp>().dport, 9006);
}

// The lookup is kept off the way of all that is not for an address of this node.
TEST_P(PortRange, OnlyAddressesOfTheNodePublish) {
  const Address strange = pick("203.0.113.9", "2001:db8:80::9");
  publish(strange, SCOPE_ADDRESS);
  const Packet syn =
      from_wire() / Ip{.src = who().outside, .dst = strange} / Tcp{.sport = kClientPort, .dport = 8005};
  EXPECT_THAT(node().run(HOOK_from_uplink, "uplink", syn), HasVerdict(VERDICT_PASS));
}

TEST_P(PortRange, FromAPodAndFromTheHost) {
  publish(who().any, SCOPE_ANY_LOCAL);
  const Packet syn = Packet(Tcp{.sport = kClientPort, .dport = 8005});
  const auto pod =
      node().run(HOOK_from_pod, "pod1", from_pod(1) / Ip{.src = who().client, .dst = who().node1} / syn);
  EXPECT_THAT(pod, HasVerdict(VERDICT_TO_ENDPOINT));
  EXPECT_EQ(pod.packet.at<Tcp>().dport, 9006);
  const auto host =
      node().run(HOOK_from_host, "lo", Eth{} / Ip{.src = who().loopback, .dst = who().loopback} / syn);
  EXPECT_THAT(host, HasVerdict(VERDICT_TO_ENDPOINT));
  EXPECT_EQ(host.packet.at<Tcp>().dport, 9006);
}

// S30.
TEST_P(PortRange, WithoutABackendIsRefused) {
  node().add_service({.address = who().any,
                      .port = 8000,
                      .backends = {},
                      .flags = FRONTEND_HOST_PORT | FRONTEND_PORT_RANGE,
                      .scope = SCOPE_ANY_LOCAL,
                      .port_bits = 12,
                      .range_first = 8000});
  const auto run = from_outside(8005);
  EXPECT_EQ(run.reason(), DROP_NO_BACKEND);
  EXPECT_EQ(run.packet.at<Tcp>().flags, RST | ACK);
}

/// UDP sockets of the node that are not connected and have a port of the range: nothing but the flow of what
/// they have sent tells their answers from new traffic of the port.
class OwnPort : public PortRange {
 protected:
  void SetUp() override {
    PortRange::SetUp();
    publish(who().any, SCOPE_ANY_LOCAL, 17);
  }
  static Packet udp(const Address& src, uint16_t sport, const Address& dst, uint16_t dport) {
    Packet packet;
    packet.add(Ip{.src = src, .dst = dst});
    return packet / Udp{.sport = sport, .dport = dport};
  }
  Outcome to_uplink(const Packet& packet) {
    return node().run(HOOK_to_uplink, "uplink",
                      Eth{.dst = Node::gateway_mac(), .src = Node::node_mac(1)} / packet);
  }
  Outcome from_uplink(const Packet& packet) {
    return node().run(HOOK_from_uplink, "uplink", from_wire() / packet);
  }
  Outcome on_lo(const Packet& packet) { return node().run(HOOK_from_host, "lo", Eth{} / packet); }
};

TEST_P(OwnPort, AnswersByTheUplinkAreTheNodes) {
  const Packet query = udp(who().node1, 8005, who().outside, 53);
  const Packet answer = udp(who().outside, 53, who().node1, 8005);
  for (int round = 0; round < 2; ++round) {
    const auto sent = to_uplink(query);
    EXPECT_THAT(sent, Sends(VERDICT_TO_HOST, query)) << "as the stack sent it";
    EXPECT_EQ(sent.code, TC_ACT_OK);
    const auto heard = from_uplink(answer);
    EXPECT_THAT(heard, Sends(VERDICT_TO_HOST, answer));
    EXPECT_EQ(heard.code, TC_ACT_OK);
  }
  EXPECT_EQ(node().flows().size(), 2U);
}

TEST_P(OwnPort, AnybodyElseReachesThePod) {
  to_uplink(udp(who().node1, 8005, who().outside, 53));
  for (const auto& [address, port] : {std::pair{who().outside, 54}, std::pair{who().node2, 53}}) {
    const auto run = from_uplink(udp(address, static_cast<uint16_t>(port), who().node1, 8005));
    EXPECT_EQ(run.packet.at<Udp>().dport, 9006);
  }
}

// Whoever asked the pod first goes on with it: the node's own leaves by another port then.
TEST_P(OwnPort, AClientOfThePodKeepsIt) {
  const Packet asked = udp(who().outside, 53, who().node1, 8005);
  EXPECT_EQ(from_uplink(asked).packet.at<Udp>().dport, 9006);
  const auto sent = to_uplink(udp(who().node1, 8005, who().outside, 53));
  const uint16_t port = sent.packet.at<Udp>().sport;
  EXPECT_NE(port, 8005);
  EXPECT_EQ(from_uplink(asked).packet.at<Udp>().dport, 9006);
  EXPECT_THAT(from_uplink(udp(who().outside, 53, who().node1, port)), Sends(VERDICT_TO_HOST, asked));
}

TEST_P(OwnPort, AnswersByLoopbackAreTheNodes) {
  for (const Address& address : {who().loopback, who().node1}) {
    const Packet query = udp(address, 8005, address, 53);
    const Packet answer = udp(address, 53, address, 8005);
    for (const Packet& packet : {query, answer, query}) {
      const auto run = on_lo(packet);
      EXPECT_THAT(run, Sends(VERDICT_TO_HOST, packet));
      EXPECT_EQ(run.code, TC_ACT_OK);
    }
    EXPECT_EQ(on_lo(udp(address, 54, address, 8005)).packet.at<Udp>().dport, 9006) << "somebody else";
  }
}

// The error is about what the socket has sent.
TEST_P(OwnPort, ErrorsReachTheNode) {
  const Packet query = udp(who().node1, 8005, who().outside, 53);
  to_uplink(query);
  Packet error;
  error.add(Ip{.src = who().outside, .dst = who().node1});
  error = error / PortUnreachable{} / query;
  EXPECT_THAT(from_uplink(error), Sends(VERDICT_TO_HOST, error));
}

TEST_P(OwnPort, OtherPortsAndOtherTrafficMakeNoFlow) {
  EXPECT_THAT(to_uplink(udp(who().node1, 7998, who().outside, 53)), HasVerdict(VERDICT_PASS));
  EXPECT_THAT(on_lo(udp(who().loopback, 7998, who().loopback, 53)), HasVerdict(VERDICT_PASS));
  const Address everybody = pick("224.0.0.251", "ff02::fb");
  EXPECT_THAT(to_uplink(udp(who().node1, 8005, everybody, 53)), HasVerdict(VERDICT_PASS));
  EXPECT_THAT(on_lo(udp(who().node1, 8005, everybody, 53)), HasVerdict(VERDICT_PASS));
  EXPECT_THAT(to_uplink(udp(pick("192.0.2.77", "2001:db8:1::77"), 8005, who().outside, 53)),
              HasVerdict(VERDICT_PASS))
      << "forwarded for somebody";
  EXPECT_EQ(node().flows().size(), 0U);
}

INSTANTIATE_FAMILIES(PortRange);
INSTANTIATE_FAMILIES(OwnPort);

}  // namespace
}  // namespace bpfnet::test
