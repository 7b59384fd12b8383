// Where policy meets the node, the world outside and the other direction: probes, host-network pods, node
// ports, replies, ICMP errors, ping. P-numbers are those of the policy specification.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "tests/e2e/policy_world.h"

namespace bpfnet::e2e {
namespace {

class PolicyEdges : public TwoNodes {
 protected:
  void TearDown() override {
    if (has_cluster()) cluster().remove("policy");
    TwoNodes::TearDown();
  }
  /// The policies of namespace default are these alone.
  static void apply(const std::string& spec) {
    cluster().apply("policy", network_policy("default", "test", spec));
  }
  static HostPort target(const std::string& name) { return {pod(name).ip(family()), Pod::kPort}; }
  static bool passes(const Netns& from, const HostPort& to, const std::string& protocol = "tcp") {
    return ask(from, protocol, to, {.timeout = kSilence}).has_value();
  }
  static bool pings(const Netns& from, const Address& to) {
    return ping(from, to, {.timeout = kSilence}).has_value();
  }
  /// `{ipBlock: {cidr: ADDRESS/full length}}`
  static std::string block(const Address& address) {
    return fmt::format("{{ipBlock: {{cidr: \"{}/{}\"}}}}", address.to_string(), address.bits());
  }
};

// P13: what a kubelet asks of its pods.
TEST_P(PolicyEdges, ProbesOfTheOwnNodeSurviveDenyAll) {
  apply("podSelector: {matchLabels: {app: web-a}}, policyTypes: [Ingress, Egress]");
  for (const auto* protocol : {"tcp", "udp"}) {
    EXPECT_TRUE(passes(node_a().netns(), target("web-a"), protocol));
    EXPECT_TRUE(passes(node_a().netns(), service(11), protocol)) << "through its service";
    EXPECT_FALSE(passes(node_b().netns(), target("web-a"), protocol));
    EXPECT_FALSE(passes(node_b().netns(), service(11), protocol));
  }
  EXPECT_TRUE(pings(node_a().netns(), target("web-a").address));
  EXPECT_FALSE(pings(node_b().netns(), target("web-a").address));
  // As an HTTP probe reads a page: more than fits one segment.
  auto probe = TcpClient::connect(node_a().netns(), target("web-a"));
  ASSERT_TRUE(worked(probe));
  EXPECT_TRUE(worked(probe->bulk(200'000)));
}

// P14
TEST_P(PolicyEdges, AHostNetworkPodIsItsNode) {
  const PodManifest agent{.name = "agent",
                          .node = node_b().name(),
                          .labels = {{"app", "agent"}},
                          .ips = {node_b().ip(Family::kIpv4), node_b().ip(Family::kIpv6)},
                          .host_network = true};
  cluster().apply("pod-agent", agent.yaml());
  const EchoServer server(node_b().netns(), "agent", 9100);
  // As a peer: by its address, not by its labels.
  apply(
      "podSelector: {matchLabels: {app: web-a}}, ingress: [{from: [{podSelector: {matchLabels: {app: "
      "agent}}}]}]");
  EXPECT_FALSE(passes(node_b().netns(), target("web-a")));
  apply("podSelector: {matchLabels: {app: web-a}}, ingress: [{from: [" + block(node_b().ip(family())) +
        "]}]");
  EXPECT_TRUE(passes(node_b().netns(), target("web-a")));
  EXPECT_FALSE(passes(pod("client-b").netns(), target("web-a")));
  apply(
      "podSelector: {matchLabels: {app: client-a}}, policyTypes: [Egress], egress: [{to: [{podSelector: "
      "{matchLabels: "
      "{app: agent}}}]}]");
  EXPECT_FALSE(passes(pod("client-a").netns(), {node_b().ip(family()), 9100}));
  apply("podSelector: {matchLabels: {app: client-a}}, policyTypes: [Egress], egress: [{to: [" +
        block(node_b().ip(family())) + "]}]");
  EXPECT_TRUE(passes(pod("client-a").netns(), {node_b().ip(family()), 9100}));
  // As a subject: never.
  apply("podSelector: {matchLabels: {app: agent}}, policyTypes: [Ingress, Egress]");
  EXPECT_TRUE(passes(pod("client-a").netns(), {node_b().ip(family()), 9100}));
  EXPECT_TRUE(passes(node_b().netns(), target("web-a")));
  cluster().remove("pod-agent");
}

// P15
TEST_P(PolicyEdges, APodReachesItself) {
  apply("podSelector: {}, policyTypes: [Ingress, Egress]");
  const Netns& netns = pod("web-a").netns();
  for (const auto* protocol : {"tcp", "udp"}) {
    EXPECT_TRUE(passes(netns, target("web-a"), protocol));
    EXPECT_TRUE(passes(netns, service(11), protocol)) << "through its service";
  }
  EXPECT_TRUE(pings(netns, target("web-a").address));
}

// A11: what a pod sends to its own address is nobody's to judge; what comes back to it by its service is the
// business of cluster policies, and still not of NetworkPolicies (P15).
TEST_P(PolicyEdges, APodThatReachesItselfByItsServiceIsSubjectToClusterPolicies) {
  const Netns& web = pod("web-a").netns();
  for (const bool denies : {false, true}) {
    cluster().apply(
        "policy",
        cluster_network_policy("self", "Admin", 1, "namespaces: {}",
                               fmt::format("ingress: [{{action: {}, from: [{{namespaces: {{}}}}]}}]",
                                           denies ? "Deny" : "Accept")) +
            network_policy("default", "closed", "podSelector: {}, policyTypes: [Ingress, Egress]"));
    for (const auto* protocol : {"tcp", "udp"}) {
      EXPECT_TRUE(passes(web, target("web-a"), protocol)) << protocol;
      EXPECT_EQ(passes(web, service(11), protocol), !denies) << protocol;
    }
  }
}

// A11, A9: `networks` hold the pod by its address of the family that it reaches itself over.
TEST_P(PolicyEdges, NetworksHoldAPodThatReachesItselfByEitherFamily) {
  const Netns& web = pod("web-a").netns();
  for (const Family held : {Family::kIpv4, Family::kIpv6}) {
    const Address& address = pod("web-a").ip(held);
    cluster().apply("policy", cluster_network_policy(
                                  "self", "Admin", 1, "namespaces: {}",
                                  fmt::format("egress: [{{action: Deny, to: [{{networks: [\"{}/{}\"]}}]}}]",
                                              address.to_string(), address.bits())));
    for (const auto* protocol : {"tcp", "udp"}) {
      EXPECT_TRUE(passes(web, target("web-a"), protocol)) << protocol;
      EXPECT_EQ(passes(web, service(11), protocol), held != family()) << protocol;
    }
  }
}

// P13: an address that is the node's no more is let in no more, be it on a connection that was.
TEST_P(PolicyEdges, AnAddressThatMovesToAnotherNodeTakesNoExemptionAlong) {
  const Address vip = pick(family(), "192.0.2.222", "2001:db8:1::222");
  const auto change = [&](Node& node, const std::string& what) {
    node.netns().ip(fmt::format("addr {} {}/{} dev eth0{}", what, vip.to_string(), vip.bits(),
                                family() == Family::kIpv6 && what == "add" ? " nodad" : ""));
    const char* mark = what == "add" ? "local-node" : "";
    EXPECT_TRUE(eventually([&] {
      for (const auto& row : node.ctl({"map", "dump", "addresses"}))
        if (row.dump().find('"' + vip.to_string() + '"') != std::string::npos)
          return *mark != 0 && row.dump().find(mark) != std::string::npos;
      return *mark == 0;
    })) << node.ctl({"map", "dump", "addresses"}).dump(2);
  };
  const auto denied = [] {
    uint64_t packets = 0;
    for (const auto& row : node_a().ctl({"drops"}))
      if (row.at("reason") == "policy-ingress") packets += row.at("packets").get<uint64_t>();
    return packets;
  };
  const SocketOptions from_vip{.source_port = 41222, .source = vip, .timeout = kSilence};
  apply("podSelector: {matchLabels: {app: web-a}}, policyTypes: [Ingress]");
  change(node_a(), "add");
  EXPECT_TRUE(worked(ask(node_a().netns(), "udp", target("web-a"), from_vip)));
  change(node_a(), "del");
  change(node_b(), "add");
  const uint64_t before = denied();
  EXPECT_FALSE(worked(ask(node_b().netns(), "udp", target("web-a"), from_vip)));
  EXPECT_GT(denied(), before);
  change(node_b(), "del");
}

// P12: under Local it is the client's own address that an ipBlock must name.
TEST_P(PolicyEdges, NodePortWithTrafficPolicyLocalShowsTheClient) {
  ServiceManifest local = echo_service("local", 40, {cluster().backend("web-a")}, 30140);
  local.external_traffic_policy = "Local";
  cluster().apply("local", local.yaml());
  const HostPort node_port{node_a().ip(family()), 30140};
  const Netns& client = network().client().netns();
  const Netns& other = network().other_client().netns();
  apply("podSelector: {matchLabels: {app: web-a}}, ingress: [{from: [" +
        block(network().client().ip(family())) + "]}]");
  for (const auto* protocol : {"tcp", "udp"}) {
    EXPECT_TRUE(passes(client, node_port, protocol));
    EXPECT_FALSE(passes(other, node_port, protocol));
    EXPECT_FALSE(passes(node_b().netns(), node_port, protocol));
  }
  cluster().remove("local");
}

// P12 [D]: under Cluster it is the node that passed the connection on, unless that is the pod's own.
TEST_P(PolicyEdges, NodePortWithTrafficPolicyClusterShowsWhoPassedItOn) {
  const HostPort by_own_node{node_a().ip(family()), 30081};
  const HostPort by_other_node{node_b().ip(family()), 30081};
  const Netns& client = network().client().netns();
  apply("podSelector: {matchLabels: {app: web-a}}, ingress: [{from: [" +
        block(network().client().ip(family())) + "]}]");
  EXPECT_TRUE(passes(client, by_own_node));
  EXPECT_FALSE(passes(client, by_other_node));
  apply("podSelector: {matchLabels: {app: web-a}}, ingress: [{from: [" + block(node_b().ip(family())) +
        "]}]");
  EXPECT_FALSE(passes(client, by_own_node));
  EXPECT_TRUE(passes(client, by_other_node));
}

// P12: a published port of the runtime's likewise.
TEST_P(PolicyEdges, PublishedPortShowsTheClient) {
  const HostPort published{node_a().ip(family()), 18080};
  apply("podSelector: {matchLabels: {app: hostport}}, ingress: [{from: [" +
        block(network().client().ip(family())) + "], ports: [{port: 8080}]}]");
  EXPECT_TRUE(passes(network().client().netns(), published));
  EXPECT_FALSE(passes(network().client().netns(), published, "udp"));
  EXPECT_FALSE(passes(network().other_client().netns(), published));
}

// P16: the path to the far host takes 1400 bytes, fewer than a pod's interface with tunnels; who is isolated
// for ingress learns it all the same.
TEST_P(PolicyEdges, PathMtuErrorsReachWhoIsIsolatedForIngress) {
  const EchoServer server(network().far().netns(), "far", 9090);
  const HostPort far{network().far().ip(family()), 9090};
  apply("podSelector: {matchLabels: {app: client-a}}, policyTypes: [Ingress]");
  auto datagrams = UdpClient::open(pod("client-a").netns(), far);
  ASSERT_TRUE(worked(datagrams));
  datagrams->dont_fragment();
  ASSERT_TRUE(worked(datagrams->send(std::string(1390, 'x'))));
  const auto error = datagrams->error();
  ASSERT_TRUE(worked(error));
  EXPECT_EQ(error->code, EMSGSIZE);
  EXPECT_EQ(error->mtu, Network::kFarMtu);
  auto upload = TcpClient::connect(pod("client-a").netns(), far);
  ASSERT_TRUE(worked(upload));
  EXPECT_TRUE(worked(upload->bulk(300'000)));
}

// P16: an answer which is too large for the path is answered by an ICMP error: that is for the pod which may
// not begin anything.
TEST_P(PolicyEdges, PathMtuErrorsAboutAnswersReachWhoIsIsolatedForEgress) {
  apply("podSelector: {matchLabels: {app: web-a}}, policyTypes: [Egress]");
  // The echo server's greeting makes the answer larger than the question.
  const std::string question(1340, 'q');
  auto client =
      UdpClient::open(network().far().netns(), {node_a().ip(family()), 30081}, {.timeout = kSilence});
  ASSERT_TRUE(worked(client));
  bool answered = false;
  for (int i = 0; i < 5 && !answered; i++) answered = client->request(question).has_value();
  EXPECT_TRUE(answered) << "the first answer is lost, one of the next comes in fragments";
}

// P16: replies pass, whatever the other direction says; pings are answered.
TEST_P(PolicyEdges, RepliesPassAgainstIsolation) {
  apply("podSelector: {matchLabels: {app: client-a}}, policyTypes: [Ingress]");
  EXPECT_TRUE(pings(pod("client-a").netns(), target("web-b").address));
  for (const auto* protocol : {"tcp", "udp"}) {
    EXPECT_TRUE(passes(pod("client-a").netns(), target("web-b"), protocol));
    EXPECT_TRUE(passes(pod("client-a").netns(), service(12), protocol));
  }
  apply("podSelector: {matchLabels: {app: web-b}}, policyTypes: [Egress]");
  EXPECT_TRUE(pings(pod("client-a").netns(), target("web-b").address));
  for (const auto* protocol : {"tcp", "udp"}) {
    EXPECT_TRUE(passes(pod("client-a").netns(), target("web-b"), protocol));
    EXPECT_TRUE(passes(network().client().netns(), {node_b().ip(family()), 30082}, protocol));
  }
}

// P16 [D]: what has no ports passes where a rule names none.
TEST_P(PolicyEdges, PingPassesWhereARuleNamesNoPorts) {
  const std::string web = "podSelector: {matchLabels: {app: web-a}}, ingress: ";
  const Netns& client = pod("client-b").netns();
  const Address address = target("web-a").address;
  apply(web + "[{from: [{podSelector: {matchLabels: {app: client-b}}}]}]");
  EXPECT_TRUE(pings(client, address));
  EXPECT_FALSE(pings(pod("client-a").netns(), address));
  apply(
      web +
      "[{from: [{podSelector: {matchLabels: {app: client-b}}}], ports: [{protocol: TCP}, {protocol: UDP}]}]");
  EXPECT_FALSE(pings(client, address));
  apply(web + "[{}]");
  EXPECT_TRUE(pings(client, address));
}

// P17, P19: a label's change reaches a live connection like a policy's, on the pod's own node and from
// another.
TEST_P(PolicyEdges, ALabelsChangeCutsLiveConnections) {
  apply(
      "podSelector: {matchLabels: {app: web-a}}, ingress: [{from: [{podSelector: {matchLabels: {friend: "
      "\"yes\"}}}]}]");
  for (const auto* name : {"client-a", "client-b"}) {
    cluster().label_pod(name, {{"app", name}, {"friend", "yes"}});
    auto connection = TcpClient::connect(pod(name).netns(), target("web-a"), {.timeout = kSilence});
    auto by_service = TcpClient::connect(pod(name).netns(), service(11), {.timeout = kSilence});
    ASSERT_TRUE(worked(connection)) << name;
    ASSERT_TRUE(worked(by_service)) << name;
    cluster().label_pod(name, {{"app", name}});
    EXPECT_TRUE(failed_with(connection->echo("after"), ETIMEDOUT)) << name;
    EXPECT_TRUE(failed_with(by_service->echo("after"), ETIMEDOUT)) << name;
  }
}

// P18: from the write of the file to the first packet that is judged by it.
TEST_P(PolicyEdges, AChangeIsEnforcedWithinASecond) {
  const auto enforced = [](bool open) {
    return eventually(
        [&] {
          return ask(pod("client-b").netns(), "udp", target("web-a"), {.timeout = milliseconds(50)})
                     .has_value() == open;
        },
        milliseconds(1000));
  };
  ASSERT_TRUE(enforced(true));
  for (int i = 0; i < 3; i++) {
    node_a().write_manifest("policy", network_policy("default", "test", "podSelector: {}"));
    EXPECT_TRUE(enforced(false));
    node_a().write_manifest("policy", network_policy("default", "test", "podSelector: {}, ingress: [{}]"));
    EXPECT_TRUE(enforced(true));
  }
}

INSTANTIATE_TEST_SUITE_P(E2e, PolicyEdges, testing::Values(Family::kIpv4, Family::kIpv6), family_name);

}  // namespace
}  // namespace bpfnet::e2e
