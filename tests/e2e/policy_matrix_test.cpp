// The matrix of three namespaces x three pods x three ports x TCP, UDP, SCTP x IPv4, IPv6, over two nodes,
// directly and through ClusterIPs, with the nodes and an outside client, once for each pattern of the policy
// specification. SCTP: see SctpSocket.
#include "tests/e2e/policy_patterns.h"

namespace bpfnet::e2e {
namespace {

class PolicyMatrix : public testing::TestWithParam<Pattern> {
 public:
  static void SetUpTestSuite() { world_ = std::make_unique<PolicyWorld>(); }
  static void TearDownTestSuite() { world_.reset(); }

 protected:
  void SetUp() override { ASSERT_TRUE(world_) << "the cluster could not be made"; }
  static PolicyWorld& world() { return *world_; }

 private:
  static std::unique_ptr<PolicyWorld> world_;
};
std::unique_ptr<PolicyWorld> PolicyMatrix::world_;

TEST_P(PolicyMatrix, Holds) {
  const Pattern& pattern = GetParam();
  world().policies(pattern.policies);
  EXPECT_TRUE(world().holds(
      [&](const Cell& cell) { return expected(cell, pattern.egress, pattern.ingress, pattern.tiers); }));
}

std::vector<Pattern> all_patterns() {
  std::vector<Pattern> all;
  for (const auto& some :
       {isolation_patterns(), peer_patterns(), port_patterns(), block_patterns(), tier_patterns()})
    all.insert(all.end(), some.begin(), some.end());
  return all;
}

// One instantiation: its tests share a cluster.
INSTANTIATE_TEST_SUITE_P(E2e, PolicyMatrix, testing::ValuesIn(all_patterns()),
                         [](const auto& each) { return each.param.name; });

}  // namespace
}  // namespace bpfnet::e2e
