// The decisions of a node with an overlay, one packet at a time. A test run carries no tunnel: packets at
// from_overlay bear the node's mark, as those that come back from the defragmenter, and are taken for sent by
// the node that their source belongs to. tunnel_test has the tunnels themselves.
#include "tests/bpf/overlay.h"

#include <linux/pkt_cls.h>

namespace bpfnet::test {
namespace {

class Overlay : public DatapathFixture {
 protected:
  void SetUp() override {
    DatapathFixture::SetUp();
    if (!IsSkipped() && !HasFatalFailure()) one_ = &pooled_node(1, overlay_config());
  }
  Node& one() { return *one_; }
  Outcome pod_sends(const Packet& packet, RunOptions options = {}) {
    return one().run(HOOK_from_pod, "pod1", from_pod(1) / packet, options);
  }
  Outcome tunnel_brings(const Packet& packet) {
    return one().run(HOOK_from_overlay, "bpfnet3", inside_tunnel() / packet, {.mark = one().config().mark});
  }
  Outcome wire_brings(const Packet& packet, RunOptions options = {}) {
    return one().run(HOOK_from_uplink, "uplink", from_wire() / packet, options);
  }
  Outcome host_sends(const Packet& packet) {
    return one().run(HOOK_from_host, "bpfnet1", from_stack() / packet);
  }
  [[nodiscard]] static Packet ip_of(const Address& src, const Address& dst, uint8_t ttl = 64) {
    Packet packet;
    packet.add(Ip{.src = src, .dst = dst, .ttl = ttl});
    return packet;
  }
  [[nodiscard]] flow flow_of(const Address& src, uint16_t sport, const Address& dst, uint16_t dport) {
    return one().find_flow(key(src, sport, dst, dport, IPPROTO_TCP)).value();
  }
  void add_node_port(const Address& backend) {
    one().add_service({.address = who().any,
                       .port = kNodePort,
                       .backends = {{backend, kServerPort}},
                       .flags = FRONTEND_NODE_PORT,
                       .scope = SCOPE_ANY_LOCAL});
  }
  void add_pod_of_unknown_node(const Address& address) {
    address_info info{};
    info.identity = 1003;
    info.flags = ADDRESS_POD;
    must(one().maps().addresses.put(maps::make_address_key(address), info));
  }
  Node* one_ = nullptr;
};

TEST_P(Overlay, PodToAPodElsewhereGoesByTheOverlayAndTheFlowKnowsTheNode) {
  const auto syn = pod_sends(ip_of(who().client, who().remote) / Tcp{.sport = 9, .dport = 80});
  EXPECT_THAT(syn, Sends(VERDICT_TO_NODE, inside_tunnel() / (ip_of(who().client, who().remote, 63) /
                                                             Tcp{.sport = 9, .dport = 80})));
  EXPECT_THAT(syn, LeavesBy(one().ifindex("bpfnet3")));
  const flow original = flow_of(who().client, 9, who().remote, 80);
  EXPECT_EQ(original.action, FLOW_TO_NODE);
  EXPECT_EQ(original.out_node, kNode2);
  EXPECT_EQ(original.in_node, 0);
  EXPECT_EQ(original.mtu, kTunnelMtu);
  const flow reply = flow_of(who().remote, 80, who().client, 9);
  EXPECT_EQ(reply.in_node, kNode2);
  EXPECT_EQ(reply.out_node, 0);
}

TEST_P(Overlay, ThePrefixTellsTheNodeOfAPodThatIsNotKnownYet) {
  const Address fresh = pick("10.2.0.77", "fd00:2::77");
  EXPECT_THAT(pod_sends(ip_of(who().client, fresh) / Tcp{.sport = 9, .dport = 80}),
              HasVerdict(VERDICT_TO_NODE));
  EXPECT_EQ(flow_of(who().client, 9, fresh, 80).out_node, kNode2);
}

// The network between the nodes does not know the way back to a pod; nodes among themselves need no tunnel.
TEST_P(Overlay, ANodeIsReachedByTheOverlayFromPodsAlone) {
  EXPECT_THAT(pod_sends(ip_of(who().client, who().node2) / Tcp{.sport = 9, .dport = 80}),
              Sends(VERDICT_TO_NODE, ip_of(who().client, who().node2, 63) / Tcp{.sport = 9, .dport = 80}));
  add_node_port(who().node2);
  EXPECT_THAT(wire_brings(ip_of(who().outside, who().node1) / Tcp{.sport = 9, .dport = kNodePort}),
              HasVerdict(VERDICT_TO_NEXT_HOP));
}

TEST_P(Overlay, HostToAPodElsewhereKeepsTheNodesAddress) {
  EXPECT_THAT(host_sends(ip_of(who().node1, who().remote) / Tcp{.sport = 9, .dport = 80}),
              Sends(VERDICT_TO_NODE,
                    inside_tunnel() / (ip_of(who().node1, who().remote) / Tcp{.sport = 9, .dport = 80})));
}

// Other nodes take nothing from a tunnel whose source they do not know to be of the sending node.
TEST_P(Overlay, HostByAnotherOfItsAddressesIsMasquerade) {
  const Address second = pick("203.0.113.7", "2001:db8:7::7");
  one().add_node_address(second, ADDRESS_LOCAL_NODE);
  const auto sent = host_sends(ip_of(second, who().remote) / Tcp{.sport = 9, .dport = 80});
  ASSERT_THAT(sent, HasVerdict(VERDICT_TO_NODE));
  EXPECT_THAT(sent.packet, IsPacket(ip_of(who().node1, who().remote) /
                                    Tcp{.sport = sent.packet.at<Tcp>().sport, .dport = 80}));
}

// S21, as in native mode: the backend sees this node, so the answer comes back by it.
TEST_P(Overlay, NodePortWithABackendElsewhereIsMasqueradedAndReturns) {
  add_node_port(who().remote);
  const auto sent = wire_brings(ip_of(who().outside, who().node1) / Tcp{.sport = 9, .dport = kNodePort});
  ASSERT_THAT(sent, HasVerdict(VERDICT_TO_NODE));
  const uint16_t port = sent.packet.at<Tcp>().sport;
  EXPECT_THAT(sent.packet,
              IsPacket(ip_of(who().node1, who().remote, 63) / Tcp{.sport = port, .dport = kServerPort}));
  EXPECT_THAT(tunnel_brings(ip_of(who().remote, who().node1) /
                            Tcp{.sport = kServerPort, .dport = port, .flags = SYN | ACK}),
              Sends(VERDICT_TO_NEXT_HOP, ip_of(who().node1, who().outside, 63) /
                                             Tcp{.sport = kNodePort, .dport = 9, .flags = SYN | ACK}));
}

TEST_P(Overlay, PodElsewhereReachesAPodHereAndIsAnsweredByTheOverlay) {
  EXPECT_THAT(
      tunnel_brings(ip_of(who().remote, who().client) / Tcp{.sport = 9, .dport = 80}),
      Sends(VERDICT_TO_ENDPOINT, ip_of(who().remote, who().client, 63) / Tcp{.sport = 9, .dport = 80}));
  EXPECT_EQ(flow_of(who().remote, 9, who().client, 80).in_node, kNode2);
  EXPECT_THAT(pod_sends(ip_of(who().client, who().remote) / Tcp{.sport = 80, .dport = 9, .flags = SYN | ACK}),
              Sends(VERDICT_TO_NODE, inside_tunnel() / (ip_of(who().client, who().remote, 63) /
                                                        Tcp{.sport = 80, .dport = 9, .flags = SYN | ACK})));
}

TEST_P(Overlay, PodElsewhereReachesThisNodeByItsHostDevice) {
  const auto run = tunnel_brings(ip_of(who().remote, who().node1) / Tcp{.sport = 9, .dport = 22});
  EXPECT_THAT(run, HasVerdict(VERDICT_TO_HOST));
  EXPECT_THAT(run, LeavesBy(one().ifindex("bpfnet0")));
  EXPECT_THAT(host_sends(ip_of(who().node1, who().remote) / Tcp{.sport = 22, .dport = 9, .flags = SYN | ACK}),
              HasVerdict(VERDICT_TO_NODE));
}

TEST_P(Overlay, WhatCameByTheUplinkEntersTheStackByItsHostDevice) {
  const Packet packet = ip_of(who().remote, who().node1) / Tcp{.sport = 9, .dport = 22};
  tunnel_brings(packet);
  one().change_flow(key(who().remote, 9, who().node1, 22, IPPROTO_TCP), [](flow& record) {
    record.out_ifindex = 0;
    record.smac = record.dmac = {};
  });
  const auto run = tunnel_brings(packet);
  EXPECT_THAT(run, HasVerdict(VERDICT_TO_HOST));
  EXPECT_THAT(run, LeavesBy(one().ifindex("bpfnet0")));
  EXPECT_EQ(run.packet.at<Eth>().dst, one().device_mac("bpfnet0"));
}

// From one node by this one to a third: a node port that pods reach by another node's address.
TEST_P(Overlay, NodePortReachedByTheOverlayLeadsOnToAThirdNode) {
  const Address third = pick("10.3.0.30", "fd00:3::30");
  one().add_remote_pod(third, 1009, kNode3);
  one().add_tunnel(kNode3, ip("192.0.2.3"), ip("192.0.2.1"));
  add_node_port(third);
  const auto sent = tunnel_brings(ip_of(who().remote, who().node1) / Tcp{.sport = 9, .dport = kNodePort});
  ASSERT_THAT(sent, HasVerdict(VERDICT_TO_NODE));
  const flow original = flow_of(who().remote, 9, who().node1, kNodePort);
  EXPECT_EQ(original.in_node, kNode2);
  EXPECT_EQ(original.out_node, kNode3);
  EXPECT_EQ(sent.packet.layers().size(), 3U);
}

TEST_P(Overlay, IngressPolicyJudgesAsByAnUplink) {
  one().change_pod(1, [](endpoint& pod) { pod.ingress_set = 20; });
  one().add_policy(20, 1003, IPPROTO_TCP, 80);
  EXPECT_THAT(tunnel_brings(ip_of(who().remote, who().client) / Tcp{.sport = 9, .dport = 81}),
              Drops(DROP_POLICY_INGRESS));
  EXPECT_THAT(tunnel_brings(ip_of(who().remote, who().client) / Tcp{.sport = 9, .dport = 80}),
              HasVerdict(VERDICT_TO_ENDPOINT));
}

TEST_P(Overlay, NobodySendsOthersByUs) {
  EXPECT_THAT(
      tunnel_brings(ip_of(who().remote, pick("10.2.0.31", "fd00:2::31")) / Tcp{.sport = 9, .dport = 80}),
      Drops(DROP_NO_ROUTE));
  EXPECT_THAT(tunnel_brings(ip_of(who().remote, who().outside) / Tcp{.sport = 9, .dport = 80}),
              Drops(DROP_NO_ROUTE));
}

TEST_P(Overlay, WhatIsOfNoNodeIsRefused) {
  EXPECT_THAT(tunnel_brings(ip_of(who().outside, who().client) / Tcp{.sport = 9, .dport = 80}),
              Drops(DROP_FOREIGN_TUNNEL));
  const auto unmarked =
      one().run(HOOK_from_overlay, "bpfnet3",
                inside_tunnel() / (ip_of(who().remote, who().client) / Tcp{.sport = 9, .dport = 80}));
  EXPECT_THAT(unmarked, Drops(DROP_FOREIGN_TUNNEL));
}

// Nobody on the wire is a pod.
TEST_P(Overlay, APodElsewhereDoesNotComeByTheUplink) {
  EXPECT_THAT(wire_brings(ip_of(who().remote, who().client) / Tcp{.sport = 9, .dport = 80}),
              Drops(DROP_SPOOFED));
  tunnel_brings(ip_of(who().remote, who().client) / Tcp{.sport = 9, .dport = 80});
  EXPECT_THAT(wire_brings(ip_of(who().remote, who().client) / Tcp{.sport = 9, .dport = 80, .flags = ACK}),
              Drops(DROP_SPOOFED));
}

// Connections with the outside come by the uplink and by nothing else.
TEST_P(Overlay, ATunnelDoesNotJoinAConnectionOfTheWire) {
  add_node_port(who().server);
  wire_brings(ip_of(who().node2, who().node1) / Tcp{.sport = 9, .dport = kNodePort});
  const auto joined = tunnel_brings(ip_of(who().node2, who().node1) / Tcp{.sport = 9, .dport = kNodePort});
  // Node 2 speaks for its own address: its connection begins anew, by the tunnel.
  EXPECT_THAT(joined, HasVerdict(VERDICT_TO_ENDPOINT));
  EXPECT_EQ(flow_of(who().node2, 9, who().node1, kNodePort).in_node, kNode2);
}

TEST_P(Overlay, APodThatMovedToAnotherNodeBeginsAnew) {
  tunnel_brings(ip_of(who().remote, who().client) / Tcp{.sport = 9, .dport = 80});
  one().add_remote_pod(who().remote, 1003, kNode3);
  EXPECT_THAT(tunnel_brings(ip_of(who().remote, who().client) / Tcp{.sport = 9, .dport = 80}),
              HasVerdict(VERDICT_TO_ENDPOINT));
  EXPECT_EQ(flow_of(who().remote, 9, who().client, 80).in_node, kNode3);
}

TEST_P(Overlay, ANodeThatIsNotReachedIsNoRoute) {
  one().add_tunnel(kNode2, ip("0.0.0.0"), ip("0.0.0.0"));
  EXPECT_THAT(pod_sends(ip_of(who().client, who().remote) / Tcp{.sport = 9, .dport = 80}),
              Drops(DROP_NO_ROUTE));
}

TEST_P(Overlay, AFlowWhoseNodeIsGoneIsNoRoute) {
  pod_sends(ip_of(who().client, who().remote) / Tcp{.sport = 9, .dport = 80});
  one().add_tunnel(kNode2, ip("0.0.0.0"), ip("0.0.0.0"));
  EXPECT_THAT(pod_sends(ip_of(who().client, who().remote) / Tcp{.sport = 9, .dport = 80}),
              Drops(DROP_NO_ROUTE));
}

TEST_P(Overlay, APodOfNoKnownNodeIsNotSentAsItIs) {
  const Address lost = pick("10.9.0.9", "fd00:9::9");
  add_pod_of_unknown_node(lost);
  EXPECT_THAT(pod_sends(ip_of(who().client, lost) / Tcp{.sport = 9, .dport = 80}), Drops(DROP_NO_ROUTE));
}

// A flow of a time before the overlay, to a pod whose node is only known later.
TEST_P(Overlay, AFlowWaitsForItsNodeToBeKnown) {
  const Address late = pick("10.9.0.9", "fd00:9::9");
  const Packet packet = ip_of(who().client, late) / Tcp{.sport = 9, .dport = 80, .flags = ACK};
  const flow_key forward = key(who().client, 9, late, 80, IPPROTO_TCP);
  one().add_remote_pod(late, 1003, kNode2);
  pod_sends(ip_of(who().client, late) / Tcp{.sport = 9, .dport = 80});
  one().change_flow(forward, [](flow& record) {
    record.action = FLOW_TO_NEXT_HOP;
    record.out_node = 0;
  });
  add_pod_of_unknown_node(late);
  one().age_flow(forward, 1);
  EXPECT_THAT(pod_sends(packet), Drops(DROP_NO_ROUTE));
  one().add_remote_pod(late, 1003, kNode2);
  one().age_flow(forward, 1);
  EXPECT_THAT(pod_sends(packet), HasVerdict(VERDICT_TO_NODE));
}

TEST_P(Overlay, WhatDoesNotFitIntoATunnelIsAnswered) {
  add_node_port(who().remote);
  const Packet big =
      ip_of(who().outside, who().node1) / Udp{.sport = 9, .dport = kNodePort} / Payload::of_size(1460);
  one().add_service({.address = who().any,
                     .port = kNodePort,
                     .proto = IPPROTO_UDP,
                     .backends = {{who().remote, kServerPort}},
                     .flags = FRONTEND_NODE_PORT,
                     .scope = SCOPE_ANY_LOCAL});
  const auto run = wire_brings(big);
  EXPECT_THAT(run, Drops(DROP_TOO_BIG));
  EXPECT_THAT(run, IsIcmp(who().v4() ? 3 : 2, who().v4() ? 4 : 0));
  EXPECT_EQ(icmp_of(run.packet).seq, kTunnelMtu);
}

TEST_P(Overlay, SegmentsOfALargePacketThatFitPass) {
  const Packet large =
      ip_of(who().client, who().remote) / Tcp{.sport = 9, .dport = 80, .flags = ACK} / Payload::of_size(3000);
  pod_sends(ip_of(who().client, who().remote) / Tcp{.sport = 9, .dport = 80});
  const uint32_t headers = (who().v4() ? 20 : 40) + 20;
  EXPECT_THAT(pod_sends(large, {.gso_size = kTunnelMtu - headers}), HasVerdict(VERDICT_TO_NODE));
  EXPECT_THAT(pod_sends(large, {.gso_size = kTunnelMtu - headers + 1}), Drops(DROP_TOO_BIG));
}

TEST_P(Overlay, ANewMtuIsHeededAtOnce) {
  pod_sends(ip_of(who().client, who().remote) / Tcp{.sport = 9, .dport = 80});
  one().add_tunnel(kNode2, ip("192.0.2.2"), ip("192.0.2.1"), 1400);
  pod_sends(ip_of(who().client, who().remote) / Tcp{.sport = 9, .dport = 80});
  EXPECT_EQ(flow_of(who().client, 9, who().remote, 80).mtu, 1400);
}

TEST_P(Overlay, HopsThatRunOutAreToldByTheOverlay) {
  const auto run = tunnel_brings(ip_of(who().remote, who().client, 1) / Udp{.sport = 9, .dport = 80});
  EXPECT_THAT(run, Drops(DROP_TTL_EXCEEDED));
  EXPECT_EQ(run.packet.at<Eth>().dst, tunnel_mac(true));
  EXPECT_EQ(run.packet.at<Eth>().src, tunnel_mac(false));
  EXPECT_THAT(run, IsIcmp(who().v4() ? 11 : 3, 0));
}

// The error comes by the overlay as the connection does.
TEST_P(Overlay, AnErrorOfAnotherNodeReachesThePod) {
  pod_sends(ip_of(who().client, who().remote) / Udp{.sport = 9, .dport = 80});
  const Packet seen = ip_of(who().client, who().remote, 1) / Udp{.sport = 9, .dport = 80};
  EXPECT_THAT(tunnel_brings(ip_of(who().node2, who().client) / TimeExceeded{} / quote(seen)),
              HasVerdict(VERDICT_TO_ENDPOINT));
  EXPECT_THAT(wire_brings(ip_of(who().gateway, who().client) / TimeExceeded{} / quote(seen)),
              Drops(DROP_SPOOFED));
}

TEST_P(Overlay, TheTunnelsThemselvesAreTheStacks) {
  const auto run = wire_brings(ip_of(who().node2, who().node1) / Udp{.sport = 50000, .dport = kTunnelPort} /
                               Payload::of_size(60));
  EXPECT_THAT(run, HasVerdict(VERDICT_PASS));
  EXPECT_EQ(run.flow_delta, 0);
  EXPECT_THAT(wire_brings(ip_of(who().outside, who().client) / Udp{.sport = 50000, .dport = kTunnelPort}),
              HasVerdict(VERDICT_TO_ENDPOINT));
}

INSTANTIATE_FAMILIES(Overlay);

}  // namespace
}  // namespace bpfnet::test
