// NetworkPolicy on live traffic: isolation per direction, selectors, ipBlock with except, ports, replies, the
// own node, changes that reach live connections. P-numbers are those of the policy specification.
#include <fmt/format.h>

#include "tests/e2e/e2e.h"

namespace bpfnet::e2e {
namespace {

/// A NetworkPolicy in namespace default; `spec` is YAML, indented by two.
std::string policy(const std::string& name, const std::string& spec) {
  return fmt::format(
      "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: {}\n  namespace: "
      "default\nspec:\n{}",
      name, spec);
}

constexpr const char* kDenyIngress =
    "  podSelector: {matchLabels: {app: web-a}}\n"
    "  policyTypes: [Ingress]\n";

class Policies : public TwoNodes {
 protected:
  static void apply(const std::string& spec) { cluster().apply("policy", policy("test", spec)); }
  void TearDown() override {
    if (has_cluster()) cluster().remove("policy");
    TwoNodes::TearDown();
  }
  static HostPort target(const std::string& name) { return {pod(name).ip(family()), Pod::kPort}; }
  static bool passes(const std::string& from, const HostPort& to, const std::string& protocol = "tcp") {
    return passes(pod(from).netns(), to, protocol);
  }
  static bool passes(const Netns& from, const HostPort& to, const std::string& protocol = "tcp") {
    return ask(from, protocol, to, {.timeout = kSilence}).has_value();
  }
};

// P1, P4
TEST_P(Policies, IsolationIsPerDirection) {
  apply(kDenyIngress);
  EXPECT_FALSE(passes("client-a", target("web-a")));
  EXPECT_FALSE(passes("client-a", target("web-a"), "udp"));
  EXPECT_FALSE(passes("client-b", target("web-a")));
  EXPECT_TRUE(failed_with(ping(pod("client-b").netns(), pod("web-a").ip(family()), {.timeout = kSilence}),
                          ETIMEDOUT));
  // The other direction, and its replies (P16), are not its business; nor are other pods.
  EXPECT_TRUE(passes("web-a", target("web-b")));
  EXPECT_TRUE(passes("client-a", target("web-b")));
}

TEST_P(Policies, EgressIsolationClosesTheWayOutAndRepliesPass) {
  apply("  podSelector: {matchLabels: {app: web-a}}\n  policyTypes: [Egress]\n");
  EXPECT_FALSE(passes("web-a", target("web-b")));
  EXPECT_FALSE(passes("web-a", target("client-a")));
  EXPECT_TRUE(passes("client-a", target("web-a")));
  EXPECT_TRUE(passes("client-b", target("web-a")));
}

// P13: the node's own processes reach an isolated pod, the other node's do not.
TEST_P(Policies, OwnNodeIsAlwaysLetIn) {
  apply(kDenyIngress);
  EXPECT_TRUE(passes(node_a().netns(), target("web-a")));
  EXPECT_TRUE(worked(ping(node_a().netns(), pod("web-a").ip(family()))));
  EXPECT_FALSE(passes(node_b().netns(), target("web-a")));
}

// P15
TEST_P(Policies, PodReachesItself) {
  apply(kDenyIngress);
  EXPECT_TRUE(passes("web-a", target("web-a")));
}

// P8
TEST_P(Policies, PodSelectorOpensForPeersOnBothNodes) {
  apply(std::string(kDenyIngress) +
        "  ingress:\n  - from:\n    - podSelector: {matchExpressions: [{key: app, operator: In, values: "
        "[client-b]}]}\n");
  EXPECT_FALSE(passes("client-a", target("web-a")));
  EXPECT_TRUE(passes("client-b", target("web-a")));
}

// P19: a label that a live pod gets opens the way, and taking it away closes it.
TEST_P(Policies, LabelChangesApplyLive) {
  apply(std::string(kDenyIngress) +
        "  ingress:\n  - from: [{podSelector: {matchLabels: {friend: \"yes\"}}}]\n");
  EXPECT_FALSE(passes("client-b", target("web-a")));
  cluster().label_pod("client-b", {{"app", "client-b"}, {"friend", "yes"}});
  EXPECT_TRUE(passes("client-b", target("web-a")));
  cluster().label_pod("client-b", {{"app", "client-b"}});
  EXPECT_FALSE(passes("client-b", target("web-a")));
}

TEST_P(Policies, NamespaceSelector) {
  cluster().apply("ns-other", NamespaceManifest{"other", {{"team", "red"}}}.yaml());
  cluster().add_pod(1, "stranger", {.ns = "other"});
  apply(std::string(kDenyIngress) +
        "  ingress:\n  - from: [{namespaceSelector: {matchLabels: {team: red}}}]\n");
  EXPECT_TRUE(passes("stranger", target("web-a")));
  EXPECT_FALSE(passes("client-b", target("web-a")));
  cluster().apply("ns-other", NamespaceManifest{"other", {{"team", "blue"}}}.yaml());
  EXPECT_FALSE(passes("stranger", target("web-a")));
  cluster().remove_pod("stranger");
  cluster().remove("ns-other");
}

// P10
TEST_P(Policies, IpBlockWithExcept) {
  const auto block = [&](const char* v4, const char* v4_except, const char* v6, const char* v6_except) {
    return family() == Family::kIpv4 ? fmt::format("cidr: {}, except: [{}]", v4, v4_except)
                                     : fmt::format("cidr: \"{}\", except: [\"{}\"]", v6, v6_except);
  };
  apply(std::string(kDenyIngress) +
        fmt::format("  ingress:\n  - from: [{{ipBlock: {{{}}}}}]\n",
                    block("192.0.2.0/24", "192.0.2.100/32", "2001:db8:1::/64", "2001:db8:1::100/128")));
  // By the node port of its own node the client keeps its address: .100 is excepted, node-b's .12 is not.
  const HostPort node_port{node_a().ip(family()), 30081};
  EXPECT_FALSE(passes(network().client().netns(), node_port));
  EXPECT_TRUE(passes(node_b().netns(), node_port));
  EXPECT_FALSE(passes(network().far().netns(), node_port));
  EXPECT_FALSE(passes("client-b", target("web-a")));
}

TEST_P(Policies, EgressToIpBlockIsJudgedAfterTranslation) {
  const EchoServer server(network().far().netns(), "far", 9090);
  apply(
      fmt::format("  podSelector: {{matchLabels: {{app: client-a}}}}\n  policyTypes: [Egress]\n  egress:\n"
                  "  - to: [{{ipBlock: {{cidr: \"{}\"}}}}]\n",
                  family() == Family::kIpv4 ? "198.51.100.0/24" : "2001:db8:2::/64"));
  EXPECT_TRUE(passes("client-a", {network().far().ip(family()), 9090}));
  EXPECT_FALSE(passes("client-a", target("web-b")));
  // P11: a rule about the service's address opens nothing, what counts is the backend's.
  EXPECT_FALSE(passes("client-a", service(12)));
}

// P5, P7
TEST_P(Policies, PortsAndProtocols) {
  apply(std::string(kDenyIngress) + "  ingress:\n  - ports: [{protocol: TCP, port: 8000, endPort: 8080}]\n");
  EXPECT_TRUE(passes("client-a", target("web-a")));
  EXPECT_TRUE(passes("client-b", target("web-a")));
  EXPECT_FALSE(passes("client-a", target("web-a"), "udp"));
  // P11: port 80 of the service is port 8080 of the pod.
  EXPECT_TRUE(passes("client-b", service(11)));
  apply(std::string(kDenyIngress) + "  ingress:\n  - ports: [{protocol: TCP, port: 80}]\n");
  EXPECT_FALSE(passes("client-a", target("web-a")));
  EXPECT_FALSE(passes("client-b", service(11)));
}

// P17: cut at the next packet, on the pod's own node and from another; what stays allowed loses nothing.
TEST_P(Policies, LiveConnectionIsCutAtItsNextPacketAndOthersLoseNothing) {
  auto cut = TcpClient::connect(pod("client-a").netns(), target("web-a"), {.timeout = kSilence});
  auto cut_remote = TcpClient::connect(pod("client-b").netns(), service(11), {.timeout = kSilence});
  auto stays = TcpClient::connect(pod("client-a").netns(), target("web-b"));
  auto own_node = TcpClient::connect(node_a().netns(), target("web-a"));
  auto outgoing = TcpClient::connect(pod("web-a").netns(), target("client-b"));
  for (auto* client : {&cut, &cut_remote, &stays, &own_node, &outgoing}) {
    ASSERT_TRUE(worked(*client));
    ASSERT_TRUE(worked((*client)->echo("before")));
  }
  apply(kDenyIngress);
  EXPECT_TRUE(failed_with(cut->echo("after"), ETIMEDOUT));
  EXPECT_TRUE(failed_with(cut_remote->echo("after"), ETIMEDOUT));
  for (auto* client : {&stays, &own_node, &outgoing}) {
    EXPECT_TRUE(worked((*client)->echo("after")));
    EXPECT_EQ((*client)->retransmits(), 0U);
  }
}

TEST_P(Policies, AddedPolicyThatAllowsLosesNothing) {
  auto client = TcpClient::connect(pod("client-b").netns(), target("web-a"));
  ASSERT_TRUE(worked(client));
  for (int i = 0; i < 5; i++) {
    apply(std::string(kDenyIngress) +
          fmt::format("  ingress:\n  - from: [{{podSelector: {{matchLabels: {{app: client-b}}}}}}]\n"
                      "  - ports: [{{port: {}}}]\n",
                      9000 + i));
    EXPECT_TRUE(worked(client->echo("still here")));
  }
  EXPECT_EQ(client->retransmits(), 0U);
}

INSTANTIATE_TEST_SUITE_P(E2e, Policies, testing::Values(Family::kIpv4, Family::kIpv6), family_name);

}  // namespace
}  // namespace bpfnet::e2e
