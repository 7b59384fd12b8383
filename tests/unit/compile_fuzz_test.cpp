#include <fmt/format.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstdlib>

#include "control/compile/render.h"
#include "tests/support/policy/manifests.h"
#include "tests/support/policy/random_cluster.h"
#include "tests/support/policy/specification.h"
#include "tests/unit/compile_lookup.h"

namespace bpfnet::compile {
namespace {

using bpfnet::test::ClusterGenerator;
using bpfnet::test::Decision;
using bpfnet::test::RandomCluster;

constexpr uint64_t kSeed = 0x6270666e6574;
constexpr int kQuestions = 200;  // for each cluster, in each direction

int rounds() {
  const char* more = std::getenv("BPFNET_FUZZ_ROUNDS");
  return more ? std::atoi(more) : 600;
}

/// Every policy, to read a failure by.
std::string explain(const RandomCluster& cluster) {
  std::string text;
  for (const auto& [name, policy] : cluster.state.policies) text += bpfnet::test::manifest_of(policy) + "\n";
  for (const auto& [name, policy] : cluster.state.cluster_policies)
    text += bpfnet::test::manifest_of(policy) + "\n";
  return text;
}

/// One of the rules that decide by the specification, or none if none does.
bool names_the_rule(const PolicyImage& image, uint32_t rule, Direction direction, const Decision& decision) {
  if (decision.by.empty()) return rule == 0;
  if (!image.rules.contains(rule)) return false;
  const RuleInfo& info = image.rules.at(rule);
  return std::ranges::any_of(decision.by, [&](const auto& each) {
    return info.policy == each.first &&
           info.text.starts_with(fmt::format("{}[{}]", to_string(direction), each.second));
  });
}

struct Tally {
  int64_t verdicts = 0;
  int64_t allowed = 0;
  int64_t audited = 0;
  int64_t by_cluster_policy = 0;
  int64_t judged = 0;  ///< by a set, not for want of one
};

void ask(ClusterGenerator& generator, const RandomCluster& cluster, const PolicyImage& image, Tally& tally) {
  const LocalEndpoint& subject = generator.one_of(cluster.endpoints);
  const Address& peer = generator.one_of(cluster.addresses);
  const uint16_t port = generator.one_of(cluster.ports);
  const auto proto =
      generator.one_of(std::vector<uint8_t>{IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP, IPPROTO_ICMP});
  for (const Direction direction : {Direction::kIngress, Direction::kEgress}) {
    const Decision expected = bpfnet::test::specification_decides(
        cluster.state, cluster.node, cluster.endpoints, subject, direction, peer, proto, port);
    const PolicyVerdict got = image_decides(image, subject.index, direction, peer, proto, port);
    const auto question =
        fmt::format("{} of endpoint {} ({}), peer {}, protocol {}, port {}", to_string(direction),
                    subject.index, subject.pod.to_string(), peer.to_string(), proto, port);
    ASSERT_EQ(int{got.verdict}, int{expected.verdict}) << question << "\n"
                                                       << explain(cluster) << render(image);
    ASSERT_TRUE(names_the_rule(image, got.rule, direction, expected))
        << question << ": rule " << got.rule << "\n"
        << explain(cluster) << render(image);
    ++tally.verdicts;
    tally.allowed += expected.verdict == POLICY_ALLOW;
    tally.audited += expected.verdict == POLICY_AUDIT;
    tally.by_cluster_policy +=
        !expected.by.empty() && cluster.state.cluster_policies.contains(expected.by.front().first);
    const auto& policy = image.endpoints.at(subject.index);
    tally.judged += (direction == Direction::kIngress ? policy.ingress_set : policy.egress_set) != 0;
  }
}

TEST(CompilePolicyFuzz, EveryVerdictAndItsRuleAreThoseOfTheSpecification) {
  Tally tally;
  for (int round = 0; round < rounds(); ++round) {
    SCOPED_TRACE(fmt::format("round {}", round));
    ClusterGenerator generator(kSeed + static_cast<uint64_t>(round));
    const RandomCluster cluster = generator.make();
    if (cluster.endpoints.empty()) continue;
    PolicyNumbers numbers;
    const PolicyImage image = compile_policy(cluster.state, cluster.node, cluster.endpoints, numbers);
    for (int i = 0; i < kQuestions; ++i) {
      ask(generator, cluster, image, tally);
      if (HasFatalFailure()) return;
    }
  }
  RecordProperty("verdicts", std::to_string(tally.verdicts));
  // The questions are worth asking: neither nearly all open nor nearly all closed, and of all kinds.
  EXPECT_GE(tally.verdicts, int64_t{rounds()} * 340);
  EXPECT_GT(tally.allowed, tally.verdicts / 10);
  EXPECT_GT(tally.verdicts - tally.allowed, tally.verdicts / 10);
  EXPECT_GT(tally.judged, tally.verdicts / 4);
  EXPECT_GT(tally.audited, tally.verdicts / 200);
  EXPECT_GT(tally.by_cluster_policy, tally.verdicts / 25);
}

/// A11: NetworkPolicies, which have nothing to say of a pod that reaches itself, allow it everything.
RandomCluster asking_cluster_policies(RandomCluster cluster) {
  for (auto& [name, policy] : cluster.state.policies) policy.ingress = policy.egress = {model::PolicyRule{}};
  return cluster;
}

TEST(CompilePolicyFuzz, A11_OfAPodThatReachesItselfByAServiceClusterPoliciesDecide) {
  int denied = 0;
  for (int round = 0; round < rounds(); ++round) {
    ClusterGenerator generator(kSeed + static_cast<uint64_t>(round));
    const RandomCluster cluster = generator.make();
    const RandomCluster asked = asking_cluster_policies(cluster);
    PolicyNumbers numbers;
    const PolicyImage image = compile_policy(cluster.state, cluster.node, cluster.endpoints, numbers);
    for (const LocalEndpoint& subject : cluster.endpoints) {
      const auto pod = cluster.state.pods.find(subject.pod);
      if (pod == cluster.state.pods.end() || pod->second.finished()) continue;
      for (const Address& own : subject.ips) {
        if (image.addresses.at({0, own}).endpoint != subject.index) continue;
        for (const uint16_t port : cluster.ports)
          for (const Direction direction : {Direction::kIngress, Direction::kEgress}) {
            const Decision expected = bpfnet::test::specification_decides(
                asked.state, asked.node, asked.endpoints, subject, direction, own, IPPROTO_TCP, port);
            const PolicyVerdict got =
                image_decides_itself(image, subject.index, direction, IPPROTO_TCP, port, own.family());
            ASSERT_EQ(int{got.verdict}, int{expected.verdict})
                << "round " << round << ": " << to_string(direction) << " of endpoint " << subject.index
                << " at " << own.to_string() << ", port " << port << "\n"
                << explain(cluster) << render(image);
            denied += expected.verdict == POLICY_DENY;
          }
      }
    }
  }
  EXPECT_GT(denied, rounds());
}

TEST(CompilePolicyFuzz, CompilingTwiceChangesNothingAndSetsHoldNoEntryThatDecidesNothing) {
  for (int round = 0; round < rounds() / 4; ++round) {
    ClusterGenerator generator(kSeed + static_cast<uint64_t>(round));
    const RandomCluster cluster = generator.make();
    PolicyNumbers numbers;
    const PolicyImage first = compile_policy(cluster.state, cluster.node, cluster.endpoints, numbers);
    const PolicyImage second = compile_policy(cluster.state, cluster.node, cluster.endpoints, numbers);
    ASSERT_EQ(render(first), render(second));
    for (const auto& [id, set] : first.sets) {
      for (const auto& [entry, verdict] : set.entries) {
        if (entry.port_bits != 16) continue;
        PolicyImage without;
        without.sets[id] = set;
        without.sets[id].entries.erase(entry);
        EXPECT_FALSE(set_decides(without, id, entry.identity, entry.proto, entry.port) == verdict)
            << "set " << id << " says so without this entry too\n"
            << render(first);
      }
    }
  }
}

}  // namespace
}  // namespace bpfnet::compile
