// Published ranges of ports: a handful of entries for thousands of ports.
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

INSTANTIATE_FAMILIES(PortRange);

}  // namespace
}  // namespace bpfnet::test
