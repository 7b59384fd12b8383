// Which objects count, and which backends: S1-S19, S23, S31 in their order. The other ways in (S32, S34-S44,
// S50) are in compile_ways_in_test.cpp; what is written in manifests and changed live (S1-S4, S8, S11, S18,
// S32, S41, S42) in compile_live_test.cpp.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/compile_builders.h"

namespace bpfnet::compile {
namespace {

using model::Protocol;
using model::TrafficPolicy;
using test::any_local;
using test::at;
using test::backend;
using test::draining;
using test::endpoint;
using test::not_ready;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class Services : public testing::Test, public test::Cluster {
 protected:
  Frontend at_cluster_ip() { return services().frontends.at(at("10.96.0.1", 80)); }
};

TEST_F(Services, S1_HeadlessAndExternalNameAreSkipped) {
  slice("s", {endpoint("10.0.0.1")});
  web().cluster_ips.clear();
  EXPECT_THAT(services().frontends, IsEmpty());
  web().cluster_ips = {ip("10.96.0.1")};
  web().type = model::ServiceType::kExternalName;
  EXPECT_THAT(services().frontends, IsEmpty());
}

TEST_F(Services, S2_ServiceProxyNameLabelDisables) {
  web().labels["service.kubernetes.io/service-proxy-name"] = "";
  EXPECT_THAT(services().frontends, IsEmpty());
}

// Its slices do not have the label: the controller gives it to those of services without an address alone.
TEST_F(Services, HeadlessLabelOfAServiceWithAnAddressDisables) {
  slice("s", {endpoint("10.0.0.1")});
  web().labels["service.kubernetes.io/headless"] = "";
  EXPECT_THAT(services().frontends, IsEmpty());
}

TEST_F(Services, S3_HeadlessLabelTakesTheEndpointsAway) {
  web();
  slice("s", {endpoint("10.0.0.1")}).labels["service.kubernetes.io/headless"] = "";
  EXPECT_THAT(at_cluster_ip().internal, IsEmpty());
}

TEST_F(Services, S4_ForeignFamilyNamelessAndPortlessSlicesAreIgnored) {
  web();
  slice("v6", {endpoint("fd00::1")}, Family::kIpv6);
  slice("lying", {endpoint("fd00::1")});
  slice("orphan", {endpoint("10.0.0.2")}).service = "";
  slice("port0", {endpoint("10.0.0.3")}).ports[0].port = 0;
  slice("no-address", {endpoint("0.0.0.0")});
  slice("good", {endpoint("10.0.0.4")});
  EXPECT_THAT(at_cluster_ip().internal, ElementsAre(backend("10.0.0.4", 8080)));
}

TEST_F(Services, S5_JoinsByPortNameAndProtocol) {
  web().ports = {{"http", Protocol::kTcp, 80, 0}};
  slice("s", {endpoint("10.0.0.1")}).ports = {
      {"", Protocol::kTcp, 1}, {"http", Protocol::kUdp, 2}, {"http", Protocol::kTcp, 3}};
  EXPECT_THAT(at_cluster_ip().internal, ElementsAre(backend("10.0.0.1", 3)));
  EXPECT_EQ(at_cluster_ip().service, "default/web:http");
}

TEST_F(Services, S6_PortsThatDifferBySliceAreBackendsOfOneFrontend) {
  web();
  slice("a", {endpoint("10.0.0.1")}).ports[0].port = 8080;
  slice("b", {endpoint("10.0.0.1")}).ports[0].port = 9090;
  EXPECT_THAT(at_cluster_ip().internal, ElementsAre(backend("10.0.0.1", 8080), backend("10.0.0.1", 9090)));
}

TEST_F(Services, S7_ProtocolsOfOnePortNumberAreIndependent) {
  web().ports = {{"t", Protocol::kTcp, 53, 0}, {"u", Protocol::kUdp, 53, 0}, {"s", Protocol::kSctp, 53, 0}};
  slice("s", {endpoint("10.0.0.1")}).ports = {{"u", Protocol::kUdp, 5353}};
  const auto image = services();
  EXPECT_EQ(image.frontends.size(), 4U);  // and the mark of the live address
  EXPECT_THAT(image.frontends.at(at("10.96.0.1", 53)).internal, IsEmpty());
  EXPECT_THAT(image.frontends.at(at("10.96.0.1", 53, Protocol::kSctp)).internal, IsEmpty());
  EXPECT_THAT(image.frontends.at(at("10.96.0.1", 53, Protocol::kUdp)).internal,
              ElementsAre(backend("10.0.0.1", 5353)));
}

TEST_F(Services, S8_AnEndpointWithoutConditionsIsReady) {
  web();
  model::SliceEndpoint bare;
  bare.ip = ip("10.0.0.1");
  slice("s", {bare});
  EXPECT_THAT(at_cluster_ip().internal, ElementsAre(backend("10.0.0.1", 8080)));
}

TEST_F(Services, S9_LocalIsByNodeName) {
  web().internal_traffic_policy = TrafficPolicy::kLocal;
  auto nameless = endpoint("10.0.0.1");
  nameless.node_name.reset();
  slice("s", {nameless, endpoint("10.0.0.2", "other"), endpoint("10.0.0.3", "here")});
  EXPECT_THAT(at_cluster_ip().internal, ElementsAre(backend("10.0.0.3", 8080)));
  web().internal_traffic_policy = TrafficPolicy::kCluster;
  EXPECT_EQ(at_cluster_ip().internal.size(), 3U);
}

TEST_F(Services, S10_DuplicatesCountOnceAndTheLivingOneBeatsTheTerminating) {
  web();
  slice("a", {draining(endpoint("10.0.0.1")), endpoint("10.0.0.2")});
  slice("b", {endpoint("10.0.0.1"), endpoint("10.0.0.2")});
  EXPECT_THAT(at_cluster_ip().internal, ElementsAre(backend("10.0.0.1", 8080), backend("10.0.0.2", 8080)));
  state.slices.erase(test::name("default", "b"));
  EXPECT_THAT(at_cluster_ip().internal, ElementsAre(backend("10.0.0.2", 8080)));
}

TEST_F(Services, S10_OneAddressOnTwoPortsIsTwoEndpointsAndADuplicateKeepsItsPlaceWhileOneSliceHasIt) {
  web();
  slice("a", {endpoint("10.0.0.1")});
  slice("b", {endpoint("10.0.0.1")});
  slice("c", {endpoint("10.0.0.1")}).ports[0].port = 9090;
  const auto both = std::vector{backend("10.0.0.1", 8080), backend("10.0.0.1", 9090)};
  EXPECT_EQ(at_cluster_ip().internal, both);
  state.slices.erase(test::name("default", "a"));
  EXPECT_EQ(at_cluster_ip().internal, both);
}

TEST_F(Services, S10_OfTwoTerminatingDuplicatesOneIsLeft) {
  web();
  slice("a", {draining(endpoint("10.0.0.1"))});
  slice("b", {not_ready(endpoint("10.0.0.1"))});
  EXPECT_THAT(at_cluster_ip().internal, IsEmpty()) << "the pod that is not terminating has the address now";
  slice("b", {draining(endpoint("10.0.0.1"))});
  EXPECT_THAT(at_cluster_ip().internal, ElementsAre(backend("10.0.0.1", 8080)));
}

TEST_F(Services, S12_FamiliesFollowIpFamilies) {
  web().ip_families = {Family::kIpv6, Family::kIpv4};
  web().cluster_ips = {ip("fd00:10:96::1"), ip("10.96.0.1")};
  web().ports[0].node_port = 30080;
  slice("v4", {endpoint("10.0.0.1")});
  slice("v6", {endpoint("fd00::1")}, Family::kIpv6);
  const auto image = services();
  EXPECT_THAT(image.frontends.at(at("fd00:10:96::1", 80)).internal, ElementsAre(backend("fd00::1", 8080)));
  EXPECT_THAT(image.frontends.at(any_local(30080, "::")).internal, ElementsAre(backend("fd00::1", 8080)));
  EXPECT_THAT(image.frontends.at(any_local(30080)).internal, ElementsAre(backend("10.0.0.1", 8080)));
}

TEST_F(Services, S12_NoClusterIpInAFamilyMeansNothingElseInIt) {
  web().external_ips = {ip("198.51.100.1"), ip("2001:db8::99")};
  web().ports[0].node_port = 30080;
  web().type = model::ServiceType::kLoadBalancer;
  web().load_balancer_ingress = {{ip("2001:db8::98"), false}};
  const auto image = services();
  EXPECT_EQ(image.frontends.size(), 4U);
  EXPECT_TRUE(std::ranges::all_of(image.frontends, [](const auto& each) { return each.first.ip.is_ipv4(); }));
  ASSERT_EQ(image.warnings.size(), 2U);
  EXPECT_THAT(image.warnings[0].text, HasSubstr("2001:db8::99"));
  EXPECT_THAT(image.warnings[1].text, HasSubstr("2001:db8::98"));
}

TEST_F(Services, S12_WithoutIpFamiliesAClusterIpIsOfItsOwnFamily) {
  web().cluster_ips = {ip("fd00:10:96::1")};
  slice("v6", {endpoint("fd00::1")}, Family::kIpv6);
  EXPECT_THAT(services().frontends.at(at("fd00:10:96::1", 80)).internal,
              ElementsAre(backend("fd00::1", 8080)));
}

TEST_F(Services, S13_S15_ReadyElseServingTerminatingElseNone) {
  web();
  slice("s", {not_ready(endpoint("10.0.0.1")), draining(endpoint("10.0.0.2")), endpoint("10.0.0.3")});
  EXPECT_THAT(at_cluster_ip().internal, ElementsAre(backend("10.0.0.3", 8080)));
  slice("s", {not_ready(endpoint("10.0.0.1")), draining(endpoint("10.0.0.2"))});
  EXPECT_THAT(at_cluster_ip().internal, ElementsAre(backend("10.0.0.2", 8080)));
  slice("s", {not_ready(endpoint("10.0.0.1"))});
  EXPECT_THAT(at_cluster_ip().internal, IsEmpty());
  EXPECT_EQ(at_cluster_ip().flags, uint32_t{FRONTEND_CLUSTER_IP});  // S30: rejected at once
}

TEST_F(Services, S14_TheLocalSetFallsBackOnItsOwn) {
  web().external_traffic_policy = TrafficPolicy::kLocal;
  web().ports[0].node_port = 30080;
  slice("s", {draining(endpoint("10.0.0.1")), endpoint("10.0.0.2", "other")});
  const auto frontend = services().frontends.at(any_local(30080));
  EXPECT_THAT(frontend.internal, ElementsAre(backend("10.0.0.2", 8080)));  // S22
  EXPECT_THAT(frontend.external, ElementsAre(backend("10.0.0.1", 8080)));
}

TEST_F(Services, S13_TheFallbackToTerminatingOnesAsksNoTopology) {
  web();
  auto far = draining(endpoint("10.0.0.1", "other"));
  far.for_zones = {"zone-b"};
  slice("s", {far, draining(endpoint("10.0.0.2", "other"))});
  EXPECT_EQ(at_cluster_ip().internal.size(), 2U);
}

TEST_F(Services, S14_TheLocalSetAsksNoHints) {
  web().internal_traffic_policy = TrafficPolicy::kLocal;
  auto elsewhere = endpoint("10.0.0.1", "here");
  auto near = endpoint("10.0.0.2", "other");
  elsewhere.for_zones = {"zone-b"};
  near.for_zones = {"zone-a"};
  slice("s", {elsewhere, near});
  EXPECT_THAT(at_cluster_ip().internal, ElementsAre(backend("10.0.0.1", 8080)));
}

TEST_F(Services, S15_ReadyAloneIsTrustedForAPodThatIsNot) {
  web();
  auto published = endpoint("10.0.0.1");  // publishNotReadyAddresses
  published.serving = false;
  auto starting = endpoint("10.0.0.2");
  starting.ready = false;
  auto dead = draining(endpoint("10.0.0.3"));
  dead.serving = false;
  slice("s", {published, starting, dead});
  EXPECT_THAT(at_cluster_ip().internal, ElementsAre(backend("10.0.0.1", 8080)));
  slice("s", {starting, dead});
  EXPECT_THAT(at_cluster_ip().internal, IsEmpty());
}

struct Hinted {
  std::vector<std::string> nodes;
  std::vector<std::string> zones;
  bool ready = true;
};
struct HintCase {
  const char* what;
  std::vector<Hinted> endpoints;
  std::vector<size_t> chosen;
};

class Hints : public testing::TestWithParam<HintCase>, public test::Cluster {};

TEST_P(Hints, S16_S17) {
  web();
  std::vector<model::SliceEndpoint> endpoints_of_slice;
  for (const auto& each : GetParam().endpoints) {
    auto made = endpoint("10.0.0." + std::to_string(endpoints_of_slice.size()));
    made.for_nodes = each.nodes;
    made.for_zones = each.zones;
    made.ready = made.serving = each.ready;
    endpoints_of_slice.push_back(made);
  }
  slice("s", endpoints_of_slice);
  std::vector<Backend> expected;
  for (const size_t each : GetParam().chosen)
    expected.push_back(backend("10.0.0." + std::to_string(each), 8080));
  EXPECT_EQ(services().frontends.at(at("10.96.0.1", 80)).internal, expected) << GetParam().what;
}

INSTANTIATE_TEST_SUITE_P(
    Cases, Hints,
    testing::Values(
        HintCase{"every one hinted by node", {{{"here"}, {}}, {{"other"}, {}}}, {0}},
        HintCase{"nodes go before zones", {{{"here"}, {"zone-b"}}, {{"other"}, {"zone-a"}}}, {0}},
        HintCase{"no node hint for here: zones", {{{"x"}, {"zone-b"}}, {{"y"}, {"zone-a"}}}, {1}},
        HintCase{"one without a node hint: zones", {{{"here"}, {"zone-b"}}, {{}, {"zone-a"}}}, {1}},
        HintCase{"one ready endpoint unhinted", {{{}, {"zone-a"}}, {{}, {}}}, {0, 1}},
        HintCase{"an unhinted one that is not ready", {{{}, {"zone-a"}}, {{}, {}, false}}, {0}},
        HintCase{"no endpoint for the zone", {{{}, {"zone-b"}}, {{}, {"zone-c"}}}, {0, 1}},
        HintCase{
            "hinted ones that are not ready do not hint", {{{"here"}, {"zone-a"}, false}, {{}, {}}}, {1}},
        HintCase{"node hints of several nodes", {{{"x", "here"}, {}}, {{"y"}, {}}}, {0}},
        HintCase{"several zones", {{{}, {"zone-b", "zone-a"}}, {{}, {"zone-b"}}}, {0}}));

TEST_F(Services, S17_S18_WithoutAZoneHintsDoNotCountAndARelabelledNodeCounts) {
  web();
  auto near = endpoint("10.0.0.1");
  auto far = endpoint("10.0.0.2");
  near.for_zones = {"zone-a"};
  far.for_zones = {"zone-b"};
  slice("s", {near, far});
  EXPECT_THAT(at_cluster_ip().internal, ElementsAre(backend("10.0.0.1", 8080)));
  state.nodes["here"].labels["topology.kubernetes.io/zone"] = "zone-b";
  EXPECT_THAT(at_cluster_ip().internal, ElementsAre(backend("10.0.0.2", 8080)));
  state.nodes["here"].labels["topology.kubernetes.io/zone"] = "";
  EXPECT_EQ(at_cluster_ip().internal.size(), 2U);
}

TEST_F(Services, S19_ExternalPolicyGovernsExternalIpsOfAClusterIpServiceAndNotItsClusterIp) {
  web().external_traffic_policy = TrafficPolicy::kLocal;
  web().external_ips = {ip("198.51.100.1")};
  slice("s", {endpoint("10.0.0.1", "other")});
  const auto image = services();
  EXPECT_EQ(image.frontends.at(at("10.96.0.1", 80)).external.size(), 1U);
  EXPECT_THAT(image.frontends.at(at("198.51.100.1", 80)).external, IsEmpty());
  web().external_ips.clear();
  EXPECT_EQ(services().frontends.size(), 2U) << "nothing is left for the policy to govern";
}

TEST_F(Services, S23_InternalPolicyLocalGovernsTheClusterIpAlone) {
  web().internal_traffic_policy = TrafficPolicy::kLocal;
  web().ports[0].node_port = 30080;
  slice("s", {endpoint("10.0.0.1", "other"), endpoint("10.0.0.2", "here")});
  const auto image = services();
  EXPECT_THAT(image.frontends.at(at("10.96.0.1", 80)).external, ElementsAre(backend("10.0.0.2", 8080)));
  EXPECT_EQ(image.frontends.at(any_local(30080)).internal.size(), 2U);
}

TEST_F(Services, S31_EndpointsElsewhereUnderLocalAreASilentDropOnTheAffectedRunOnly) {
  web().external_traffic_policy = TrafficPolicy::kLocal;
  web().internal_traffic_policy = TrafficPolicy::kLocal;
  web().ports[0].node_port = 30080;
  slice("s", {endpoint("10.0.0.1", "other")});
  const auto image = services();
  EXPECT_EQ(image.frontends.at(at("10.96.0.1", 80)).flags,
            uint32_t{FRONTEND_CLUSTER_IP | FRONTEND_DROP_EMPTY | FRONTEND_DROP_EMPTY_EXT});
  EXPECT_EQ(image.frontends.at(any_local(30080)).flags,
            uint32_t{FRONTEND_NODE_PORT | FRONTEND_DROP_EMPTY_EXT});
}

TEST_F(Services, OneAddressHasOneOwnerAndTheOtherIsTold) {
  web();
  auto& rogue = state.services[test::name("default", "a-rogue")];
  rogue.name = test::name("default", "a-rogue");
  rogue.cluster_ips = {ip("10.96.0.2")};
  rogue.external_ips = {ip("10.96.0.1")};
  rogue.ports = {{"", Protocol::kTcp, 80, 0}};
  rogue.origin = {"rogue.yaml", 7};
  const auto image = services();
  EXPECT_EQ(image.frontends.at(at("10.96.0.1", 80)).service, "default/web");
  ASSERT_EQ(image.warnings.size(), 1U);
  EXPECT_EQ(image.warnings[0].origin.line, 7);
  EXPECT_THAT(image.warnings[0].text, HasSubstr("claimed by default/web and by default/a-rogue"));
}

}  // namespace
}  // namespace bpfnet::compile
