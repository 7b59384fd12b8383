// The ways in that are not the ClusterIP: S32, S34-S44, S50. What the datapath makes of it is shown by
// tests/bpf and tests/e2e; here it is what it is told.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "control/compile/host_ports.h"
#include "control/compile/services.h"
#include "maps/abi/endpoint.h"
#include "maps/abi/policy.h"
#include "tests/unit/compile_builders.h"

namespace bpfnet::compile {
namespace {

using model::Protocol;
using model::ServiceType;
using model::TrafficPolicy;
using test::any_local;
using test::at;
using test::backend;
using test::draining;
using test::endpoint;
using test::not_ready;
using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Key;
using testing::Not;

class WaysIn : public testing::Test, public test::Cluster {
 protected:
  /// `web` as a load balancer with one node port and one VIP.
  model::Service& balancer() {
    web().type = ServiceType::kLoadBalancer;
    web().ports[0].node_port = 30080;
    web().load_balancer_ingress = {{ip("203.0.113.1"), false}};
    return web();
  }
  [[nodiscard]] std::vector<Cidr> allowed() const {
    return services().frontends.at(at("203.0.113.1", 80)).source_ranges;
  }
  [[nodiscard]] PolicyImage policy() const {
    PolicyNumbers numbers;
    return compile_policy(state, node, endpoints, numbers);
  }
  [[nodiscard]] bool open_for_node_ports(std::string_view address) const {
    return policy().addresses.at({0, ip(address)}).flags & ADDRESS_NODE_PORT;
  }
};

FrontendAddress mark(std::string_view address) {
  return {ip(address)};
}

TEST_F(WaysIn, S32_ClusterIpsAndBalancerAddressesAreMarkedAsLive) {
  balancer().external_ips = {ip("198.51.100.1")};
  web().ports.push_back({"more", Protocol::kUdp, 81, 0});
  web().load_balancer_ingress.push_back({ip("203.0.113.2"), true});
  const auto image = services();
  const Frontend& cluster_ip = image.frontends.at(mark("10.96.0.1"));
  EXPECT_EQ(cluster_ip.service, "default/web") << "no port: it stands for the address";
  EXPECT_EQ(cluster_ip.flags, uint32_t{FRONTEND_CLUSTER_IP});
  EXPECT_TRUE(cluster_ip.internal.empty() && cluster_ip.external.empty());
  EXPECT_EQ(image.frontends.at(mark("203.0.113.1")).flags, uint32_t{FRONTEND_LOAD_BALANCER});
  EXPECT_THAT(image.frontends, Not(Contains(Key(mark("198.51.100.1"))))) << "it may be any host's address";
  EXPECT_THAT(image.frontends, Not(Contains(Key(mark("203.0.113.2"))))) << "ipMode Proxy";
}

TEST_F(WaysIn, S32_ServicesThatShareABalancerAddressMarkItTogether) {
  balancer();
  auto other = web();
  other.name = test::name("default", "other");
  other.cluster_ips = {ip("10.96.0.2")};
  other.ports[0] = {"", Protocol::kTcp, 81, 30081};
  state.services[other.name] = other;
  EXPECT_EQ(services().frontends.at(mark("203.0.113.1")).service, "default/other");
  EXPECT_THAT(services().warnings, IsEmpty()) << "nothing is taken from anybody";
  ServiceCompiler compiler;
  compiler.update(state, node, endpoints, {.everything = true});
  state.services.erase(other.name);
  compiler.update(state, node, endpoints, {.services = {other.name}});
  EXPECT_EQ(compiler.image().frontends.at(mark("203.0.113.1")).service, "default/web");
}

TEST_F(WaysIn, S32_ServiceCidrObjectsAddToTheConfiguredRanges) {
  node.service_cidrs = {cidr("10.96.0.0/12")};
  const auto is_service_range = [&](std::string_view range) {
    const auto image = policy();
    const auto found = image.cidrs.find({0, cidr(range)});
    return found != image.cidrs.end() && (found->second.flags & CIDR_SERVICE) != 0;
  };
  EXPECT_TRUE(is_service_range("10.96.0.0/12"));
  state.service_cidrs["more"] = {"more", {cidr("172.30.0.0/16"), cidr("fd00:30::/112")}, {}};
  EXPECT_TRUE(is_service_range("10.96.0.0/12"));
  EXPECT_TRUE(is_service_range("172.30.0.0/16"));
  EXPECT_TRUE(is_service_range("fd00:30::/112"));
  state.service_cidrs.clear();
  EXPECT_FALSE(is_service_range("172.30.0.0/16"));
  EXPECT_TRUE(is_service_range("10.96.0.0/12"));
}

TEST_F(WaysIn, S34_ANodePortIsOneFrontendOfEveryLocalAddressInEachFamily) {
  web().type = ServiceType::kNodePort;
  web().ports[0].node_port = 30080;
  web().cluster_ips = {ip("10.96.0.1"), ip("fd00:10:96::1")};
  const auto image = services();
  EXPECT_EQ(image.frontends.at(any_local(30080)).flags, uint32_t{FRONTEND_NODE_PORT});
  EXPECT_EQ(image.frontends.at(any_local(30080, "::")).flags, uint32_t{FRONTEND_NODE_PORT});
  node.addresses = {ip("192.0.2.1"), ip("192.0.2.77"), ip("172.17.0.1")};  // secondary, a bridge's
  for (const Address& each : node.addresses) EXPECT_TRUE(open_for_node_ports(each.to_string()));
}

struct OpenCase {
  const char* what;
  std::vector<const char*> cidrs;
  bool primary;
  std::vector<const char*> open;
};
class NodePortAddresses : public testing::TestWithParam<OpenCase>, public test::Cluster {};

TEST_P(NodePortAddresses, S35) {
  node.addresses = {ip("192.0.2.1"), ip("10.1.0.1"), ip("2001:db8::1"), ip("fd00:1::1")};
  auto& self = state.nodes["here"];
  self.external_ips = {ip("192.0.2.1"), ip("2001:db8::1")};
  self.internal_ips = {ip("10.1.0.1")};  // S65: before the external ones
  for (const char* each : GetParam().cidrs) node.node_port_addresses.push_back(cidr(each));
  node.node_port_primary = GetParam().primary;
  PolicyNumbers numbers;
  std::set<Address> open;
  for (const auto& [key, entry] : compile_policy(state, node, {}, numbers).addresses)
    if (entry.flags & ADDRESS_NODE_PORT) open.insert(key.second);
  std::set<Address> expected;
  for (const char* each : GetParam().open) expected.insert(ip(each));
  EXPECT_EQ(open, expected) << GetParam().what;
}

INSTANTIATE_TEST_SUITE_P(
    Cases, NodePortAddresses,
    testing::Values(
        OpenCase{"nothing said", {}, false, {"192.0.2.1", "10.1.0.1", "2001:db8::1", "fd00:1::1"}},
        OpenCase{"one family listed", {"192.0.2.0/24"}, false, {"192.0.2.1", "2001:db8::1", "fd00:1::1"}},
        OpenCase{"both families", {"192.0.2.0/24", "fd00::/8"}, false, {"192.0.2.1", "fd00:1::1"}},
        OpenCase{"/0 is all", {"0.0.0.0/0", "fd00::/8"}, false, {"192.0.2.1", "10.1.0.1", "fd00:1::1"}},
        OpenCase{"a range without local addresses", {"198.51.100.0/24"}, false, {"2001:db8::1", "fd00:1::1"}},
        OpenCase{"primary: internal before external", {}, true, {"10.1.0.1", "2001:db8::1"}}));

TEST_F(WaysIn, S35_WithoutAPrimaryAddressOfAFamilyItIsOpen) {
  node.node_port_primary = true;
  EXPECT_TRUE(open_for_node_ports("192.0.2.1")) << "the Node has no addresses yet";
  state.nodes["here"].internal_ips = {ip("192.0.2.9")};
  EXPECT_FALSE(open_for_node_ports("192.0.2.1"));
  EXPECT_TRUE(open_for_node_ports("2001:db8::1"));
}

TEST_F(WaysIn, S37_S38_BalancerAddressesUnlessIpModeProxy) {
  web().load_balancer_ingress = {{ip("203.0.113.1"), false}, {ip("203.0.113.2"), true}};
  slice("s", {endpoint("10.0.0.1", "other")});
  const auto image = services();
  EXPECT_EQ(image.frontends.at(at("203.0.113.1", 80)).flags, uint32_t{FRONTEND_LOAD_BALANCER});
  EXPECT_THAT(image.frontends.at(at("203.0.113.1", 80)).internal, ElementsAre(backend("10.0.0.1", 8080)))
      << "S38: on every node, whoever has the address";
  EXPECT_FALSE(image.frontends.contains(at("203.0.113.2", 80)));
}

TEST_F(WaysIn, AnExternalPortThatAnotherServiceHasIsLeftOutAlone) {
  balancer().external_ips = {ip("198.51.100.1")};
  web().withheld = {{ip("198.51.100.1"), 80, Protocol::kTcp}, {ip("203.0.113.1"), 80, Protocol::kTcp}};
  web().ports.push_back({"more", Protocol::kTcp, 81, 0});
  const ServiceImage image = services();
  EXPECT_THAT(image.frontends, Not(Contains(Key(at("198.51.100.1", 80)))));
  EXPECT_THAT(image.frontends, Not(Contains(Key(at("203.0.113.1", 80)))));
  EXPECT_THAT(image.frontends, Contains(Key(at("198.51.100.1", 81))));
  EXPECT_THAT(image.frontends, Contains(Key(at("203.0.113.1", 81))));
  EXPECT_THAT(image.frontends, Contains(Key(at(web().cluster_ips.front().to_string(), 80))));
}

TEST_F(WaysIn, S39_RangesBelongToTheBalancerAddressAloneAndLeaveItsBackends) {
  slice("s", {endpoint("10.0.0.1")});
  balancer().external_ips = {ip("198.51.100.1")};
  web().source_ranges = {cidr("198.51.100.0/24")};
  const auto image = services();
  const Frontend& vip = image.frontends.at(at("203.0.113.1", 80));
  EXPECT_THAT(vip.source_ranges, ElementsAre(cidr("198.51.100.0/24")));
  EXPECT_THAT(vip.external, ElementsAre(backend("10.0.0.1", 8080)));
  EXPECT_EQ(vip.flags, uint32_t{FRONTEND_LOAD_BALANCER});
  for (const auto& other : {at("198.51.100.1", 80), at("10.96.0.1", 80), any_local(30080)})
    EXPECT_THAT(image.frontends.at(other).source_ranges, IsEmpty());
  EXPECT_THAT(image.warnings, IsEmpty());
}

struct RangeCase {
  const char* what;
  std::vector<const char*> ranges;
  std::vector<const char*> allowed;
};
class SourceRanges : public testing::TestWithParam<RangeCase>, public test::Cluster {};

TEST_P(SourceRanges, S40) {
  web().load_balancer_ingress = {{ip("203.0.113.1"), false}};
  for (const char* each : GetParam().ranges) web().source_ranges.push_back(cidr(each));
  std::vector<Cidr> expected;
  for (const char* each : GetParam().allowed) expected.push_back(cidr(each));
  EXPECT_EQ(services().frontends.at(at("203.0.113.1", 80)).source_ranges, expected) << GetParam().what;
}

INSTANTIATE_TEST_SUITE_P(
    Cases, SourceRanges,
    testing::Values(RangeCase{"none: open", {}, {}}, RangeCase{"of the other family: open", {"fd00::/8"}, {}},
                    RangeCase{"sorted and once",
                              {"10.2.0.0/16", "10.1.0.0/16", "10.2.0.0/16"},
                              {"10.1.0.0/16", "10.2.0.0/16"}},
                    RangeCase{"with the node in it the address itself may come",
                              {"192.0.2.0/24"},
                              {"192.0.2.0/24", "203.0.113.1/32"}},
                    RangeCase{"the node of the other family does not count",
                              {"10.0.0.0/8", "2001:db8::/32"},
                              {"10.0.0.0/8"}},
                    RangeCase{"/0 opens", {"10.0.0.0/8", "0.0.0.0/0"}, {}},
                    RangeCase{"/0 of the other family does not", {"10.0.0.0/8", "::/0"}, {"10.0.0.0/8"}}));

TEST_F(WaysIn, S40_AnAddressThatComesToTheNodeLetsTheBalancerAddressIn) {
  balancer().source_ranges = {cidr("198.51.100.0/24")};
  ServiceCompiler compiler;
  compiler.update(state, node, endpoints, {.everything = true});
  node.addresses.push_back(ip("198.51.100.7"));
  EXPECT_THAT(compiler.update(state, node, endpoints, {}), ElementsAre(at("203.0.113.1", 80)));
  EXPECT_THAT(compiler.image().frontends.at(at("203.0.113.1", 80)).source_ranges,
              Contains(cidr("203.0.113.1/32")));
}

TEST_F(WaysIn, S41_NoNodePortNumberNoNodePort) {
  balancer().ports[0].node_port = 0;
  const auto image = services();
  EXPECT_EQ(image.frontends.size(), 4U) << "two addresses, each with its port and its mark";
  EXPECT_TRUE(image.frontends.contains(at("203.0.113.1", 80)));
}

TEST_F(WaysIn, S42_AffinityIsOneForEveryWayInAndItsOwnForEachPortAndProtocol) {
  balancer().affinity = std::chrono::seconds(600);
  web().external_ips = {ip("198.51.100.1")};
  web().ports = {{"a", Protocol::kTcp, 80, 30080}, {"b", Protocol::kTcp, 81, 30081}};
  const auto image = services();
  EXPECT_THAT(image.warnings, IsEmpty());
  for (const auto& [address, frontend] : image.frontends) {
    if (address.is_marker()) {
      EXPECT_EQ(frontend.flags & FRONTEND_AFFINITY, 0U);
      continue;
    }
    EXPECT_TRUE(frontend.flags & FRONTEND_AFFINITY);
    EXPECT_EQ(frontend.affinity_seconds, 600U);
    const bool second = address.port == 81 || address.port == 30081;
    EXPECT_EQ(frontend.service, second ? "default/web:b" : "default/web:a") << "the name is the key of S42";
  }
}

TEST_F(WaysIn, S43_S44_AffinityAndItsTimeoutChangeLive) {
  web();
  ServiceCompiler compiler;
  compiler.update(state, node, endpoints, {.everything = true});
  const auto update = [&] { return compiler.update(state, node, endpoints, {.services = {web().name}}); };
  const auto now = [&] { return compiler.image().frontends.at(at("10.96.0.1", 80)); };
  web().affinity = std::chrono::seconds(10800);
  EXPECT_THAT(update(), ElementsAre(at("10.96.0.1", 80)));
  EXPECT_EQ(now().affinity_seconds, 10800U);
  web().affinity = std::chrono::seconds(5);
  EXPECT_THAT(update(), ElementsAre(at("10.96.0.1", 80)));
  EXPECT_EQ(now().affinity_seconds, 5U);
  web().affinity.reset();
  EXPECT_THAT(update(), ElementsAre(at("10.96.0.1", 80)));
  EXPECT_EQ(now().flags & FRONTEND_AFFINITY, 0U);
}

TEST_F(WaysIn, S50_AHealthCheckCountsReadyLocalEndpointsByAddress) {
  balancer().external_traffic_policy = TrafficPolicy::kLocal;
  web().health_check_node_port = 32000;
  slice("a", {endpoint("10.0.0.1"), endpoint("10.0.0.2"), endpoint("10.0.0.9", "other")});
  slice("b", {endpoint("10.0.0.1"), not_ready(endpoint("10.0.0.3")), draining(endpoint("10.0.0.4"))})
      .ports[0]
      .port = 1;
  const auto check = [&] { return services().health_checks; };
  EXPECT_EQ(check().at(web().name), (HealthCheck{32000, 2}));
  slice("a", {draining(endpoint("10.0.0.1"))});
  slice("b", {});
  EXPECT_EQ(check().at(web().name), (HealthCheck{32000, 0})) << "it still listens, and says 503";
  slice("a", {endpoint("10.0.0.1")});
  slice("v6", {endpoint("fd00::1")}, Family::kIpv6);
  EXPECT_EQ(check().at(web().name), (HealthCheck{32000, 1})) << "one pod with two addresses";

  web().external_traffic_policy = TrafficPolicy::kCluster;
  EXPECT_THAT(check(), IsEmpty());
  web().external_traffic_policy = TrafficPolicy::kLocal;
  web().type = ServiceType::kNodePort;
  EXPECT_THAT(check(), IsEmpty());
  web().type = ServiceType::kLoadBalancer;
  web().health_check_node_port = 0;
  EXPECT_THAT(check(), IsEmpty());
}

TEST_F(WaysIn, S50_AHealthCheckFollowsItsServiceLive) {
  balancer().external_traffic_policy = TrafficPolicy::kLocal;
  web().health_check_node_port = 32000;
  ServiceCompiler compiler;
  compiler.update(state, node, endpoints, {.everything = true});
  slice("a", {endpoint("10.0.0.1")});
  compiler.update(state, node, endpoints, {.slices = {test::name("default", "a")}});
  EXPECT_EQ(compiler.image().health_checks.at(web().name).local_ready, 1U);
  const auto gone = web().name;
  state.services.clear();
  compiler.update(state, node, endpoints, {.services = {gone}});
  EXPECT_THAT(compiler.image().health_checks, IsEmpty());
}

}  // namespace
}  // namespace bpfnet::compile
