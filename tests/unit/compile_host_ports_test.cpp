// Published ports (C21).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control/compile/host_ports.h"
#include "tests/unit/compile_builders.h"

namespace bpfnet::compile {
namespace {

using model::Protocol;
using test::any_local;
using test::at;
using test::backend;
using test::ip;
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
