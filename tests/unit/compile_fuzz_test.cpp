#include <fmt/format.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <cstdlib>

#include "control/compile/render.h"
#include "tests/unit/compile_lookup.h"
#include "tests/unit/compile_random.h"
#include "tests/unit/compile_specification.h"

namespace bpfnet::compile {
namespace {

constexpr uint64_t kSeed = 0x6270666e6574;
constexpr int kQuestions = 200;  // for each cluster

int rounds() {
  const char* more = std::getenv("BPFNET_FUZZ_ROUNDS");
  return more ? std::atoi(more) : 600;
}

/// Every policy in words, to read a failure by.
std::string explain(const RandomCluster& cluster) {
  std::string text;
  for (const auto& [name, policy] : cluster.state.policies) {
    text += fmt::format("policy {} selects [{}]{}{}\n", name.to_string(), to_text(policy.pods),
                        policy.isolates_ingress ? " ingress" : "", policy.isolates_egress ? " egress" : "");
    for (size_t i = 0; i < policy.ingress.size(); ++i)
      text += "  " + to_text(policy.ingress[i], Direction::kIngress, i) + "\n";
    for (size_t i = 0; i < policy.egress.size(); ++i)
      text += "  " + to_text(policy.egress[i], Direction::kEgress, i) + "\n";
  }
  return text;
}

TEST(CompilePolicyFuzz, EveryVerdictIsThatOfTheSpecification) {
  int allowed = 0;
  int isolated = 0;
  int64_t verdicts = 0;
  for (int round = 0; round < rounds(); ++round) {
    ClusterGenerator generator(kSeed + static_cast<uint64_t>(round));
    const RandomCluster cluster = generator.make();
    if (cluster.endpoints.empty()) continue;
    PolicyNumbers numbers;
    const PolicyImage image = compile_policy(cluster.state, cluster.node, cluster.endpoints, numbers);
    for (int i = 0; i < kQuestions; ++i) {
      const LocalEndpoint& subject = generator.one_of(cluster.endpoints);
      const Address& peer = generator.one_of(cluster.addresses);
      const uint16_t port = generator.one_of(cluster.ports);
      const auto proto =
          generator.one_of(std::vector<uint8_t>{IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP, IPPROTO_ICMP});
      for (const Direction direction : {Direction::kIngress, Direction::kEgress}) {
        const bool expected = specification_allows(cluster.state, cluster.node, cluster.endpoints, subject,
                                                   direction, peer, proto, port);
        const bool got = image_allows(image, subject.index, direction, peer, proto, port);
        ASSERT_EQ(got, expected) << "round " << round << ": " << to_string(direction) << " of endpoint "
                                 << subject.index << " (" << subject.pod.to_string() << "), peer "
                                 << peer.to_string() << ", protocol " << int{proto} << ", port " << port
                                 << "\n"
                                 << explain(cluster) << render(image);
        ++verdicts;
        allowed += expected;
        const auto& policy = image.endpoints.at(subject.index);
        isolated += (direction == Direction::kIngress ? policy.ingress_set : policy.egress_set) != 0;
      }
    }
  }
  // The questions are worth asking: neither nearly all open nor nearly all closed.
  RecordProperty("verdicts", std::to_string(verdicts));
  EXPECT_GE(verdicts, int64_t{rounds()} * 170);
  EXPECT_GT(allowed, verdicts / 10);
  EXPECT_GT(verdicts - allowed, verdicts / 10);
  EXPECT_GT(isolated, verdicts / 4);
}

TEST(CompilePolicyFuzz, CompilingTwiceChangesNothingAndSetsHoldNoCoveredEntry) {
  for (int round = 0; round < rounds() / 4; ++round) {
    ClusterGenerator generator(kSeed + static_cast<uint64_t>(round));
    const RandomCluster cluster = generator.make();
    PolicyNumbers numbers;
    const PolicyImage first = compile_policy(cluster.state, cluster.node, cluster.endpoints, numbers);
    const PolicyImage second = compile_policy(cluster.state, cluster.node, cluster.endpoints, numbers);
    ASSERT_EQ(render(first), render(second));
    for (const auto& [id, set] : first.sets) {
      for (const auto& [entry, verdict] : set.entries) {
        PolicyImage without = first;
        without.sets[id].entries.erase(entry);
        EXPECT_FALSE(set_allows(without, id, entry.identity, entry.proto, entry.port) &&
                     entry.port_bits == 16)
            << "set " << id << " allows it without this entry too\n"
            << render(first);
      }
    }
  }
}

}  // namespace
}  // namespace bpfnet::compile
