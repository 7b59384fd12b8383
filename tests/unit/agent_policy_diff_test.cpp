// What a file would change, from manifests: nothing is in a kernel here.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <nlohmann/json.hpp>

#include "control/agent/policy_candidate.h"
#include "control/agent/policy_diff_view.h"
#include "control/compile/policy_show.h"

namespace bpfnet::agent {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* kPods = R"(
{apiVersion: v1, kind: Pod, metadata: {name: web, labels: {app: web}}, spec: {nodeName: here}, status: {phase: Running, podIPs: [{ip: 10.0.1.1}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: client, labels: {app: client}}, spec: {nodeName: here}, status: {phase: Running, podIPs: [{ip: 10.0.1.2}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: far, labels: {app: far}}, spec: {nodeName: there}, status: {phase: Running, podIPs: [{ip: 10.0.2.1}]}}
)";

/// A NetworkPolicy about app=web; `rules` in YAML's flow style.
std::string policy(const std::string& name, const std::string& rules) {
  return "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: " + name +
         "}\nspec:\n  podSelector: {matchLabels: {app: web}}\n  policyTypes: [Ingress]\n  ingress: " + rules +
         "\n";
}

/// Pods web (endpoint 1) and client (endpoint 2) of this node, far of another; connections of client and of
/// far to port 8080 of web, and of web to far.
class PolicyDiff : public testing::Test {
 protected:
  void SetUp() override { current = apply({}, kPods).state; }

  static Candidate apply(model::ClusterState state, const std::string& text, bool remove = false) {
    auto candidate = make_candidate(std::move(state), {"try.yaml", text, remove});
    EXPECT_TRUE(candidate) << candidate.error().message;
    return candidate ? *candidate : Candidate{};
  }
  std::string refusal(const std::string& text, bool remove = false) {
    const auto candidate = make_candidate(current, {"try.yaml", text, remove});
    return candidate ? "not refused" : candidate.error().message;
  }
  nlohmann::ordered_json diff(const std::string& text, bool remove = false) {
    const Candidate candidate = apply(current, text, remove);
    compile::NodeView node;
    node.name = "here";
    node.addresses = {Address::parse("192.0.2.1").value()};
    const std::vector<compile::LocalEndpoint> endpoints = {
        {.index = 1, .pod = {"default", "web"}, .ips = web_ips},
        {.index = 2, .pod = {"default", "client"}, .ips = {Address::parse("10.0.1.2").value()}}};
    compile::PolicyNumbers numbers;
    const auto before = compile::compile_policy(current, node, endpoints, numbers);
    const auto after = compile::compile_policy(candidate.state, node, endpoints, numbers);
    return diff_view({before, after, current, candidate, endpoints, flows});
  }
  static compile::LiveFlow flow(const char* client, const char* server, uint16_t port, uint16_t source,
                                uint16_t destination) {
    return {Address::parse(client).value(),
            Address::parse(server).value(),
            40000,
            port,
            IPPROTO_TCP,
            0,
            source,
            destination,
            false,
            false};
  }

  model::ClusterState current;
  std::vector<Address> web_ips = {Address::parse("10.0.1.1").value()};
  std::vector<compile::LiveFlow> flows = {flow("10.0.1.2", "10.0.1.1", 8080, 2, 1),
                                          flow("10.0.2.1", "10.0.1.1", 8080, 0, 1),
                                          flow("10.0.1.1", "10.0.2.1", 8080, 1, 0)};
};

// Issue 4, item 4.
TEST_F(PolicyDiff, NamesTheConnectionsThatWouldBreakAndNoOthers) {
  const auto answer = diff(policy("only-far", "[{from: [{podSelector: {matchLabels: {app: far}}}]}]"));
  ASSERT_EQ(answer.at("breaks").size(), 1U) << answer.dump(2);
  const auto& broken = answer.at("breaks")[0];
  EXPECT_EQ(broken.at("source"), "default/client");
  EXPECT_EQ(broken.at("destination"), "default/web");
  EXPECT_EQ(broken.at("direction"), "ingress");
  EXPECT_EQ(broken.at("reason"),
            "isolated by default/only-far, no rule allows TCP 8080; nearest allow: 8080 from app=far");
  EXPECT_THAT(answer.at("opens"), IsEmpty());
}

// P17: who began it is not known, so the server's side may be the client's.
TEST_F(PolicyDiff, AConnectionPickedUpInItsMiddleMustBeAllowedBothWaysRound) {
  const std::string only_far = policy("only-far", "[{from: [{podSelector: {matchLabels: {app: far}}}]}]");
  flows = {flow("10.0.1.1", "10.0.1.2", 8080, 1, 2)};
  EXPECT_THAT(diff(only_far).at("breaks"), IsEmpty());
  flows.front().picked_up = true;
  const auto answer = diff(only_far);
  ASSERT_EQ(answer.at("breaks").size(), 1U) << answer.dump(2);
  EXPECT_EQ(answer.at("breaks")[0].at("source"), "default/client");
  EXPECT_EQ(answer.at("breaks")[0].at("destination"), "default/web");
  EXPECT_EQ(answer.at("breaks")[0].at("direction"), "ingress");
}

TEST_F(PolicyDiff, NamesThePeersAndPortsWhoseVerdictsChange) {
  const auto answer =
      diff(policy("ports",
                  "[{from: [{podSelector: {matchLabels: {app: far}}}], ports: [{port: 80, endPort: "
                  "90}]}]"));
  ASSERT_EQ(answer.at("closes").size(), 2U) << answer.dump(2);
  for (const auto& change : answer.at("closes")) {
    EXPECT_EQ(change.at("pod"), "default/web");
    EXPECT_EQ(change.at("direction"), "ingress");
    EXPECT_EQ(change.at("reason"), "isolated by default/ports, no rule allows it");
    const std::vector<std::string> peers = change.at("peers");
    const std::vector<std::string> ports = change.at("ports");
    if (peers == std::vector<std::string>{"default app=far"}) {
      EXPECT_THAT(ports, ElementsAre("other protocols", "TCP 0-79", "TCP 91-65535"));
    } else {
      EXPECT_THAT(peers, testing::Contains("default app=client"));
      EXPECT_THAT(peers, testing::Not(testing::Contains("default app=far")));
      EXPECT_THAT(ports, ElementsAre("anything"));
    }
  }
}

// A3: a Deny of the Admin tier breaks what NetworkPolicies allow, and is named.
TEST_F(PolicyDiff, AClusterPolicysDenyIsNamed) {
  const auto answer = diff(R"(
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: guard}
spec:
  tier: Admin
  priority: 10
  subject: {pods: {podSelector: {matchLabels: {app: web}}, namespaceSelector: {}}}
  ingress:
  - action: Deny
    from: [{pods: {podSelector: {matchLabels: {app: client}}, namespaceSelector: {}}}]
)");
  EXPECT_THAT(answer.at("applied"), ElementsAre("ClusterNetworkPolicy guard: added"));
  ASSERT_EQ(answer.at("breaks").size(), 1U) << answer.dump(2);
  EXPECT_EQ(answer.at("breaks")[0].at("source"), "default/client");
  EXPECT_THAT(answer.at("breaks")[0].at("reason").get<std::string>(),
              testing::StartsWith("denied by guard ingress[0]"));
  ASSERT_EQ(answer.at("closes").size(), 1U) << answer.dump(2);
  EXPECT_THAT(answer.at("closes")[0].at("peers"), ElementsAre("default app=client"));
}

// The order that `policy show` tells: A3, and of equal tiers the priority (A4).
TEST_F(PolicyDiff, PoliciesAreShownInTheOrderOfJudgement) {
  const auto cluster_policy = [](const std::string& name, const std::string& tier, int priority) {
    return "---\napiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: "
           "{name: " +
           name + "}\nspec:\n  tier: " + tier + "\n  priority: " + std::to_string(priority) +
           "\n  subject: {namespaces: {}}\n  ingress: [{action: Accept, from: [{namespaces: {}}]}]\n";
  };
  const std::string cluster = cluster_policy("last", "Baseline", 1) + cluster_policy("b", "Admin", 2) +
                              cluster_policy("a", "Admin", 7);
  const compile::LocalEndpoint web{.index = 1, .pod = {"default", "web"}};
  compile::NodeView node;
  node.name = "here";
  const auto names = [&](const std::string& text) {
    std::vector<std::string> found;
    const auto applied =
        compile::applied_policies(apply(current, text).state, node, web, compile::Direction::kIngress);
    for (const auto& each : applied.policies) found.push_back(each.name);
    found.push_back(applied.otherwise);
    return found;
  };
  EXPECT_THAT(names(cluster), ElementsAre("b", "a", "last", "allowed: no NetworkPolicy isolates it"));
  // A7: whom a NetworkPolicy isolates, the Baseline tier is not about.
  EXPECT_THAT(names(cluster + "---\n" + policy("x", "[]")),
              ElementsAre("b", "a", "default/x", "denied: NetworkPolicies isolate it"));
}

TEST_F(PolicyDiff, AnEquivalentPolicyChangesNothing) {
  current = apply(current, policy("a", "[{ports: [{port: 8080}]}]")).state;
  const auto answer = diff(policy("b", "[{ports: [{port: 8080}]}]"));
  EXPECT_THAT(answer.at("breaks"), IsEmpty());
  EXPECT_THAT(answer.at("closes"), IsEmpty());
  EXPECT_THAT(answer.at("opens"), IsEmpty());
}

TEST_F(PolicyDiff, DeletingAPolicyOpensWhatItClosed) {
  const std::string deny = policy("deny", "[]");
  current = apply(current, deny).state;
  const auto answer = diff(deny, true);
  EXPECT_THAT(answer.at("applied"), ElementsAre("NetworkPolicy default/deny: deleted"));
  EXPECT_THAT(answer.at("breaks"), IsEmpty());
  ASSERT_EQ(answer.at("opens").size(), 1U) << answer.dump(2);
  EXPECT_THAT(answer.at("opens")[0].at("peers"), ElementsAre("everyone"));
  EXPECT_THAT(answer.at("opens")[0].at("ports"), ElementsAre("anything"));
  EXPECT_EQ(answer.at("opens")[0].at("reason"), "no policy denies it");
}

// P19: labels are part of what is tried, and the pod keeps the address that the file does not give.
TEST_F(PolicyDiff, APodsNewLabelsCount) {
  current =
      apply(current, policy("friends", "[{from: [{podSelector: {matchLabels: {app: client}}}]}]")).state;
  const auto answer = diff("{apiVersion: v1, kind: Pod, metadata: {name: client, labels: {app: foe}}}");
  ASSERT_EQ(answer.at("breaks").size(), 1U) << answer.dump(2);
  EXPECT_EQ(answer.at("breaks")[0].at("source"), "default/client");
  ASSERT_EQ(answer.at("closes").size(), 1U) << answer.dump(2);
  EXPECT_THAT(answer.at("closes")[0].at("peers"), ElementsAre("default app=foe (now default app=client)"));
}

// P13, P15: what policy never judges does not break.
TEST_F(PolicyDiff, TheOwnNodeAndAPodItselfAreExempt) {
  flows = {flow("192.0.2.1", "10.0.1.1", 8080, 0, 1), flow("10.0.1.1", "10.0.1.1", 8080, 1, 1)};
  EXPECT_THAT(diff(policy("deny", "[]")).at("breaks"), IsEmpty());
}

// A11: what a pod sends to itself by a service is the business of cluster policies, and of no other (P15).
TEST_F(PolicyDiff, APodThatReachesItselfByAServiceIsJudgedByClusterPoliciesAlone) {
  const auto guard = [](const std::string& rules) {
    return "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: "
           "guard}\nspec:\n  tier: Admin\n  priority: 10\n  subject: {namespaces: {}}\n  " +
           rules + "\n";
  };
  const auto itself = [](const nlohmann::ordered_json& changes) {
    std::vector<std::string> texts;
    for (const auto& each : changes)
      for (const std::string peer : each.at("peers"))
        if (peer.starts_with("itself"))
          texts.push_back(each.at("pod").get<std::string>() + ": " + peer + ": " +
                          each.at("reason").get<std::string>());
    return texts;
  };
  flows = {flow("10.0.1.1", "10.0.1.1", 8080, 1, 1), flow("10.0.1.1", "10.0.1.1", 8080, 1, 1)};
  flows[1].by_service = true;
  const auto of_namespace = diff(policy("deny", "[]"));
  EXPECT_THAT(of_namespace.at("breaks"), IsEmpty());
  EXPECT_THAT(itself(of_namespace.at("closes")), IsEmpty());
  ASSERT_EQ(of_namespace.at("closes").size(), 1U) << of_namespace.dump(2);
  EXPECT_THAT(of_namespace.at("closes")[0].at("peers"), ElementsAre("everyone"));

  const std::string deny = guard(
      "ingress: [{action: Deny, from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: "
      "web}}}}]}]");
  const auto closing = diff(deny);
  ASSERT_EQ(closing.at("breaks").size(), 1U) << closing.dump(2);
  EXPECT_EQ(closing.at("breaks")[0].at("source"), "default/web");
  EXPECT_EQ(closing.at("breaks")[0].at("destination"), "default/web");
  EXPECT_EQ(closing.at("breaks")[0].at("direction"), "ingress");
  EXPECT_THAT(closing.at("breaks")[0].at("reason").get<std::string>(),
              testing::StartsWith("denied by guard ingress[0]"));
  EXPECT_THAT(
      itself(closing.at("closes")),
      ElementsAre(testing::StartsWith("default/web: itself by a service: denied by guard ingress[0]")));
  current = apply(current, deny).state;
  EXPECT_THAT(itself(diff(deny, true).at("opens")),
              ElementsAre("default/web: itself by a service: no policy denies it"));
}

TEST_F(PolicyDiff, APodThatReachesItselfOverOneFamilyIsToldOfByFamily) {
  flows = {flow("10.0.1.1", "10.0.1.1", 8080, 1, 1), flow("fd00::1", "fd00::1", 8080, 1, 1)};
  for (auto& each : flows) each.by_service = true;
  web_ips.push_back(Address::parse("fd00::1").value());
  const auto answer = diff(
      "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: "
      "guard}\nspec:\n  tier: Admin\n  priority: 10\n  subject: {namespaces: {}}\n  egress: [{action: Deny, "
      "to: [{networks: ['fd00::/64']}]}]\n");
  ASSERT_EQ(answer.at("breaks").size(), 1U) << answer.dump(2);
  EXPECT_EQ(answer.at("breaks")[0].at("source_address"), "fd00::1");
  EXPECT_EQ(answer.at("breaks")[0].at("direction"), "egress");
  std::vector<nlohmann::ordered_json> peers;
  for (const auto& each : answer.at("closes"))
    if (each.at("pod") == "default/web") peers.push_back(each.at("peers"));
  EXPECT_THAT(peers, testing::Contains(ElementsAre("itself by a service over IPv6"))) << answer.dump(2);
}

TEST_F(PolicyDiff, AConnectionThatIsCutAlreadyBreaksNotAgain) {
  current = apply(current, policy("deny", "[]")).state;
  EXPECT_THAT(diff(policy("deny-more", "[]")).at("breaks"), IsEmpty());
}

TEST_F(PolicyDiff, AMalformedFileIsRefusedByFileLineAndField) {
  EXPECT_THAT(refusal(policy("bad", "[{ports: [{port: 80000}]}]")),
              HasSubstr("try.yaml:7: NetworkPolicy default/bad: spec.ingress[0].ports[0].port: "));
  EXPECT_THAT(refusal("a: [1"), HasSubstr("try.yaml:"));
  EXPECT_THAT(refusal(""), HasSubstr("try.yaml: there is no NetworkPolicy"));
  EXPECT_THAT(refusal("{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{port: 80}]}}"),
              HasSubstr("try.yaml: there is no NetworkPolicy"));
  EXPECT_EQ(refusal(policy("unheard-of", "[]"), true),
            "try.yaml:1: NetworkPolicy default/unheard-of: there is none to delete");
}

}  // namespace
}  // namespace bpfnet::agent
