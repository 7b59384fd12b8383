// Who reaches a service by which address, and whose address the backend then sees (S20-S23, S27, S38): every
// client, every way in, both traffic policies. The backend is web-a on node-a; node-b stands for "elsewhere".
#include <fmt/format.h>

#include <optional>
#include <ostream>

#include "tests/e2e/three_nodes.h"

namespace bpfnet::e2e {
namespace {

enum class Policy { kCluster, kLocal };
enum class Role { kPod, kHost, kOutside };
enum class Way { kClusterIp, kNodePortOfA, kNodePortOfB, kLocalhost, kLoadBalancer, kExternalIp };

constexpr size_t kBackendNode = 0;
constexpr int kServiceSourcesNumber = 20;

/// Who asks. `node`: where a pod or process is, or by which node an outside client reaches service addresses.
struct Client {
  const char* name;
  Role role;
  size_t node;
  const Netns* netns;
  Address ip;
};

struct Policies {
  Policy external;
  Policy internal;
};

constexpr std::array kWays = {Way::kClusterIp, Way::kNodePortOfA,  Way::kNodePortOfB,
                              Way::kLocalhost, Way::kLoadBalancer, Way::kExternalIp};

const char* name_of(Way way) {
  switch (way) {
    case Way::kClusterIp:
      return "ClusterIP";
    case Way::kNodePortOfA:
      return "NodePort of node-a";
    case Way::kNodePortOfB:
      return "NodePort of node-b";
    case Way::kLocalhost:
      return "NodePort on localhost";
    case Way::kLoadBalancer:
      return "load balancer";
    case Way::kExternalIp:
      return "externalIP";
  }
  return "?";
}

/// The node that finds the backend: the client's own for whoever is inside (S38), else the one it comes in
/// by; but another node's NodePort is that node's business.
size_t resolving_node(const Client& client, Way way) {
  if (way == Way::kNodePortOfA) return 0;
  if (way == Way::kNodePortOfB) return 1;
  return client.node;
}

/// The source the backend must see; nothing: the client hears nothing (S31). `node_ips`: by node.
std::optional<Address> expected_source(const Client& client, Way way, Policies policies,
                                       const std::vector<Address>& node_ips) {
  const size_t at = resolving_node(client, way);
  const bool backend_is_here = at == kBackendNode;
  // S22: a pod of the cluster, or a process of the node that resolves, may go on to other nodes.
  const bool inside = client.role == Role::kPod || (client.role == Role::kHost && client.node == at);
  // S23: internalTrafficPolicy is for the ClusterIP alone, and for everybody; externalTrafficPolicy for the
  // rest.
  const bool local_only = way == Way::kClusterIp ? policies.internal == Policy::kLocal
                                                 : policies.external == Policy::kLocal && !inside;
  if (local_only && !backend_is_here) return std::nullopt;
  if (way == Way::kLocalhost) return node_ips[at];
  // docs/services.md: the client's own address wherever the answer comes back through the resolving node.
  const bool answer_returns = backend_is_here || (client.role != Role::kOutside && client.node == at);
  return answer_returns ? client.ip : node_ips[at];
}

HostPort address_of(Way way, Family family, const std::vector<Address>& node_ips) {
  switch (way) {
    case Way::kClusterIp:
      return {cluster_ip(kServiceSourcesNumber, family), 80};
    case Way::kNodePortOfA:
      return {node_ips[0], node_port(kServiceSourcesNumber)};
    case Way::kNodePortOfB:
      return {node_ips[1], node_port(kServiceSourcesNumber)};
    case Way::kLocalhost:
      return {pick(family, "127.0.0.1", "::1"), node_port(kServiceSourcesNumber)};
    case Way::kLoadBalancer:
      return {load_balancer_ip(kServiceSourcesNumber, family), 80};
    case Way::kExternalIp:
      return {external_ip(kServiceSourcesNumber, family), 80};
  }
  return {};
}

class ServiceSources : public ThreeNodes,
                       public testing::WithParamInterface<std::tuple<Family, Policy, Policy>> {
 protected:
  static Family family() { return std::get<0>(GetParam()); }
  static Policies policies() { return {std::get<1>(GetParam()), std::get<2>(GetParam())}; }
  static const char* text(Policy policy) { return policy == Policy::kLocal ? "Local" : "Cluster"; }
  static std::vector<Address> node_ips() { return {node(0).ip(family()), node(1).ip(family())}; }

  static std::vector<Client> clients() {
    const auto of_pod = [](const char* name, size_t at) {
      return Client{name, Role::kPod, at, &pod(name).netns(), pod(name).ip(family())};
    };
    const auto of_node = [](const char* name, size_t at) {
      return Client{name, Role::kHost, at, &node(at).netns(), node(at).ip(family())};
    };
    const auto outside = [](const char* name, size_t by, const Host& host) {
      return Client{name, Role::kOutside, by, &host.netns(), host.ip(family())};
    };
    return {of_pod("client-a", 0),
            of_pod("client-b", 1),
            of_node("node-a", 0),
            of_node("node-b", 1),
            outside("client by node-a", 0, network().client()),
            outside("client by node-b", 1, network().other_client()),
            outside("far client by node-b", 1, network().far())};
  }

  void SetUp() override {
    ServiceManifest service = open_service("sources", kServiceSourcesNumber, {backend("web-a")});
    service.external_traffic_policy = text(policies().external);
    service.internal_traffic_policy = text(policies().internal);
    cluster().apply("sources", service.yaml());
  }
  void TearDown() override {
    if (HasFailure()) show_state();
  }
};

TEST_P(ServiceSources, EveryClientByEveryWay) {
  std::vector<Probe> probes;
  std::vector<std::optional<Address>> expected;
  for (const auto& client : clients()) {
    for (const Way way : kWays) {
      if (way == Way::kLocalhost && client.role != Role::kHost) continue;
      for (const auto* protocol : kProtocols) {
        expected.push_back(expected_source(client, way, policies(), node_ips()));
        probes.push_back({.what = fmt::format("{} from {} to {}", protocol, client.name, name_of(way)),
                          .from = client.netns,
                          .protocol = protocol,
                          .to = address_of(way, family(), node_ips()),
                          .options = {.timeout = expected.back() ? kPatience : kSilence}});
      }
    }
  }
  const auto results = ask_all(probes);
  for (size_t i = 0; i < probes.size(); i++) {
    if (expected[i]) {
      EXPECT_TRUE(answered(results[i], "web-a", *expected[i])) << probes[i].what;
    } else {
      // A socket may have been given the port of a UDP flow from before the policy changed, which goes on
      // (S33): not twice.
      const bool again = probes[i].protocol == "udp" && results[i].has_value();
      EXPECT_TRUE(failed_with(again ? ask_all({probes[i]}).front() : results[i], ETIMEDOUT))
          << probes[i].what;
    }
  }
}

// S27: a backend that is its own client sees its node, by every way in.
TEST_P(ServiceSources, BackendReachesItselfByEveryWay) {
  std::vector<Probe> probes;
  for (const Way way : {Way::kClusterIp, Way::kNodePortOfA, Way::kLoadBalancer, Way::kExternalIp}) {
    for (const auto* protocol : kProtocols) {
      probes.push_back({.what = fmt::format("{} to {}", protocol, name_of(way)),
                        .from = &pod("web-a").netns(),
                        .protocol = protocol,
                        .to = address_of(way, family(), node_ips()),
                        .options = {.timeout = kPatience}});
    }
  }
  const auto results = ask_all(probes);
  for (size_t i = 0; i < probes.size(); i++)
    EXPECT_TRUE(answered(results[i], "web-a", node(0).ip(family()))) << probes[i].what;
}

std::string case_name(const testing::TestParamInfo<ServiceSources::ParamType>& each) {
  const auto text = [](Policy policy) { return policy == Policy::kLocal ? "Local" : "Cluster"; };
  return fmt::format("{}External{}Internal{}", std::get<0>(each.param) == Family::kIpv4 ? "IPv4" : "IPv6",
                     text(std::get<1>(each.param)), text(std::get<2>(each.param)));
}

INSTANTIATE_TEST_SUITE_P(E2e, ServiceSources,
                         testing::Combine(testing::ValuesIn(kFamilies),
                                          testing::Values(Policy::kCluster, Policy::kLocal),
                                          testing::Values(Policy::kCluster, Policy::kLocal)),
                         case_name);

}  // namespace
}  // namespace bpfnet::e2e
