#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <random>

#include "control/compile/render.h"
#include "control/compile/services.h"
#include "tests/unit/compile_builders.h"

namespace bpfnet::compile {
namespace {

using test::at;
using test::endpoint;
using testing::ElementsAre;
using testing::IsEmpty;

TEST(ServiceCompiler, AChangeReportsTheFrontendsItChanged) {
  test::Cluster cluster;
  cluster.web();
  cluster.slice("s", {endpoint("10.0.0.1")});
  ServiceCompiler compiler;
  const auto update = [&](const ServiceChanges& changes) {
    return compiler.update(cluster.state, cluster.node, cluster.endpoints, changes);
  };
  const FrontendAddress mark{ip("10.96.0.1")};  // S32
  EXPECT_THAT(update({.everything = true}), ElementsAre(mark, at("10.96.0.1", 80)));
  EXPECT_THAT(update({.everything = true}), IsEmpty());

  cluster.slice("s", {endpoint("10.0.0.2")});
  EXPECT_THAT(update({.slices = {test::name("default", "s")}}), ElementsAre(at("10.96.0.1", 80)));
  EXPECT_THAT(update({.slices = {test::name("default", "s")}}), IsEmpty());

  cluster.state.services.clear();
  EXPECT_THAT(update({.services = {test::name("default", "web")}}), ElementsAre(mark, at("10.96.0.1", 80)));
  EXPECT_THAT(compiler.image().frontends, IsEmpty());
}

TEST(ServiceCompiler, ASliceThatMovesToAnotherServiceLeavesTheFirst) {
  test::Cluster cluster;
  cluster.web();
  cluster.slice("s", {endpoint("10.0.0.1")});
  ServiceCompiler compiler;
  compiler.update(cluster.state, cluster.node, {}, {.everything = true});
  cluster.state.slices.at(test::name("default", "s")).service = "other";
  compiler.update(cluster.state, cluster.node, {}, {.slices = {test::name("default", "s")}});
  EXPECT_THAT(compiler.image().frontends.at(at("10.96.0.1", 80)).internal, IsEmpty());
}

TEST(ServiceCompiler, S18_ARelabelledNodeIsNoticedWithoutBeingTold) {
  test::Cluster cluster;
  cluster.web();
  auto near = endpoint("10.0.0.1");
  auto far = endpoint("10.0.0.2");
  near.for_zones = {"zone-a"};
  far.for_zones = {"zone-b"};
  cluster.slice("s", {near, far});
  ServiceCompiler compiler;
  compiler.update(cluster.state, cluster.node, {}, {.everything = true});
  auto& self = cluster.state.nodes["here"];
  self.labels["unrelated"] = "x";
  cluster.state.nodes["other"].labels["topology.kubernetes.io/zone"] = "zone-b";
  EXPECT_THAT(compiler.update(cluster.state, cluster.node, {}, {}), IsEmpty());
  self.labels["topology.kubernetes.io/zone"] = "zone-b";
  EXPECT_THAT(compiler.update(cluster.state, cluster.node, {}, {}), ElementsAre(at("10.96.0.1", 80)));
  EXPECT_THAT(compiler.image().frontends.at(at("10.96.0.1", 80)).internal,
              ElementsAre(test::backend("10.0.0.2", 8080)));
}

/// The node's own facts: nobody tells the compiler of a change.
void change_node_at_random(test::Cluster& cluster, std::mt19937& random, ServiceChanges& changes) {
  const auto pick = [&](uint32_t below) { return random() % below; };
  switch (pick(4)) {
    case 0:
      cluster.state.nodes["here"].labels["topology.kubernetes.io/zone"] = pick(2) ? "zone-a" : "zone-b";
      return;
    case 1:
      cluster.node.addresses = {Address::from_ipv4({192, 0, 2, static_cast<uint8_t>(pick(3))})};
      return;
    case 2:
      cluster.node.node_port_addresses.clear();
      if (pick(2)) cluster.node.node_port_addresses = {cidr("192.0.2.1/32")};
      return;
    default:
      cluster.endpoints[0].host_ports = {
          {1, 80, model::Protocol::kTcp, {}, static_cast<uint16_t>(1 + pick(4))}};
      changes.host_ports = true;
  }
}

/// Random objects with a taste for the same few addresses, so that claims meet.
void change_at_random(test::Cluster& cluster, std::mt19937& random, ServiceChanges& changes) {
  const auto pick = [&](uint32_t below) { return random() % below; };
  const auto service_name = fmt::format("s{}", pick(5));
  const auto name = test::name("default", service_name);
  if (pick(2) == 0) {
    changes.services.insert(name);
    if (pick(4) == 0) {
      cluster.state.services.erase(name);
      return;
    }
    auto& service = cluster.state.services[name];
    service.name = name;
    service.cluster_ips = {Address::from_ipv4({10, 96, 0, static_cast<uint8_t>(pick(4))})};
    service.external_ips = {Address::from_ipv4({10, 96, 0, static_cast<uint8_t>(pick(4))})};
    service.ports = {{"", model::Protocol::kTcp, 80, static_cast<uint16_t>(pick(3))}};
    service.type = pick(2) ? model::ServiceType::kLoadBalancer : model::ServiceType::kNodePort;
    service.load_balancer_ingress = {
        {Address::from_ipv4({203, 0, 113, static_cast<uint8_t>(pick(3))}), pick(4) == 0}};
    service.source_ranges.clear();
    if (pick(2))
      service.source_ranges = {Cidr(Address::from_ipv4({192, 0, 2, static_cast<uint8_t>(pick(3))}), 32)};
    service.affinity.reset();
    if (pick(2)) service.affinity = std::chrono::seconds(1 + pick(2));
    using enum model::TrafficPolicy;
    service.external_traffic_policy = pick(2) ? kLocal : kCluster;
    service.internal_traffic_policy = pick(3) ? kCluster : kLocal;
    service.health_check_node_port = static_cast<uint16_t>(pick(2) * 32000);
    service.labels = {};
    if (pick(5) == 0) service.labels["service.kubernetes.io/service-proxy-name"] = "";
    return;
  }
  const auto slice_name = fmt::format("slice{}", pick(6));
  changes.slices.insert(test::name("default", slice_name));
  if (pick(4) == 0) {
    cluster.state.slices.erase(test::name("default", slice_name));
    return;
  }
  auto made = endpoint(fmt::format("10.0.0.{}", pick(9)), pick(2) ? "here" : "other");
  if (pick(2)) made.for_zones = {pick(2) ? "zone-a" : "zone-b"};
  if (pick(4) == 0) made.ready = false;
  made.terminating = pick(2) == 0;
  auto& slice = cluster.slice(slice_name, {made, endpoint(fmt::format("10.0.0.{}", pick(9)))});
  slice.service = service_name;
  slice.labels = {};
  if (pick(6) == 0) slice.labels["service.kubernetes.io/headless"] = "";
}

TEST(ServiceCompiler, AnyRowOfUpdatesEndsWhereACompileOfEverythingDoes) {
  std::mt19937 random(1);
  test::Cluster cluster;
  cluster.endpoints = {
      {1, test::name("default", "a"), {ip("10.0.0.1")}, 0, {{1, 80, model::Protocol::kTcp, {}}}}};
  ServiceCompiler compiler;
  compiler.update(cluster.state, cluster.node, cluster.endpoints, {.everything = true});
  for (int i = 0; i < 2000; ++i) {
    ServiceChanges changes;
    for (uint32_t n = 1 + random() % 3; n > 0; --n) change_at_random(cluster, random, changes);
    if (random() % 5 == 0) change_node_at_random(cluster, random, changes);
    const auto before = compiler.image().frontends;
    const auto reported = compiler.update(cluster.state, cluster.node, cluster.endpoints, changes);
    ASSERT_EQ(render(compiler.image()), render(cluster.services())) << "after change " << i;
    for (const auto& [address, frontend] : compiler.image().frontends) {
      const bool changed = !before.contains(address) || before.at(address) != frontend;
      ASSERT_EQ(reported.contains(address), changed) << render(compiler.image());
    }
    for (const auto& [address, frontend] : before)
      ASSERT_TRUE(compiler.image().frontends.contains(address) || reported.contains(address));
  }
}

TEST(ServiceCompiler, OneChangeAmongTenThousandServicesIsCheap) {
  test::Cluster cluster;
  for (int i = 0; i < 10000; ++i) {
    const auto name = test::name("default", fmt::format("svc{}", i));
    model::Service service;
    service.name = name;
    service.cluster_ips = {
        Address::from_ipv4({10, 97, static_cast<uint8_t>(i >> 8), static_cast<uint8_t>(i & 0xff)})};
    service.ports = {{"", model::Protocol::kTcp, 80, 0}};
    cluster.state.services[name] = service;
    cluster.slice(fmt::format("slice{}", i), {endpoint("10.0.0.1"), endpoint("10.0.0.2")}).service =
        name.name;
  }
  ServiceCompiler compiler;
  compiler.update(cluster.state, cluster.node, {}, {.everything = true});
  ASSERT_EQ(compiler.image().frontends.size(), 20000U);
  constexpr int kTurns = 100;
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < kTurns; ++i) {
    cluster.slice("slice77", {endpoint(i % 2 ? "10.0.0.1" : "10.0.0.3")}).service = "svc77";
    ASSERT_EQ(compiler.update(cluster.state, cluster.node, {}, {.slices = {test::name("default", "slice77")}})
                  .size(),
              1U);
  }
  const auto each = (std::chrono::steady_clock::now() - start) / kTurns;
  RecordProperty("nanoseconds", std::to_string(std::chrono::nanoseconds(each).count()));
  EXPECT_LT(each,
            std::chrono::milliseconds(1));  // microseconds in a release build; a busy machine and -O0 here
}

}  // namespace
}  // namespace bpfnet::compile
