// Session affinity (S42-S44): a client stays with its backend, by every way in, until it has been away for
// the timeout, the backend goes, or the Service changes its mind.
#include <fmt/format.h>

#include <set>

#include "tests/e2e/three_nodes.h"

namespace bpfnet::e2e {
namespace {

constexpr int kAffinityNumber = 70;
using Servers = std::set<std::string>;

class Affinity : public ThreeNodes, public testing::WithParamInterface<Family> {
 protected:
  static Family family() { return GetParam(); }
  static std::vector<BackendManifest> everywhere() {
    return {backend("web-a"), backend("web-b"), backend("web-c")};
  }
  static void apply(std::optional<int> seconds, std::vector<BackendManifest> backends = everywhere()) {
    ServiceManifest service = open_service("sticky", kAffinityNumber, std::move(backends));
    service.affinity_seconds = seconds;
    cluster().apply("sticky", service.yaml());
  }
  static HostPort service_address() { return {cluster_ip(kAffinityNumber, family()), 80}; }
  /// Who answers `count` connections by each of `ways`: 20 to one of three by chance have 1 in 10^9.
  static Servers servers(const Netns& from, const std::vector<HostPort>& ways,
                         const std::string& protocol = "tcp", int count = 20) {
    Servers result;
    for (const auto& to : ways) {
      for (int i = 0; i < count; i++) {
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

// S42: the key is the client and the service's port, not the address that was asked. Were it the address too,
// the four ways of six clients would agree with a chance of 1 in 27^6.
TEST_P(Affinity, OneBackendByEveryWayIn) {
  apply(10800);
  const std::vector<HostPort> ways = {service_address(),
                                      {node(0).ip(family()), node_port(kAffinityNumber)},
                                      {load_balancer_ip(kAffinityNumber, family()), 80},
                                      {external_ip(kAffinityNumber, family()), 80}};
  const std::vector<const Netns*> clients = {&pod("client-a").netns(), &node(0).netns(),
                                             &network().client().netns()};
  for (const Netns* client : clients) {
    for (const auto* protocol : kProtocols)
      EXPECT_EQ(servers(*client, ways, protocol).size(), 1U) << protocol << " " << client->name();
  }
}

// S42: a client is bound by each port and protocol of a Service apart. Were they one, it would have one
// backend by both; 18 times that by chance is 1 in 3^18.
TEST_P(Affinity, PortsAndProtocolsAreBoundApart) {
  std::string services;
  for (const int number : {kAffinityNumber, kAffinityNumber + 1}) {
    ServiceManifest service = echo_service(fmt::format("sticky-{}", number), number, everywhere());
    service.affinity_seconds = 10800;
    service.ports.push_back({"tcp-81", "TCP", 81, Pod::kPort, 0});
    services += "---\n" + service.yaml();
  }
  cluster().apply("sticky", services);
  std::vector<const Netns*> clients = {&network().client().netns(), &network().other_client().netns(),
                                       &network().far().netns()};
  for (size_t i = 0; i < cluster().nodes(); i++) {
    clients.push_back(&node(i).netns());
    clients.push_back(&pod(fmt::format("client-{}", static_cast<char>('a' + i))).netns());
  }
  int apart_by_protocol = 0;
  int apart_by_port = 0;
  for (const Netns* client : clients) {
    for (const int number : {kAffinityNumber, kAffinityNumber + 1}) {
      const HostPort port{cluster_ip(number, family()), 80};
      const HostPort other_port{port.address, 81};
      const auto by_tcp = servers(*client, {port}, "tcp", 4);
      const auto by_udp = servers(*client, {port}, "udp", 4);
      const auto by_other_port = servers(*client, {other_port}, "tcp", 4);
      // One after the other, then all of them again: none has taken another's record away.
      EXPECT_EQ(servers(*client, {port}, "tcp", 4), by_tcp) << client->name();
      EXPECT_EQ(servers(*client, {port}, "udp", 4), by_udp) << client->name();
      for (const auto& bound : {by_tcp, by_udp, by_other_port}) EXPECT_EQ(bound.size(), 1U) << client->name();
      apart_by_protocol += by_tcp != by_udp ? 1 : 0;
      apart_by_port += by_tcp != by_other_port ? 1 : 0;
    }
  }
  EXPECT_GT(apart_by_protocol, 0);
  EXPECT_GT(apart_by_port, 0);
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
