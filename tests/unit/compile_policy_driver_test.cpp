#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "control/compile/policies.h"
#include "control/compile/render.h"
#include "maps/abi/endpoint.h"
#include "maps/abi/policy.h"
#include "tests/unit/compile_builders.h"
#include "tests/unit/compile_mutation.h"

namespace bpfnet::compile {
namespace {

using bpfnet::test::ClusterGenerator;
using bpfnet::test::RandomCluster;
using test::name;
using testing::ElementsAre;
using testing::IsEmpty;

class PolicyDriver : public testing::Test, public test::Cluster {
 protected:
  PolicyDriver() {
    pod("web", {{"app", "web"}}, 1);
    endpoints.push_back({1, name("default", "web"), {ip("10.0.0.1")}, 0, {}});
    allow("policy", "web", "client");
    pod("client", {{"app", "client"}}, 2);
    update({.everything = true});
  }
  model::Pod& pod(const std::string& pod_name, model::Labels labels, uint8_t address) {
    auto& made = state.pods[name("default", pod_name)];
    made.name = name("default", pod_name);
    made.labels = std::move(labels);
    made.phase = model::PodPhase::kRunning;
    made.ips = {Address::from_ipv4({10, 0, 0, address})};
    return made;
  }
  model::NetworkPolicy& allow(const std::string& policy_name, const std::string& to,
                              const std::string& from) {
    auto& policy = state.policies[name("default", policy_name)];
    policy.name = name("default", policy_name);
    const auto selects = [](const std::string& app) {
      return model::Selector{{{"app", model::SelectorOperator::kIn, {app}}}};
    };
    policy.pods = selects(to);
    model::PolicyPeer peer;
    peer.pods = selects(from);
    policy.ingress = {{{peer}, {}}};
    return policy;
  }
  PolicyDelta update(const PolicyChanges& changes) {
    return compiler.update(state, node, endpoints, changes, numbers);
  }
  [[nodiscard]] uint32_t web_set() const { return compiler.image().endpoints.at(1).ingress_set; }
  [[nodiscard]] uint32_t identity_of(const char* address) const {
    return compiler.image().addresses.at({0, ip(address)}).identity;
  }

  PolicyCompiler compiler;
  PolicyNumbers numbers;
};

TEST_F(PolicyDriver, P19_ARelabelledPeerGrowsTheSetsThatNameItAndNoSetMoves) {
  const uint32_t set = web_set();
  const uint32_t before = identity_of("10.0.0.2");
  state.pods.at(name("default", "client")).labels["version"] = "2";
  const PolicyDelta delta = update({.pods = {name("default", "client")}});
  EXPECT_THAT(delta.addresses, ElementsAre(AddressKey{0, ip("10.0.0.2")}));
  EXPECT_EQ(web_set(), set);
  EXPECT_NE(identity_of("10.0.0.2"), before);
  EXPECT_THAT(delta.sets, ElementsAre(testing::Pair(
                              set, testing::UnorderedElementsAre(before, identity_of("10.0.0.2")))));
  EXPECT_THAT(delta.cidrs, IsEmpty());
}

TEST_F(PolicyDriver, AChangeThatConcernsNobodyChangesNothing) {
  pod("client", {{"app", "client"}}, 2);
  allow("other", "elsewhere", "client").name.ns = "default";
  const PolicyDelta delta =
      update({.pods = {name("default", "client")}, .policies = {name("default", "other")}});
  EXPECT_THAT(delta.addresses, IsEmpty());
  EXPECT_THAT(delta.sets, IsEmpty());
}

TEST_F(PolicyDriver, ASetThatLosesItsLastPeerDeniesAllAndComesBackUnderItsNumber) {
  const uint32_t set = web_set();
  state.pods.erase(name("default", "client"));
  EXPECT_THAT(update({.pods = {name("default", "client")}}).sets, ElementsAre(testing::Pair(set, IsEmpty())));
  EXPECT_EQ(web_set(), static_cast<uint32_t>(POLICY_SET_DENY_ALL));
  pod("client", {{"app", "client"}}, 3);
  update({.pods = {name("default", "client")}});
  EXPECT_EQ(web_set(), set);
}

template <typename Map, typename Keys>
void expect_told(const Map& before, const Map& after, const Keys& told) {
  for (const auto& [key, value] : after) {
    const auto was = before.find(key);
    const bool same = was != before.end() && was->second == value;
    EXPECT_TRUE(same || told.contains(key));
  }
  for (const auto& [key, value] : before) EXPECT_TRUE(after.contains(key) || told.contains(key));
}

/// An identity that stays has in a set that stays the entries it had: sets may be changed while they are in
/// use.
void expect_stable(const PolicyImage& before, const PolicyImage& after, const PolicyDelta& delta) {
  for (const auto& [id, text] : after.identities)
    if (before.identities.contains(id)) {
      ASSERT_EQ(before.identities.at(id), text);
    }
  for (const auto& [id, set] : after.sets) {
    const auto was = before.sets.find(id);
    if (was == before.sets.end()) {
      ASSERT_TRUE(delta.sets.contains(id));
      continue;
    }
    std::map<PolicyEntry, PolicyVerdict> changed;
    const auto differs = [&](const auto& a, const auto& b) {
      for (const auto& [entry, verdict] : a.entries)
        if (!b.entries.contains(entry) || !(b.entries.at(entry) == verdict)) changed[entry] = verdict;
    };
    differs(set, was->second);
    differs(was->second, set);
    for (const auto& [entry, verdict] : changed) {
      ASSERT_FALSE(before.identities.contains(entry.identity) && after.identities.contains(entry.identity))
          << "set " << id << ", identity " << entry.identity;
      ASSERT_TRUE(delta.sets.contains(id));
      ASSERT_TRUE(delta.sets.at(id).empty() || delta.sets.at(id).contains(entry.identity));
    }
  }
}

TEST(PolicyCompiler, AnyRowOfUpdatesEndsWhereACompileOfEverythingDoes) {
  constexpr uint64_t kRows = 60;
  constexpr uint64_t kUpdates = 50;
  size_t sets = 0;
  size_t grown = 0;
  size_t rejecting = 0;
  size_t audited = 0;
  size_t terminating = 0;
  size_t node_views = 0;
  for (uint64_t row = 0; row < kRows; ++row) {
    ClusterGenerator generator(row);
    RandomCluster cluster = generator.make();
    PolicyCompiler compiler;
    PolicyNumbers numbers;
    compiler.update(cluster.state, cluster.node, cluster.endpoints, {.everything = true}, numbers);
    for (uint64_t i = 0; i < kUpdates; ++i) {
      const PolicyImage before = compiler.image();
      const NodeView node_before = cluster.node;
      const PolicyChanges changes = test::Mutation(cluster, generator, row * kUpdates + i + 7).apply();
      const PolicyDelta delta =
          compiler.update(cluster.state, cluster.node, cluster.endpoints, changes, numbers);
      PolicyNumbers same = numbers;
      const PolicyImage whole = compile_policy(cluster.state, cluster.node, cluster.endpoints, same);
      ASSERT_EQ(render(compiler.image()), render(whole)) << "row " << row << ", update " << i;
      expect_told(before.addresses, whole.addresses, delta.addresses);
      expect_told(before.cidrs, whole.cidrs, delta.cidrs);
      expect_told(before.sets, whole.sets, delta.sets);
      ASSERT_NO_FATAL_FAILURE(expect_stable(before, whole, delta));
      ASSERT_FALSE(testing::Test::HasFailure()) << "row " << row << ", update " << i;
      sets += whole.sets.size();
      for (const auto& [id, identities] : delta.sets) grown += !identities.empty();
      for (const auto& [index, policy] : whole.endpoints) {
        rejecting += (policy.flags & ENDPOINT_REJECTS) != 0;
        audited += (policy.flags & ENDPOINT_AUDITED) != 0;
      }
      for (const auto& [name, pod] : cluster.state.pods) terminating += pod.deleting;
      node_views += cluster.node.addresses != node_before.addresses ||
                    cluster.node.policy_audit != node_before.policy_audit;
    }
  }
  // The rows are worth it: there is something to compile, and sets do grow.
  EXPECT_GT(sets, kRows * kUpdates / 2);
  EXPECT_GT(grown, kRows);
  for (const size_t seen : {rejecting, audited, terminating, node_views}) EXPECT_GT(seen, kRows);
}

}  // namespace
}  // namespace bpfnet::compile
