// Why a connection is denied, and what would have been let through: on sets written by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include "control/compile/explain.h"
#include "control/compile/policy_lookup.h"
#include "maps/abi/policy.h"

namespace bpfnet::compile {
namespace {

constexpr uint32_t kClient = 256;
constexpr uint32_t kWeb = 257;
constexpr PolicyVerdict kDenied{0, POLICY_DENY};

PolicyVerdict by(uint32_t rule, uint8_t verdict = POLICY_ALLOW) {
  return {rule, verdict};
}

PolicyEntry tcp(uint32_t identity, uint16_t port, uint8_t bits = 16) {
  return {identity, IPPROTO_TCP, port, bits};
}

Question asks(uint16_t port, uint8_t proto = IPPROTO_TCP) {
  return {Direction::kIngress, kClient, proto, port};
}

/// The verdicts as `TCP 80-80 rule 5 allow` would be too long: protocol, first, last, rule.
std::vector<std::tuple<int, int, int, uint32_t>> spans(const PolicySet& set, uint32_t identity) {
  std::vector<std::tuple<int, int, int, uint32_t>> spans;
  for (const PortFinding& each : port_findings(set, identity))
    spans.emplace_back(each.proto, each.first, each.last, each.finding.verdict.rule);
  return spans;
}

// The datapath's rule: the peer's own entries, then everyone's, of each the longest prefix.
TEST(PolicyLookup, FindsThePeersOwnEntryBeforeEveryonesAndTheLongestPrefix) {
  const PolicySet set{{{tcp(kClient, 80), by(1)},
                       {tcp(kClient, 0, 0), by(2, POLICY_DENY)},
                       {tcp(IDENTITY_ANY, 80), by(3)},
                       {tcp(IDENTITY_ANY, 8080), by(4)},
                       {{IDENTITY_ANY, 0, 0, 0}, by(5)}}};
  EXPECT_EQ(find_verdict(set, kClient, IPPROTO_TCP, 80).verdict, by(1));
  EXPECT_EQ(find_verdict(set, kClient, IPPROTO_TCP, 8080).verdict, by(2, POLICY_DENY));
  EXPECT_EQ(find_verdict(set, kClient, IPPROTO_UDP, 80).verdict, by(5));
  EXPECT_EQ(find_verdict(set, kWeb, IPPROTO_TCP, 80).verdict, by(3));
  EXPECT_EQ(find_verdict(set, kWeb, IPPROTO_TCP, 81).verdict, by(5));
  EXPECT_EQ(find_verdict(PolicySet{}, kWeb, IPPROTO_TCP, 81).verdict, kDenied);
}

TEST(PolicyLookup, PrefixesOfOneRuleAreOneSpanAndNothingIsLeftOut) {
  const PolicySet set{
      {{tcp(kClient, 8000, 13), by(1)}, {tcp(kClient, 8008, 16), by(1)}, {tcp(IDENTITY_ANY, 9000), by(2)}}};
  EXPECT_EQ(spans(set, kClient), (std::vector<std::tuple<int, int, int, uint32_t>>{{0, 0, 65535, 0},
                                                                                   {6, 0, 7999, 0},
                                                                                   {6, 8000, 8008, 1},
                                                                                   {6, 8009, 8999, 0},
                                                                                   {6, 9000, 9000, 2},
                                                                                   {6, 9001, 65535, 0}}));
}

std::string nearest_text(const PolicySet& set, const Question& question) {
  const auto nearest = nearest_allow(set, question);
  if (!nearest) return "none";
  return fmt::format("{} of {}", ports_text(nearest->proto, nearest->first, nearest->last),
                     nearest->identity);
}

TEST(NearestAllow, IsAnotherPortForTheSamePeerBeforeTheSamePortForOthers) {
  const PolicySet set{{{tcp(kClient, 8080), by(1)}, {tcp(kClient, 9999), by(1)}, {tcp(kWeb, 8081), by(2)}}};
  EXPECT_EQ(nearest_text(set, asks(8081)), "TCP 8080 of 256");
  EXPECT_EQ(nearest_text(set, asks(9000)), "TCP 8080 of 256");
  EXPECT_EQ(nearest_text(set, asks(9500)), "TCP 9999 of 256");
}

TEST(NearestAllow, IsTheSamePortForOthersBeforeWhatEverybodyMay) {
  const PolicySet set{{{{IDENTITY_ANY, IPPROTO_UDP, 53, 16}, by(1)},
                       {tcp(IDENTITY_ANY, 53), by(1)},
                       {tcp(kWeb, 8081), by(2)}}};
  EXPECT_EQ(nearest_text(set, asks(8081)), "TCP 8081 of 257");
  EXPECT_EQ(nearest_text(set, asks(8082)), "TCP 53 of 0");
  EXPECT_EQ(nearest_text(set, asks(8082, IPPROTO_SCTP)), "TCP 53 of 0");
}

TEST(NearestAllow, IsNeverWhatTheSetDeniesThisPeer) {
  // Everybody may use 8080, this peer alone may not.
  const PolicySet set{{{tcp(kClient, 0, 0), by(1, POLICY_DENY)}, {tcp(IDENTITY_ANY, 8080), by(2)}}};
  EXPECT_EQ(nearest_text(set, asks(8081)), "none");
  EXPECT_EQ(nearest_text(PolicySet{}, asks(8081)), "none");
}

// Issue 4, item 3.
TEST(DenialText, ReadsAsTheIssueHasIt) {
  Denial denial{.question = asks(8081),
                .isolated_by = {"default/x", "default/y"},
                .nearest = NearestAllow{kClient, IPPROTO_TCP, 8080, 8080, 1},
                .nearest_peer = "app=web"};
  EXPECT_EQ(denial_text(denial),
            "isolated by default/x and default/y, no rule allows TCP 8081; nearest allow: 8080 from app=web");
  denial.question.direction = Direction::kEgress;
  denial.nearest->proto = IPPROTO_UDP;
  denial.nearest->last = 8090;
  EXPECT_EQ(denial_text(denial),
            "isolated by default/x and default/y, no rule allows TCP 8081; nearest allow: UDP 8080-8090 to "
            "app=web");
  denial.nearest.reset();
  denial.question.proto = IPPROTO_ICMP;
  EXPECT_EQ(denial_text(denial), "isolated by default/x and default/y, no rule allows ICMP");
  denial.audited_by = {"default/z"};
  EXPECT_EQ(denial_text(denial),
            "isolated by default/x, default/y and default/z (audit mode), no rule allows ICMP");
  denial.isolated_by.clear();
  EXPECT_EQ(denial_text(denial), "isolated by default/z (audit mode), no rule allows ICMP");
  denial.audited_by.clear();
  EXPECT_EQ(denial_text(denial), "isolated, no rule allows ICMP");
  denial.rule = "guard egress[0]: to anywhere";
  EXPECT_EQ(denial_text(denial), "denied by guard egress[0]: to anywhere");
}

TEST(DenialText, WhomARuleIsAboutIsReadFromItsText) {
  EXPECT_EQ(peers_of("default/x ingress[0]: from pods app=web to TCP 80"), "app=web");
  EXPECT_EQ(
      peers_of(
          "ingress[1]: from pods app=web in namespaces team=a or all pods in all namespaces or pods to to "
          "TCP to, UDP 80"),
      "app=web in namespaces team=a or all pods in all namespaces or to");
  EXPECT_EQ(peers_of("egress[0]: to 10.0.0.0/8 except 10.1.0.0/16 on any port"),
            "10.0.0.0/8 except 10.1.0.0/16");
  EXPECT_EQ(peers_of("guard egress[0] dns: Accept to anywhere on UDP 53"), "anywhere");
  EXPECT_EQ(peers_of("guard ingress[0]: Deny everything (not understood)"), "");
}

TEST(DenialText, IdentitiesAreShortAndListsEnd) {
  EXPECT_EQ(short_identity("pod shop {app=web,tier=a} ns{x=y} ports{http/TCP=80} in 10.0.0.0/8"),
            "shop app=web,tier=a");
  EXPECT_EQ(short_identity("pod shop {} ns{x=y}"), "shop (no labels)");
  EXPECT_EQ(short_identity("pod shop (labels not known yet) ns{x=y}"), "shop (labels not known yet)");
  EXPECT_EQ(short_identity("cidr 10.0.0.0/8"), "cidr 10.0.0.0/8");
  EXPECT_EQ(enumerate({"a", "b", "c"}), "a, b and c");
  EXPECT_EQ(enumerate({"a", "b", "c"}, 2), "a, b and 1 more");
}

}  // namespace
}  // namespace bpfnet::compile
