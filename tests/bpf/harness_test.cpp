// The harness itself: a packet goes through a program and comes back with its trace.
#include "tests/support/fixture.h"

namespace bpfnet::test {
namespace {

class Harness : public DatapathFixture {};

// xdp_uplink leaves its packets to from_uplink, which traces them.
TEST_P(Harness, EveryTcHookTracesEveryPacket) {
  const Packet packet = from_wire() / Ip{.src = who().outside, .dst = who().node1} / Tcp{};
  for (const auto hook : {HOOK_from_uplink, HOOK_to_uplink, HOOK_from_host, HOOK_to_pod, HOOK_from_pod}) {
    EXPECT_TRUE(node().run(hook, "uplink", packet).event) << "hook " << hook;
  }
}

TEST_P(Harness, TheNodeHasItsActors) {
  EXPECT_EQ(node().maps().addresses.entries()->size(), 10U);
  EXPECT_EQ(node().flows().size(), 0U);
}

INSTANTIATE_FAMILIES(Harness);

}  // namespace
}  // namespace bpfnet::test
