// Ranges of cluster IPs that come and go while the agents run.
#include <nlohmann/json.hpp>

#include "maps/abi/reasons.h"
#include "tests/e2e/e2e.h"

namespace bpfnet::e2e {
namespace {

constexpr const char* kRange = R"(apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: more}
spec: {cidrs: [172.30.0.0/16, "fd00:30::/112"]}
)";

class ServiceRanges : public TwoNodes {
 protected:
  static Address address(int number) {
    return pick(family(), fmt::format("172.30.0.{}", number), fmt::format("fd00:30::{}", number));
  }
  static uint64_t unserved_drops() {
    uint64_t packets = 0;
    for (const auto& entry : node_a().ctl({"drops"}))
      if (entry.at("reason") == "no-service") packets += entry.at("packets").get<uint64_t>();
    return packets;
  }
};

// S32: unallocated addresses are dropped, a service's is reached by pods and, by the new route, by the host.
TEST_P(ServiceRanges, AServiceCidrObjectIsFollowedLive) {
  auto service = echo_service("ranged", 20, {cluster().backend("web-b")});
  service.cluster_ips = {address(10)};
  const std::string families = family() == Family::kIpv4 ? "IPv4" : "IPv6";
  cluster().apply("range", kRange);
  cluster().apply("ranged", service.yaml());
  const HostPort served{address(10), 80};
  EXPECT_TRUE(worked(ask(pod("client-a").netns(), "tcp", served))) << families;
  EXPECT_TRUE(worked(ask(node_a().netns(), "tcp", served))) << node_a().netns().ip_show("route show");
  EXPECT_TRUE(failed_with(ask(pod("client-a").netns(), "tcp", {address(10), 81}), ECONNREFUSED));

  const uint64_t before = unserved_drops();
  EXPECT_TRUE(
      failed_with(ask(pod("client-a").netns(), "tcp", {address(99), 80}, {.timeout = kSilence}), ETIMEDOUT));
  EXPECT_GT(unserved_drops(), before) << "the datapath drops it, and says so";

  node_a().remove_manifest("range");
  const uint64_t after = unserved_drops();
  (void)ask(pod("client-a").netns(), "tcp", {address(99), 80}, {.timeout = kSilence});
  EXPECT_EQ(unserved_drops(), after) << "an address like any other again";
  EXPECT_EQ(node_a().netns().ip_show("route show").find("172.30.0.0/16"), std::string::npos);
  cluster().apply("range", kRange);
}

INSTANTIATE_TEST_SUITE_P(E2e, ServiceRanges, testing::Values(Family::kIpv4, Family::kIpv6), family_name);

}  // namespace
}  // namespace bpfnet::e2e
