// xdp_uplink: what it may finish by itself, and that everything else reaches TC as it came.
#include <linux/bpf.h>

#include "tests/support/fixture.h"

namespace bpfnet::test {
namespace {

class Xdp : public DatapathFixture {
 protected:
  Outcome arrives(const Packet& packet) {
    return node().run(HOOK_xdp_uplink, "uplink", from_wire() / packet);
  }
  Outcome arrives_at_tc(const Packet& packet) {
    return node().run(HOOK_from_uplink, "uplink", from_wire() / packet);
  }
  [[nodiscard]] Packet header(const Address& src, const Address& dst, uint8_t ttl = 64) const {
    Packet packet;
    packet.add(Ip{.src = src, .dst = dst, .ttl = ttl});
    return packet;
  }
  void add_node_port(const Address& backend) {
    node().add_service({.address = who().any,
                        .port = kNodePort,
                        .backends = {{backend, kServerPort}},
                        .flags = FRONTEND_NODE_PORT,
                        .scope = SCOPE_ANY_LOCAL});
  }
};

TEST_P(Xdp, PacketsOfNoFlowGoOnUntouched) {
  for (const Packet& rest : {Packet(Tcp{.dport = 22}), Udp{.dport = 53} / Payload("q")}) {
    const Packet packet = from_wire() / header(who().outside, who().node1) / rest;
    const auto run = node().run(HOOK_xdp_uplink, "uplink", packet);
    EXPECT_EQ(run.code, XDP_PASS);
    EXPECT_THAT(run.packet, IsPacket(packet));
  }
}

TEST_P(Xdp, NewConnectionsAreLeftToTc) {
  add_node_port(who().remote);
  const auto run = arrives(header(who().outside, who().node1) / Tcp{.sport = 9, .dport = kNodePort});
  EXPECT_EQ(run.flow_delta, 0);
  EXPECT_EQ(run.code, XDP_PASS);
}

// An established NodePort connection with a remote backend turns round in the driver.
TEST_P(Xdp, EstablishedServiceTrafficForARemoteBackendTurnsRound) {
  add_node_port(who().remote);
  const Packet syn = header(who().outside, who().node1) / Tcp{.sport = 9, .dport = kNodePort};
  const uint16_t port = arrives_at_tc(syn).packet.at<Tcp>().sport;
  arrives_at_tc(header(who().remote, who().node1) /
                Tcp{.sport = kServerPort, .dport = port, .flags = SYN | ACK});
  arrives_at_tc(header(who().outside, who().node1) / Tcp{.sport = 9, .dport = kNodePort, .flags = ACK});
  const auto run = arrives(header(who().outside, who().node1) /
                           Tcp{.sport = 9, .dport = kNodePort, .flags = ACK} / Payload("data"));
  EXPECT_EQ(run.code, XDP_TX);
  EXPECT_THAT(run.packet, IsPacket(Eth{.dst = Node::node_mac(2), .src = Node::node_mac(1)} /
                                   header(who().node1, who().remote, 63) /
                                   Tcp{.sport = port, .dport = kServerPort, .flags = ACK} / Payload("data")));
}

TEST_P(Xdp, WhatMustBeToldGoesOnToTc) {
  add_node_port(who().remote);
  const Packet syn = header(who().outside, who().node1) / Tcp{.sport = 9, .dport = kNodePort};
  const uint16_t port = arrives_at_tc(syn).packet.at<Tcp>().sport;
  arrives_at_tc(header(who().remote, who().node1) /
                Tcp{.sport = kServerPort, .dport = port, .flags = SYN | ACK});
  arrives_at_tc(header(who().outside, who().node1) / Tcp{.sport = 9, .dport = kNodePort, .flags = ACK});
  const Packet last_hop =
      header(who().outside, who().node1, 1) / Tcp{.sport = 9, .dport = kNodePort, .flags = ACK};
  EXPECT_EQ(arrives(last_hop).code, XDP_PASS);
  const Packet fin =
      header(who().outside, who().node1) / Tcp{.sport = 9, .dport = kNodePort, .flags = FIN | ACK};
  EXPECT_EQ(arrives(fin).code, XDP_PASS);
}

TEST_P(Xdp, EstablishedTrafficForLocalPodsGoesOnToTc) {
  arrives_at_tc(header(who().outside, who().client) / Tcp{.sport = 9, .dport = 80});
  const Packet packet = header(who().outside, who().client) / Tcp{.sport = 9, .dport = 80, .flags = ACK};
  const auto run = arrives(packet);
  EXPECT_EQ(run.code, XDP_PASS);
  EXPECT_THAT(run.packet, IsPacket(packet));
}

TEST_P(Xdp, MalformedPacketsAreNotTurnedRound) {
  add_node_port(who().remote);
  arrives_at_tc(header(who().outside, who().node1) / Tcp{.sport = 9, .dport = kNodePort});
  const auto run = arrives(header(who().outside, who().node1) /
                           Tcp{.sport = 9, .dport = kNodePort, .flags = ACK, .data_offset = 3});
  EXPECT_NE(run.code, XDP_TX);
}

INSTANTIATE_FAMILIES(Xdp);

}  // namespace
}  // namespace bpfnet::test
