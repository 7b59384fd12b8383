// Labels of pods and namespaces and policies themselves change while everybody goes on talking: the whole
// matrix after each change. P-numbers are those of the policy specification.
#include <netinet/in.h>

#include "tests/e2e/policy_world.h"

namespace bpfnet::e2e {
namespace {

class PolicyLive : public testing::Test {
 public:
  static void SetUpTestSuite() { world_ = std::make_unique<PolicyWorld>(); }
  static void TearDownTestSuite() { world_.reset(); }

 protected:
  void SetUp() override { ASSERT_TRUE(world_) << "the cluster could not be made"; }
  static PolicyWorld& world() { return *world_; }
  /// The labels that pods and namespaces have now.
  static bool has(const LabelMap& labels, const std::string& key, const std::string& value) {
    const auto found = labels.find(key);
    return found != labels.end() && found->second == value;
  }
  static bool pod_has(const Party& party, const std::string& key, const std::string& value) {
    return party.is_pod() && has(party.labels, key, value);
  }
  static bool namespace_has(const Party& party, const std::string& key, const std::string& value) {
    return party.is_pod() && has(world().namespace_labels(party.ns), key, value);
  }
  static testing::AssertionResult holds(const Allows& egress, const Allows& ingress, bool tiers = false) {
    return world().holds([&](const Cell& cell) { return expected(cell, egress, ingress, tiers); });
  }

 private:
  static std::unique_ptr<PolicyWorld> world_;
};
std::unique_ptr<PolicyWorld> PolicyLive::world_;

// P19
TEST_F(PolicyLive, LabelsOfPeersBothWays) {
  world().policies(
      network_policy("x", "test",
                     "podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{from: "
                     "[{namespaceSelector: {matchLabels: {team: blue}}, podSelector: {matchLabels: "
                     "{tier: front}}}]}], egress: [{to: [{namespaceSelector: {matchExpressions: [{key: "
                     "team, operator: NotIn, values: [blue]}]}}]}]"));
  const Allows egress = [](const Cell& cell) {
    return cell.from.ns != "x" || (cell.to.is_pod() && !namespace_has(cell.to, "team", "blue"));
  };
  const Allows ingress = [](const Cell& cell) {
    return cell.to.ns != "x" ||
           (namespace_has(cell.from, "team", "blue") && pod_has(cell.from, "tier", "front"));
  };
  ASSERT_TRUE(holds(egress, ingress));
  world().label_pod("y/b", {{"app", "b"}, {"tier", "front"}});
  EXPECT_TRUE(holds(egress, ingress)) << "a pod came in";
  world().label_namespace("z", {{"team", "blue"}});
  EXPECT_TRUE(holds(egress, ingress)) << "a namespace came in";
  world().label_namespace("y", {});
  EXPECT_TRUE(holds(egress, ingress)) << "a namespace went out";
  world().label_pod("z/a", {{"app", "a"}});
  EXPECT_TRUE(holds(egress, ingress)) << "a pod went out";
  world().label_namespace("y", {{"team", "blue"}});
  world().label_namespace("z", {});
  world().label_pod("y/b", {{"app", "b"}, {"tier", "back"}});
  world().label_pod("z/a", {{"app", "a"}, {"tier", "front"}});
  EXPECT_TRUE(holds(egress, ingress)) << "as it was";
}

// P19
TEST_F(PolicyLive, LabelsOfSubjectsBothWays) {
  world().policies(network_policy(
      "y", "test",
      "podSelector: {matchExpressions: [{key: tier, operator: NotIn, values: [front]}]}, policyTypes: "
      "[Ingress, Egress], egress: [{ports: [{port: 80}]}]"));
  const auto selected = [](const Party& party) {
    return party.ns == "y" && !has(party.labels, "tier", "front");
  };
  const Allows egress = [&](const Cell& cell) {
    return !selected(cell.from) || (cell.proto == IPPROTO_TCP && cell.port == 80);
  };
  const Allows ingress = [&](const Cell& cell) { return !selected(cell.to); };
  ASSERT_TRUE(holds(egress, ingress));
  world().label_pod("y/a", {{"app", "a"}});
  EXPECT_TRUE(holds(egress, ingress)) << "selected for want of the label";
  world().label_pod("y/b", {{"tier", "front"}});
  EXPECT_TRUE(holds(egress, ingress)) << "not selected any more";
  world().label_pod("y/a", {{"app", "a"}, {"tier", "front"}});
  world().label_pod("y/b", {{"app", "b"}, {"tier", "back"}});
  EXPECT_TRUE(holds(egress, ingress)) << "as it was";
}

// P19, P3: policies come, change and go.
TEST_F(PolicyLive, PoliciesComeChangeAndGo) {
  world().policies("");
  EXPECT_TRUE(holds(nullptr, nullptr));
  const std::string deny = network_policy("z", "deny", "podSelector: {}");
  world().policies(deny);
  EXPECT_TRUE(holds(nullptr, [](const Cell& cell) { return cell.to.ns != "z"; }));
  world().policies(deny +
                   network_policy("z", "allow", "podSelector: {}, ingress: [{ports: [{protocol: UDP}]}]"));
  EXPECT_TRUE(
      holds(nullptr, [](const Cell& cell) { return cell.to.ns != "z" || cell.proto == IPPROTO_UDP; }));
  world().policies(deny +
                   network_policy("z", "allow", "podSelector: {}, ingress: [{ports: [{protocol: SCTP}]}]"));
  EXPECT_TRUE(
      holds(nullptr, [](const Cell& cell) { return cell.to.ns != "z" || cell.proto == IPPROTO_SCTP; }));
  world().policies(deny);
  EXPECT_TRUE(holds(nullptr, [](const Cell& cell) { return cell.to.ns != "z"; }));
  world().policies("");
  EXPECT_TRUE(holds(nullptr, nullptr));
}

// A16, A4: priorities and the order of rules
TEST_F(PolicyLive, TiersAreReordered) {
  const auto tier = [](int accept, int deny) {
    const std::string subject = "namespaces: {matchLabels: {kubernetes.io/metadata.name: x}}";
    const std::string from = "from: [{namespaces: {}}]}";
    return cluster_network_policy(
               "accept", "Admin", accept, subject,
               "ingress: [{action: Accept, protocols: [{tcp: {destinationPort: {number: 80}}}], " + from +
                   "]") +
           cluster_network_policy("deny", "Admin", deny, subject, "ingress: [{action: Deny, " + from + "]");
  };
  const auto only_port_80 = [](const Cell& cell) {
    return cell.to.ns != "x" || !cell.from.is_pod() || (cell.proto == IPPROTO_TCP && cell.port == 80);
  };
  const auto nothing = [](const Cell& cell) { return cell.to.ns != "x" || !cell.from.is_pod(); };
  world().policies(tier(10, 20));
  EXPECT_TRUE(holds(nullptr, only_port_80, true));
  world().policies(tier(30, 20));
  EXPECT_TRUE(holds(nullptr, nothing, true));
  world().policies(tier(1, 20));
  EXPECT_TRUE(holds(nullptr, only_port_80, true));
  world().policies("");
  EXPECT_TRUE(holds(nullptr, nullptr));
}

}  // namespace
}  // namespace bpfnet::e2e
