// Manifests in, frontends out, while the manifests change: a file source and one compiler, as in the agent.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control/compile/services.h"
#include "tests/unit/compile_builders.h"
#include "tests/unit/sources_directory.h"

namespace bpfnet::compile {
namespace {

using test::any_local;
using test::at;
using test::backend;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr std::string_view kService = R"(apiVersion: v1
kind: Service
metadata: {{name: web{0}}}
spec:
  clusterIP: {1}
  ports: [{{port: 80, targetPort: 9999}}]
{2})";

constexpr std::string_view kSlice = R"(apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {0}, labels: {{kubernetes.io/service-name: web{1}}}}}
addressType: IPv4
ports: [{{name: "", port: 8080}}]
endpoints: [{2}]
)";

class Live : public testing::Test {
 protected:
  Live() { node_.name = "here"; }

  void service(std::string_view spec = "", std::string_view cluster_ip = "10.96.0.1",
               std::string_view metadata = "") {
    directory_.write("service.yaml", fmt::format(fmt::runtime(kService), metadata, cluster_ip, spec));
  }
  void slice(const std::string& name, std::string_view endpoints, std::string_view labels = "") {
    directory_.write(name + ".yaml", fmt::format(fmt::runtime(kSlice), name, labels, endpoints));
  }
  /// Feeds what changes to the compiler until it is as wanted.
  template <typename Done>
  bool follow(Done done) {
    return sources::wait_for(source_, [&] {
      const auto changes = source_.take_changes();
      compiler_.update(source_.state(), node_, {}, {.services = changes.services, .slices = changes.slices});
      return done();
    });
  }
  [[nodiscard]] bool serves() const { return image().frontends.contains(at("10.96.0.1", 80)); }
  [[nodiscard]] std::vector<Backend> backends() const {
    return serves() ? image().frontends.at(at("10.96.0.1", 80)).internal.get() : std::vector<Backend>{};
  }
  [[nodiscard]] bool has(std::vector<Backend> wanted) const { return serves() && backends() == wanted; }
  [[nodiscard]] const ServiceImage& image() const { return compiler_.image(); }
  [[nodiscard]] const model::Service& object() const {
    return source_.state().services.at(test::name("default", "web"));
  }

  sources::ManifestDirectory directory_;
  sources::FileSource source_ = sources::open_source(directory_);
  NodeView node_;
  ServiceCompiler compiler_;
};

TEST_F(Live, S1_TypesChangeBothWays) {
  service();
  ASSERT_TRUE(follow([&] { return serves(); }));
  service("  type: ExternalName\n  externalName: example.com\n");
  ASSERT_TRUE(follow([&] { return image().frontends.empty(); }));
  service("  type: NodePort\n");
  ASSERT_TRUE(follow([&] { return serves(); }));
  service("", "None");
  ASSERT_TRUE(follow([&] { return image().frontends.empty(); }));
  service("  type: LoadBalancer\nstatus: {loadBalancer: {ingress: [{ip: 203.0.113.1}]}}\n");
  ASSERT_TRUE(follow([&] { return serves(); }));
  EXPECT_TRUE(image().frontends.contains(at("203.0.113.1", 80)));
}

TEST_F(Live, S1_ANodePortComesAndGoesWithTheType) {
  const std::string port = "  ports: [{port: 80, nodePort: 30080}]\n";
  const auto typed = [&](const char* type) {
    directory_.write("service.yaml",
                     fmt::format("apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec:\n  type: {}\n"
                                 "  clusterIP: 10.96.0.1\n{}",
                                 type, port));
  };
  typed("NodePort");
  ASSERT_TRUE(follow([&] { return image().frontends.contains(any_local(30080)); }));
  typed("ClusterIP");
  ASSERT_TRUE(follow([&] { return serves() && !image().frontends.contains(any_local(30080)); }));
  typed("LoadBalancer");
  ASSERT_TRUE(follow([&] { return image().frontends.contains(any_local(30080)); }));
}

TEST_F(Live, S2_TheLabelForAnotherProxyOrNoneIsToggled) {
  for (const char* label :
       {"service.kubernetes.io/service-proxy-name: other", "service.kubernetes.io/service-proxy-name: \"\"",
        "service.kubernetes.io/headless: \"\""}) {
    service();
    ASSERT_TRUE(follow([&] { return serves(); }));
    service("", "10.96.0.1", fmt::format(", labels: {{{}}}", label));
    ASSERT_TRUE(follow([&] { return image().frontends.empty(); })) << label;
  }
}

TEST_F(Live, S3_TheHeadlessLabelOfASliceIsToggled) {
  service();
  slice("s", "{addresses: [10.0.0.1]}");
  ASSERT_TRUE(follow([&] { return has({backend("10.0.0.1", 8080)}); }));
  slice("s", "{addresses: [10.0.0.1]}", ", service.kubernetes.io/headless: \"\"");
  ASSERT_TRUE(follow([&] { return backends().empty(); }));
  slice("s", "{addresses: [10.0.0.1]}");
  ASSERT_TRUE(follow([&] { return has({backend("10.0.0.1", 8080)}); }));
}

TEST_F(Live, S4_S5_WhatCountsOfASliceAsItIsWritten) {
  service();  // its targetPort is 9999, which nobody reads
  directory_.write("fqdn.yaml",
                   "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: f, labels: "
                   "{kubernetes.io/service-name: web}}\naddressType: FQDN\nports: [{port: 1}]\n"
                   "endpoints: [{addresses: [example.com]}]\n");
  directory_.write("nameless.yaml",
                   "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: n}\naddressType: "
                   "IPv4\nports: [{port: 1}]\nendpoints: [{addresses: [10.0.0.8]}]\n");
  directory_.write("portless.yaml",
                   "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: p, labels: "
                   "{kubernetes.io/service-name: web}}\naddressType: IPv4\nports: [{name: \"\"}]\n"
                   "endpoints: [{addresses: [10.0.0.7]}]\n");
  slice("s", "{addresses: [10.0.0.1, 10.0.0.2]}, {addresses: []}, {}");
  EXPECT_TRUE(follow([&] { return has({backend("10.0.0.1", 8080)}); })) << "addresses[0] alone";
}

TEST_F(Live, S8_NilConditions) {
  service();
  slice("s",
        "{addresses: [10.0.0.1]}, {addresses: [10.0.0.2], conditions: {}}, {addresses: [10.0.0.3], "
        "conditions: {serving: false}}, {addresses: [10.0.0.4], conditions: {ready: false}}");
  EXPECT_TRUE(follow([&] {
    return has({backend("10.0.0.1", 8080), backend("10.0.0.2", 8080), backend("10.0.0.3", 8080)});
  }));
  slice("s", "{addresses: [10.0.0.4], conditions: {ready: false, terminating: true}}");
  EXPECT_TRUE(follow([&] { return has({backend("10.0.0.4", 8080)}); })) << "serving unless it says no";
}

TEST_F(Live, S10_RemovingOneSliceKeepsWhatAnotherHas) {
  service();
  slice("a", "{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}");
  slice("b", "{addresses: [10.0.0.1]}");
  ASSERT_TRUE(follow([&] { return has({backend("10.0.0.1", 8080), backend("10.0.0.2", 8080)}); }));
  directory_.remove("a.yaml");
  ASSERT_TRUE(follow([&] { return has({backend("10.0.0.1", 8080)}); }));
  directory_.remove("b.yaml");
  EXPECT_TRUE(follow([&] { return serves() && backends().empty(); }));
}

TEST_F(Live, S11_SloppyAddressesAreReadAsTheyAreMeantAndBadOnesCostThemselvesAlone) {
  service(R"(  externalIPs: ["198.51.100.007", " 198.51.100.8 ", "198.51.100.256", nonsense, ""]
  loadBalancerSourceRanges: [" 203.0.113.000/025", "192.0.2.77/24\t", "10.0.0.0/8 \n"]
status:
  loadBalancer: {ingress: [{ip: 203.0.113.010}, {ip: bad}, {hostname: lb.example.com}]}
)",
          "10.096.000.001");
  slice("s", "{addresses: [010.0.0.01]}");
  ASSERT_TRUE(follow([&] { return has({backend("10.0.0.1", 8080)}); }));
  EXPECT_THAT(object().external_ips, ElementsAre(ip("198.51.100.7"), ip("198.51.100.8")));
  EXPECT_THAT(image().frontends.at(at("203.0.113.10", 80)).source_ranges,
              ElementsAre(cidr("10.0.0.0/8"), cidr("192.0.2.0/24"), cidr("203.0.113.0/25")));
  const auto told = sources::complaints(source_);
  EXPECT_EQ(told.size(), 4U) << testing::PrintToString(told);
  for (const std::string& each : told) EXPECT_THAT(each, testing::EndsWith("this field is left out"));
}

TEST_F(Live, S11_ARangeThatCannotBeReadOpensNothing) {
  service(
      "  loadBalancerSourceRanges: [\"203.0.113.0/33\"]\n"
      "status: {loadBalancer: {ingress: [{ip: 203.0.113.10}]}}\n");
  ASSERT_TRUE(follow([&] { return serves(); }));
  EXPECT_THAT(image().frontends.at(at("203.0.113.10", 80)).source_ranges, ElementsAre(cidr("0.0.0.0/32")))
      << "nobody's address";
}

TEST_F(Live, S18_ARelabelledNodeIsFollowed) {
  const auto label = [&](const char* zone) {
    directory_.write("node.yaml", fmt::format("apiVersion: v1\nkind: Node\nmetadata: {{name: here, labels: "
                                              "{{topology.kubernetes.io/zone: {}}}}}\n",
                                              zone));
  };
  service();
  slice("s",
        "{addresses: [10.0.0.1], hints: {forZones: [{name: a}]}}, {addresses: [10.0.0.2], hints: {forZones: "
        "[{name: b}, {name: c}]}}");
  ASSERT_TRUE(follow([&] { return backends().size() == 2; })) << "S17: no zone is known";
  label("a");
  ASSERT_TRUE(follow([&] { return has({backend("10.0.0.1", 8080)}); }));
  label("c");
  ASSERT_TRUE(follow([&] { return has({backend("10.0.0.2", 8080)}); }));
  label("d");
  ASSERT_TRUE(follow([&] { return backends().size() == 2; })) << "S17: nothing is meant for it";
}

TEST_F(Live, S32_ServiceCidrObjectsComeAndGo) {
  directory_.write("cidr.yaml",
                   "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {name: more}\n"
                   "spec: {cidrs: [172.30.0.0/16, \"fd00:30::/112\"]}\n");
  const auto ranges = [&] { return service_cidrs(source_.state(), node_); };
  ASSERT_TRUE(follow([&] { return ranges().size() == 2; }));
  EXPECT_THAT(ranges(), ElementsAre(cidr("172.30.0.0/16"), cidr("fd00:30::/112")));
  directory_.write("cidr.yaml",
                   "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {name: more}\n"
                   "spec: {cidrs: [172.31.0.0/16]}\n");
  ASSERT_TRUE(follow([&] { return ranges() == std::vector{cidr("172.31.0.0/16")}; }));
  directory_.remove("cidr.yaml");
  EXPECT_TRUE(follow([&] { return ranges().empty(); }));
}

TEST_F(Live, S41_ABalancerWithoutNodePorts) {
  service(
      "  type: LoadBalancer\n  allocateLoadBalancerNodePorts: false\n"
      "status: {loadBalancer: {ingress: [{ip: 203.0.113.10}]}}\n");
  ASSERT_TRUE(follow([&] { return serves(); }));
  EXPECT_TRUE(image().frontends.contains(at("203.0.113.10", 80)));
  EXPECT_EQ(image().frontends.size(), 4U) << "two addresses, each with a port and its mark";
  EXPECT_THAT(sources::complaints(source_), IsEmpty());
}

TEST_F(Live, S42_TheTimeoutIsThreeHoursUnlessToldOtherwise) {
  service("  sessionAffinity: ClientIP\n");
  const auto seconds = [&] {
    return serves() ? image().frontends.at(at("10.96.0.1", 80)).affinity_seconds : 0U;
  };
  ASSERT_TRUE(follow([&] { return seconds() == 10800; }));
  service("  sessionAffinity: ClientIP\n  sessionAffinityConfig: {clientIP: {timeoutSeconds: 7}}\n");
  ASSERT_TRUE(follow([&] { return seconds() == 7; }));
  service("  sessionAffinity: None\n");
  EXPECT_TRUE(follow([&] { return seconds() == 0; }));
}

}  // namespace
}  // namespace bpfnet::compile
