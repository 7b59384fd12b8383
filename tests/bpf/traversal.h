#pragma once

#include <linux/pkt_cls.h>

#include <string>

#include "tests/support/fixture.h"

namespace bpfnet::test {

/// Two nodes and the wire between them: what one program sends is what the next one gets.
class Traversal : public DatapathFixture {
 protected:
  void SetUp() override {
    DatapathFixture::SetUp();
    if (!IsSkipped() && !HasFatalFailure()) other_ = &pooled_node(2);
  }

  [[nodiscard]] Packet header(const Address& src, const Address& dst, uint8_t ttl = 64) const {
    Packet packet;
    packet.add(Ip{.src = src, .dst = dst, .ttl = ttl});
    return packet;
  }
  /// A pod of node 1 or 2 sends.
  static Outcome pod_sends(Node& at, uint32_t pod, const Packet& packet) {
    return at.run(HOOK_from_pod, "pod" + std::to_string(pod), from_pod(pod) / packet);
  }
  static Outcome host_sends(Node& at, const Packet& packet) {
    return at.run(HOOK_from_host, "bpfnet1", from_stack() / packet);
  }
  static Outcome wire_brings(Node& at, const Packet& packet) {
    return at.run(HOOK_from_uplink, "uplink",
                  Eth{.dst = at.device_mac("uplink"), .src = Node::gateway_mac()} / packet);
  }
  /// Out of `from` by its uplink, where to_uplink must let it be, into `to`.
  static Outcome across(Node& from, Node& to, const Outcome& sent) {
    EXPECT_THAT(sent, HasVerdict(VERDICT_TO_NEXT_HOP));
    EXPECT_THAT(sent, LeavesBy(from.ifindex("uplink")));
    const auto out = from.run(HOOK_to_uplink, "uplink", sent.packet, {.mark = sent.mark});
    EXPECT_EQ(out.code, TC_ACT_OK);
    EXPECT_THAT(out.packet, IsPacket(sent.packet));
    return wire_brings(to, l3(out));
  }
  static Packet l3(const Outcome& run) { return Packet::parse(quote(run.packet, 1 << 16).bytes, true); }
  static uint16_t sport(const Outcome& run) { return run.packet.at<Tcp>().sport; }

  Node& one() { return node(); }
  Node& two() { return *other_; }
  Node* other_ = nullptr;
};

}  // namespace bpfnet::test
