#include <gtest/gtest.h>

#include "control/sources/decode.h"

namespace bpfnet::sources {
namespace {

using model::NetworkPolicy;

Decoded decode_one(const std::string& spec) {
  DecodedText decoded = decode(
      "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: shop}\n" + spec,
      Format::kYaml);
  EXPECT_EQ(decoded.objects.size(), 1u);
  return std::move(decoded.objects.at(0));
}

NetworkPolicy good(const std::string& spec) {
  Decoded decoded = decode_one(spec);
  for (const Problem& problem : decoded.problems) ADD_FAILURE() << problem.to_string();
  return decoded.object ? std::get<NetworkPolicy>(*decoded.object) : NetworkPolicy{};
}

NetworkPolicy stand_in(const std::string& spec) {
  Decoded decoded = decode_one(spec);
  EXPECT_FALSE(decoded.object);
  EXPECT_TRUE(decoded.fallback);
  auto policy = std::get<NetworkPolicy>(*decoded.fallback);
  EXPECT_TRUE(policy.ingress.empty() && policy.egress.empty()) << "a stand-in allows nothing";
  return policy;
}

TEST(Policy, EverythingItCanSay) {
  const NetworkPolicy policy = good(R"(spec:
  podSelector:
    matchLabels: {app: web}
    matchExpressions: [{key: tier, operator: NotIn, values: [a, b]}, {key: x/y, operator: DoesNotExist}]
  policyTypes: [Ingress, Egress]
  ingress:
  - from:
    - podSelector: {}
    - namespaceSelector: {matchLabels: {team: blue}}
      podSelector: {matchLabels: {app: api}}
    - ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}
    ports: [{port: 80}, {protocol: UDP, port: 5000, endPort: 5010}, {port: http}, {protocol: SCTP}]
  - {}
  egress:
  - to: [{namespaceSelector: {}}]
)");
  EXPECT_EQ(policy.pods.requirements,
            (std::vector<model::SelectorRequirement>{{"app", model::SelectorOperator::kIn, {"web"}},
                                                     {"tier", model::SelectorOperator::kNotIn, {"a", "b"}},
                                                     {"x/y", model::SelectorOperator::kDoesNotExist, {}}}));
  EXPECT_TRUE(policy.isolates_ingress && policy.isolates_egress);
  ASSERT_EQ(policy.ingress.size(), 2u);
  const auto& peers = policy.ingress[0].peers;
  ASSERT_EQ(peers.size(), 3u);
  EXPECT_TRUE(peers[0].pods && peers[0].pods->requirements.empty() && !peers[0].namespaces);
  EXPECT_TRUE(peers[1].pods && peers[1].namespaces && !peers[1].cidr);
  EXPECT_EQ(peers[2].cidr->to_string(), "10.0.0.0/8");
  EXPECT_EQ(peers[2].except.at(0).to_string(), "10.1.0.0/16");
  const auto& ports = policy.ingress[0].ports;
  ASSERT_EQ(ports.size(), 4u);
  EXPECT_EQ(ports[0], (model::PolicyPort{model::Protocol::kTcp, 80, {}, ""}));
  EXPECT_EQ(ports[1], (model::PolicyPort{model::Protocol::kUdp, 5000, 5010, ""}));
  EXPECT_EQ(ports[2], (model::PolicyPort{model::Protocol::kTcp, {}, {}, "http"}));
  EXPECT_EQ(ports[3], (model::PolicyPort{model::Protocol::kSctp, {}, {}, ""}));
  EXPECT_EQ(policy.ingress[1], model::PolicyRule{});  // P4: allows all
  EXPECT_TRUE(policy.egress.at(0).peers.at(0).namespaces);
}

TEST(Policy, DefaultTypes) {  // P2
  EXPECT_TRUE(good("spec: {podSelector: {}}\n").isolates_ingress);
  EXPECT_FALSE(good("spec: {podSelector: {}}\n").isolates_egress);
  EXPECT_FALSE(good("spec: {podSelector: {}, egress: []}\n").isolates_egress);
  const NetworkPolicy with_egress = good("spec: {podSelector: {}, egress: [{}]}\n");
  EXPECT_TRUE(with_egress.isolates_ingress && with_egress.isolates_egress);
  const NetworkPolicy egress_only = good("spec: {podSelector: {}, policyTypes: [Egress]}\n");
  EXPECT_TRUE(!egress_only.isolates_ingress && egress_only.isolates_egress);
}

TEST(Policy, EmptySelectorsSelectEverything) {
  EXPECT_TRUE(good("spec: {podSelector:}\n").pods.requirements.empty());
  EXPECT_TRUE(good("spec: {}\n").pods.requirements.empty());
}

// A policy that was never good fails closed.
TEST(ClosedPolicy, IsolatesWhatItsSelectorSelects) {
  const NetworkPolicy policy =
      stand_in("spec: {podSelector: {matchLabels: {app: web}}, ingress: [{form: []}]}\n");
  EXPECT_EQ(policy.name.to_string(), "shop/p");
  EXPECT_TRUE(policy.pods.matches({{"app", "web"}}));
  EXPECT_FALSE(policy.pods.matches({{"app", "db"}}));
  EXPECT_TRUE(policy.isolates_ingress);
  EXPECT_FALSE(policy.isolates_egress) << "its directions are readable: by default Ingress";
}

TEST(ClosedPolicy, WithoutAReadableSelectorIsolatesTheNamespace) {
  EXPECT_TRUE(stand_in("spec: {podSelector: {app: web}, policyTypes: [Egress]}\n").pods.requirements.empty());
  EXPECT_TRUE(stand_in("spec: {podSelector: {matchLabels: {a: 1}}}\n").pods.matches({}));
  EXPECT_TRUE(stand_in("spec: {podSelectors: {matchLabels: {a: b}}}\n").pods.matches({}));
  EXPECT_TRUE(stand_in("spec: {podSelector: {matchLabels: {a: b, a: c}}}\n").pods.matches({}));
}

TEST(ClosedPolicy, WithoutReadableTypesIsolatesBothDirections) {
  for (const char* spec :
       {"spec: {podSelector: {}, policyTypes: [egress]}\n", "spec: text\n",
        "spec: {podSelector: {}, policytypes: [Egress]}\n", "spec: {podSelector: {}, egress: 1}\n",
        "spec: {podSelector: {}, policyTypes: [Ingress], policyTypes: [Egress]}\n"}) {
    const NetworkPolicy policy = stand_in(spec);
    EXPECT_TRUE(policy.isolates_ingress && policy.isolates_egress) << spec;
  }
}

TEST(ClosedPolicy, StandsEvenIfThePolicyHasNoGoodName) {
  const DecodedText decoded = decode(
      "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: My_Policy, namespace: shop}\n"
      "spec: {podSelector: {}}\n",
      Format::kYaml);
  ASSERT_EQ(decoded.objects.size(), 1u);
  EXPECT_TRUE(decoded.objects[0].fallback);
  EXPECT_EQ(decoded.objects[0].name.ns, "shop");
}

TEST(ClosedPolicy, TwoWithoutANameBothStand) {
  const std::string head = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {}\n";
  const DecodedText one = decode(head + "spec: {podSelector: {matchLabels: {app: a}}}\n", Format::kYaml);
  const DecodedText two = decode(head + "spec: {podSelector: {matchLabels: {app: b}}}\n", Format::kYaml);
  EXPECT_NE(one.objects.at(0).name, two.objects.at(0).name);
}

TEST(ClosedPod, KeepsItsLabels) {
  const DecodedText decoded = decode(
      "apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {a: b}}\nstatus: {podIP: x}\n", Format::kYaml);
  ASSERT_TRUE(decoded.objects.at(0).fallback);
  const auto pod = std::get<model::Pod>(*decoded.objects[0].fallback);
  EXPECT_EQ(pod.labels, (model::Labels{{"a", "b"}}));
  EXPECT_TRUE(pod.ips.empty());
}

TEST(Service, AnUnreadableSourceRangeLetsNobodyIn) {  // S11, S40
  const DecodedText decoded = decode(
      "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n"
      "spec: {clusterIP: 10.96.0.1, loadBalancerSourceRanges: [10.0.0.0/33, \"fd00::/x\"]}\n",
      Format::kYaml);
  const auto& service = std::get<model::Service>(*decoded.objects.at(0).object);
  ASSERT_EQ(service.source_ranges.size(), 2u);
  EXPECT_EQ(service.source_ranges[0].to_string(), "0.0.0.0/32");
  EXPECT_EQ(service.source_ranges[1].to_string(), "::/128");
}

}  // namespace
}  // namespace bpfnet::sources
