// Audit mode: what policy would drop goes its way, and an event and a counter of their own tell.
#include "maps/convert.h"
#include "tests/bpf/policy_numbers.h"
#include "tests/support/fixture.h"

namespace bpfnet::test {
namespace {

constexpr uint32_t kRule = 77;

/// Let through, counted once under what it would have been dropped for, and not as a drop.
MATCHER_P2(Audits, reason, rule, "") {
  const std::map<int, uint64_t> want = {{static_cast<int>(reason), 1}};
  *result_listener << "verdict " << arg.verdict() << ", reason " << arg.reason();
  return arg.verdict() != VERDICT_DROP && arg.drops.empty() && arg.audits == want && arg.reason() == reason &&
         arg.event->flags == EVENT_AUDITED && arg.event->rule == static_cast<uint32_t>(rule);
}
/// Let through, and nobody is told of it.
MATCHER(PassesUnaudited, "") {
  return arg.verdict() != VERDICT_DROP && arg.audits.empty() && (arg.event->flags & EVENT_AUDITED) == 0 &&
         arg.reason() == DROP_NONE;
}

class PolicyAudit : public DatapathFixture {
 protected:
  Outcome send(uint8_t flags = SYN, uint16_t sport = kClientPort) {
    return node().run(HOOK_from_pod, "pod1",
                      from_pod(1) / Ip{.src = who().client, .dst = who().server} /
                          Tcp{.sport = sport, .dport = kServerPort, .flags = flags});
  }
  Outcome answer(uint8_t flags = SYN | ACK) {
    return node().run(HOOK_from_pod, "pod2",
                      from_pod(2) / Ip{.src = who().server, .dst = who().client} /
                          Tcp{.sport = kServerPort, .dport = kClientPort, .flags = flags});
  }
  template <typename Change>
  void change(uint32_t pod, Change&& what) {
    node().change_pod(pod, [&](auto& record) { what(record), ++record.epoch; });
  }
  void ingress(uint32_t set) {
    change(2, [&](auto& record) { record.ingress_set = set; });
  }
  void egress(uint32_t set) {
    change(1, [&](auto& record) { record.egress_set = set; });
  }
  void audit(uint32_t pod, bool on) {
    change(pod, [&](auto& record) { record.flags = on ? ENDPOINT_AUDITED : 0; });
  }
  [[nodiscard]] flow flow_of_client() {
    return node().find_flow(key(who().client, kClientPort, who().server, kServerPort, 6)).value();
  }
};

TEST_P(PolicyAudit, AnAuditEntryOfIngressLetsThroughAndTells) {
  ingress(kSet);
  node().add_policy(kSet, IDENTITY_ANY, 0, 0, 0, kRule, POLICY_AUDIT);
  EXPECT_THAT(send(), Audits(DROP_POLICY_INGRESS, kRule));
  EXPECT_NE(flow_of_client().flags & FLOW_AUDITED, 0);
  EXPECT_EQ(flow_of_client().rule, kRule);
}

TEST_P(PolicyAudit, AnAuditEntryOfEgressLetsThroughAndTells) {
  egress(kSet);
  node().add_policy(kSet, kServerIdentity, 6, kServerPort, 16, 0, POLICY_AUDIT);
  EXPECT_THAT(send(), Audits(DROP_POLICY_EGRESS, 0));
}

// The event is the connection's, not each packet's.
TEST_P(PolicyAudit, OnlyTheFirstPacketOfAConnectionIsTold) {
  ingress(kSet);
  node().add_policy(kSet, IDENTITY_ANY, 0, 0, 0, kRule, POLICY_AUDIT);
  send();
  EXPECT_THAT(answer(), PassesUnaudited());
  EXPECT_THAT(send(ACK), PassesUnaudited());
}

// P17: a change has its flows judged once more, and so told once more.
TEST_P(PolicyAudit, AConnectionThatIsJudgedAgainIsToldAgain) {
  send();
  answer();
  ingress(kSet);
  node().add_policy(kSet, IDENTITY_ANY, 0, 0, 0, kRule, POLICY_AUDIT);
  const auto run = answer(ACK);
  EXPECT_EQ(run.audits, (std::map<int, uint64_t>{{DROP_POLICY_INGRESS, 1}}));
  EXPECT_EQ(run.event.value().flags, EVENT_AUDITED | EVENT_REVERSED);
  EXPECT_NE(flow_of_client().flags & FLOW_AUDITED, 0);
  EXPECT_THAT(send(ACK), PassesUnaudited());
  ingress(POLICY_SET_ALLOW_ALL);
  EXPECT_THAT(send(ACK), PassesUnaudited());
  EXPECT_EQ(flow_of_client().flags & FLOW_AUDITED, 0);
}

// What audit mode lets through one way must still be allowed the other.
TEST_P(PolicyAudit, TheOtherDirectionStillDenies) {
  egress(kSet);
  node().add_policy(kSet, IDENTITY_ANY, 0, 0, 0, kRule, POLICY_AUDIT);
  ingress(POLICY_SET_DENY_ALL);
  const auto run = send();
  EXPECT_THAT(run, Drops(DROP_POLICY_INGRESS));
  EXPECT_EQ(run.event.value().flags, 0);
  EXPECT_EQ(run.event.value().rule, 0U);
  EXPECT_TRUE(run.audits.empty());
}

// Told as the drop would have been: by the first that denies.
TEST_P(PolicyAudit, BothDirectionsAuditedAreOneEvent) {
  egress(kSet);
  ingress(kSet + 1);
  node().add_policy(kSet, IDENTITY_ANY, 0, 0, 0, kRule, POLICY_AUDIT);
  node().add_policy(kSet + 1, kClientIdentity, 0, 0, 0, kRule + 1, POLICY_AUDIT);
  EXPECT_THAT(send(), Audits(DROP_POLICY_EGRESS, kRule));
}

// --policy-audit: whatever an endpoint's policy would deny.
TEST_P(PolicyAudit, AnAuditedEndpointsPolicyDropsNothing) {
  audit(1, true);
  audit(2, true);
  ingress(POLICY_SET_DENY_ALL);
  EXPECT_THAT(send(), Audits(DROP_POLICY_INGRESS, 0));
  egress(kSet);
  node().add_policy(kSet, kServerIdentity, 6, kServerPort, 16, kRule, POLICY_DENY);
  EXPECT_THAT(send(SYN, 2), Audits(DROP_POLICY_EGRESS, kRule));
  // Packets in the middle of a connection as well.
  EXPECT_THAT(send(ACK, 3), Audits(DROP_POLICY_EGRESS, kRule));
}

// P20: isolation of a pod whose policy is not in place is no policy's.
TEST_P(PolicyAudit, AClosedEndpointStaysClosed) {
  audit(2, true);
  change(2, [](auto& record) { record.state = ENDPOINT_CLOSED; });
  EXPECT_THAT(send(), Drops(DROP_ENDPOINT_CLOSED));
}

// The end of audit mode raises epochs: what it had let through is cut.
TEST_P(PolicyAudit, TheEndOfAuditModeCutsWhatItLetThrough) {
  audit(2, true);
  ingress(POLICY_SET_DENY_ALL);
  send();
  answer();
  EXPECT_THAT(send(ACK), PassesUnaudited());
  audit(2, false);
  const auto run = send(ACK);
  EXPECT_THAT(run, Drops(DROP_POLICY_INGRESS));
  EXPECT_EQ(run.flow_delta, -2);
}

// A packet that something else drops was not let through.
TEST_P(PolicyAudit, WhatIsDroppedForAnotherReasonIsNoAudit) {
  ingress(kSet);
  node().add_policy(kSet, IDENTITY_ANY, 0, 0, 0, kRule, POLICY_AUDIT);
  const auto run = node().run(HOOK_from_pod, "pod1",
                              from_pod(1) / Ip{.src = who().client, .dst = who().server, .ttl = 1} /
                                  Tcp{.sport = kClientPort, .dport = kServerPort});
  EXPECT_THAT(run, Drops(DROP_TTL_EXCEEDED));
  EXPECT_EQ(run.event.value().flags, 0);
  EXPECT_TRUE(run.audits.empty());
}

INSTANTIATE_FAMILIES(PolicyAudit);

}  // namespace
}  // namespace bpfnet::test
