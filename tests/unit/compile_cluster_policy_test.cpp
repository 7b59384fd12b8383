// ClusterNetworkPolicy and audit mode, case by case: manifests in, verdict and its policy out.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include "control/compile/render.h"
#include "control/sources/decode.h"
#include "maps/abi/policy.h"
#include "tests/unit/compile_builders.h"
#include "tests/unit/compile_lookup.h"

namespace bpfnet::compile {
namespace {

using test::name;

/// On this node: shop/web (10.0.1.1, http=8080), shop/db (10.0.1.2), ops/probe (10.0.1.3), endpoints 1 to 3,
/// and shop/new (10.0.1.4, endpoint 4), whose object has not come yet. Elsewhere: ops/far (10.0.2.1,
/// http=9000) and the node `there` (192.0.2.2, role=edge, outside 198.51.100.2).
constexpr const char* kCluster = R"(
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: sales}}}
- {apiVersion: v1, kind: Namespace, metadata: {name: ops, labels: {team: ops}}}
- {apiVersion: v1, kind: Node, metadata: {name: here}, status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}}
- {apiVersion: v1, kind: Node, metadata: {name: there, labels: {role: edge}},
   status: {addresses: [{type: InternalIP, address: 192.0.2.2}, {type: ExternalIP, address: 198.51.100.2}]}}
- {apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop, labels: {app: web}}, status: {phase: Running, podIP: 10.0.1.1},
   spec: {nodeName: here, containers: [{ports: [{name: http, containerPort: 8080}]}]}}
- {apiVersion: v1, kind: Pod, metadata: {name: db, namespace: shop, labels: {app: db}}, spec: {nodeName: here},
   status: {phase: Running, podIP: 10.0.1.2}}
- {apiVersion: v1, kind: Pod, metadata: {name: probe, namespace: ops, labels: {app: probe}}, spec: {nodeName: here},
   status: {phase: Running, podIP: 10.0.1.3}}
- {apiVersion: v1, kind: Pod, metadata: {name: far, namespace: ops, labels: {app: far}}, status: {phase: Running, podIP: 10.0.2.1},
   spec: {nodeName: there, containers: [{ports: [{name: http, containerPort: 9000}, {name: http, containerPort: 9000, protocol: UDP}]}]}}
)";

std::string cluster_policy(const std::string& policy_name, const std::string& head, const std::string& rules,
                           const std::string& metadata = "") {
  return fmt::format(
      "---\napiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: "
      "{}{}}}\n"
      "spec: {{{}, {}}}\n",
      policy_name, metadata, head, rules);
}
std::string admin(const std::string& rules, int priority = 10, const std::string& policy_name = "admin") {
  return cluster_policy(
      policy_name, fmt::format("tier: Admin, priority: {}, subject: {{namespaces: {{}}}}", priority), rules);
}
std::string baseline(const std::string& rules) {
  return cluster_policy("baseline", "tier: Baseline, priority: 10, subject: {namespaces: {}}", rules);
}
/// Of namespace shop, about web.
std::string plain(const std::string& spec, const std::string& metadata = "") {
  return "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: plain, namespace: "
         "shop" +
         metadata + "}\nspec: {podSelector: {matchLabels: {app: web}}, " + spec + "}\n";
}

const std::string kAudit = ", annotations: {policy.bpfnet.io/mode: audit}";
const std::string kToAll = "to: [{networks: [0.0.0.0/0]}]";

struct Store {
  model::ClusterState& state;
  void operator()(model::Namespace object) const { state.namespaces[object.name] = std::move(object); }
  void operator()(model::Node object) const { state.nodes[object.name] = std::move(object); }
  void operator()(model::Pod object) const { state.pods[object.name] = std::move(object); }
  void operator()(model::NetworkPolicy object) const { state.policies[object.name] = std::move(object); }
  void operator()(model::ClusterNetworkPolicy object) const {
    state.cluster_policies[object.name] = std::move(object);
  }
  template <typename Other>
  void operator()(const Other&) const {}
};

class ClusterPolicies : public testing::Test {
 protected:
  ClusterPolicies() {
    node.name = "here";
    node.addresses = {ip("192.0.2.1")};
    uint16_t index = 0;
    for (const auto& [pod, address] : {std::pair{name("shop", "web"), "10.0.1.1"},
                                       {name("shop", "db"), "10.0.1.2"},
                                       {name("ops", "probe"), "10.0.1.3"},
                                       {name("shop", "new"), "10.0.1.4"}})
      endpoints.push_back({++index, pod, {ip(address)}, 0, {}});
  }

  PolicyImage compile(const std::string& policies) {
    state = {};
    auto decoded = sources::decode(kCluster + policies, sources::Format::kYaml);
    EXPECT_TRUE(decoded.problems.empty());
    for (auto& each : decoded.objects) {
      EXPECT_TRUE(each.object) << (each.problems.empty() ? "" : each.problems[0].to_string());
      if (each.object) std::visit(Store{state}, std::move(*each.object));
    }
    return compile_policy(state, node, endpoints, numbers);
  }

  /// `deny admin[0]`: the verdict, and which rule of which policy gave it.
  static std::string verdict(const PolicyImage& image, Direction direction, const char* peer, uint16_t port,
                             uint8_t proto = IPPROTO_TCP, uint16_t endpoint = 1) {
    const PolicyVerdict got = image_decides(image, endpoint, direction, ip(peer), proto, port);
    std::string text = got.verdict == POLICY_ALLOW ? "allow" : got.verdict == POLICY_AUDIT ? "audit" : "deny";
    if (got.rule == 0) return text;
    const RuleInfo& rule = image.rules.at(got.rule);
    return fmt::format("{} {}{}", text, rule.policy, rule.text.substr(rule.text.find('['), 3));
  }

  model::ClusterState state;
  NodeView node;
  std::vector<LocalEndpoint> endpoints;
  PolicyNumbers numbers;
};

struct Case {
  const char* what;
  std::string policies;
  const char* peer;
  uint16_t port;
  const char* verdict;
  uint8_t proto = IPPROTO_TCP;
  uint16_t endpoint = 1;
};

TEST_F(ClusterPolicies, Egress) {
  const std::string deny_all = "egress: [{action: Deny, " + kToAll + "}]";
  const auto egress = [](const std::string& rules) { return "egress: [" + rules + "]"; };
  const std::string np_allows_81 = plain("policyTypes: [Egress], egress: [{ports: [{port: 81}]}]");
  const std::vector<Case> cases = {
      {"A6 unmatched traffic falls through", admin(egress("{action: Deny, to: [{networks: [10.9.0.0/16]}]}")),
       "10.0.2.1", 80, "allow"},
      {"A6 and no isolation", admin(egress("{action: Accept, to: [{networks: [10.9.0.0/16]}]}")), "10.0.2.1",
       80, "allow"},
      {"A3 Admin goes before NetworkPolicy", admin(deny_all) + np_allows_81, "10.0.2.1", 81, "deny admin[0]"},
      {"A5 Accept skips NetworkPolicies", admin(egress("{action: Accept, " + kToAll + "}")) + np_allows_81,
       "10.0.2.1", 80, "allow admin[0]"},
      {"A5 Pass leaves it to them",
       admin(egress("{action: Pass, " + kToAll + "}, {action: Deny, " + kToAll + "}")) + np_allows_81,
       "10.0.2.1", 81, "allow shop/plain[0]"},
      {"A5 Pass leaves it to them, and they deny",
       admin(egress("{action: Pass, " + kToAll + "}")) + np_allows_81, "10.0.2.1", 80, "deny"},
      {"A5 Pass skips later policies of its tier",
       admin(egress("{action: Pass, " + kToAll + "}"), 1) + admin(deny_all, 2, "later"), "10.0.2.1", 80,
       "allow"},
      {"A5 Pass does not skip the Baseline tier",
       admin(egress("{action: Pass, " + kToAll + "}")) + baseline(deny_all), "10.0.2.1", 80,
       "deny baseline[0]"},
      {"A5 Pass in Baseline means the default",
       baseline(egress("{action: Pass, " + kToAll + "}, {action: Deny, " + kToAll + "}")), "10.0.2.1", 80,
       "allow"},
      {"A7 whom a NetworkPolicy selects, Baseline is not about", baseline(deny_all) + np_allows_81,
       "10.0.2.1", 81, "allow shop/plain[0]"},
      {"A7 even where it denies", baseline(egress("{action: Accept, " + kToAll + "}")) + np_allows_81,
       "10.0.2.1", 80, "deny"},
      {"A7 in that direction alone", baseline(deny_all) + plain("policyTypes: [Ingress]"), "10.0.2.1", 80,
       "deny baseline[0]"},
      {"A7 others it is about", baseline(deny_all) + np_allows_81, "10.0.2.1", 80, "deny baseline[0]",
       IPPROTO_TCP, 2},
      {"A4 lower priority first",
       admin(deny_all, 1) + admin(egress("{action: Accept, " + kToAll + "}"), 0, "zero"), "10.0.2.1", 80,
       "allow zero[0]"},
      {"A4 equal ones by name",
       admin(deny_all, 1, "b") + admin(egress("{action: Accept, " + kToAll + "}"), 1, "a"), "10.0.2.1", 80,
       "allow a[0]"},
      {"A4 rules in their order",
       admin(egress("{action: Deny, to: [{networks: [10.0.2.0/24]}]}, {action: Accept, " + kToAll + "}")),
       "10.0.2.1", 80, "deny admin[0]"},
      {"A4 the later rule for the rest",
       admin(egress("{action: Deny, to: [{networks: [10.0.2.0/24]}]}, {action: Accept, " + kToAll + "}")),
       "10.0.1.2", 80, "allow admin[1]"},
      {"A8 the subject by namespace",
       cluster_policy("admin", "tier: Admin, priority: 1, subject: {namespaces: {matchLabels: {team: ops}}}",
                      deny_all),
       "10.0.2.1", 80, "allow"},
      {"A8 the subject by pods",
       cluster_policy("admin",
                      "tier: Admin, priority: 1, subject: {pods: {podSelector: {matchLabels: {app: web}}}}",
                      deny_all),
       "10.0.2.1", 80, "deny admin[0]"},
      {"A9 networks match pods and the world", admin(deny_all), "203.0.113.9", 80, "deny admin[0]"},
      {"A9 networks of one family only", admin(deny_all), "2001:db8::9", 80, "allow"},
      {"A9 namespaces match no world", admin(egress("{action: Deny, to: [{namespaces: {}}]}")), "203.0.113.9",
       80, "allow"},
      {"A9 nodes by their addresses",
       admin(egress("{action: Deny, to: [{nodes: {matchLabels: {role: edge}}}]}")), "192.0.2.2", 80,
       "deny admin[0]"},
      {"A9 outside addresses of nodes too",
       admin(egress("{action: Deny, to: [{nodes: {matchLabels: {role: edge}}}]}")), "198.51.100.2", 80,
       "deny admin[0]"},
      {"A9 other nodes are others",
       admin(egress("{action: Deny, to: [{nodes: {matchLabels: {role: edge}}}]}")), "192.0.2.1", 80, "allow"},
      {"A10 a range",
       admin(egress("{action: Deny, " + kToAll +
                    ", protocols: [{tcp: {destinationPort: {range: {start: 80, end: 90}}}}]}")),
       "10.0.2.1", 90, "deny admin[0]"},
      {"A10 and its end",
       admin(egress("{action: Deny, " + kToAll +
                    ", protocols: [{tcp: {destinationPort: {range: {start: 80, end: 90}}}}]}")),
       "10.0.2.1", 91, "allow"},
      {"A10 of that protocol alone",
       admin(egress("{action: Deny, " + kToAll + ", protocols: [{tcp: {destinationPort: {number: 80}}}]}")),
       "10.0.2.1", 80, "allow", IPPROTO_UDP},
      {"A10 a named port is the destination's, of any protocol",
       admin(egress("{action: Deny, to: [{namespaces: {}}], protocols: [{destinationNamedPort: http}]}")),
       "10.0.2.1", 9000, "deny admin[0]", IPPROTO_UDP},
      {"A10 not another pod's",
       admin(egress("{action: Deny, to: [{namespaces: {}}], protocols: [{destinationNamedPort: http}]}")),
       "10.0.1.1", 9000, "allow"},
      {"A10 without protocols, echo too", admin(deny_all), "10.0.2.1", 0, "deny admin[0]", IPPROTO_ICMP},
      {"A12 Accept matches nothing",
       admin(egress("{action: Accept, to: [{namespaces: {}}, {}]}, {action: Deny, " + kToAll + "}")),
       "10.0.2.1", 80, "deny admin[1]"},
      {"A12 Deny is deny-all", admin(egress("{action: Deny, to: [{}]}")), "2001:db8::9", 80, "deny admin[0]",
       IPPROTO_ICMPV6},
      {"A12 Pass is deny-all", admin(egress("{action: Pass, to: [{services: {}}]}")), "10.0.2.1", 80,
       "deny admin[0]"},
      {"A13 domainNames accept nothing yet",
       admin(egress("{action: Accept, to: [{domainNames: [a.example]}]}, {action: Deny, " + kToAll + "}")),
       "203.0.113.9", 443, "deny admin[1]"},
      {"P20 a policy that may select a pod denies it",
       cluster_policy("admin",
                      "tier: Admin, priority: 1, subject: {pods: {podSelector: {matchLabels: {app: web}}}}",
                      deny_all),
       "10.0.2.1", 80, "deny admin[0]", IPPROTO_TCP, 4},
      {"P20 and does not accept for it",
       cluster_policy("admin",
                      "tier: Admin, priority: 1, subject: {pods: {podSelector: {matchLabels: {app: web}}}}",
                      egress("{action: Accept, " + kToAll + "}")) +
           admin(deny_all, 2, "deny"),
       "10.0.2.1", 80, "deny deny[0]", IPPROTO_TCP, 4},
      {"P20 a pod that may be meant is denied",
       admin(egress("{action: Deny, to: [{pods: {podSelector: {matchLabels: {app: evil}}}}]}")), "10.0.1.4",
       80, "deny admin[0]"},
      {"P20 a port that may be meant is denied",
       admin(egress("{action: Deny, to: [{namespaces: {}}], protocols: [{destinationNamedPort: http}]}")),
       "10.0.1.4", 7, "deny admin[0]"},
      {"audit: isolation alone", plain("policyTypes: [Egress]", kAudit), "10.0.2.1", 80, "audit"},
      {"audit: what it allows", plain("policyTypes: [Egress], egress: [{ports: [{port: 80}]}]", kAudit),
       "10.0.2.1", 80, "allow"},
      {"audit: another policy still denies", plain("policyTypes: [Egress]", kAudit) + baseline(deny_all),
       "10.0.2.1", 80, "deny baseline[0]"},
      {"audit: it opens nothing", plain("policyTypes: [Egress], egress: [{}]", kAudit) + admin(deny_all),
       "10.0.2.1", 80, "deny admin[0]"},
      {"audit: a cluster policy's rule",
       cluster_policy("admin", "tier: Admin, priority: 1, subject: {namespaces: {}}", deny_all, kAudit),
       "10.0.2.1", 80, "audit admin[0]"},
      {"audit: its Accept does not count",
       cluster_policy("early", "tier: Admin, priority: 1, subject: {namespaces: {}}",
                      egress("{action: Accept, " + kToAll + "}"), kAudit) +
           admin(deny_all),
       "10.0.2.1", 80, "deny admin[0]"},
  };
  for (const Case& each : cases) {
    SCOPED_TRACE(each.what);
    const auto image = compile(each.policies);
    EXPECT_EQ(verdict(image, Direction::kEgress, each.peer, each.port, each.proto, each.endpoint),
              each.verdict)
        << render(image);
  }
}

TEST_F(ClusterPolicies, Ingress) {
  const std::string from_ops = "from: [{namespaces: {matchLabels: {team: ops}}}]";
  const std::string deny = "ingress: [{action: Deny, " + from_ops + "}]";
  const std::vector<Case> cases = {
      {"A9 pods of a namespace", admin(deny), "10.0.1.3", 80, "deny admin[0]"},
      {"A9 pods elsewhere", admin(deny), "10.0.2.1", 80, "deny admin[0]"},
      {"A9 no others", admin(deny), "10.0.1.2", 80, "allow"},
      {"A8 a pod of the host is neither subject nor peer",
       admin("ingress: [{action: Deny, from: [{namespaces: {}}]}]"), "192.0.2.2", 80, "allow"},
      {"A9 networks are not known of ingress (A12)",
       admin("ingress: [{action: Deny, from: [{networks: [10.9.0.0/16]}]}]"), "10.0.1.2", 80,
       "deny admin[0]"},
      {"A10 a named port is the subject's",
       admin("ingress: [{action: Deny, " + from_ops + ", protocols: [{destinationNamedPort: http}]}]"),
       "10.0.2.1", 8080, "deny admin[0]"},
      {"A10 not the sender's",
       admin("ingress: [{action: Deny, " + from_ops + ", protocols: [{destinationNamedPort: http}]}]"),
       "10.0.2.1", 9000, "allow"},
      {"A5 Accept by the sender leaves the receiver's say (P3)",
       admin("egress: [{action: Accept, " + kToAll + "}]") + plain("policyTypes: [Ingress]"), "10.0.2.1", 80,
       "deny"},
      {"P20 ports of a new pod are not known",
       admin("ingress: [{action: Deny, " + from_ops + ", protocols: [{destinationNamedPort: http}]}]"),
       "10.0.2.1", 1, "deny admin[0]", IPPROTO_TCP, 4},
  };
  for (const Case& each : cases) {
    SCOPED_TRACE(each.what);
    const auto image = compile(each.policies);
    EXPECT_EQ(verdict(image, Direction::kIngress, each.peer, each.port, each.proto, each.endpoint),
              each.verdict)
        << render(image);
  }
}

TEST_F(ClusterPolicies, P22_ATerminatingPodIsSubjectAndPeerUntilItIsGone) {
  const auto leaving = [](const std::string& ns, const std::string& pod, const std::string& address) {
    return fmt::format(
        "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {}, namespace: {}, labels: {{app: {}}}, "
        "deletionTimestamp: "
        "\"2026-01-01T00:00:00Z\"}}, spec: {{nodeName: here}}, status: {{phase: Running, podIP: {}}}}}\n",
        pod, ns, pod, address);
  };
  const auto image =
      compile(leaving("shop", "web", "10.0.1.1") + leaving("ops", "far", "10.0.2.1") +
              admin("ingress: [{action: Deny, from: [{namespaces: {matchLabels: {team: ops}}}]}]") +
              plain("policyTypes: [Egress]"));
  EXPECT_EQ(verdict(image, Direction::kIngress, "10.0.2.1", 80), "deny admin[0]");
  EXPECT_EQ(verdict(image, Direction::kEgress, "10.0.2.1", 80), "deny");
}

TEST_F(ClusterPolicies, A11_APodThatReachesItselfByAServiceIsSubjectToClusterPoliciesAlone) {
  const std::string deny_web =
      admin("ingress: [{action: Deny, from: [{pods: {podSelector: {matchLabels: {app: web}}}}]}]");
  auto image = compile(deny_web);
  EXPECT_EQ(image_decides_itself(image, 1, Direction::kIngress, IPPROTO_TCP, 80).verdict, POLICY_DENY);
  EXPECT_EQ(image_decides_itself(image, 2, Direction::kIngress, IPPROTO_TCP, 80).verdict, POLICY_ALLOW);
  EXPECT_NE(image.endpoints.at(1).ingress_set, image.endpoints.at(2).ingress_set);
  // A7: nor are those of the Baseline tier asked where a NetworkPolicy, be it in audit mode, has its say.
  const std::string audited =
      cluster_policy("baseline", "tier: Baseline, priority: 1, subject: {namespaces: {}}",
                     "ingress: [{action: Deny, from: [{namespaces: {}}]}]", kAudit);
  image = compile(audited + plain("policyTypes: [Ingress]", kAudit));
  EXPECT_EQ(image_decides_itself(image, 1, Direction::kIngress, IPPROTO_TCP, 80).verdict, POLICY_ALLOW);
  EXPECT_EQ(image_decides_itself(image, 2, Direction::kIngress, IPPROTO_TCP, 80).verdict, POLICY_AUDIT);
  image = compile(plain("policyTypes: [Ingress]"));
  EXPECT_EQ(image_decides_itself(image, 1, Direction::kIngress, IPPROTO_TCP, 80).verdict, POLICY_ALLOW);
}

TEST_F(ClusterPolicies, A11_NetworksHoldAPodByTheAddressOfTheFamilyItReachesItselfOver) {
  const auto reaches_itself = [&](const std::string& networks) {
    const auto image = compile(admin("egress: [{action: Deny, to: [{networks: [" + networks + "]}]}]"));
    const auto over = [&](Family family, const char* name) {
      const auto said = image_decides_itself(image, 1, Direction::kEgress, IPPROTO_TCP, 80, family);
      return std::string(said.verdict == POLICY_ALLOW ? name : "");
    };
    return over(Family::kIpv4, "4") + over(Family::kIpv6, "6");
  };
  endpoints.front().ips = {ip("fd00::1"), ip("10.0.1.1")};
  EXPECT_EQ(reaches_itself("10.0.1.1/32"), "6");
  EXPECT_EQ(reaches_itself("'fd00::1/128'"), "4");
  EXPECT_EQ(reaches_itself("10.0.1.1/32, 'fd00::/64'"), "");
  EXPECT_EQ(reaches_itself("10.0.1.2/32"), "46");
  // Of several addresses of one family the strictest verdict counts.
  endpoints.front().ips = {ip("10.0.1.1"), ip("10.0.7.1")};
  EXPECT_EQ(reaches_itself("10.0.7.1/32"), "");
}

TEST_F(ClusterPolicies, AThousandPodsUnderTheSamePoliciesShareOneSet) {
  const std::string policies =
      admin("ingress: [{action: Deny, from: [{namespaces: {matchLabels: {team: ops}}}]}]") +
      plain("policyTypes: [Ingress], ingress: [{ports: [{port: 80}]}]");
  compile(policies);
  for (uint16_t i = 0; i < 1000; ++i) {
    auto pod = state.pods.at(name("shop", "web"));
    pod.name = name("shop", fmt::format("web{}", i));
    pod.ips = {Address::from_ipv4({10, 1, static_cast<uint8_t>(i >> 8), static_cast<uint8_t>(i)})};
    pod.labels["number"] = std::to_string(i);  // an identity of its own
    endpoints.push_back({static_cast<uint16_t>(100 + i), pod.name, pod.ips, 0, {}});
    state.pods[pod.name] = std::move(pod);
  }
  const auto image = compile_policy(state, node, endpoints, numbers);
  const uint32_t set = image.endpoints.at(1).ingress_set;
  EXPECT_TRUE(image.sets.contains(set));
  for (uint16_t i = 0; i < 1000; ++i) {
    const auto index = static_cast<uint16_t>(100 + i);
    ASSERT_EQ(image.endpoints.at(index).ingress_set, set);
  }
  // Beside it: of db, of the new pod, and of the probe, which the rule keeps from itself as well (A11).
  EXPECT_EQ(image.sets.size(), 4U);
}

TEST_F(ClusterPolicies, NumbersOfRulesOutliveOtherPrioritiesAndOtherPolicies) {
  const std::string rules = "egress: [{action: Deny, " + kToAll + "}]";
  const auto rule = [&](const std::string& policies) {
    const auto image = compile(policies);
    return image_decides(image, 1, Direction::kEgress, ip("10.0.2.1"), IPPROTO_TCP, 80).rule;
  };
  const uint32_t number = rule(admin(rules, 10));
  EXPECT_NE(number, 0U);
  EXPECT_EQ(rule(admin(rules, 20)), number);
  EXPECT_EQ(rule(admin(rules, 10) + admin(rules, 30, "later")), number);
  EXPECT_NE(rule(admin("egress: [{action: Deny, to: [{namespaces: {}}]}]")), number);
}

TEST_F(ClusterPolicies, TheOrderOfRulesAndTheirTiersAreTold) {
  const auto image = compile(admin("egress: [{action: Pass, " + kToAll + "}]", 7) +
                             baseline("egress: [{action: Deny, " + kToAll + "}]"));
  const auto& rules = image.endpoints.at(1).egress_rules;
  ASSERT_EQ(rules.size(), 2U);
  EXPECT_EQ(image.rules.at(rules[0]).tier, "Admin 7");
  EXPECT_EQ(image.rules.at(rules[0]).text, "egress[0]: Pass to 0.0.0.0/0 on any port");
  EXPECT_EQ(image.rules.at(rules[1]).tier, "Baseline 10");
}

}  // namespace
}  // namespace bpfnet::compile
