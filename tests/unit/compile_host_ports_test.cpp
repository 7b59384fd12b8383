// Published ports (C21).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <set>

#include "control/compile/host_ports.h"
#include "control/compile/services.h"
#include "tests/unit/compile_builders.h"

namespace bpfnet::compile {
namespace {

using model::Protocol;
using test::any_local;
using test::at;
using test::backend;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class HostPorts : public testing::Test, public test::Cluster {
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

TEST_F(HostPorts, C21_ARangeIsAHandfulOfBlocks) {
  pod("a", {ip("10.0.0.1")}, {{30000, 40000, Protocol::kTcp, {}, 10000}});
  const auto image = services();
  EXPECT_LE(image.frontends.size(), 16U);
  std::set<uint16_t> covered;
  for (const auto& [address, frontend] : image.frontends) {
    EXPECT_EQ(frontend.flags, uint32_t{FRONTEND_HOST_PORT | FRONTEND_PORT_RANGE});
    EXPECT_EQ(frontend.range_first, 30000);
    EXPECT_THAT(frontend.internal, ElementsAre(backend("10.0.0.1", 40000))) << "one run for all of them";
    const uint32_t size = 1U << (16 - address.port_bits);
    EXPECT_EQ(address.port % size, 0U) << "a prefix begins at its own multiple";
    for (uint32_t i = 0; i < size; ++i) covered.insert(static_cast<uint16_t>(address.port + i));
  }
  EXPECT_EQ(covered.size(), 10000U);
  EXPECT_EQ(*covered.begin(), 30000);
  EXPECT_EQ(*covered.rbegin(), 39999);
}

TEST_F(HostPorts, C21_ASinglePortIsExactAndTheWholeSpaceIsSixteenBlocks) {
  pod("a", {ip("10.0.0.1")}, {{8080, 80, Protocol::kTcp, {}}});
  pod("b", {ip("10.0.0.2")}, {{1, 1, Protocol::kUdp, ip("192.0.2.1"), 65535}});
  const auto image = services();
  EXPECT_EQ(image.frontends.at(any_local(8080)).flags, uint32_t{FRONTEND_HOST_PORT});
  EXPECT_EQ(image.frontends.size(), 17U);
}

TEST_F(HostPorts, C21_PublishingTenThousandPortsTakesMicroseconds) {
  pod("a", {ip("10.0.0.1"), ip("fd00::1")}, {{30000, 40000, Protocol::kTcp, {}, 10000}});
  ServiceCompiler compiler;
  compiler.update(state, node, {}, {.everything = true});
  const auto begin = std::chrono::steady_clock::now();
  const auto touched = compiler.update(state, node, endpoints, {.host_ports = true});
  const auto took = std::chrono::steady_clock::now() - begin;
  EXPECT_EQ(touched.size(), compiler.image().frontends.size());
  RecordProperty("nanoseconds", std::to_string(std::chrono::nanoseconds(took).count()));
  EXPECT_LT(took, std::chrono::milliseconds(5));
}

TEST_F(HostPorts, ARangeThatANodePortLiesInIsTold) {
  web().ports[0].node_port = 30080;
  pod("a", {ip("10.0.0.1")}, {{30000, 80, Protocol::kTcp, {}, 100}});
  pod("b", {ip("10.0.0.2")}, {{30000, 80, Protocol::kUdp, {}, 100}});
  const auto image = services();
  EXPECT_EQ(image.frontends.at(any_local(30080)).service, "default/web");
  ASSERT_EQ(image.warnings.size(), 1U);
  EXPECT_THAT(image.warnings[0].text, HasSubstr("node port 30080/TCP (IPv4)"));
  EXPECT_THAT(image.warnings[0].text, HasSubstr("hostport:default/a"));
  EXPECT_THAT(image.warnings[0].text, HasSubstr("default/web keeps it"));
}

TEST_F(HostPorts, WhoAmongTheServicesHasAPortOfTheNode) {
  web().ports = {{"http", Protocol::kTcp, 80, 30080}};
  web().load_balancer_ingress = {{ip("203.0.113.1"), false}};
  const auto image = services();
  const auto holder = [&](LocalEndpoint::HostPort port) {
    const auto* frontend = service_holding(image, port);
    return frontend ? frontend->service : "";
  };
  EXPECT_EQ(holder({30080, 1, Protocol::kTcp, {}}), "default/web:http");
  EXPECT_EQ(holder({30000, 1, Protocol::kTcp, {}, 81}), "default/web:http");
  EXPECT_EQ(holder({30000, 1, Protocol::kTcp, {}, 80}), "");
  EXPECT_EQ(holder({30080, 1, Protocol::kUdp, {}}), "");
  EXPECT_EQ(holder({30080, 1, Protocol::kTcp, ip("192.0.2.1")}), "default/web:http");
  EXPECT_EQ(holder({30080, 1, Protocol::kTcp, ip("2001:db8::1")}), "");
  EXPECT_EQ(holder({80, 1, Protocol::kTcp, ip("203.0.113.1")}), "default/web:http");
  EXPECT_EQ(holder({80, 1, Protocol::kTcp, ip("203.0.113.2")}), "");
  EXPECT_EQ(holder({80, 1, Protocol::kTcp, {}}), "") << "cluster IPs are not the node's";
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
  node.node_port_addresses = {cidr("192.0.2.0/24")};
  pod("a", {ip("10.0.0.1")}, {{8080, 80, Protocol::kTcp, {}}});
  const auto image = services();
  EXPECT_TRUE(image.frontends.contains(any_local(8080)));
  EXPECT_TRUE(image.frontends.contains(at("10.1.0.1", 8080)));
  EXPECT_FALSE(image.frontends.contains(at("192.0.2.1", 8080)));
}

}  // namespace
}  // namespace bpfnet::compile
