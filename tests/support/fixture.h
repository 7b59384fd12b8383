#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/node.h"

namespace bpfnet::test {

/// A node of the pool for this configuration, emptied; loading the programs once a process keeps tests quick.
Node& pooled_node(int number, const datapath_config& config = default_config());

/// Skips with the reason where BPF is not available; BPFNET_REQUIRE_BPF=1 makes that a failure (CI).
class DatapathFixture : public testing::TestWithParam<Family> {
 protected:
  void SetUp() override;

  /// The node under test, `number` 1, with the default configuration.
  Node& node() { return *node_; }
  [[nodiscard]] const Actors& who() const { return actors_; }

  /// An address of either family: `pick("10.9.9.9", "fd00::9")`.
  [[nodiscard]] Address pick(std::string_view v4, std::string_view v6) const { return actors_.pick(v4, v6); }
  [[nodiscard]] uint8_t icmp() const { return who().v4() ? 1 : 58; }

  /// What pod `index` sends: Ethernet from the pod to its gateway.
  [[nodiscard]] static Eth from_pod(uint32_t index);
  /// What arrives on the uplink from the gateway.
  [[nodiscard]] static Eth from_wire();
  /// What the host's stack sends through bpfnet0.
  [[nodiscard]] static Eth from_stack();

 private:
  Actors actors_{GetParam()};
  Node* node_ = nullptr;
};

MATCHER_P(IsPacket, want, "") {
  Packet given = arg;
  const bool whole = Packet(want).template find<Eth>() != nullptr;
  if (!whole && given.find<Eth>()) given = Packet::parse(quote(given, 1 << 16).bytes, true);
  const std::string difference = diff(want, given);
  *result_listener << "\n" << difference;
  return difference.empty();
}

/// The verdict, and the packet as it left; without an Eth layer in `want` the link header is not compared.
MATCHER_P2(Sends, verdict, want, "") {
  if (arg.verdict() != verdict) {
    *result_listener << "verdict " << arg.verdict() << ", want " << verdict;
    return false;
  }
  return ExplainMatchResult(IsPacket(Packet(want)), arg.packet, result_listener);
}

/// Dropped for this reason, counted once under it, and nothing else.
MATCHER_P(Drops, reason, "") {
  const std::map<int, uint64_t> want = {{static_cast<int>(reason), 1}};
  *result_listener << "reason " << arg.reason();
  return arg.verdict() == VERDICT_DROP && arg.reason() == reason && arg.drops == want;
}

/// The outermost ICMP header of either family.
inline Icmp4 icmp_of(const Packet& packet) {
  if (const auto* v4 = packet.find<Icmp4>()) return *v4;
  const auto& v6 = packet.at<Icmp6>();
  return {.type = v6.type, .code = v6.code, .id = v6.id, .seq = v6.seq, .checksum = v6.checksum};
}

/// The datapath answered with this ICMP message.
MATCHER_P2(IsIcmp, type, code, "") {
  const Icmp4 icmp = icmp_of(arg.packet);
  return icmp.type == type && icmp.code == code && !icmp.checksum;
}

MATCHER_P(HasVerdict, verdict, "") {
  return arg.verdict() == verdict;
}
MATCHER_P(LeavesBy, ifindex, "") {
  return arg.event && arg.event->out_ifindex == ifindex;
}

}  // namespace bpfnet::test
