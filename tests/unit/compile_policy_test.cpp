#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include "control/compile/occupants.h"
#include "control/compile/policy_rules.h"
#include "control/compile/policy_sets.h"
#include "maps/abi/endpoint.h"
#include "maps/abi/policy.h"
#include "tests/unit/compile_builders.h"
#include "tests/unit/compile_lookup.h"

namespace bpfnet::compile {
namespace {

using model::Protocol;
using model::SelectorOperator;
using test::name;
using testing::ElementsAre;
using testing::HasSubstr;

model::Selector app(std::string value) {
  return {{{"app", SelectorOperator::kIn, {std::move(value)}}}};
}
model::PolicyPeer pods(model::Selector selector) {
  model::PolicyPeer peer;
  peer.pods = std::move(selector);
  return peer;
}
model::PolicyPeer namespaces(model::Selector selector) {
  model::PolicyPeer peer;
  peer.namespaces = std::move(selector);
  return peer;
}
model::PolicyPeer block(std::string_view text, std::vector<Cidr> except = {}) {
  model::PolicyPeer peer;
  peer.cidr = cidr(text);
  peer.except = std::move(except);
  return peer;
}
model::PolicyPort tcp(uint16_t port, std::optional<uint16_t> end = {}) {
  return {Protocol::kTcp, port, end, ""};
}

/// On this node: default/web (10.0.1.1, endpoint 1, port http=8080) and default/client (10.0.1.2, endpoint
/// 2). Elsewhere: default/remote (10.0.2.1) and other/stranger (10.0.2.2), both with app=client.
class Policy : public testing::Test, public test::Cluster {
 protected:
  Policy() {
    add_pod("default", "web", "web", "10.0.1.1", 1).ports = {{"http", 8080, 0, {}, Protocol::kTcp}};
    add_pod("default", "client", "client", "10.0.1.2", 2);
    add_pod("default", "remote", "client", "10.0.2.1", 0);
    add_pod("other", "stranger", "client", "10.0.2.2", 0);
  }

  model::Pod& add_pod(const std::string& ns, const std::string& pod_name, const std::string& label,
                      std::string_view address, uint16_t index) {
    auto& pod = state.pods[name(ns, pod_name)];
    pod.name = name(ns, pod_name);
    pod.labels = {{"app", label}};
    pod.ips = {ip(address)};
    pod.phase = model::PodPhase::kRunning;
    pod.node_name = index ? "here" : "there";
    if (index) endpoints.push_back({index, pod.name, pod.ips, 0, {}});
    return pod;
  }

  model::NetworkPolicy& add_policy(const std::string& policy_name, std::vector<model::PolicyRule> ingress,
                                   const std::string& ns = "default") {
    auto& policy = state.policies[name(ns, policy_name)];
    policy.name = name(ns, policy_name);
    policy.pods = app("web");
    policy.ingress = std::move(ingress);
    return policy;
  }
  model::NetworkPolicy& add_egress_policy(std::vector<model::PolicyRule> egress) {
    auto& policy = add_policy("egress", {});
    policy.isolates_ingress = false;
    policy.isolates_egress = true;
    policy.egress = std::move(egress);
    return policy;
  }

  PolicyImage compile() { return compile_policy(state, node, endpoints, numbers); }
  bool from(std::string_view peer, uint16_t port, uint8_t proto = IPPROTO_TCP, uint16_t endpoint = 1) {
    return image_allows(compile(), endpoint, Direction::kIngress, ip(peer), proto, port);
  }
  bool to(std::string_view peer, uint16_t port, uint8_t proto = IPPROTO_TCP, uint16_t endpoint = 1) {
    return image_allows(compile(), endpoint, Direction::kEgress, ip(peer), proto, port);
  }

  PolicyNumbers numbers;
};

TEST_F(Policy, P1_IsolationIsPerDirection) {
  add_policy("deny", {});
  const auto image = compile();
  EXPECT_EQ(image.endpoints.at(1).ingress_set, uint32_t{POLICY_SET_DENY_ALL});
  EXPECT_EQ(image.endpoints.at(1).egress_set, uint32_t{POLICY_SET_ALLOW_ALL});
  EXPECT_EQ(image.endpoints.at(2).ingress_set, uint32_t{POLICY_SET_ALLOW_ALL});
  EXPECT_THAT(image.endpoints.at(1).isolated_by_ingress, ElementsAre("default/deny"));
}

TEST_F(Policy, P3_RulesOfAllPoliciesAddUp) {
  add_policy("a", {{{}, {tcp(80)}}});
  add_policy("b", {{{}, {tcp(81)}}});
  EXPECT_TRUE(from("192.0.2.9", 80));
  EXPECT_TRUE(from("192.0.2.9", 81));
  EXPECT_FALSE(from("192.0.2.9", 82));
}

TEST_F(Policy, P4_AnEmptyRuleAllowsEverything) {
  add_policy("open", {{}});
  EXPECT_TRUE(from("192.0.2.9", 1, IPPROTO_ICMP));
  EXPECT_TRUE(from("2001:db8::9", 1, IPPROTO_UDP));
}

TEST_F(Policy, P5_P24_AProtocolAloneOpensItAndNoOther) {
  add_policy("udp", {{{}, {{Protocol::kUdp, {}, {}, ""}}}});
  EXPECT_TRUE(from("192.0.2.9", 1234, IPPROTO_UDP));
  EXPECT_FALSE(from("192.0.2.9", 1234, IPPROTO_TCP));
}

TEST_F(Policy, P6_ANamedIngressPortIsThatOfTheSubject) {
  add_policy("named", {{{}, {{Protocol::kTcp, {}, {}, "http"}}}});
  EXPECT_TRUE(from("192.0.2.9", 8080));
  EXPECT_FALSE(from("192.0.2.9", 80));
  EXPECT_FALSE(from("192.0.2.9", 8080, IPPROTO_UDP));
  state.pods[name("default", "web")].ports = {};
  EXPECT_FALSE(from("192.0.2.9", 8080));
  EXPECT_EQ(compile().endpoints.at(1).ingress_set, uint32_t{POLICY_SET_DENY_ALL});
}

TEST_F(Policy, P6_ANamedEgressPortIsThatOfEachDestinationPod) {
  state.pods[name("default", "remote")].ports = {{"http", 9000, 0, {}, Protocol::kTcp}};
  add_pod("default", "second", "client", "10.0.2.3", 0).ports = {{"http", 9001, 0, {}, Protocol::kTcp}};
  add_egress_policy({{{pods(app("client")), block("10.0.0.0/8")}, {{Protocol::kTcp, {}, {}, "http"}}}});
  EXPECT_TRUE(to("10.0.2.1", 9000));
  EXPECT_FALSE(to("10.0.2.1", 9001));
  EXPECT_TRUE(to("10.0.2.3", 9001));
  EXPECT_FALSE(to("10.0.1.2", 9000));  // has no such port
  EXPECT_FALSE(to("10.0.2.2", 9000));  // another namespace: by its address alone a named port never matches
}

TEST_F(Policy, P7_RangesAreInclusive) {
  add_policy("range", {{{}, {tcp(8000, 8081)}}});
  for (const auto& [port, allowed] :
       {std::pair{7999, false}, {8000, true}, {8063, true}, {8081, true}, {8082, false}})
    EXPECT_EQ(from("192.0.2.9", static_cast<uint16_t>(port)), allowed) << port;
}

TEST_F(Policy, P8_WhereASelectorLooks) {
  add_policy("same", {{{pods(app("client"))}, {}}});
  EXPECT_TRUE(from("10.0.2.1", 80));
  EXPECT_FALSE(from("10.0.2.2", 80));
  model::PolicyPeer both = pods(app("client"));
  both.namespaces = model::Selector{{{"kubernetes.io/metadata.name", SelectorOperator::kIn, {"other"}}}};
  add_policy("same", {{{both}, {}}});  // P9: a namespace without an object has its name
  EXPECT_FALSE(from("10.0.2.1", 80));
  EXPECT_TRUE(from("10.0.2.2", 80));
  add_policy("same", {{{namespaces({})}, {}}});
  EXPECT_TRUE(from("10.0.2.2", 80));
  EXPECT_FALSE(from("192.0.2.9", 80));
}

TEST_F(Policy, P9_NotInAndDoesNotExistMatchWhatLacksTheKey) {
  state.pods[name("default", "remote")].labels = {};
  add_policy("notin", {{{pods({{{"app", SelectorOperator::kNotIn, {"client"}}}})}, {}}});
  EXPECT_TRUE(from("10.0.2.1", 80));
  EXPECT_FALSE(from("10.0.1.2", 80));
  add_policy("notin", {{{pods({{{"app", SelectorOperator::kDoesNotExist, {}}}})}, {}}});
  EXPECT_TRUE(from("10.0.2.1", 80));
}

TEST_F(Policy, P10_BlocksMatchPodsAndExceptTakesFromItsOwnItemOnly) {
  add_policy("block", {{{block("10.0.0.0/8", {cidr("10.0.2.0/24")})}, {}}});
  EXPECT_TRUE(from("10.0.1.2", 80));
  EXPECT_FALSE(from("10.0.2.1", 80));
  EXPECT_FALSE(from("10.0.2.200", 80));
  EXPECT_TRUE(from("10.9.9.9", 80));
  add_policy("other-item", {{{block("10.0.2.0/30")}, {}}});
  EXPECT_TRUE(from("10.0.2.1", 80));
  EXPECT_FALSE(from("10.0.2.200", 80));
}

TEST_F(Policy, P10_AllOfOneFamilyIsNothingOfTheOther) {
  add_policy("v4", {{{block("0.0.0.0/0")}, {}}});
  EXPECT_TRUE(from("192.0.2.9", 80));
  EXPECT_FALSE(from("2001:db8::9", 80));
  add_policy("v4", {{{block("::/0")}, {}}});
  EXPECT_FALSE(from("192.0.2.9", 80));
  EXPECT_TRUE(from("2001:db8::9", 80));
}

TEST_F(Policy, P14_HostNetworkPodsAreNodeAddresses) {
  auto& agent = add_pod("default", "agent", "client", "192.0.2.1", 0);
  agent.host_network = true;
  add_policy("sel", {{{pods(app("client"))}, {}}});
  EXPECT_FALSE(from("192.0.2.1", 80));
  EXPECT_EQ(identity_of(compile(), ip("192.0.2.1")), uint32_t{IDENTITY_HOST});
  add_policy("sel", {{{block("192.0.2.0/24")}, {}}});
  EXPECT_TRUE(from("192.0.2.1", 80));
}

TEST_F(Policy, P20_APodWithoutItsObjectIsIsolatedByWhateverMaySelectIt) {
  state.pods.erase(name("default", "web"));
  EXPECT_TRUE(from("10.0.1.2", 80));
  add_policy("sel", {{{}, {tcp(80)}}});  // selects app=web
  EXPECT_FALSE(from("10.0.1.2", 80));
  EXPECT_TRUE(to("10.0.1.2", 80));
  add_policy("all", {{{}, {tcp(81)}}}).pods = {};  // selects every pod, this one too
  EXPECT_TRUE(from("10.0.1.2", 81));
  EXPECT_FALSE(from("10.0.1.2", 80));
  EXPECT_THAT(compile().endpoints.at(1).isolated_by_ingress, ElementsAre("default/all", "default/sel"));
}

TEST_F(Policy, P20_APodWithoutItsObjectIsNoPeerOfASelectorByLabels) {
  state.pods.erase(name("default", "client"));
  add_policy("sel", {{{pods({{{"app", SelectorOperator::kNotIn, {"evil"}}}})}, {}}});
  EXPECT_FALSE(from("10.0.1.2", 80));
  add_policy("sel", {{{pods({})}, {}}});
  EXPECT_TRUE(from("10.0.1.2", 80));
}

TEST_F(Policy, P20_AnObjectThatIsOfAPodElsewhereDoesNotSpeakForALocalEndpoint) {
  state.pods[name("default", "web")].node_name = "there";
  add_policy("other-app", {}).pods = app("db");
  EXPECT_FALSE(from("10.0.1.2", 80));
}

TEST_F(Policy, AnEndpointThatIsNoPodIsNotIsolated) {
  endpoints.push_back({3, {}, {ip("10.0.1.3")}, 0, {}});
  add_policy("all", {}).pods = {};
  EXPECT_TRUE(from("10.0.1.2", 80, IPPROTO_TCP, 3));
}

TEST_F(Policy, TheEndpointsOwnAddressCountsWhenThePodStatusHasNoneYet) {
  state.pods[name("default", "client")].ips.clear();
  add_policy("sel", {{{pods(app("client"))}, {}}});
  EXPECT_TRUE(from("10.0.1.2", 80));
  EXPECT_EQ(compile().addresses.at({0, ip("10.0.1.2")}).endpoint, 2);
}

TEST_F(Policy, P21_FinishedPodsAreNeitherSubjectNorPeer) {
  add_policy("sel", {{{pods(app("client"))}, {}}});
  state.pods[name("default", "remote")].phase = model::PodPhase::kSucceeded;
  EXPECT_FALSE(from("10.0.2.1", 80));
  state.pods[name("default", "web")].phase = model::PodPhase::kFailed;
  EXPECT_TRUE(from("10.0.2.1", 80));
  EXPECT_EQ(pod_at(ip("10.0.2.1"), state), nullptr);
}

TEST_F(Policy, P21_AReusedAddressIsThatOfTheLivingPod) {
  add_policy("sel", {{{pods(app("client"))}, {}}});
  add_pod("default", "a-completed", "client", "10.0.2.9", 0).phase = model::PodPhase::kSucceeded;
  add_pod("default", "successor", "other", "10.0.2.9", 0);
  EXPECT_FALSE(from("10.0.2.9", 80));
  // A stale object claims the address of a local endpoint.
  add_pod("default", "a-stale", "other", "10.0.1.2", 0);
  EXPECT_TRUE(from("10.0.1.2", 80));
  EXPECT_EQ(compile().addresses.at({0, ip("10.0.1.2")}).endpoint, 2);
}

TEST_F(Policy, P21_OfTwoLivePodsTheRunningOneHasTheAddressAndItIsTold) {
  add_pod("default", "a-pending", "client", "10.0.2.9", 0).phase = model::PodPhase::kPending;
  add_pod("default", "running", "other", "10.0.2.9", 0);
  add_policy("sel", {{{pods(app("client"))}, {}}});
  EXPECT_FALSE(from("10.0.2.9", 80));
  ASSERT_EQ(compile().warnings.size(), 1U);
  EXPECT_THAT(compile().warnings[0].text,
              HasSubstr("default/a-pending and default/running both claim 10.0.2.9"));
  EXPECT_EQ(pod_at(ip("10.0.2.9"), state)->name.name, "running");
}

TEST_F(Policy, P22_ATerminatingPodIsAPeerUntilAnotherHasItsAddress) {
  add_pod("default", "a-terminating", "client", "10.0.2.9", 0).deleting = true;
  add_policy("sel", {{{pods(app("client"))}, {}}});
  EXPECT_TRUE(from("10.0.2.9", 80));
  EXPECT_EQ(pod_at(ip("10.0.2.9"), state)->name.name, "a-terminating");
  add_pod("default", "successor", "other", "10.0.2.9", 0).phase = model::PodPhase::kPending;
  EXPECT_EQ(pod_at(ip("10.0.2.9"), state)->name.name, "successor");
  EXPECT_FALSE(from("10.0.2.9", 80));
  EXPECT_TRUE(compile().warnings.empty());
  add_pod("default", "a-terminating", "other", "10.0.2.9", 0).deleting = false;
  add_pod("default", "successor", "client", "10.0.2.9", 0).deleting = true;
  EXPECT_FALSE(from("10.0.2.9", 80));
}

TEST_F(Policy, P23_PeersThatMatchNothingAllowNothing) {
  add_policy("none", {{{pods(app("nobody"))}, {}}});
  EXPECT_FALSE(from("10.0.1.2", 80));
  add_policy("none", {{{model::PolicyPeer{}}, {}}});
  EXPECT_FALSE(from("10.0.1.2", 80));
}

TEST_F(Policy, P25_BothFamiliesOfAPod) {
  state.pods[name("default", "remote")].ips.push_back(ip("fd00::2:1"));
  add_policy("sel", {{{pods(app("client"))}, {}}});
  EXPECT_TRUE(from("fd00::2:1", 80));
  EXPECT_FALSE(from("fd00::2:2", 80));
}

TEST_F(Policy, P25_APolicyOfOneNamespaceLeavesOthersAlone) {
  add_policy("deny", {}, "other").pods = {};
  EXPECT_TRUE(from("10.0.1.2", 80));
}

TEST_F(Policy, AddressesSayWhatTheyAre) {
  model::Node there;
  there.name = "there";
  there.internal_ips = {ip("192.0.2.2")};
  there.external_ips = {ip("198.51.100.2")};
  there.pod_cidrs = {cidr("10.0.2.0/24")};
  state.nodes["there"] = there;
  node.node_port_addresses = {cidr("198.51.100.0/24")};
  node.service_cidrs = {cidr("10.96.0.0/12")};
  const auto image = compile();
  const auto flags = [&](std::string_view address) { return image.addresses.at({0, ip(address)}).flags; };
  EXPECT_EQ(flags("10.0.1.1"), ADDRESS_POD | ADDRESS_LOCAL_POD);
  EXPECT_EQ(flags("10.0.2.1"), ADDRESS_POD);
  EXPECT_EQ(flags("192.0.2.1"), ADDRESS_LOCAL_NODE);                        // S35: IPv4 is restricted
  EXPECT_EQ(flags("2001:db8::1"), ADDRESS_LOCAL_NODE | ADDRESS_NODE_PORT);  // IPv6 is not
  EXPECT_EQ(flags("192.0.2.2"), ADDRESS_REMOTE_NODE);
  EXPECT_FALSE(image.addresses.contains({0, ip("198.51.100.2")}));
  EXPECT_EQ(image.cidrs.at({0, cidr("10.0.2.0/24")}).flags, uint32_t{CIDR_CLUSTER});
  EXPECT_EQ(image.cidrs.at({0, cidr("10.96.0.0/12")}).flags, uint32_t{CIDR_SERVICE});
}

TEST_F(Policy, APrefixCarriesTheFlagsOfThoseThatCoverIt) {
  node.cluster_cidrs = {cidr("10.0.0.0/8")};
  node.service_cidrs = {cidr("10.96.0.0/12")};
  add_policy("block", {{{block("10.96.7.0/24")}, {}}});
  const auto image = compile();
  EXPECT_EQ(image.cidrs.at({0, cidr("10.96.7.0/24")}).flags, uint32_t{CIDR_CLUSTER | CIDR_SERVICE});
  EXPECT_EQ(image.cidrs.at({0, cidr("0.0.0.0/0")}).flags, 0U);
  EXPECT_EQ(image.cidrs.at({0, cidr("10.0.0.0/8")}).identity, uint32_t{IDENTITY_WORLD});
}

TEST_F(Policy, ARuleSaysWhatItIs) {
  add_policy("web", {{{pods(app("client")), block("10.0.0.0/8", {cidr("10.9.0.0/16")})},
                      {tcp(80), tcp(8000, 8080)}}});
  const auto image = compile();
  uint32_t rule = 0;
  ASSERT_TRUE(set_allows(image, image.endpoints.at(1).ingress_set, identity_of(image, ip("10.0.1.2")),
                         IPPROTO_TCP, 80, &rule));
  EXPECT_EQ(image.rules.at(rule).policy, "default/web");
  EXPECT_EQ(image.rules.at(rule).text,
            "ingress[0]: from pods app=client or 10.0.0.0/8 except 10.9.0.0/16 to TCP 80, TCP 8000-8080");
}

// The pod says what those hear whom its policy denies, or else its namespace, or else the node.
TEST_F(Policy, TheNearestSaysWhatTheDeniedHear) {
  const auto flags = [&] { return int{compile().endpoints.at(1).flags}; };
  EXPECT_EQ(flags(), 0);
  node.denied = model::Denied::kReject;
  EXPECT_EQ(flags(), ENDPOINT_REJECTS);
  state.namespaces["default"].denied = model::Denied::kDrop;
  EXPECT_EQ(flags(), 0);
  state.pods.at(name("default", "web")).denied = model::Denied::kReject;
  EXPECT_EQ(flags(), ENDPOINT_REJECTS);
  EXPECT_EQ(compile().endpoints.at(2).flags, 0) << "it is the pod's alone";
}

TEST_F(Policy, AuditOfTheNodeIsThatOfEveryPod) {
  node.policy_audit = true;
  for (const auto& [index, endpoint] : compile().endpoints) EXPECT_EQ(endpoint.flags, ENDPOINT_AUDITED);
}

TEST_F(Policy, PodsUnderTheSamePoliciesShareOneSet) {
  for (int i = 0; i < 20; ++i)
    add_pod("default", "web" + std::to_string(i), "web", "10.0.3." + std::to_string(i),
            static_cast<uint16_t>(10 + i));
  add_policy("sel", {{{pods(app("client"))}, {tcp(80)}}});
  EXPECT_EQ(compile().sets.size(), 1U);
}

}  // namespace
}  // namespace bpfnet::compile
