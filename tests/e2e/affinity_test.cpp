// Session affinity (S42-S44): a client stays with its backend, by every way in, until it has been away for
// the timeout, the backend goes, or the Service changes its mind.
#include <fmt/format.h>

#include <set>

#include "tests/e2e/three_nodes.h"

namespace bpfnet::e2e {
namespace {

constexpr int kNumber = 70;
using Servers = std::set<std::string>;

class Affinity : public ThreeNodes, public testing::WithParamInterface<Family> {
 protected:
  static Family family() { return GetParam(); }
  static std::vector<BackendManifest> everywhere() {
    return {backend("web-a"), backend("web-b"), backend("web-c")};
  }
  static void apply(std::optional<int> seconds, std::vector<BackendManifest> backends = everywhere()) {
    ServiceManifest service = open_service("sticky", kNumber, std::move(backends));
    service.affinity_seconds = seconds;
    cluster().apply("sticky", service.yaml());
  }
  static HostPort service_address() { return {cluster_ip(kNumber, family()), 80}; }
  /// Who answers 20 connections by each of `ways`: one of three by chance has 1 in 10^9.
  static Servers servers(const Netns& from, const std::vector<HostPort>& ways,
                         const std::string& protocol = "tcp") {
    Servers result;
    for (const auto& to : ways) {
      for (int i = 0; i < 20; i++) {
        const auto seen = ask(from, protocol, to, {.timeout = kPatience});
        result.insert(seen ? seen->server : seen.error().message);
      }
    }
    return result;
  }
  void TearDown() override {
    if (HasFailure()) show_state();
    cluster().remove("sticky");
  }
};

// S42: the key is the client and the service's port, not the address that was asked.
TEST_P(Affinity, OneBackendByEveryWayIn) {
  apply(10800);
  const HostPort by_node{node(0).ip(family()), node_port(kNumber)};
  const HostPort balancer{load_balancer_ip(kNumber, family()), 80};
  const HostPort external{external_ip(kNumber, family()), 80};
  EXPECT_EQ(servers(pod("client-a").netns(), {service_address(), by_node, balancer, external}).size(), 1U);
  EXPECT_EQ(servers(pod("client-a").netns(), {service_address(), by_node}, "udp").size(), 1U);
  EXPECT_EQ(servers(node(0).netns(), {service_address(), by_node}).size(), 1U);
  EXPECT_EQ(servers(network().client().netns(), {by_node, balancer, external}).size(), 1U);
}

// S43: every new connection starts the time anew; after the timeout without one the client is free.
TEST_P(Affinity, TimeoutSlides) {
  apply(4);
  const Netns& client = pod("client-a").netns();
  const auto first = ask(client, "tcp", service_address());
  ASSERT_TRUE(worked(first));
  // Twice the timeout, with a connection every second.
  for (int i = 0; i < 8; i++) {
    pause(milliseconds(1000));
    const auto seen = ask(client, "tcp", service_address());
    ASSERT_TRUE(worked(seen));
    EXPECT_EQ(seen->server, first->server) << "after " << i + 1 << " s";
  }
  // One connection in each pause longer than the timeout: some other backend comes up.
  EXPECT_TRUE(eventually(
      [&] {
        pause(milliseconds(6000));
        const auto seen = ask(client, "tcp", service_address());
        return seen && seen->server != first->server;
      },
      milliseconds(90000)));
}

// S44: records live in the kernel.
TEST_P(Affinity, RecordsSurviveTheAgent) {
  apply(10800);
  const auto before = servers(pod("client-a").netns(), {service_address()});
  ASSERT_EQ(before.size(), 1U);
  node(0).kill_agent();
  EXPECT_EQ(servers(pod("client-a").netns(), {service_address()}), before);
  node(0).start();
  EXPECT_EQ(servers(pod("client-a").netns(), {service_address()}), before);
}

// S44: the others stay where they are.
TEST_P(Affinity, LostBackendRebalances) {
  apply(10800);
  const auto before = servers(pod("client-a").netns(), {service_address()});
  ASSERT_EQ(before.size(), 1U);
  auto rest = everywhere();
  std::erase_if(rest, [&](const auto& each) { return each.ips == backend(*before.begin()).ips; });
  apply(10800, rest);
  const auto after = servers(pod("client-a").netns(), {service_address()});
  ASSERT_EQ(after.size(), 1U);
  EXPECT_NE(after, before);
  apply(10800);
  EXPECT_EQ(servers(pod("client-a").netns(), {service_address()}), after);
}

// S44
TEST_P(Affinity, SwitchesLive) {
  apply(std::nullopt);
  EXPECT_GT(servers(pod("client-a").netns(), {service_address()}).size(), 1U);
  apply(10800);
  EXPECT_EQ(servers(pod("client-a").netns(), {service_address()}).size(), 1U);
  apply(std::nullopt);
  EXPECT_GT(servers(pod("client-a").netns(), {service_address()}).size(), 1U);
}

INSTANTIATE_TEST_SUITE_P(E2e, Affinity, testing::ValuesIn(kFamilies), family_name);

}  // namespace
}  // namespace bpfnet::e2e
