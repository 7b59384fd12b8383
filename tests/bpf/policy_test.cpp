// Policy: both directions judged in one pass, replies free, changes felt at the next packet.
#include <linux/pkt_cls.h>

#include "maps/convert.h"
#include "tests/bpf/policy_numbers.h"
#include "tests/support/fixture.h"

namespace bpfnet::test {
namespace {

class Policy : public DatapathFixture {
 protected:
  Outcome send(const Address& dst, const Packet& rest) {
    return node().run(HOOK_from_pod, "pod1", from_pod(1) / Ip{.src = who().client, .dst = dst} / rest);
  }
  Outcome answer(const Packet& rest) {
    return node().run(HOOK_from_pod, "pod2",
                      from_pod(2) / Ip{.src = who().server, .dst = who().client} / rest);
  }
  void isolate_ingress(uint32_t pod, uint32_t set) {
    node().change_pod(pod, [&](auto& record) { record.ingress_set = set, ++record.epoch; });
  }
  void isolate_egress(uint32_t pod, uint32_t set) {
    node().change_pod(pod, [&](auto& record) { record.egress_set = set, ++record.epoch; });
  }
  /// What the pod itself is called, by a service (A11).
  [[nodiscard]] uint32_t self() const { return who().v4() ? IDENTITY_SELF : IDENTITY_SELF6; }
  [[nodiscard]] uint32_t self_of_other_family() const { return who().v4() ? IDENTITY_SELF6 : IDENTITY_SELF; }
  const Packet syn_{Tcp{.sport = kClientPort, .dport = kServerPort}};
  const Packet ack_{Tcp{.sport = kClientPort, .dport = kServerPort, .flags = ACK}};
  const Packet syn_ack_{Tcp{.sport = kServerPort, .dport = kClientPort, .flags = SYN | ACK}};
};

// P4: an isolated pod without rules lets nothing in.
TEST_P(Policy, IngressDenied) {
  isolate_ingress(2, POLICY_SET_DENY_ALL);
  const auto run = send(who().server, syn_);
  EXPECT_THAT(run, Drops(DROP_POLICY_INGRESS));
  EXPECT_EQ(run.event.value().dst_endpoint, 2);
  EXPECT_EQ(run.event.value().src_identity, kClientIdentity);
  EXPECT_EQ(run.event.value().rule, 0U);
  EXPECT_EQ(run.flow_delta, 0);
  EXPECT_EQ(run.code, TC_ACT_SHOT);
}

TEST_P(Policy, EgressDenied) {
  isolate_egress(1, POLICY_SET_DENY_ALL);
  EXPECT_THAT(send(who().server, syn_), Drops(DROP_POLICY_EGRESS));
  EXPECT_THAT(send(who().outside, syn_), Drops(DROP_POLICY_EGRESS));
}

// P3: source egress and destination ingress must both allow.
TEST_P(Policy, BothDirectionsMustAllow) {
  isolate_egress(1, kSet);
  isolate_ingress(2, kSet + 1);
  node().add_policy(kSet, kServerIdentity, 6, kServerPort, 16, 41);
  const auto denied = send(who().server, syn_);
  EXPECT_THAT(denied, Drops(DROP_POLICY_INGRESS));
  EXPECT_EQ(denied.event.value().rule, 0U) << "what the source was allowed by has not denied it";
  node().add_policy(kSet + 1, kClientIdentity, 6, kServerPort, 16, 42);
  const auto run = send(who().server, syn_);
  EXPECT_THAT(run, HasVerdict(VERDICT_TO_ENDPOINT));
  EXPECT_EQ(run.event.value().rule, 42U);
}

TEST_P(Policy, PortAndProtocolAreMatched) {
  isolate_ingress(2, kSet);
  node().add_policy(kSet, kClientIdentity, 6, kServerPort);
  EXPECT_THAT(send(who().server, Packet(Tcp{.sport = 1, .dport = kServerPort + 1})),
              Drops(DROP_POLICY_INGRESS));
  EXPECT_THAT(send(who().server, Packet(Udp{.sport = 1, .dport = kServerPort})), Drops(DROP_POLICY_INGRESS));
  EXPECT_THAT(send(who().server, syn_), HasVerdict(VERDICT_TO_ENDPOINT));
}

// P7: a range is prefixes over the port bits: 8080-8095 is one.
TEST_P(Policy, PortRange) {
  isolate_ingress(2, kSet);
  node().add_policy(kSet, kClientIdentity, 6, 8080, 12);
  EXPECT_THAT(send(who().server, Packet(Tcp{.sport = 1, .dport = 8095})), HasVerdict(VERDICT_TO_ENDPOINT));
  EXPECT_THAT(send(who().server, Packet(Tcp{.sport = 2, .dport = 8096})), Drops(DROP_POLICY_INGRESS));
  EXPECT_THAT(send(who().server, Packet(Tcp{.sport = 3, .dport = 8079})), Drops(DROP_POLICY_INGRESS));
}

TEST_P(Policy, EveryIdentityAndEveryProtocol) {
  isolate_ingress(2, kSet);
  node().add_policy(kSet, IDENTITY_ANY, 0, 0, 0, 9);
  EXPECT_THAT(send(who().server, Packet(Udp{.sport = 1, .dport = 5})), HasVerdict(VERDICT_TO_ENDPOINT));
  const Packet echo = from_pod(1) / Ip{.src = who().client, .dst = who().server} / Echo{.id = 5};
  EXPECT_THAT(node().run(HOOK_from_pod, "pod1", echo), HasVerdict(VERDICT_TO_ENDPOINT));
}

TEST_P(Policy, DenyEntryWinsOverAWiderAllow) {
  isolate_ingress(2, kSet);
  node().add_policy(kSet, kClientIdentity, 0, 0, 0, 1);
  node().add_policy(kSet, kClientIdentity, 6, kServerPort, 16, 2, POLICY_DENY);
  const auto run = send(who().server, syn_);
  EXPECT_THAT(run, Drops(DROP_POLICY_INGRESS));
  EXPECT_EQ(run.event.value().rule, 2U);
  EXPECT_THAT(send(who().server, Packet(Tcp{.sport = 2, .dport = 1})), HasVerdict(VERDICT_TO_ENDPOINT));
}

// P11: egress is judged after translation, by the backend's address and port.
TEST_P(Policy, EgressSeesTheBackend) {
  node().add_service({.address = who().vip, .port = 80, .backends = {{who().server, kServerPort}}});
  isolate_egress(1, kSet);
  node().add_policy(kSet, kServerIdentity, 6, 80);
  EXPECT_THAT(send(who().vip, Packet(Tcp{.sport = 1, .dport = 80})), Drops(DROP_POLICY_EGRESS));
  node().add_policy(kSet, kServerIdentity, 6, kServerPort);
  EXPECT_THAT(send(who().vip, Packet(Tcp{.sport = 1, .dport = 80})), HasVerdict(VERDICT_TO_ENDPOINT));
}

// P16: the answer passes whatever the answering pod may not do by itself.
TEST_P(Policy, RepliesPassAnIsolatedSource) {
  isolate_egress(2, POLICY_SET_DENY_ALL);
  isolate_ingress(1, POLICY_SET_DENY_ALL);
  send(who().server, syn_);
  EXPECT_THAT(answer(syn_ack_), HasVerdict(VERDICT_TO_ENDPOINT));
}

// P17: a live connection which the new policy denies is cut at its next packet, in either direction.
TEST_P(Policy, ChangeCutsALiveConnection) {
  send(who().server, syn_);
  answer(syn_ack_);
  EXPECT_THAT(send(who().server, ack_), HasVerdict(VERDICT_TO_ENDPOINT));
  isolate_ingress(2, POLICY_SET_DENY_ALL);
  const auto run = send(who().server, ack_);
  EXPECT_THAT(run, Drops(DROP_POLICY_INGRESS));
  EXPECT_EQ(run.flow_delta, -2);
}

TEST_P(Policy, ChangeCutsALiveConnectionAtAReply) {
  send(who().server, syn_);
  answer(syn_ack_);
  isolate_egress(1, POLICY_SET_DENY_ALL);
  const auto run = answer(Packet(Tcp{.sport = kServerPort, .dport = kClientPort, .flags = ACK}));
  EXPECT_THAT(run, Drops(DROP_POLICY_EGRESS));
  EXPECT_EQ(run.flow_delta, -2);
  // The event is the packet's: its sender is the server, and the egress is the other's.
  EXPECT_EQ(run.event.value().src_endpoint, 2);
  EXPECT_EQ(run.event.value().src_identity, kServerIdentity);
  EXPECT_EQ(run.event.value().dst_endpoint, 1);
  EXPECT_EQ(run.event.value().dst_identity, kClientIdentity);
  EXPECT_EQ(run.event.value().flags, EVENT_REVERSED);
}

// P17, at both ends: what the other end of a cut connection still sends begins nothing anew, although the
// policy of its own direction allows it.
TEST_P(Policy, TheOtherEndOfACutConnectionIsDeniedByTheSameRule) {
  send(who().server, syn_);
  answer(syn_ack_);
  isolate_ingress(2, kSet);
  node().add_policy(kSet, kClientIdentity, 6, kServerPort, 16, 5, POLICY_DENY);
  EXPECT_THAT(send(who().server, ack_), Drops(DROP_POLICY_INGRESS));
  const auto run = answer(Packet(Tcp{.sport = kServerPort, .dport = kClientPort, .flags = ACK}));
  EXPECT_THAT(run, Drops(DROP_POLICY_INGRESS));
  EXPECT_EQ(run.event.value().rule, 5U);
  EXPECT_EQ(run.event.value().flags, EVENT_REVERSED);
  EXPECT_EQ(run.event.value().src_endpoint, 2);
}

// P17: the flow table was lost, and the server's packet is the first of the connection that is seen again. A
// change that denies the client cuts it nevertheless, whoever sends next.
TEST_P(Policy, AConnectionPickedUpInItsMiddleIsJudgedBothWaysRoundAgain) {
  const Packet server_ack{Tcp{.sport = kServerPort, .dport = kClientPort, .flags = ACK}};
  for (const bool by_server : {true, false}) {
    SCOPED_TRACE(by_server);
    node().reset();
    EXPECT_THAT(answer(server_ack), HasVerdict(VERDICT_TO_ENDPOINT));
    EXPECT_THAT(send(who().server, ack_), HasVerdict(VERDICT_TO_ENDPOINT));
    isolate_ingress(2, kSet);
    node().add_policy(kSet, kClientIdentity, 6, kServerPort, 16, 5);
    EXPECT_THAT(answer(server_ack), HasVerdict(VERDICT_TO_ENDPOINT)) << "allowed still";
    EXPECT_THAT(send(who().server, ack_), HasVerdict(VERDICT_TO_ENDPOINT));
    isolate_ingress(2, kSet + 1);
    node().add_policy(kSet + 1, kClientIdentity, 6, kServerPort, 16, 6, POLICY_DENY);
    const auto run = by_server ? answer(server_ack) : send(who().server, ack_);
    EXPECT_THAT(run, Drops(DROP_POLICY_INGRESS));
    EXPECT_EQ(run.flow_delta, -2);
    EXPECT_EQ(run.event.value().rule, 6U);
    EXPECT_EQ(run.event.value().flags, by_server ? EVENT_REVERSED : 0);
    EXPECT_EQ(run.event.value().src_endpoint, by_server ? 2 : 1);
    EXPECT_EQ(run.event.value().dst_endpoint, by_server ? 1 : 2);
  }
}

TEST_P(Policy, ChangeThatStillAllowsLosesNothing) {
  send(who().server, syn_);
  isolate_ingress(2, kSet);
  node().add_policy(kSet, kClientIdentity, 6, kServerPort);
  EXPECT_THAT(answer(syn_ack_), HasVerdict(VERDICT_TO_ENDPOINT));
  EXPECT_THAT(send(who().server, ack_), HasVerdict(VERDICT_TO_ENDPOINT));
  const auto flow = node().find_flow(key(who().client, kClientPort, who().server, kServerPort, 6)).value();
  EXPECT_EQ(flow.dst_epoch, 2U);
}

// P13: the pod's own node is always let in; other nodes are not.
TEST_P(Policy, OwnNodeIsExemptFromIngress) {
  isolate_ingress(2, POLICY_SET_DENY_ALL);
  const Packet probe = from_stack() / Ip{.src = who().node1, .dst = who().server} / Tcp{.dport = kServerPort};
  EXPECT_THAT(node().run(HOOK_from_host, "bpfnet1", probe), HasVerdict(VERDICT_TO_ENDPOINT));
  const Packet foreign =
      from_wire() / Ip{.src = who().node2, .dst = who().server} / Tcp{.dport = kServerPort};
  EXPECT_THAT(node().run(HOOK_from_uplink, "uplink", foreign), Drops(DROP_POLICY_INGRESS));
}

// P13 holds too where a policy names a prefix of the node's address, which gives it an identity of its own.
TEST_P(Policy, OwnNodeIsExemptWhateverItsIdentity) {
  isolate_ingress(2, POLICY_SET_DENY_ALL);
  ASSERT_TRUE(node().maps().addresses.put(
      maps::make_address_key(who().node1),
      {.identity = 300, .endpoint = 0, .flags = ADDRESS_LOCAL_NODE | ADDRESS_NODE_PORT}));
  const Packet probe = from_stack() / Ip{.src = who().node1, .dst = who().server} / Tcp{.dport = kServerPort};
  EXPECT_THAT(node().run(HOOK_from_host, "bpfnet1", probe), HasVerdict(VERDICT_TO_ENDPOINT));
}

// P15, A11: a pod cannot block itself, whatever the policy.
TEST_P(Policy, PodToItselfIsExempt) {
  for (const uint32_t set : {uint32_t{POLICY_SET_DENY_ALL}, kSet}) {
    isolate_ingress(1, set);
    isolate_egress(1, set);
    node().add_policy(kSet, self(), 0, 0, 0, 7, POLICY_DENY);
    node().add_policy(kSet, kClientIdentity, 0, 0, 0, 8, POLICY_DENY);
    EXPECT_THAT(send(who().client, Packet(Tcp{.sport = static_cast<uint16_t>(set), .dport = kServerPort})),
                HasVerdict(VERDICT_TO_ENDPOINT));
  }
}

// A11: through a service it is subject to ClusterNetworkPolicies, which name it as itself; P15: to nothing
// else.
TEST_P(Policy, PodToItselfByAServiceIsSubjectToWhatNamesItAsItself) {
  node().add_service({.address = who().vip, .port = 80, .backends = {{who().client, kServerPort}}});
  const auto knock = [&](uint16_t sport) {
    return send(who().vip, Packet(Tcp{.sport = sport, .dport = 80}));
  };
  isolate_egress(1, kSet);
  isolate_ingress(1, kSet + 1);
  for (const uint32_t set : {kSet, kSet + 1}) {
    node().add_policy(set, kClientIdentity, 0, 0, 0, 8, POLICY_DENY);
    node().add_policy(set, IDENTITY_ANY, 0, 0, 0, 9, POLICY_DENY);
    node().add_policy(set, self(), 6, kServerPort + 1, 16, 7, POLICY_DENY);
    node().add_policy(set, self_of_other_family(), 0, 0, 0, 10, POLICY_DENY);
  }
  EXPECT_THAT(knock(1), HasVerdict(VERDICT_TO_ENDPOINT));
  node().add_policy(kSet + 1, self(), 6, kServerPort, 16, 41, POLICY_DENY);
  const auto ingress = knock(2);
  EXPECT_THAT(ingress, Drops(DROP_POLICY_INGRESS));
  EXPECT_EQ(ingress.event.value().rule, 41U);
  node().add_policy(kSet, self(), 6, kServerPort, 16, 40, POLICY_DENY);
  const auto egress = knock(3);
  EXPECT_THAT(egress, Drops(DROP_POLICY_EGRESS));
  EXPECT_EQ(egress.event.value().rule, 40U);
}

// A11, P20: what stands in for a set without room lets nothing pass, while under an isolation that names
// nobody (P15) the pod still reaches itself.
TEST_P(Policy, ASetWithoutRoomClosesAPodToItselfByAService) {
  node().add_service({.address = who().vip, .port = 80, .backends = {{who().client, kServerPort}}});
  isolate_ingress(1, POLICY_SET_CLOSED);
  EXPECT_THAT(send(who().vip, Packet(Tcp{.sport = 1, .dport = 80})), Drops(DROP_POLICY_INGRESS));
  EXPECT_THAT(send(who().client, Packet(Tcp{.sport = 2, .dport = 80})), HasVerdict(VERDICT_TO_ENDPOINT));
  isolate_ingress(1, POLICY_SET_DENY_ALL);
  EXPECT_THAT(send(who().vip, Packet(Tcp{.sport = 3, .dport = 80})), HasVerdict(VERDICT_TO_ENDPOINT));
}

// A11: a live connection of that kind is judged again as what it is.
TEST_P(Policy, PodToItselfByAServiceIsCutToo) {
  node().add_service({.address = who().vip, .port = 80, .backends = {{who().client, kServerPort}}});
  send(who().vip, Packet(Tcp{.sport = 1, .dport = 80}));
  isolate_ingress(1, kSet);
  EXPECT_THAT(send(who().vip, Packet(Tcp{.sport = 1, .dport = 80, .flags = ACK})),
              HasVerdict(VERDICT_TO_ENDPOINT));
  node().add_policy(kSet, self(), 0, 0, 0, 7, POLICY_DENY);
  isolate_ingress(1, kSet);
  const auto run = send(who().vip, Packet(Tcp{.sport = 1, .dport = 80, .flags = ACK}));
  EXPECT_THAT(run, Drops(DROP_POLICY_INGRESS));
  EXPECT_EQ(run.flow_delta, -2);
}

// P11: what was judged is the backend, and that is what the event tells.
TEST_P(Policy, ACutServiceConnectionIsToldByItsBackend) {
  node().add_service({.address = who().vip, .port = 80, .backends = {{who().server, kServerPort}}});
  send(who().vip, Packet(Tcp{.sport = 1, .dport = 80}));
  isolate_ingress(2, POLICY_SET_DENY_ALL);
  const auto run = send(who().vip, Packet(Tcp{.sport = 1, .dport = 80, .flags = ACK}));
  EXPECT_THAT(run, Drops(DROP_POLICY_INGRESS));
  EXPECT_EQ(maps::from_abi(run.event.value().backend), who().server);
  EXPECT_EQ(maps::from_network(run.event.value().backend_port), kServerPort);
}

// P10: ipBlock: the longest prefix names the identity.
TEST_P(Policy, CidrIdentityOfAnOutsidePeer) {
  node().add_cidr(cidr(who().v4() ? "198.51.100.0/24" : "2001:db8:2::/64"), 500);
  isolate_ingress(2, kSet);
  node().add_policy(kSet, 500, 6, kServerPort);
  const auto knock = [&](const Address& src) {
    return node().run(HOOK_from_uplink, "uplink", from_wire() / Ip{.src = src, .dst = who().server} / syn_);
  };
  EXPECT_THAT(knock(who().outside), HasVerdict(VERDICT_TO_ENDPOINT));
  EXPECT_THAT(knock(pick("203.0.113.1", "2001:db8:3::1")), Drops(DROP_POLICY_INGRESS));
}

TEST_P(Policy, WorldIsNeitherPodNorNode) {
  isolate_egress(1, kSet);
  node().add_policy(kSet, IDENTITY_WORLD, 0, 0, 0);
  EXPECT_THAT(send(who().outside, syn_), HasVerdict(VERDICT_TO_NEXT_HOP));
  EXPECT_THAT(send(who().remote, syn_), Drops(DROP_POLICY_EGRESS));
  EXPECT_THAT(send(who().node2, syn_), Drops(DROP_POLICY_EGRESS));
}

// Found by Differential: the ended flow's client was taken for the new one's, and pod 1 for its own peer.
TEST_P(Policy, NewFlowOnTheTupleOfAnEndedOneIsJudgedByItself) {
  const Address peer = who().remote;
  send(peer, Packet(Tcp{.sport = 53, .dport = 9}));
  send(peer, Packet(Tcp{.sport = 53, .dport = 9, .flags = RST}));
  isolate_ingress(1, POLICY_SET_DENY_ALL);
  const Packet syn = from_wire() / Ip{.src = peer, .dst = who().client} / Tcp{.sport = 9, .dport = 53};
  EXPECT_THAT(node().run(HOOK_from_uplink, "uplink", syn), Drops(DROP_POLICY_INGRESS));
}

INSTANTIATE_FAMILIES(Policy);

}  // namespace
}  // namespace bpfnet::test
