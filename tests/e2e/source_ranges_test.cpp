// loadBalancerSourceRanges (S39, S40): who may begin a connection with a load balancer address, and what the
// ranges leave alone.
#include <fmt/format.h>

#include "tests/e2e/three_nodes.h"

namespace bpfnet::e2e {
namespace {

constexpr int kSourceRangesNumber = 80;

class SourceRanges : public ThreeNodes, public testing::WithParamInterface<Family> {
 protected:
  static Family family() { return GetParam(); }
  static std::string only(const Address& address) {
    return fmt::format("{}/{}", address.to_string(), address.bits());
  }
  static void apply(std::vector<std::string> ranges) {
    ServiceManifest service = open_service("ranges", kSourceRangesNumber, {backend("web-a")});
    service.source_ranges = std::move(ranges);
    cluster().apply("ranges", service.yaml());
  }
  static HostPort balancer() { return {load_balancer_ip(kSourceRangesNumber, family()), 80}; }
  static void expect(const std::string& who, const Netns& from, bool allowed) {
    for (const auto* protocol : kProtocols) {
      const auto seen = ask(from, protocol, balancer(), {.timeout = allowed ? kPatience : kSilence});
      // Silence: no refusal, and no error for a process of the host whose datagram never leaves.
      EXPECT_TRUE(allowed ? worked(seen) : failed_with(seen, ETIMEDOUT)) << protocol << " " << who;
    }
  }
  void TearDown() override {
    if (HasFailure()) show_state();
    cluster().remove("ranges");
  }
};

TEST_P(SourceRanges, OnlyTheListedOutsideClientComesIn) {
  apply({only(network().client().ip(family()))});
  expect("listed client", network().client().netns(), true);
  expect("other client", network().other_client().netns(), false);
  expect("far", network().far().netns(), false);
  expect("pod", pod("client-a").netns(), false);
  expect("node", node(1).netns(), false);
  // NodePort and externalIP know no ranges.
  for (const auto& to : {HostPort{node(0).ip(family()), node_port(kSourceRangesNumber)},
                         HostPort{external_ip(kSourceRangesNumber, family()), 80}})
    EXPECT_TRUE(worked(ask(network().other_client().netns(), "tcp", to))) << to.to_string();
}

TEST_P(SourceRanges, PodsAndNodesComeInWhenListed) {
  apply({only(pod("client-a").ip(family()))});
  expect("listed pod", pod("client-a").netns(), true);
  expect("other pod", pod("client-b").netns(), false);
  // S40: a range with the node's address in it.
  apply({only(node(1).ip(family()))});
  expect("listed node", node(1).netns(), true);
  expect("other node", node(2).netns(), false);
  expect("pod", pod("client-b").netns(), false);
}

// S39, S40: live, both ways; /0 opens; established connections stay.
TEST_P(SourceRanges, ChangesAreLiveAndLeaveEstablishedConnections) {
  apply({});
  auto open = TcpClient::connect(network().client().netns(), balancer());
  ASSERT_TRUE(worked(open));
  apply({only(network().far().ip(family()))});
  expect("client", network().client().netns(), false);
  EXPECT_TRUE(worked(open->echo("established before")));
  apply({only(network().far().ip(family())), pick(family(), "192.0.2.0", "2001:db8:1::").to_string() +
                                                 (family() == Family::kIpv4 ? "/24" : "/64")});
  expect("client", network().client().netns(), true);
  apply({only(network().far().ip(family())), family() == Family::kIpv4 ? "0.0.0.0/0" : "::/0"});
  expect("pod", pod("client-a").netns(), true);
  // Ranges of the other family alone leave this one open.
  const Family other = family() == Family::kIpv4 ? Family::kIpv6 : Family::kIpv4;
  apply({only(network().far().ip(other))});
  expect("client", network().client().netns(), true);
}

INSTANTIATE_TEST_SUITE_P(E2e, SourceRanges, testing::ValuesIn(kFamilies), family_name);

}  // namespace
}  // namespace bpfnet::e2e
