// Which of a service's endpoints are used: hints and zones (S16-S18), the fallback to endpoints on their way
// out (S13-S15), what is local (S9), and endpoints that stand in several slices (S10).
#include <fmt/format.h>

#include <set>

#include "tests/e2e/three_nodes.h"

namespace bpfnet::e2e {
namespace {

constexpr int kTopologyNumber = 40;
constexpr auto kZone = "topology.kubernetes.io/zone";
using Servers = std::set<std::string>;

class Topology : public ThreeNodes, public testing::WithParamInterface<Family> {
 public:
  static void SetUpTestSuite() {
    ThreeNodes::SetUpTestSuite();
    cluster().label_node(0, {{kZone, "east"}});
    cluster().label_node(1, {{kZone, "west"}});
    cluster().label_node(2, {{kZone, "east"}});
  }

 protected:
  static Family family() { return GetParam(); }
  static BackendManifest in_zones(const std::string& pod, std::vector<std::string> zones) {
    BackendManifest result = backend(pod);
    result.for_zones = std::move(zones);
    return result;
  }
  static BackendManifest on_nodes(const std::string& pod, std::vector<std::string> nodes,
                                  std::vector<std::string> zones = {}) {
    BackendManifest result = in_zones(pod, std::move(zones));
    result.for_nodes = std::move(nodes);
    return result;
  }
  static BackendManifest unready(const std::string& pod) {
    BackendManifest result = backend(pod);
    result.ready = false;
    result.serving = false;
    return result;
  }
  /// Not ready, and on its way out: `serving` tells whether it still answers.
  static BackendManifest terminating(const std::string& pod, bool serving = true) {
    BackendManifest result = backend(pod);
    result.ready = false;
    result.serving = serving;
    result.terminating = true;
    return result;
  }
  static void apply(const ServiceManifest& service) { cluster().apply("topology", service.yaml()); }
  static void apply(std::vector<BackendManifest> backends) {
    apply(open_service("topology", kTopologyNumber, std::move(backends)));
  }
  static HostPort service_address() { return {cluster_ip(kTopologyNumber, family()), 80}; }

  /// Who answers 40 connections: to miss one of three has a chance of 3 in 10^7.
  static Servers servers(const Netns& from, const HostPort& to) {
    const Probe probe{
        .what = "", .from = &from, .protocol = "tcp", .to = to, .options = {.timeout = kPatience}};
    Servers result;
    for (const auto& seen : ask_all(std::vector<Probe>(40, probe)))
      result.insert(seen ? seen->server : seen.error().message);
    return result;
  }
  static Servers servers(const std::string& pod_name) {
    return servers(pod(pod_name).netns(), service_address());
  }
  void TearDown() override {
    if (HasFailure()) show_state();
    cluster().remove("topology");
  }
};

// S16: pods, the host and outside clients alike.
TEST_P(Topology, ZoneHintsKeepTrafficInTheZone) {
  apply({in_zones("web-a", {"east"}), in_zones("web-b", {"west"}), in_zones("web-c", {"east"})});
  EXPECT_EQ(servers("client-a"), (Servers{"web-a", "web-c"}));
  EXPECT_EQ(servers("client-b"), (Servers{"web-b"}));
  EXPECT_EQ(servers("client-c"), (Servers{"web-a", "web-c"}));
  EXPECT_EQ(servers(node(1).netns(), service_address()), (Servers{"web-b"}));
  const HostPort by_node_b{node(1).ip(family()), node_port(kTopologyNumber)};
  EXPECT_EQ(servers(network().client().netns(), by_node_b), (Servers{"web-b"}));
}

// S18: the label moves, the agent stays.
TEST_P(Topology, RelabelledNodeIsReevaluatedWithoutRestart) {
  apply({in_zones("web-a", {"east"}), in_zones("web-b", {"west"}), in_zones("web-c", {"east"})});
  const pid_t agent = node(1).agent().pid();
  ASSERT_EQ(servers("client-b"), (Servers{"web-b"}));
  cluster().label_node(1, {{kZone, "east"}});
  EXPECT_EQ(servers("client-b"), (Servers{"web-a", "web-c"}));
  cluster().label_node(1, {});
  EXPECT_EQ(servers("client-b"), (Servers{"web-a", "web-b", "web-c"}));
  cluster().label_node(1, {{kZone, "west"}});
  EXPECT_EQ(servers("client-b"), (Servers{"web-b"}));
  EXPECT_EQ(node(1).agent().pid(), agent);
  EXPECT_TRUE(node(1).agent().running());
}

// S17: one unhinted endpoint, or none for the zone, and hints say nothing; several zones match any of them.
TEST_P(Topology, HintsThatDoNotCoverEverythingAreIgnored) {
  const Servers all = {"web-a", "web-b", "web-c"};
  apply({in_zones("web-a", {"east"}), in_zones("web-b", {"west"}), backend("web-c")});
  EXPECT_EQ(servers("client-b"), all);
  apply({in_zones("web-a", {"east"}), in_zones("web-b", {"east"}), in_zones("web-c", {"east"})});
  EXPECT_EQ(servers("client-b"), all);
  EXPECT_EQ(servers("client-a"), all);
  apply({in_zones("web-a", {"east", "west"}), in_zones("web-b", {"west"}), in_zones("web-c", {"east"})});
  EXPECT_EQ(servers("client-b"), (Servers{"web-a", "web-b"}));
  // Hints of endpoints that are not ready do not count, missing ones neither.
  apply({in_zones("web-a", {"east"}), in_zones("web-b", {"west"}), unready("web-c")});
  EXPECT_EQ(servers("client-a"), (Servers{"web-a"}));
}

// S16: nodes go before zones.
TEST_P(Topology, NodeHintsGoBeforeZoneHints) {
  apply({on_nodes("web-a", {"node-a"}, {"west"}), on_nodes("web-b", {"node-b"}, {"east"}),
         on_nodes("web-c", {"node-b"}, {"east"})});
  EXPECT_EQ(servers("client-a"), (Servers{"web-a"}));
  EXPECT_EQ(servers("client-b"), (Servers{"web-b", "web-c"}));
  // No endpoint names node-c: its zone decides.
  EXPECT_EQ(servers("client-c"), (Servers{"web-b", "web-c"}));
  // One endpoint without a node hint: zones decide for all.
  apply({on_nodes("web-a", {"node-a"}, {"west"}), in_zones("web-b", {"east"}),
         on_nodes("web-c", {"node-b"}, {"east"})});
  EXPECT_EQ(servers("client-b"), (Servers{"web-a"}));
}

// S14: under a Local policy only the node counts.
TEST_P(Topology, LocalPolicyIgnoresHints) {
  ServiceManifest service =
      open_service("topology", kTopologyNumber, {in_zones("web-a", {"west"}), in_zones("web-b", {"east"})});
  service.internal_traffic_policy = "Local";
  apply(service);
  EXPECT_EQ(servers("client-a"), (Servers{"web-a"}));
  EXPECT_EQ(servers("client-b"), (Servers{"web-b"}));
}

// S13, S15: while one is ready, only ready ones; then those that serve on their way out, hints or not; then
// none.
TEST_P(Topology, TerminatingEndpointsServeWhenNoneIsReady) {
  apply({backend("web-a"), terminating("web-b"), terminating("web-c")});
  EXPECT_EQ(servers("client-b"), (Servers{"web-a"}));
  apply({unready("web-a"), terminating("web-b"), terminating("web-c")});
  EXPECT_EQ(servers("client-a"), (Servers{"web-b", "web-c"}));
  apply({unready("web-a"), terminating("web-b"), terminating("web-c", false)});
  EXPECT_EQ(servers("client-a"), (Servers{"web-b"}));
  apply({unready("web-a"), terminating("web-b", false)});
  EXPECT_TRUE(failed_with(ask(pod("client-a").netns(), "tcp", service_address()), ECONNREFUSED));
}

// S14: the Local set falls back by itself, whatever is ready elsewhere.
TEST_P(Topology, LocalSetFallsBackToItsOwnTerminatingEndpoints) {
  ServiceManifest service =
      open_service("topology", kTopologyNumber, {terminating("web-a"), backend("web-b")});
  service.external_traffic_policy = "Local";
  apply(service);
  const Netns& client = network().client().netns();
  EXPECT_EQ(servers(client, {node(0).ip(family()), node_port(kTopologyNumber)}), (Servers{"web-a"}));
  EXPECT_EQ(servers(client, {node(1).ip(family()), node_port(kTopologyNumber)}), (Servers{"web-b"}));
  EXPECT_EQ(servers("client-a"), (Servers{"web-b"}));
  const HostPort by_node_c{node(2).ip(family()), node_port(kTopologyNumber)};
  EXPECT_TRUE(failed_with(ask(client, "tcp", by_node_c, {.timeout = kSilence}), ETIMEDOUT));
}

// S9: local is what nodeName says, and nothing else.
TEST_P(Topology, EndpointWithoutNodeIsNeverLocal) {
  BackendManifest nowhere = backend("web-a");
  nowhere.node.clear();
  ServiceManifest service = open_service("topology", kTopologyNumber, {nowhere});
  apply(service);
  EXPECT_EQ(servers("client-a"), (Servers{"web-a"}));
  service.internal_traffic_policy = "Local";
  apply(service);
  for (const auto* client : {"client-a", "client-b"}) {
    EXPECT_TRUE(
        failed_with(ask(pod(client).netns(), "tcp", service_address(), {.timeout = kSilence}), ETIMEDOUT));
  }
}

// S10: twice in slices, once in the lot; it goes with its last slice; alive beats dying.
TEST_P(Topology, EndpointOfTwoSlicesCountsOnce) {
  const ServiceManifest service =
      open_service("topology", kTopologyNumber, {backend("web-a"), backend("web-b")});
  const auto with_more = [&](const std::vector<BackendManifest>& more) {
    cluster().apply("topology", service.yaml() + service.more_slices("-more", more));
  };
  with_more({backend("web-a")});
  const Probe probe{.what = "",
                    .from = &pod("client-a").netns(),
                    .protocol = "tcp",
                    .to = service_address(),
                    .options = {.timeout = kPatience}};
  int first = 0;
  for (const auto& seen : ask_all(std::vector<Probe>(400, probe))) {
    ASSERT_TRUE(worked(seen));
    first += seen->server == "web-a" ? 1 : 0;
  }
  // Half of them: 267 of 400 would be double weight; 240 is four standard deviations from 200.
  EXPECT_LT(first, 240);
  with_more({terminating("web-a")});
  EXPECT_EQ(servers("client-a"), (Servers{"web-a", "web-b"}));
  ServiceManifest dying = service;
  dying.backends = {terminating("web-a"), backend("web-b")};
  cluster().apply("topology", dying.yaml() + service.more_slices("-more", {backend("web-a")}));
  EXPECT_EQ(servers("client-a"), (Servers{"web-a", "web-b"}));
  dying.backends = {backend("web-b")};
  cluster().apply("topology", dying.yaml() + service.more_slices("-more", {backend("web-a")}));
  EXPECT_EQ(servers("client-a"), (Servers{"web-a", "web-b"}));
}

INSTANTIATE_TEST_SUITE_P(E2e, Topology, testing::ValuesIn(kFamilies), family_name);

}  // namespace
}  // namespace bpfnet::e2e
