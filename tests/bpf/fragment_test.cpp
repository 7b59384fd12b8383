// Fragments out of order (S49): who is sent to the defragmenter, who is not, and where they go on from there.
#include "maps/abi/fragment.h"

#include <linux/pkt_cls.h>

#include "tests/support/fixture.h"

namespace bpfnet::test {
namespace {

constexpr uint32_t kDefragmenter = 77;  // redirects are told, not done, by a test run
constexpr uint16_t kPiece = 1400;
const Mac kOther{{0x02, 0xee, 0, 0, 0, 1}};

datapath_config with_defragmenter() {
  datapath_config config = default_config();
  config.defrag_ifindex = kDefragmenter;
  return config;
}

class Fragment : public DatapathFixture {
 protected:
  void SetUp() override {
    DatapathFixture::SetUp();
    if (!IsSkipped() && !HasFatalFailure()) node_ = &pooled_node(1, with_defragmenter());
  }
  Node& node() { return *node_; }

  /// Three fragments of a datagram. Identifications are never used twice: records outlive a test.
  [[nodiscard]] static std::vector<Packet> pieces(const Eth& eth, const Address& src, const Address& dst) {
    static uint16_t id = 1000;
    Packet whole = Packet(eth);
    whole.add(Ip{.src = src, .dst = dst});
    return fragments(whole / Udp{.sport = 5, .dport = 53} / Payload::of_size(3000), kPiece, ++id);
  }
  [[nodiscard]] std::vector<Packet> from_client(const Address& dst) const {
    return pieces(from_pod(1), who().client, dst);
  }
  [[nodiscard]] std::vector<Packet> from_outside(const Address& dst) const {
    return pieces(from_wire(), who().outside, dst);
  }
  Outcome pod_sends(const Packet& packet) { return node().run(HOOK_from_pod, "pod1", packet); }
  Outcome wire_brings(const Packet& packet) { return node().run(HOOK_from_uplink, "uplink", packet); }
  /// As the defragmenter's stack sends it: from a link address of its own.
  Outcome comes_back(Packet packet) {
    packet.get<Eth>().dst = kOther;
    return node().run(HOOK_from_defrag, "bpfnet1", packet);
  }
  static int hops(const Packet& packet) {
    return packet.find<Ip4>() ? packet.at<Ip4>().ttl : packet.at<Ip6>().hop_limit;
  }

  Node* node_ = nullptr;
};

TEST_P(Fragment, InOrderNothingIsDiverted) {
  for (const auto& piece : from_client(who().server))
    EXPECT_THAT(pod_sends(piece), HasVerdict(VERDICT_TO_ENDPOINT));
}

TEST_P(Fragment, OnlyTheFirstMustComeFirst) {
  const auto three = from_client(who().server);
  for (const size_t i : {0U, 2U, 1U}) EXPECT_THAT(pod_sends(three[i]), HasVerdict(VERDICT_TO_ENDPOINT));
}

TEST_P(Fragment, ALaterOneBeforeItsFirstTakesAllAlong) {
  const auto three = from_client(who().server);
  for (const size_t i : {1U, 0U, 2U}) {
    const auto run = pod_sends(three[i]);
    EXPECT_THAT(run, HasVerdict(VERDICT_DEFRAGMENT));
    EXPECT_THAT(run, LeavesBy(kDefragmenter));
    EXPECT_EQ(run.code, TC_ACT_REDIRECT);
    EXPECT_EQ(run.flow_delta, 0);
  }
}

TEST_P(Fragment, TheDefragmentersHopIsPaidForAndNothingElseChanges) {
  const auto piece = from_client(who().server)[1];
  Packet want = piece;
  if (who().v4())
    want.get<Ip4>().ttl++;
  else
    want.get<Ip6>().hop_limit++;
  const auto run = pod_sends(piece);
  EXPECT_THAT(run, Sends(VERDICT_DEFRAGMENT, want));
}

TEST_P(Fragment, TheLargestHopLimitIsNotWrapped) {
  auto piece = from_client(who().server)[1];
  if (who().v4())
    piece.get<Ip4>().ttl = 255;
  else
    piece.get<Ip6>().hop_limit = 255;
  EXPECT_EQ(hops(pod_sends(piece).packet), 255);
}

TEST_P(Fragment, BackInOrderThePodsOwnHookTakesThemOn) {
  node().add_service({.address = who().vip, .port = 53, .proto = 17, .backends = {{who().server, 5353}}});
  const auto three = from_client(who().vip);
  for (const size_t i : {2U, 1U, 0U}) EXPECT_THAT(pod_sends(three[i]), HasVerdict(VERDICT_DEFRAGMENT));
  for (const auto& piece : three) {
    const auto back = comes_back(piece);
    EXPECT_THAT(back, HasVerdict(VERDICT_DEFRAGMENT));
    EXPECT_THAT(back, LeavesBy(node().ifindex("pod1")));
    EXPECT_EQ(back.packet.at<Eth>().dst, node().device_mac("pod1"));
    const auto run = pod_sends(back.packet);
    EXPECT_THAT(run, HasVerdict(VERDICT_TO_ENDPOINT));
    EXPECT_THAT(run, LeavesBy(node().ifindex("pod2")));
  }
}

TEST_P(Fragment, FromTheWireForPodServiceAndNode) {
  for (const auto& destination : {who().server, who().vip, who().node1}) {
    const auto three = from_outside(destination);
    EXPECT_THAT(wire_brings(three[1]), HasVerdict(VERDICT_DEFRAGMENT));
    const auto back = comes_back(three[0]);
    EXPECT_THAT(back, LeavesBy(node().ifindex("uplink")));
    EXPECT_EQ(back.packet.at<Eth>().dst, node().device_mac("uplink"));
  }
}

TEST_P(Fragment, ForALoadBalancersAddress) {
  const Address vip = pick("203.0.113.80", "2001:db8:80::80");
  EXPECT_THAT(wire_brings(from_outside(vip)[1]), HasVerdict(VERDICT_PASS));
  node().add_service({.address = vip, .port = 0, .proto = 0, .backends = {}});
  EXPECT_THAT(wire_brings(from_outside(vip)[1]), HasVerdict(VERDICT_DEFRAGMENT));
}

TEST_P(Fragment, TheHostsOwnComesBackToTheHost) {
  const auto three = from_outside(who().node1);
  EXPECT_THAT(wire_brings(three[2]), HasVerdict(VERDICT_DEFRAGMENT));
  for (const auto& piece : three) {
    const auto run = wire_brings(comes_back(piece).packet);
    EXPECT_THAT(run, HasVerdict(VERDICT_PASS));
    EXPECT_EQ(run.code, TC_ACT_OK);
  }
}

TEST_P(Fragment, WhatIsNotForUsPasses) {
  EXPECT_THAT(wire_brings(from_outside(who().gateway)[1]), HasVerdict(VERDICT_PASS));
  Packet tunnel(from_wire());
  tunnel.add(Ip{.src = who().outside, .dst = who().node1});
  auto piece = fragments(tunnel / Payload::of_size(3000), kPiece, 9)[1];
  if (who().v4())
    piece.get<Ip4>().proto = 50;
  else
    piece.get<Frag6>().next = 50;
  EXPECT_THAT(wire_brings(piece), HasVerdict(VERDICT_PASS));
}

TEST_P(Fragment, ASenderIsCheckedBeforeItsFragmentsMeetThoseOfOthers) {
  EXPECT_THAT(pod_sends(pieces(from_pod(1), who().server, who().vip)[1]), Drops(DROP_SPOOFED));
  EXPECT_THAT(wire_brings(pieces(from_wire(), who().client, who().vip)[1]), Drops(DROP_SPOOFED));
  EXPECT_THAT(wire_brings(pieces(from_wire(), who().node1, who().client)[1]), Drops(DROP_SPOOFED));
  node().change_pod(1, [](endpoint& pod) { pod.state = ENDPOINT_CLOSED; });
  EXPECT_THAT(pod_sends(from_client(who().vip)[1]), Drops(DROP_ENDPOINT_CLOSED));
}

TEST_P(Fragment, AFloodOfLoneFragmentsEndsAtItsSender) {
  const Address flooder = pick("10.1.0.33", "fd00:1::33");
  node().add_pod({.index = 3, .addresses = {flooder}, .identity = 1033});
  const auto three = pieces(from_pod(3), flooder, who().vip);
  const auto send = [&] {
    return node().run(HOOK_from_pod, "pod3", pieces(from_pod(3), flooder, who().vip)[1]);
  };
  for (int i = 0; i < FRAGMENTS_OPEN_MAX; ++i)
    ASSERT_TRUE(node().try_run(HOOK_from_pod, "pod3", three[1].bytes(), {.light = true}));
  EXPECT_THAT(send(), Drops(DROP_FRAGMENT_FLOOD));
  EXPECT_THAT(pod_sends(from_client(who().vip)[1]), HasVerdict(VERDICT_DEFRAGMENT)) << "others go on";
  // A datagram that became whole is no part of a flood.
  EXPECT_THAT(comes_back(three[0]), HasVerdict(VERDICT_DEFRAGMENT));
  EXPECT_THAT(send(), HasVerdict(VERDICT_DEFRAGMENT));
  EXPECT_THAT(send(), Drops(DROP_FRAGMENT_FLOOD));
}

TEST_P(Fragment, NothingButDatagramsComesOutOfTheDefragmenter) {
  Packet error(Eth{.dst = kOther, .src = kOther});
  error.add(Ip{.src = who().any, .dst = who().client});
  const Packet about = Packet(Ip{.src = who().client, .dst = who().server}) / Udp{.sport = 5, .dport = 53};
  const Packet message =
      who().v4() ? error / Icmp4{.type = 11, .code = 1} / about : error / Icmp6{.type = 3, .code = 1} / about;
  EXPECT_THAT(node().run(HOOK_from_defrag, "bpfnet1", message), Drops(DROP_ICMP_UNRELATED));
  EXPECT_THAT(comes_back(from_client(who().server)[1]), Drops(DROP_FRAGMENT_UNKNOWN));
}

INSTANTIATE_FAMILIES(Fragment);

}  // namespace
}  // namespace bpfnet::test
