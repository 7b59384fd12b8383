// from_pod: what a pod may send, and where it goes.
#include <fmt/format.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>

#include "maps/convert.h"
#include "tests/support/fixture.h"

namespace bpfnet::test {
namespace {

class FromPod : public DatapathFixture {
 protected:
  Outcome from_client(const Packet& rest) { return node().run(HOOK_from_pod, "pod1", from_pod(1) / rest); }
  [[nodiscard]] Packet ip_to(const Address& dst, uint8_t ttl = 64) const {
    Packet packet;
    packet.add(Ip{.src = who().client, .dst = dst, .ttl = ttl});
    return packet;
  }
  [[nodiscard]] Address far() const { return pick("203.0.113.9", "2001:db8:ffff::9"); }
  /// `add` or `del`: of the route that says far() cannot be reached.
  void change_route_to_far(const std::string& verb) {
    const std::string prefix = who().v4() ? "203.0.113.0/24" : "2001:db8:ffff::/48";
    must(node().netns().ip_batch(fmt::format("route {} unreachable {}\n", verb, prefix)));
  }
  [[nodiscard]] Eth into_server() { return Eth{.dst = Node::pod_mac(2), .src = node().device_mac("pod2")}; }
};

TEST_P(FromPod, ReachesAPodOnTheSameNode) {
  const auto run = from_client(ip_to(who().server) / Tcp{.sport = 1, .dport = 80});
  EXPECT_THAT(run, Sends(VERDICT_TO_ENDPOINT,
                         into_server() / ip_to(who().server, 63) / Tcp{.sport = 1, .dport = 80}));
  EXPECT_THAT(run, LeavesBy(node().ifindex("pod2")));
  EXPECT_EQ(run.code, TC_ACT_REDIRECT);
  EXPECT_EQ(run.flow_delta, 2);
}

TEST_P(FromPod, EveryProtocolReachesAPodOnTheSameNode) {
  for (const Packet& rest :
       {Packet(Tcp{.dport = 80}), Udp{.dport = 53} / Payload("q"), Packet(Sctp{.dport = 9})}) {
    EXPECT_THAT(from_client(ip_to(who().server) / rest),
                Sends(VERDICT_TO_ENDPOINT, into_server() / ip_to(who().server, 63) / rest));
  }
  EXPECT_THAT(from_client(ip_to(who().server) / Echo{.id = 7}),
              Sends(VERDICT_TO_ENDPOINT, into_server() / ip_to(who().server, 63) / Echo{.id = 7}));
}

TEST_P(FromPod, ReachesAPodOnAnotherNodeUntranslated) {
  const auto run = from_client(ip_to(who().remote) / Tcp{.sport = 1, .dport = 80});
  EXPECT_THAT(run, Sends(VERDICT_TO_NEXT_HOP, ip_to(who().remote, 63) / Tcp{.sport = 1, .dport = 80}));
  EXPECT_THAT(run, LeavesBy(node().ifindex("uplink")));
  EXPECT_EQ(run.mark & node().config().mark_mask, node().config().mark);
}

TEST_P(FromPod, SecondPacketGoesByTheCachedNextHop) {
  from_client(ip_to(who().remote) / Udp{.dport = 9});
  const auto run = from_client(ip_to(who().remote) / Udp{.dport = 9});
  const Eth eth{.dst = Node::node_mac(2), .src = Node::node_mac(1)};
  EXPECT_THAT(run, Sends(VERDICT_TO_NEXT_HOP, eth / ip_to(who().remote, 63) / Udp{.dport = 9}));
  EXPECT_EQ(run.flow_delta, 0);
}

// An agent without the overlay takes over the flows of one with it, in the midst of a tick.
TEST_P(FromPod, WhatAnOverlayLedIsRoutedWithTheNextPacket) {
  const Packet packet = ip_to(who().remote) / Udp{.dport = 9};
  const flow_key forward = key(who().client, packet.at<Udp>().sport, who().remote, 9, IPPROTO_UDP);
  from_client(packet);
  const flow routed = node().find_flow(forward).value();
  node().change_flow(forward, [&](flow& led) {
    led.action = FLOW_TO_NODE;
    led.out_node = 2;
    led.out_ifindex = node().ifindex("pod2");  // of the device that is gone, or of another by now
    led.mtu = 700;
  });
  EXPECT_THAT(from_client(packet), LeavesBy(node().ifindex("uplink")));
  const flow after = node().find_flow(forward).value();
  EXPECT_EQ(after.action, FLOW_TO_NEXT_HOP);
  EXPECT_EQ(after.out_node, 0);
  EXPECT_EQ(after.out_ifindex, routed.out_ifindex);
  EXPECT_EQ(after.mtu, routed.mtu);
  const Eth eth{.dst = Node::node_mac(2), .src = Node::node_mac(1)};
  EXPECT_THAT(from_client(packet),
              Sends(VERDICT_TO_NEXT_HOP, eth / ip_to(who().remote, 63) / Udp{.dport = 9}));
}

TEST_P(FromPod, ReachesItsHostWithoutAHop) {
  const auto run = from_client(ip_to(who().node1) / Tcp{.dport = 10250});
  EXPECT_THAT(run, Sends(VERDICT_TO_HOST, ip_to(who().node1) / Tcp{.dport = 10250}));
  EXPECT_THAT(run, LeavesBy(node().ifindex("bpfnet0")));
  EXPECT_EQ(run.packet.at<Eth>().dst, node().device_mac("bpfnet0"));
}

TEST_P(FromPod, SpoofedSource) {
  const Packet packet = Packet(Ip{.src = who().server, .dst = who().remote}) / Tcp{};
  const auto run = from_client(packet);
  EXPECT_THAT(run, Drops(DROP_SPOOFED));
  EXPECT_EQ(run.flow_delta, 0);
}

TEST_P(FromPod, SpoofedSourceOnAnEstablishedFlow) {
  from_client(ip_to(who().remote) / Tcp{.sport = 9, .dport = 80});
  const Packet forged = from_pod(2) / ip_to(who().remote) / Tcp{.sport = 9, .dport = 80, .flags = ACK};
  EXPECT_THAT(node().run(HOOK_from_pod, "pod2", forged), Drops(DROP_SPOOFED));
}

// P21: a pod has the address that another had, and happens upon the tuple of one of its flows: the flow goes.
TEST_P(FromPod, NextOwnerOfAnAddressIsNotBoundByTheLastOnesFlows) {
  from_client(ip_to(who().remote) / Udp{.sport = 9, .dport = 53});
  node().change_pod(1, [](auto& gone) { gone = {}; });
  node().add_pod({.index = 3, .addresses = {who().client}, .identity = 1003});
  const auto run =
      node().run(HOOK_from_pod, "pod3", from_pod(3) / ip_to(who().remote) / Udp{.sport = 9, .dport = 53});
  EXPECT_THAT(run, HasVerdict(VERDICT_TO_NEXT_HOP));
  EXPECT_EQ(run.event.value().src_identity, 1003U);
  EXPECT_EQ(run.flow_delta, 0) << "one pair for another";
}

// P21: what goes to an address goes to its owner, also in a flow that its last owner was in.
TEST_P(FromPod, PacketsFollowAnAddressToItsNextOwner) {
  const Packet datagram = ip_to(who().server) / Udp{.sport = 9, .dport = 53};
  EXPECT_THAT(from_client(datagram), LeavesBy(node().ifindex("pod2")));
  node().change_pod(2, [](auto& gone) { gone = {}; });
  node().add_pod({.index = 3, .addresses = {who().server}, .identity = 1003});
  const auto run = from_client(datagram);
  EXPECT_THAT(run, HasVerdict(VERDICT_TO_ENDPOINT));
  EXPECT_THAT(run, LeavesBy(node().ifindex("pod3")));
  EXPECT_EQ(run.flow_delta, 0) << "one pair for another";
}

// The flow of an outside client may enter anywhere but at a pod's veth.
TEST_P(FromPod, ForgedTupleOfAnOutsideClient) {
  const Packet segment = Packet(Ip{.src = who().outside, .dst = who().server}) / Tcp{.sport = 9, .dport = 80};
  EXPECT_THAT(node().run(HOOK_from_uplink, "uplink", from_wire() / segment), HasVerdict(VERDICT_TO_ENDPOINT));
  EXPECT_THAT(from_client(segment), Drops(DROP_SPOOFED));
}

TEST_P(FromPod, UnconfiguredInterface) {
  EXPECT_THAT(node().run(HOOK_from_pod, "pod4", from_pod(4) / ip_to(who().server) / Tcp{}),
              Drops(DROP_NOT_CONFIGURED));
}

// P20: nothing leaves or enters a pod whose policy is not in place.
TEST_P(FromPod, ClosedEndpointSendsNothing) {
  node().change_pod(1, [](auto& pod) { pod.state = ENDPOINT_CLOSED; });
  EXPECT_THAT(from_client(ip_to(who().server) / Tcp{}), Drops(DROP_ENDPOINT_CLOSED));
}

TEST_P(FromPod, ClosedEndpointReceivesNothing) {
  node().change_pod(2, [](auto& pod) { pod.state = ENDPOINT_CLOSED; });
  EXPECT_THAT(from_client(ip_to(who().server) / Tcp{}), Drops(DROP_ENDPOINT_CLOSED));
}

// A hop whose route was withdrawn is not used between two questions.
TEST_P(FromPod, AKnownFlowWithoutARouteAsksUntilThereIsOne) {
  const Packet packet = ip_to(far()) / Udp{.sport = 4242, .dport = 9};
  const flow_key forward = key(who().client, 4242, far(), 9, IPPROTO_UDP);
  from_client(packet);
  ASSERT_THAT(from_client(packet), HasVerdict(VERDICT_TO_NEXT_HOP));
  change_route_to_far("add");
  node().age_flow(forward, 1);
  EXPECT_THAT(from_client(packet), Drops(DROP_NO_ROUTE));
  EXPECT_THAT(from_client(packet), Drops(DROP_NO_ROUTE));
  change_route_to_far("del");
  EXPECT_THAT(from_client(packet), HasVerdict(VERDICT_TO_NEXT_HOP));
}

// As keepalived moves an address from one node to another, and back.
TEST_P(FromPod, UdpFollowsAnAddressThatComesToTheNodeAndLeavesIt) {
  const Address moving = pick("192.0.2.77", "2001:db8:1::77");
  const Packet packet = ip_to(moving) / Udp{.sport = 4242, .dport = 9};
  const flow_key forward = key(who().client, 4242, moving, 9, IPPROTO_UDP);
  EXPECT_THAT(from_client(packet), HasVerdict(VERDICT_TO_NEXT_HOP));
  node().add_node_address(moving, ADDRESS_LOCAL_NODE);
  node().age_flow(forward, 1);
  EXPECT_THAT(from_client(packet), HasVerdict(VERDICT_TO_HOST));
  must(node().maps().addresses.erase(maps::make_address_key(moving)));
  node().age_flow(forward, 1);
  EXPECT_THAT(from_client(packet), HasVerdict(VERDICT_TO_NEXT_HOP));
}

TEST_P(FromPod, NoRoute) {
  change_route_to_far("add");
  EXPECT_THAT(from_client(ip_to(far()) / Tcp{}), Drops(DROP_NO_ROUTE));
  change_route_to_far("del");
}

TEST_P(FromPod, MidstreamTcpToAPodIsPickedUp) {
  const auto run = from_client(ip_to(who().server) / Tcp{.dport = 80, .flags = ACK});
  EXPECT_THAT(run, HasVerdict(VERDICT_TO_ENDPOINT));
  EXPECT_EQ(run.flow_delta, 2);
}

TEST_P(FromPod, MidstreamTcpThroughMasqueradeHasNoFlow) {
  EXPECT_THAT(from_client(ip_to(who().outside) / Tcp{.dport = 80, .flags = ACK}), Drops(DROP_NO_FLOW));
}

TEST_P(FromPod, TtlExceededIsToldToThePod) {
  const Packet packet = ip_to(who().remote, 1) / Udp{.sport = 5, .dport = 33434} / Payload("traceroute-1");
  const auto run = from_client(packet);
  EXPECT_EQ(run.reason(), DROP_TTL_EXCEEDED);
  const Eth back{.dst = Node::pod_mac(1), .src = node().device_mac("pod1")};
  const Packet want = back / Ip{.src = who().node1, .dst = who().client} / TimeExceeded{} / quote(packet);
  EXPECT_THAT(run.packet, IsPacket(want));
}

TEST_P(FromPod, TooBigForThePathIsToldToThePod) {
  from_client(ip_to(who().remote) / Udp{.sport = 5, .dport = 9});
  const Packet packet = ip_to(who().remote) / Udp{.sport = 5, .dport = 9} / Payload::of_size(1600);
  const auto run = from_client(packet);
  EXPECT_EQ(run.reason(), DROP_TOO_BIG);
  EXPECT_THAT(run, IsIcmp(who().v4() ? 3 : 2, who().v4() ? 4 : 0));
  EXPECT_EQ(icmp_of(run.packet).seq, 1500);
}

TEST_P(FromPod, GsoPacketWhoseSegmentsFitIsNotTooBig) {
  const Packet packet = from_pod(1) / ip_to(who().remote) / Tcp{.flags = SYN} / Payload::of_size(3000);
  EXPECT_THAT(node().run(HOOK_from_pod, "pod1", packet, {.gso_size = 1400}), HasVerdict(VERDICT_TO_NEXT_HOP));
}

INSTANTIATE_FAMILIES(FromPod);

class Neighbours : public DatapathFixture {};

TEST_P(Neighbours, ArpAndSolicitationsAreAnsweredWithTheHostSide) {
  const Mac host = node().device_mac("pod1");
  const Eth ask{.dst = mac("ff:ff:ff:ff:ff:ff"), .src = Node::pod_mac(1)};
  const Eth answer{.dst = Node::pod_mac(1), .src = host};
  const Address gateway = pick("169.254.1.1", "fe80::1");
  const Packet request =
      who().v4() ? ask / Arp{.sender_mac = Node::pod_mac(1), .sender = who().client, .target = gateway}
                 : ask / Ip{.src = who().client, .dst = ip("ff02::1:ff00:1"), .ttl = 255} /
                       neighbour_solicit(gateway, Node::pod_mac(1));
  const Packet reply = who().v4() ? answer / Arp{.operation = 2,
                                                 .sender_mac = host,
                                                 .sender = gateway,
                                                 .target_mac = Node::pod_mac(1),
                                                 .target = who().client}
                                  : answer / Ip{.src = gateway, .dst = who().client, .ttl = 255} /
                                        neighbour_advert(gateway, host);
  EXPECT_THAT(node().run(HOOK_from_pod, "pod1", request), Sends(VERDICT_REPLY, reply));
}

TEST_P(Neighbours, ProbesAndItsOwnAddressAreNotAnswered) {
  const Eth ask{.dst = mac("ff:ff:ff:ff:ff:ff"), .src = Node::pod_mac(1)};
  for (const Address& sender : {who().any, who().client}) {
    const Packet request =
        who().v4() ? ask / Arp{.sender_mac = Node::pod_mac(1), .sender = sender, .target = who().client}
                   : ask / Ip{.src = sender, .dst = ip("ff02::1:ff00:10"), .ttl = 255} /
                         neighbour_solicit(who().client, Mac{});
    EXPECT_NE(node().run(HOOK_from_pod, "pod1", request).verdict(), VERDICT_REPLY);
  }
}

INSTANTIATE_FAMILIES(Neighbours);

}  // namespace
}  // namespace bpfnet::test
