#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control/compile/host_ports.h"
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
using test::ip;
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
  EXPECT_EQ(image.frontends.size(), 3U);
  EXPECT_THAT(image.frontends.at(at("10.96.0.1", 53)).internal, IsEmpty());
  EXPECT_THAT(image.frontends.at(at("10.96.0.1", 53, Protocol::kUdp)).internal,
              ElementsAre(backend("10.0.0.1", 5353)));
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
  const auto image = services();
  EXPECT_EQ(image.frontends.size(), 3U);
  EXPECT_FALSE(image.frontends.contains(any_local(30080, "::")));
  ASSERT_EQ(image.warnings.size(), 1U);
  EXPECT_THAT(image.warnings[0].text, HasSubstr("2001:db8::99"));
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
    testing::Values(HintCase{"every one hinted by node", {{{"here"}, {}}, {{"other"}, {}}}, {0}},
                    HintCase{"nodes go before zones", {{{"here"}, {"zone-b"}}, {{"other"}, {"zone-a"}}}, {0}},
                    HintCase{"no node hint for here: zones", {{{"x"}, {"zone-b"}}, {{"y"}, {"zone-a"}}}, {1}},
                    HintCase{
                        "one without a node hint: zones", {{{"here"}, {"zone-b"}}, {{}, {"zone-a"}}}, {1}},
                    HintCase{"one ready endpoint unhinted", {{{}, {"zone-a"}}, {{}, {}}}, {0, 1}},
                    HintCase{"an unhinted one that is not ready", {{{}, {"zone-a"}}, {{}, {}, false}}, {0}},
                    HintCase{"no endpoint for the zone", {{{}, {"zone-b"}}, {{}, {"zone-c"}}}, {0, 1}},
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

TEST_F(Services, S35_NodePortAddresses) {
  node.addresses = {ip("192.0.2.1"), ip("10.1.0.1"), ip("2001:db8::1")};
  EXPECT_TRUE(serves_node_ports(ip("10.1.0.1"), node));
  node.node_port_addresses = {test::cidr("192.0.2.0/24")};
  EXPECT_TRUE(serves_node_ports(ip("192.0.2.1"), node));
  EXPECT_FALSE(serves_node_ports(ip("10.1.0.1"), node));
  EXPECT_TRUE(serves_node_ports(ip("2001:db8::1"), node));  // no CIDR of its family
}

TEST_F(Services, S37_S38_LoadBalancerAddressesUnlessIpModeProxy) {
  web().load_balancer_ingress = {{ip("203.0.113.1"), false}, {ip("203.0.113.2"), true}};
  slice("s", {endpoint("10.0.0.1")});
  const auto image = services();
  EXPECT_EQ(image.frontends.at(at("203.0.113.1", 80)).flags, uint32_t{FRONTEND_LOAD_BALANCER});
  EXPECT_FALSE(image.frontends.contains(at("203.0.113.2", 80)));
}

TEST_F(Services, S39_S40_SourceRangesCloseVipsOnlyAndAreTold) {
  slice("s", {endpoint("10.0.0.1")});
  web().load_balancer_ingress = {{ip("203.0.113.1"), false}};
  web().external_ips = {ip("198.51.100.1")};
  web().source_ranges = {test::cidr("192.0.2.0/24"), test::cidr("2001:db8::/32")};
  const auto image = services();
  const Frontend& vip = image.frontends.at(at("203.0.113.1", 80));
  EXPECT_THAT(vip.source_ranges, ElementsAre(test::cidr("192.0.2.0/24"), test::cidr("203.0.113.1/32")));
  EXPECT_TRUE(vip.internal.empty() && vip.external.empty()) << "ranges that nobody enforces let nobody in";
  EXPECT_TRUE(vip.flags & FRONTEND_DROP_EMPTY && vip.flags & FRONTEND_DROP_EMPTY_EXT);
  EXPECT_THAT(image.frontends.at(at("198.51.100.1", 80)).source_ranges, IsEmpty());
  EXPECT_FALSE(image.frontends.at(at("198.51.100.1", 80)).external.empty());
  ASSERT_EQ(image.warnings.size(), 1U);
  EXPECT_THAT(image.warnings[0].text, HasSubstr("closed to every source"));
  web().source_ranges.push_back(test::cidr("0.0.0.0/0"));
  EXPECT_FALSE(services().frontends.at(at("203.0.113.1", 80)).external.empty());
}

TEST_F(Services, S41_NoNodePortNumberNoNodePort) {
  web().type = model::ServiceType::kLoadBalancer;
  web().load_balancer_ingress = {{ip("203.0.113.1"), false}};
  EXPECT_EQ(services().frontends.size(), 2U);
}

TEST_F(Services, S42_AffinityIsCarriedWithItsTimeout) {
  web().affinity = std::chrono::seconds(600);
  EXPECT_TRUE(at_cluster_ip().flags & FRONTEND_AFFINITY);
  EXPECT_EQ(at_cluster_ip().affinity_seconds, 600U);
  ASSERT_EQ(services().warnings.size(), 1U);
  EXPECT_THAT(services().warnings[0].text, HasSubstr("sessionAffinity is not enforced"));
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

class HostPorts : public Services {
 protected:
  void pod(const std::string& pod_name, std::vector<Address> ips,
           std::vector<LocalEndpoint::HostPort> ports) {
    endpoints.push_back({static_cast<uint16_t>(endpoints.size() + 1), test::name("default", pod_name),
                         std::move(ips), 0, std::move(ports)});
  }
};

TEST_F(HostPorts, C21_EveryLocalAddressInTheFamiliesOfThePod) {
  pod("a", {ip("10.0.0.1"), ip("fd00::1")}, {{8080, 80, Protocol::kTcp, {}}});
  const auto image = services();
  EXPECT_EQ(image.frontends.size(), 2U);
  const auto& frontend = image.frontends.at(any_local(8080, "::"));
  EXPECT_EQ(frontend.service, "hostport:default/a");
  EXPECT_THAT(frontend.external, ElementsAre(backend("fd00::1", 80)));
}

TEST_F(HostPorts, C21_TheHostAddressBindsFamilyAndScope) {
  pod("a", {ip("10.0.0.1"), ip("fd00::1")},
      {{8080, 80, Protocol::kTcp, ip("0.0.0.0")}, {8081, 80, Protocol::kTcp, ip("127.0.0.1")}});
  pod("v6-only", {ip("fd00::2")}, {{8082, 80, Protocol::kTcp, ip("192.0.2.1")}});
  const auto image = services();
  EXPECT_EQ(image.frontends.size(), 2U);
  EXPECT_TRUE(image.frontends.contains(any_local(8080)));
  EXPECT_TRUE(image.frontends.contains(at("127.0.0.1", 8081)));
}

TEST_F(HostPorts, C21_OnePortOnDifferentAddressesAndProtocolsCoexists) {
  pod("a", {ip("10.0.0.1")}, {{8080, 80, Protocol::kTcp, ip("192.0.2.1")}});
  pod("b", {ip("10.0.0.2")}, {{8080, 80, Protocol::kTcp, ip("192.0.2.2")}});
  pod("c", {ip("10.0.0.3")}, {{8080, 80, Protocol::kUdp, ip("192.0.2.1")}});
  const auto image = services();
  EXPECT_EQ(image.frontends.size(), 3U);
  EXPECT_THAT(image.warnings, IsEmpty());
}

TEST_F(HostPorts, C21_AConflictNamesBothAndTheFirstKeepsIt) {
  pod("a", {ip("10.0.0.1")}, {{8080, 80, Protocol::kTcp, {}}});
  pod("b", {ip("10.0.0.2")}, {{8080, 80, Protocol::kTcp, {}}});
  const auto image = services();
  EXPECT_EQ(image.frontends.at(any_local(8080)).service, "hostport:default/a");
  ASSERT_EQ(image.warnings.size(), 1U);
  EXPECT_THAT(image.warnings[0].text, HasSubstr("published by default/a and wanted by default/b"));
}

TEST_F(HostPorts, ANodePortGoesBeforeAHostPort) {
  web().ports[0].node_port = 30080;
  pod("a", {ip("10.0.0.1")}, {{30080, 80, Protocol::kTcp, {}}});
  const auto image = services();
  EXPECT_EQ(image.frontends.at(any_local(30080)).service, "default/web");
  ASSERT_EQ(image.warnings.size(), 1U);
  EXPECT_THAT(image.warnings[0].text, HasSubstr("hostPort"));
}

TEST_F(HostPorts, NodePortAddressesDoNotRestrictHostPorts) {
  node.addresses = {ip("192.0.2.1"), ip("10.1.0.1")};
  node.node_port_addresses = {test::cidr("192.0.2.0/24")};
  pod("a", {ip("10.0.0.1")}, {{8080, 80, Protocol::kTcp, {}}});
  const auto image = services();
  EXPECT_TRUE(image.frontends.contains(any_local(8080)));
  EXPECT_TRUE(image.frontends.contains(at("10.1.0.1", 8080)));
  EXPECT_FALSE(image.frontends.contains(at("192.0.2.1", 8080)));
}

}  // namespace
}  // namespace bpfnet::compile
