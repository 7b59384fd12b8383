// Addresses of live services beyond their ports: refused, left alone, and answering an echo (S32).
#include <linux/pkt_cls.h>

#include "tests/support/fixture.h"

namespace bpfnet::test {
namespace {

class LiveAddress : public DatapathFixture {
 protected:
  void SetUp() override {
    DatapathFixture::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    mark(who().vip, FRONTEND_CLUSTER_IP);
    mark(balancer_, FRONTEND_LOAD_BALANCER);
    node().add_service({.address = who().vip, .port = 80, .backends = {{who().server, kServerPort}}});
  }
  void mark(const Address& address, uint32_t flags) {
    node().add_service({.address = address, .port = 0, .proto = 0, .backends = {}, .flags = flags});
  }
  [[nodiscard]] Packet header(const Address& src, const Address& dst, uint8_t ttl = 64) const {
    Packet packet;
    packet.add(Ip{.src = src, .dst = dst, .ttl = ttl});
    return packet;
  }
  Outcome pod_sends(const Address& dst, const Packet& rest, uint8_t ttl = 64) {
    return node().run(HOOK_from_pod, "pod1", from_pod(1) / header(who().client, dst, ttl) / rest);
  }
  Outcome wire_brings(const Address& dst, const Packet& rest) {
    return node().run(HOOK_from_uplink, "uplink", from_wire() / header(who().outside, dst) / rest);
  }
  Outcome host_sends(const Address& dst, const Packet& rest) {
    return node().run(HOOK_from_host, "bpfnet1", from_stack() / header(who().node1, dst) / rest);
  }
  Outcome leaves_by_uplink(const Address& dst, const Packet& rest) {
    return node().run(
        HOOK_to_uplink, "uplink",
        Eth{.dst = Node::gateway_mac(), .src = Node::node_mac(1)} / header(who().node1, dst) / rest);
  }
  [[nodiscard]] auto unreachable() const { return IsIcmp(who().v4() ? 3 : 1, who().v4() ? 3 : 4); }

  const Address balancer_ = pick("203.0.113.80", "2001:db8:80::80");
};

TEST_P(LiveAddress, OtherPortsOfAClusterIpAreRefused) {
  for (const auto& rest : {Packet(Udp{.sport = 5, .dport = 81}), Packet(Udp{.sport = 5, .dport = 80}),
                           Sctp{.sport = 5, .dport = 80} / Payload("init")}) {
    for (const auto& run :
         {pod_sends(who().vip, rest), wire_brings(who().vip, rest), host_sends(who().vip, rest)}) {
      EXPECT_EQ(run.reason(), DROP_NO_SERVICE);
      EXPECT_THAT(run, unreachable());
      EXPECT_EQ(run.flow_delta, 0);
    }
  }
  const auto run = pod_sends(who().vip, Packet(Tcp{.sport = 5, .dport = 81}));
  EXPECT_EQ(run.reason(), DROP_NO_SERVICE);
  EXPECT_EQ(run.packet.at<Tcp>().flags, RST | ACK);
}

// Only what begins a connection is answered; the rest of one that is gone hears nothing.
TEST_P(LiveAddress, SegmentsOfNoConnectionAreDropped) {
  EXPECT_THAT(pod_sends(who().vip, Packet(Tcp{.sport = 5, .dport = 81, .flags = ACK})),
              Drops(DROP_NO_SERVICE));
}

TEST_P(LiveAddress, AClusterIpOutsideOfTheServiceRangesIsRefusedToo) {
  const Address strange = pick("203.0.113.9", "2001:db8:80::9");
  mark(strange, FRONTEND_CLUSTER_IP);
  const Packet query(Udp{.sport = 5, .dport = 81});
  for (const auto& run :
       {pod_sends(strange, query), wire_brings(strange, query), leaves_by_uplink(strange, query)}) {
    EXPECT_EQ(run.reason(), DROP_NO_SERVICE);
    EXPECT_THAT(run, unreachable());
  }
}

TEST_P(LiveAddress, UnallocatedAddressesOfAServiceRangeStaySilent) {
  const Address nobody = pick("10.96.9.9", "fd00:10:96::99");
  for (const auto& rest : {Packet(Udp{.sport = 5, .dport = 80}), Packet(Tcp{.sport = 5, .dport = 80}),
                           header(who().client, nobody) / Echo{.id = 7}}) {
    Packet body;
    for (const auto& layer : rest.layers())
      if (!std::holds_alternative<Ip4>(layer) && !std::holds_alternative<Ip6>(layer)) body.add(layer);
    EXPECT_THAT(pod_sends(nobody, body), Drops(DROP_NO_SERVICE));
  }
}

// Another process or device may serve them.
TEST_P(LiveAddress, OtherPortsOfALoadBalancerAreLeftAlone) {
  const Packet syn(Tcp{.sport = 5, .dport = 22});
  EXPECT_THAT(wire_brings(balancer_, syn), HasVerdict(VERDICT_PASS));
  EXPECT_THAT(leaves_by_uplink(balancer_, syn), HasVerdict(VERDICT_PASS));
  EXPECT_THAT(pod_sends(balancer_, syn), HasVerdict(VERDICT_TO_NEXT_HOP));
}

TEST_P(LiveAddress, AnswersAnEchoOfAPod) {
  for (const Address& live : {who().vip, balancer_}) {
    for (const uint8_t ttl : {1, 64}) {
      Packet request;
      request.add(Ip{.src = who().client, .dst = live, .ttl = ttl});
      const auto run = node().run(HOOK_from_pod, "pod1",
                                  from_pod(1) / request / Echo{.id = 7, .seq = 3} / Payload("ping"));
      EXPECT_THAT(run, Sends(VERDICT_REPLY, Eth{.dst = Node::pod_mac(1), .src = node().device_mac("pod1")} /
                                                header(live, who().client) /
                                                Echo{.id = 7, .seq = 3, .reply = true} / Payload("ping")));
      EXPECT_EQ(run.code, TC_ACT_REDIRECT);
      EXPECT_EQ(run.flow_delta, 0);
    }
  }
}

TEST_P(LiveAddress, AnswersAnEchoFromOutside) {
  for (const Address& live : {who().vip, balancer_}) {
    const auto run = node().run(HOOK_from_uplink, "uplink",
                                from_wire() / header(who().outside, live) / Echo{.id = 7} / Payload("ping"));
    EXPECT_THAT(run, Sends(VERDICT_REPLY, Eth{.dst = Node::gateway_mac(), .src = Node::node_mac(1)} /
                                              header(live, who().outside) / Echo{.id = 7, .reply = true} /
                                              Payload("ping")));
    EXPECT_EQ(run.mark & node().config().mark_mask, node().config().mark) << "to_uplink must let it be";
  }
}

TEST_P(LiveAddress, AnswersAnEchoOfTheHost) {
  const Packet request = header(who().node1, balancer_) / Echo{.id = 7} / Payload("ping");
  const Packet want = header(balancer_, who().node1) / Echo{.id = 7, .reply = true} / Payload("ping");
  EXPECT_THAT(node().run(HOOK_from_host, "bpfnet1", from_stack() / request), Sends(VERDICT_REPLY, want));
  const Eth out{.dst = Node::gateway_mac(), .src = Node::node_mac(1)};
  EXPECT_THAT(node().run(HOOK_to_uplink, "uplink", out / request), Sends(VERDICT_REPLY, want));
}

TEST_P(LiveAddress, AnswersAnEchoInFragments) {
  const auto data = Payload::of_size(1200);
  const auto asked = fragments(from_pod(1) / header(who().client, who().vip) / Echo{.id = 7} / data, 800, 9);
  const auto want = fragments(Eth{.dst = Node::pod_mac(1), .src = node().device_mac("pod1")} /
                                  header(who().vip, who().client) / Echo{.id = 7, .reply = true} / data,
                              800, 9);
  for (size_t i = 0; i < asked.size(); ++i) {
    const auto run = node().run(HOOK_from_pod, "pod1", asked[i]);
    EXPECT_EQ(run.verdict(), VERDICT_REPLY);
    EXPECT_EQ(run.bytes, want[i].bytes()) << run.packet.describe();
  }
}

TEST_P(LiveAddress, AnEchoReplyIsNotAnswered) {
  const Packet reply = from_pod(1) / header(who().client, who().vip) / Echo{.id = 7, .reply = true};
  EXPECT_THAT(node().run(HOOK_from_pod, "pod1", reply), Drops(DROP_NO_SERVICE));
}

TEST_P(LiveAddress, ForgedAndClosedPodsGetNoAnswer) {
  const Packet forged = from_pod(1) / header(who().server, who().vip) / Echo{.id = 7};
  EXPECT_THAT(node().run(HOOK_from_pod, "pod1", forged), Drops(DROP_SPOOFED));
  node().change_pod(1, [](auto& pod) { pod.state = ENDPOINT_CLOSED; });
  const Packet request = from_pod(1) / header(who().client, who().vip) / Echo{.id = 7};
  EXPECT_THAT(node().run(HOOK_from_pod, "pod1", request), Drops(DROP_ENDPOINT_CLOSED));
}

// An address that the node itself has, an externalIP for instance, is answered by its stack.
TEST_P(LiveAddress, OwnAddressesAreTheStacks) {
  mark(who().node1, FRONTEND_EXTERNAL_IP);
  const Packet request = from_wire() / header(who().outside, who().node1) / Echo{.id = 7};
  EXPECT_THAT(node().run(HOOK_from_uplink, "uplink", request), Sends(VERDICT_PASS, request));
}

INSTANTIATE_FAMILIES(LiveAddress);

}  // namespace
}  // namespace bpfnet::test
