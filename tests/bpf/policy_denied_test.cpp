// policy.bpfnet.io/denied: reject. Whom a pod's policy denies is told at once: TCP by a reset, which ends
// connect() and live connections alike, everything else by ICMP "administratively prohibited" (3/13, ICMPv6
// 1/1).
#include <linux/pkt_cls.h>

#include "maps/convert.h"
#include "tests/bpf/policy_numbers.h"
#include "tests/bpf/traversal.h"

namespace bpfnet::test {
namespace {

class PolicyDenied : public Traversal {
 protected:
  [[nodiscard]] auto prohibited() const { return IsIcmp(who().v4() ? 3 : 1, who().v4() ? 13 : 1); }
  template <typename Change>
  static void change(Node& at, uint32_t pod, Change&& what) {
    at.change_pod(pod, [&](auto& record) { what(record), ++record.epoch; });
  }
  static void deny_ingress(Node& at, uint32_t pod, uint8_t flags = ENDPOINT_REJECTS) {
    change(at, pod, [&](auto& record) { record.ingress_set = POLICY_SET_DENY_ALL, record.flags = flags; });
  }
  static void deny_egress(Node& at, uint32_t pod, uint8_t flags = ENDPOINT_REJECTS) {
    change(at, pod, [&](auto& record) { record.egress_set = POLICY_SET_DENY_ALL, record.flags = flags; });
  }
  Outcome client_sends(const Packet& rest) {
    return pod_sends(one(), 1, header(who().client, who().server) / rest);
  }
  /// The answer as a test writes it down: "don't fragment" is IPv4's business.
  static Packet reset(const Outcome& run) {
    Packet packet = l3(run);
    for (auto& layer : packet.layers())
      if (auto* ip4 = std::get_if<Ip4>(&layer)) ip4->df = false;
    return packet;
  }
  [[nodiscard]] Packet reset_of_syn() const {
    return header(who().server, who().client) /
           Tcp{.sport = kServerPort, .dport = kClientPort, .flags = RST | ACK, .ack = 101, .window = 0};
  }
  const Packet syn_{Tcp{.sport = kClientPort, .dport = kServerPort, .seq = 100}};
  const Packet datagram_ = Udp{.sport = kClientPort, .dport = kServerPort} / Payload("question");
  const Packet sctp_{Sctp{.sport = kClientPort, .dport = kServerPort}};
};

TEST_P(PolicyDenied, SilenceIsTheDefault) {
  deny_ingress(one(), 2, 0);
  for (const Packet& packet : {syn_, datagram_, sctp_}) {
    const auto run = client_sends(packet);
    EXPECT_THAT(run, Drops(DROP_POLICY_INGRESS));
    EXPECT_EQ(run.code, TC_ACT_SHOT);
  }
}

TEST_P(PolicyDenied, APodsConnectIsReset) {
  for (const bool egress : {false, true}) {
    one().reset();
    egress ? deny_egress(one(), 1) : deny_ingress(one(), 2);
    const auto run = client_sends(syn_);
    EXPECT_EQ(run.code, TC_ACT_REDIRECT);
    EXPECT_THAT(run, Drops(egress ? DROP_POLICY_EGRESS : DROP_POLICY_INGRESS));
    EXPECT_THAT(reset(run), IsPacket(reset_of_syn()));
  }
}

TEST_P(PolicyDenied, APodsDatagramIsAnsweredByIcmp) {
  for (const Packet& packet : {datagram_, sctp_}) {
    one().reset();
    deny_ingress(one(), 2);
    const auto run = client_sends(packet);
    EXPECT_EQ(run.code, TC_ACT_REDIRECT);
    EXPECT_THAT(run, Drops(DROP_POLICY_INGRESS));
    EXPECT_THAT(run, prohibited());
    EXPECT_EQ(run.mark & one().config().mark_mask, one().config().mark);
  }
}

// Whose policy denies decides, not who is denied.
TEST_P(PolicyDenied, TheEndThatDeniesDecides) {
  deny_ingress(one(), 2, 0);
  change(one(), 1, [](auto& record) { record.flags = ENDPOINT_REJECTS; });
  EXPECT_EQ(client_sends(syn_).code, TC_ACT_SHOT);
}

// By the service's address, which is all that the client knows.
TEST_P(PolicyDenied, AServicesClientIsAnsweredByTheService) {
  one().add_service({.address = who().vip, .port = 80, .backends = {{who().server, kServerPort}}});
  deny_ingress(one(), 2);
  const auto run = pod_sends(
      one(), 1, header(who().client, who().vip) / Tcp{.sport = kClientPort, .dport = 80, .seq = 100});
  EXPECT_THAT(reset(run),
              IsPacket(header(who().vip, who().client) /
                       Tcp{.sport = 80, .dport = kClientPort, .flags = RST | ACK, .ack = 101, .window = 0}));
}

// On the other node the answer is one of a known flow, and finds the pod.
TEST_P(PolicyDenied, APodOfAnotherNodeIsToldThroughBothNodes) {
  deny_ingress(one(), 1);
  for (const Packet& packet : {syn_, datagram_}) {
    const auto sent = pod_sends(two(), 1, header(who().remote, who().client) / packet);
    const auto denied = across(two(), one(), sent);
    EXPECT_THAT(denied, Drops(DROP_POLICY_INGRESS));
    const auto told = wire_brings(two(), l3(denied));
    EXPECT_THAT(told, HasVerdict(VERDICT_TO_ENDPOINT));
    EXPECT_THAT(told, LeavesBy(two().ifindex("pod1")));
    if (packet.find<Tcp>()) {
      EXPECT_EQ(told.packet.at<Tcp>().flags, RST | ACK);
    } else {
      EXPECT_THAT(told, prohibited());
    }
  }
}

TEST_P(PolicyDenied, AClientOutsideIsTold) {
  deny_ingress(one(), 1);
  const auto reset = wire_brings(one(), header(who().outside, who().client) / syn_);
  EXPECT_EQ(reset.packet.at<Tcp>().flags, RST | ACK);
  EXPECT_EQ(reset.packet.at<Eth>().dst, Node::gateway_mac());
  EXPECT_THAT(wire_brings(one(), header(who().outside, who().client) / datagram_), prohibited());
}

// The host's stack, for an address that is not the node's own (P13).
TEST_P(PolicyDenied, WhatTheHostForwardsIsTold) {
  deny_ingress(one(), 1);
  const Address guest = pick("172.17.0.2", "fd00:17::2");
  const auto run = host_sends(one(), header(guest, who().client) / syn_);
  EXPECT_THAT(run, Drops(DROP_POLICY_INGRESS));
  EXPECT_EQ(run.code, TC_ACT_REDIRECT);
  EXPECT_EQ(run.packet.at<Tcp>().flags, RST | ACK);
}

// P17: a live connection that a change cuts is reset at either end, at the sequence number it waits for.
TEST_P(PolicyDenied, BothEndsOfACutConnectionAreReset) {
  client_sends(syn_);
  pod_sends(one(), 2,
            header(who().server, who().client) /
                Tcp{.sport = kServerPort, .dport = kClientPort, .flags = SYN | ACK});
  client_sends(Packet(Tcp{.sport = kClientPort, .dport = kServerPort, .flags = ACK}));
  deny_ingress(one(), 2);
  const auto client =
      client_sends(Tcp{.sport = kClientPort, .dport = kServerPort, .flags = ACK, .seq = 101, .ack = 5001} /
                   Payload("more"));
  EXPECT_EQ(client.flow_delta, -2);
  EXPECT_THAT(
      reset(client),
      IsPacket(header(who().server, who().client) /
               Tcp{.sport = kServerPort, .dport = kClientPort, .flags = RST, .seq = 5001, .window = 0}));
  const auto server =
      pod_sends(one(), 2,
                header(who().server, who().client) /
                    Tcp{.sport = kServerPort, .dport = kClientPort, .flags = ACK, .seq = 5001, .ack = 105});
  EXPECT_THAT(server, Drops(DROP_POLICY_INGRESS));
  EXPECT_THAT(
      reset(server),
      IsPacket(header(who().client, who().server) /
               Tcp{.sport = kClientPort, .dport = kServerPort, .flags = RST, .seq = 105, .window = 0}));
}

/// A client of a service whose one backend is pod 2.
class PolicyDeniedByService : public PolicyDenied {
 protected:
  Outcome client_says(uint8_t flags) {
    return pod_sends(one(), 1,
                     header(who().client, who().vip) /
                         Tcp{.sport = kClientPort, .dport = 80, .flags = flags, .seq = 100, .ack = 5001});
  }
  Outcome backend_says(uint8_t flags) {
    return pod_sends(
        one(), 2,
        header(who().server, who().client) /
            Tcp{.sport = kServerPort, .dport = kClientPort, .flags = flags, .seq = 5001, .ack = 105});
  }
  void connect() {
    one().reset();
    one().add_service({.address = who().vip, .port = 80, .backends = {{who().server, kServerPort}}});
    client_says(SYN);
    backend_says(SYN | ACK);
    ASSERT_THAT(client_says(ACK), HasVerdict(VERDICT_TO_ENDPOINT));
  }
  void expect_client_is_reset(const Outcome& run) {
    EXPECT_THAT(run, Drops(DROP_POLICY_INGRESS));
    EXPECT_EQ(maps::from_abi(run.event.value().backend), who().server);
    EXPECT_THAT(reset(run),
                IsPacket(header(who().vip, who().client) /
                         Tcp{.sport = 80, .dport = kClientPort, .flags = RST, .seq = 5001, .window = 0}));
  }
  void expect_backend_is_reset(const Outcome& run) {
    EXPECT_THAT(run, Drops(DROP_POLICY_INGRESS));
    EXPECT_EQ(run.event.value().flags, EVENT_REVERSED);
    EXPECT_THAT(
        reset(run),
        IsPacket(header(who().client, who().server) /
                 Tcp{.sport = kClientPort, .dport = kServerPort, .flags = RST, .seq = 105, .window = 0}));
  }
  uint8_t state() { return one().find_flow(key(who().client, kClientPort, who().vip, 80, 6)).value().state; }
};

// P17: only the pair knows which backend the service's address stands for: it stays until both have heard.
TEST_P(PolicyDeniedByService, BothEndsOfACutConnectionAreResetWhoeverSendsFirst) {
  for (const bool backend_first : {true, false}) {
    SCOPED_TRACE(backend_first);
    connect();
    deny_ingress(one(), 2);
    if (backend_first) expect_backend_is_reset(backend_says(ACK));
    expect_client_is_reset(client_says(ACK));
    expect_backend_is_reset(backend_says(ACK));
    EXPECT_EQ(state(), FLOW_CLOSED) << "it expires, and may be evicted";
    EXPECT_EQ(client_says(RST).code, TC_ACT_SHOT);
  }
}

TEST_P(PolicyDeniedByService, ACutConnectionIsNoObstacleToTheNext) {
  connect();
  deny_ingress(one(), 2);
  backend_says(ACK);
  const auto refused = client_says(SYN);
  EXPECT_EQ(refused.packet.at<Tcp>().flags, RST | ACK);
  EXPECT_EQ(refused.flow_delta, -2);
  change(one(), 2, [](auto& record) { record.ingress_set = POLICY_SET_ALLOW_ALL; });
  EXPECT_THAT(client_says(SYN), HasVerdict(VERDICT_TO_ENDPOINT));
  EXPECT_EQ(state(), FLOW_NEW);
}

// S29: a new connection from the same port chooses anew, and is not judged as the one before it.
TEST_P(PolicyDeniedByService, TheNextConnectionMayHaveABackendThatIsAllowed) {
  connect();
  one().add_pod({.index = 3, .addresses = {who().remote}});
  deny_ingress(one(), 2);
  backend_says(ACK);
  one().add_service({.address = who().vip, .port = 80, .backends = {{who().remote, kServerPort}}});
  const auto next = client_says(SYN);
  EXPECT_THAT(next, HasVerdict(VERDICT_TO_ENDPOINT));
  EXPECT_EQ(next.packet.at<Tcp>().flags, SYN);
}

// A reset tells the one end that sent it; the other has still to hear.
TEST_P(PolicyDeniedByService, ADeniedResetIsNotTheLastWord) {
  connect();
  deny_ingress(one(), 2);
  EXPECT_EQ(client_says(RST).code, TC_ACT_SHOT);
  expect_backend_is_reset(backend_says(ACK));
}

// The address of a backend that is gone may be another pod's by now.
TEST_P(PolicyDeniedByService, WhatWasAnotherPodsIsNotKept) {
  connect();
  one().change_pod(2, [](auto& record) { record.ifindex = 0, ++record.epoch; });
  one().add_pod({.index = 3, .addresses = {who().server}, .identity = 1009});
  deny_ingress(one(), 3);
  EXPECT_EQ(client_says(ACK).flow_delta, -2);
}

TEST_P(PolicyDeniedByService, SilenceKeepsNothing) {
  connect();
  deny_ingress(one(), 2, 0);
  const auto run = client_says(ACK);
  EXPECT_EQ(run.code, TC_ACT_SHOT);
  EXPECT_EQ(run.flow_delta, -2);
}

TEST_P(PolicyDenied, AnUdpFlowThatIsCutIsToldByIcmp) {
  client_sends(datagram_);
  deny_egress(one(), 1);
  const auto run = client_sends(datagram_);
  EXPECT_EQ(run.flow_delta, -2);
  EXPECT_THAT(run, prohibited());
}

// RFC 1122, 3.2.2: never about a reset or an ICMP error, nor to a sender that is many or nobody.
TEST_P(PolicyDenied, SomeAreNeverTold) {
  deny_ingress(one(), 1);
  const auto expect_silence = [&](const Outcome& run) {
    EXPECT_EQ(run.verdict(), VERDICT_DROP);
    EXPECT_EQ(run.code, TC_ACT_SHOT);
  };
  expect_silence(wire_brings(
      one(), header(who().outside, who().client) / Tcp{.sport = 1, .dport = kServerPort, .flags = RST}));
  expect_silence(wire_brings(one(), header(pick("224.0.0.5", "ff02::5"), who().client) / datagram_));
  expect_silence(wire_brings(one(), header(who().any, who().client) / datagram_));
  expect_silence(wire_brings(one(), header(who().outside, who().client) / PortUnreachable{} /
                                        header(who().client, who().outside) / datagram_));
}

// P20: a closed endpoint answers nobody: its policy is not known.
TEST_P(PolicyDenied, AClosedEndpointIsSilent) {
  change(one(), 2, [](auto& record) { record.state = ENDPOINT_CLOSED, record.flags = ENDPOINT_REJECTS; });
  const auto run = client_sends(syn_);
  EXPECT_THAT(run, Drops(DROP_ENDPOINT_CLOSED));
  EXPECT_EQ(run.code, TC_ACT_SHOT);
}

TEST_P(PolicyDenied, WhatIsAllowedMeetsNoAnswer) {
  change(one(), 2, [](auto& record) { record.ingress_set = kSet, record.flags = ENDPOINT_REJECTS; });
  one().add_policy(kSet, IDENTITY_ANY, 6, kServerPort);
  EXPECT_THAT(client_sends(syn_), HasVerdict(VERDICT_TO_ENDPOINT));
  EXPECT_THAT(client_sends(datagram_), prohibited());
}

INSTANTIATE_FAMILIES(PolicyDenied);
INSTANTIATE_FAMILIES(PolicyDeniedByService);

}  // namespace
}  // namespace bpfnet::test
