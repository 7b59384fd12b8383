#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control/sources/decode.h"
#include "tests/support/policy/manifests.h"
#include "tests/support/policy/random_policies.h"

namespace bpfnet::sources {
namespace {

using model::ClusterNetworkPolicy;
using model::PolicyAction;
using model::Protocol;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

/// A policy `fence`; `rules` stands within `spec`.
std::string manifest(const std::string& rules, const std::string& head =
                                                   "tier: Admin, priority: 10, "
                                                   "subject: {namespaces: {}}") {
  return fmt::format(R"(apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {{name: fence}}
spec: {{{}{}{}}}
)",
                     head, rules.empty() ? "" : ", ", rules);
}

Decoded decode_one(const std::string& text) {
  DecodedText decoded = decode(text, Format::kYaml);
  EXPECT_THAT(decoded.problems, IsEmpty());
  EXPECT_THAT(decoded.objects, SizeIs(1));
  return decoded.objects.empty() ? Decoded{} : std::move(decoded.objects.front());
}

ClusterNetworkPolicy good(const std::string& text) {
  const Decoded decoded = decode_one(text);
  EXPECT_THAT(decoded.problems, IsEmpty());
  EXPECT_TRUE(decoded.object);
  return decoded.object ? std::get<ClusterNetworkPolicy>(*decoded.object) : ClusterNetworkPolicy{};
}

/// The complaint about a policy that is refused.
std::string refusal(const std::string& text) {
  const Decoded decoded = decode_one(text);
  EXPECT_FALSE(decoded.object);
  std::string all;
  for (const Problem& problem : decoded.problems) all += problem.to_string() + "\n";
  return all;
}

ClusterNetworkPolicy fallback(const std::string& text) {
  const Decoded decoded = decode_one(text);
  EXPECT_FALSE(decoded.object);
  EXPECT_TRUE(decoded.fallback);
  return decoded.fallback ? std::get<ClusterNetworkPolicy>(*decoded.fallback) : ClusterNetworkPolicy{};
}

TEST(DecodeClusterPolicy, A1_A4_A8_A9_A10_WhatItSaysIsRead) {
  const auto policy = good(manifest(
      R"(ingress: [{name: probes, action: Pass, from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: prober}}}}]}],
      egress: [{action: Accept, to: [{networks: [10.0.0.0/8, "fd00::/8"]}, {nodes: {matchLabels: {role: edge}}}],
                protocols: [{tcp: {destinationPort: {number: 80}}}, {udp: {destinationPort: {range: {start: 50, end: 60}}}}]},
               {action: Deny, to: [{namespaces: {}}], protocols: [{destinationNamedPort: http}]}])",
      "tier: Baseline, priority: 1000, subject: {pods: {podSelector: {matchLabels: {app: web}}}}"));
  EXPECT_EQ(policy.name, "fence");
  EXPECT_EQ(policy.tier, model::PolicyTier::kBaseline);
  EXPECT_EQ(policy.priority, 1000);
  EXPECT_TRUE(policy.subject.namespaces && policy.subject.namespaces->requirements.empty());
  ASSERT_TRUE(policy.subject.pods);
  EXPECT_THAT(policy.subject.pods->requirements, SizeIs(1));
  ASSERT_THAT(policy.ingress, SizeIs(1));
  EXPECT_EQ(policy.ingress[0].name, "probes");
  EXPECT_EQ(policy.ingress[0].action, PolicyAction::kPass);
  ASSERT_THAT(policy.egress, SizeIs(2));
  EXPECT_THAT(policy.egress[0].traffic.peers, SizeIs(3));
  EXPECT_TRUE(policy.egress[0].traffic.peers[2].nodes);
  EXPECT_THAT(policy.egress[0].traffic.ports, ElementsAre(model::PolicyPort{Protocol::kTcp, 80, {}, ""},
                                                          model::PolicyPort{Protocol::kUdp, 50, 60, ""}));
  EXPECT_THAT(policy.egress[1].traffic.ports, SizeIs(3)) << "a named port is of any protocol";
}

TEST(DecodeClusterPolicy, EveryGeneratedPolicyIsReadAsItWasWritten) {
  test::Vocabulary words;
  words.addresses = {Address::parse("10.0.0.1").value(), Address::parse("fd00::1").value()};
  test::PolicyGenerator generator(1, words);
  for (int i = 0; i < 300; ++i) {
    const auto policy = generator.cluster_policy("p");
    auto decoded = decode(test::manifest_of(policy), Format::kJson);
    ASSERT_THAT(decoded.objects, SizeIs(1));
    ASSERT_TRUE(decoded.objects[0].object) << decoded.objects[0].problems[0].to_string();
    auto read = std::get<ClusterNetworkPolicy>(*decoded.objects[0].object);
    read.origin = policy.origin;
    EXPECT_EQ(read, policy) << test::manifest_of(policy);
    const auto plain = generator.policy({"blue", "p"});
    decoded = decode(test::manifest_of(plain), Format::kJson);
    ASSERT_TRUE(decoded.objects.at(0).object) << test::manifest_of(plain);
    auto read_plain = std::get<model::NetworkPolicy>(*decoded.objects[0].object);
    read_plain.origin = plain.origin;
    EXPECT_EQ(read_plain, plain) << test::manifest_of(plain);
  }
}

std::string many(const std::string& item, int count) {
  std::string list = item;
  for (int i = 1; i < count; ++i) list += ", " + item;
  return "[" + list + "]";
}

struct Mistake {
  const char* what;
  std::string text;
  const char* field;
  const char* says;
};

TEST(DecodeClusterPolicy, MistakesNameObjectAndField) {
  const std::string head = "tier: Admin, priority: 1, ";
  const std::string to_all = "to: [{namespaces: {}}]";
  const std::vector<Mistake> mistakes = {
      {"A3 no tier", manifest("", "priority: 1, subject: {namespaces: {}}"), "spec.tier", "missing"},
      {"A3 no such tier", manifest("", "tier: Core, priority: 1, subject: {namespaces: {}}"), "spec.tier",
       "Core"},
      {"A4 priority", manifest("", "tier: Admin, priority: 1001, subject: {namespaces: {}}"), "spec.priority",
       "1001"},
      {"A4 26 rules", manifest("egress: " + many("{action: Deny, " + to_all + "}", 26)), "spec.egress",
       "26 entries"},
      {"A8 no subject", manifest("", "tier: Admin, priority: 1"), "spec.subject", "missing"},
      {"A8 empty subject", manifest("", head + "subject: {}"), "spec.subject", "no field that is known"},
      {"A8 both", manifest("", head + "subject: {namespaces: {}, pods: {podSelector: {}}}"), "spec.subject",
       "namespaces and pods at once"},
      {"A8 half a pods", manifest("", head + "subject: {pods: {namespaceSelector: {}}}"),
       "spec.subject.pods.podSelector", "missing"},
      {"A9 26 networks",
       manifest("egress: [{action: Deny, to: [{networks: " + many("10.0.0.0/8", 26) + "}]}]"),
       "spec.egress[0].to[0].networks", "26 entries"},
      {"A9 no network", manifest("egress: [{action: Deny, to: [{networks: []}]}]"),
       "spec.egress[0].to[0].networks", "is empty"},
      {"A9 no CIDR", manifest("egress: [{action: Deny, to: [{networks: [all]}]}]"),
       "spec.egress[0].to[0].networks[0]", "all"},
      {"A9 two peers in one", manifest("egress: [{action: Deny, to: [{nodes: {}, namespaces: {}}]}]"),
       "spec.egress[0].to[0]", "namespaces and nodes at once"},
      {"A9 names are for Accept", manifest("egress: [{action: Deny, to: [{domainNames: [a.example]}]}]"),
       "spec.egress[0].to[0].domainNames", "Accept only"},
      {"A9 no peers", manifest("ingress: [{action: Deny}]"), "spec.ingress[0].from", "missing"},
      {"A9 misspelt peers", manifest("ingress: [{action: Deny, form: [{namespaces: {}}]}]"),
       "spec.ingress[0].form", "not known here"},
      {"A5 no action", manifest("egress: [{" + to_all + "}]"), "spec.egress[0].action", "missing"},
      {"A5 no such action", manifest("egress: [{action: Allow, " + to_all + "}]"), "spec.egress[0].action",
       "Allow"},
      {"A10 two at once",
       manifest("egress: [{action: Deny, " + to_all +
                ", protocols: [{tcp: {destinationPort: {number: 1}}, destinationNamedPort: a}]}]"),
       "spec.egress[0].protocols[0]", "at once"},
      {"A10 none", manifest("egress: [{action: Deny, " + to_all + ", protocols: [{}]}]"),
       "spec.egress[0].protocols[0]", "no field that is known"},
      {"A10 empty list", manifest("egress: [{action: Deny, " + to_all + ", protocols: []}]"),
       "spec.egress[0].protocols", "is empty"},
      {"A10 no port", manifest("egress: [{action: Deny, " + to_all + ", protocols: [{tcp: {}}]}]"),
       "spec.egress[0].protocols[0].tcp.destinationPort", "missing"},
      {"A10 number and range",
       manifest("egress: [{action: Deny, " + to_all +
                ", protocols: [{tcp: {destinationPort: {number: 1, range: {start: 1, end: 2}}}}]}]"),
       "spec.egress[0].protocols[0].tcp.destinationPort", "number and range at once"},
      {"A10 range",
       manifest("egress: [{action: Deny, " + to_all +
                ", protocols: [{udp: {destinationPort: {range: {start: 5, end: 4}}}}]}]"),
       "spec.egress[0].protocols[0].udp.destinationPort.range.end", "at least start, 5"},
      {"A10 port 0",
       manifest("egress: [{action: Deny, " + to_all +
                ", protocols: [{sctp: {destinationPort: {number: 0}}}]}]"),
       "spec.egress[0].protocols[0].sctp.destinationPort.number", "from 1 to 65535"},
      {"A10 name beside networks",
       manifest("egress: [{action: Accept, to: [{networks: [10.0.0.0/8]}], protocols: "
                "[{destinationNamedPort: http}]}]"),
       "spec.egress[0].protocols[0]", "named port beside networks"},
      {"A10 name beside nodes",
       manifest("egress: [{action: Accept, to: [{namespaces: {}}, {nodes: {}}], protocols: "
                "[{destinationNamedPort: http}]}]"),
       "spec.egress[0].protocols[0]", "named port beside networks or nodes"},
      {"a long name",
       manifest("egress: [{action: Deny, name: " + std::string(101, 'x') + ", " + to_all + "}]"),
       "spec.egress[0].name", "at most 100"},
  };
  for (const Mistake& mistake : mistakes) {
    SCOPED_TRACE(mistake.what);
    EXPECT_THAT(refusal(mistake.text),
                HasSubstr(fmt::format("ClusterNetworkPolicy fence: {}: ", mistake.field)));
    EXPECT_THAT(refusal(mistake.text), HasSubstr(mistake.says));
  }
}

TEST(DecodeClusterPolicy, A4_A9_A10_TwentyFiveOfEachAreFine) {
  (void)good(manifest("egress: " +
                      many("{action: Deny, to: " + many("{networks: " + many("10.0.0.0/8", 25) + "}", 2) +
                               ", protocols: " + many("{udp: {destinationPort: {number: 53}}}", 25) + "}",
                           25)));
}

TEST(DecodeClusterPolicy, A12_APeerWithoutAKnownFieldClosesTheRuleAndIsTold) {
  const auto decoded =
      decode_one(manifest("ingress: [{action: Accept, from: [{namespaces: {}}, {networks: [10.0.0.0/8]}]}, "
                          "{action: Pass, from: [{}]}],"
                          "egress: [{action: Deny, to: [{services: {}}]}]"));
  ASSERT_TRUE(decoded.object);
  const auto& policy = std::get<ClusterNetworkPolicy>(*decoded.object);
  EXPECT_TRUE(policy.ingress[0].fails_closed && policy.ingress[1].fails_closed &&
              policy.egress[0].fails_closed);
  ASSERT_THAT(decoded.problems, SizeIs(3));
  EXPECT_EQ(decoded.problems[0].field, "spec.ingress[0].from[1]");
  EXPECT_THAT(decoded.problems[0].text, HasSubstr("the rule accepts nothing"));
  EXPECT_THAT(decoded.problems[1].text, HasSubstr("the rule denies everything"));
  EXPECT_EQ(decoded.problems[0].effect, Effect::kNone);
}

TEST(DecodeClusterPolicy, A13_DomainNamesAreRefusedAndTheOtherRulesCount) {
  const auto decoded = decode_one(manifest(
      R"(egress: [{action: Accept, to: [{domainNames: ["*.example.org"]}]}, {action: Deny, to: [{namespaces: {}}]}])"));
  ASSERT_TRUE(decoded.object);
  const auto& policy = std::get<ClusterNetworkPolicy>(*decoded.object);
  EXPECT_TRUE(policy.egress[0].fails_closed);
  EXPECT_FALSE(policy.egress[1].fails_closed);
  ASSERT_THAT(decoded.problems, SizeIs(1));
  EXPECT_EQ(decoded.problems[0].field, "spec.egress[0].to[0].domainNames");
  EXPECT_THAT(decoded.problems[0].text, HasSubstr("is not supported"));
}

TEST(DecodeClusterPolicy, AFieldOfTheSpecThatIsNotKnownIsToldAndDoesNothing) {
  const auto decoded = decode_one(manifest("logging: true"));
  EXPECT_TRUE(decoded.object);
  ASSERT_THAT(decoded.problems, SizeIs(1));
  EXPECT_EQ(decoded.problems[0].field, "spec.logging");
  EXPECT_EQ(decoded.problems[0].effect, Effect::kNone);
}

TEST(DecodeClusterPolicy, OneThatWasNeverGoodClosesTheRulesThatCannotBeRead) {
  const auto policy =
      fallback(manifest("ingress: [{action: Accept, from: [{namespaces: {}}]}, {action: Pass, from: 7}, "
                        "{action: Pass, from: [{namespaces: {}}]}],"
                        "egress: {action: Deny}"));
  ASSERT_THAT(policy.ingress, SizeIs(3));
  EXPECT_FALSE(policy.ingress[0].fails_closed);
  EXPECT_TRUE(policy.ingress[1].fails_closed);
  EXPECT_FALSE(policy.ingress[2].fails_closed);
  EXPECT_EQ(policy.ingress[2].action, PolicyAction::kPass);
  ASSERT_THAT(policy.egress, SizeIs(1));
  EXPECT_TRUE(policy.egress[0].fails_closed);
  EXPECT_EQ(policy.egress[0].action, PolicyAction::kDeny);
}

TEST(DecodeClusterPolicy, OneThatWasNeverGoodAndWhoseSubjectIsUncertainDeniesAndNeverAccepts) {
  const std::string rules =
      "egress: [{action: Accept, to: [{namespaces: {}}]}, {action: Pass, to: [{nodes: {}}]}, {action: Deny, "
      "to: [{namespaces: {}}]}]";
  for (const char* head :
       {"tier: Admin, priority: 1, subject: {pod: {}}", "tier: Core, priority: 1, subject: {namespaces: {}}",
        "tier: Admin, subject: {namespaces: {}}",
        "tier: Admin, priority: 1, subject: {namespaces: {}}, subject: {namespaces: {}}"}) {
    const auto policy = fallback(manifest(rules, head));
    EXPECT_EQ(policy.tier, model::PolicyTier::kAdmin) << head;
    ASSERT_TRUE(policy.subject.namespaces) << head;
    EXPECT_THAT(policy.subject.namespaces->requirements, IsEmpty()) << head;
    ASSERT_THAT(policy.egress, SizeIs(2)) << head;
    for (const auto& rule : policy.egress) EXPECT_EQ(rule.action, PolicyAction::kDeny) << head;
  }
}

TEST(DecodePolicyMode, TheAnnotationPutsAPolicyInAuditMode) {
  const auto audit_of = [](const std::string& mode) {
    const auto decoded = decode_one(
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, annotations: "
        "{policy.bpfnet.io/mode: " +
        mode + "}}, spec: {podSelector: {}}}");
    EXPECT_TRUE(decoded.object);
    return std::pair(std::get<model::NetworkPolicy>(*decoded.object).audit, decoded.problems.size());
  };
  EXPECT_EQ(audit_of("audit"), std::pair(true, size_t{0}));
  EXPECT_EQ(audit_of("enforce"), std::pair(false, size_t{0}));
  EXPECT_EQ(audit_of("logonly"), std::pair(false, size_t{1})) << "told, and enforced";
}

}  // namespace
}  // namespace bpfnet::sources
