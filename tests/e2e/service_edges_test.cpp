// Where a service ends: nobody to answer (S30, S31), no such port or service (S32), and which addresses are
// NodePorts, load balancer addresses and externalIPs at all (S34-S37, S41).
#include <fmt/format.h>

#include "tests/e2e/three_nodes.h"

namespace bpfnet::e2e {
namespace {

constexpr uint16_t kHostProcessPort = 30031;

using Callers = std::vector<const Netns*>;

class ServiceEdges : public ThreeNodes, public testing::WithParamInterface<Family> {
 protected:
  static Family family() { return GetParam(); }
  static Address ip(size_t index) { return node(index).ip(family()); }
  static Address loopback() { return pick(family(), "127.0.0.1", "::1"); }

  /// The four kinds of address of a service, NodePort by node-a's.
  static std::vector<HostPort> ways(int number) {
    return {{cluster_ip(number, family()), 80},
            {ip(0), node_port(number)},
            {load_balancer_ip(number, family()), 80},
            {external_ip(number, family()), 80}};
  }
  static Probe probe(const std::string& who, const Netns& from, const std::string& protocol,
                     const HostPort& to, milliseconds timeout = kPatience) {
    return {.what = fmt::format("{} {} to {}", who, protocol, to.to_string()),
            .from = &from,
            .protocol = protocol,
            .to = to,
            .options = {.timeout = timeout}};
  }
  /// Every protocol and address from a pod, a host process and outside.
  static std::vector<Probe> from_everywhere(const std::vector<HostPort>& addresses, milliseconds timeout) {
    std::vector<Probe> probes;
    for (const auto* protocol : kProtocols) {
      for (const auto& to : addresses) {
        probes.push_back(probe("pod", pod("client-a").netns(), protocol, to, timeout));
        probes.push_back(probe("host", node(0).netns(), protocol, to, timeout));
        probes.push_back(probe("outside", network().client().netns(), protocol, to, timeout));
      }
    }
    return probes;
  }
  static void expect_all_fail(const std::vector<Probe>& probes, int code) {
    const auto results = ask_all(probes);
    for (size_t i = 0; i < probes.size(); i++) EXPECT_TRUE(failed_with(results[i], code)) << probes[i].what;
  }
  static void expect_all_answer(const std::vector<Probe>& probes) {
    const auto results = ask_all(probes);
    for (size_t i = 0; i < probes.size(); i++) EXPECT_TRUE(worked(results[i])) << probes[i].what;
  }
  void TearDown() override {
    if (HasFailure()) show_state();
    cluster().remove("edge");
  }
};

// S30: at once, with what connect() and send() call ECONNREFUSED.
TEST_P(ServiceEdges, WithoutBackendsEveryAddressRefusesAtOnce) {
  cluster().apply("edge", open_service("edge", 30, {}).yaml());
  auto addresses = ways(30);
  const auto start = std::chrono::steady_clock::now();
  expect_all_fail(from_everywhere(addresses, kPatience), ECONNREFUSED);
  for (const auto* protocol : kProtocols)
    expect_all_fail({probe("host", node(0).netns(), protocol, {loopback(), node_port(30)})}, ECONNREFUSED);
  // "At once": far below the second after which TCP would try again.
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(900));
}

// S30, S15: an endpoint that is not ready and not serving on its way out is no endpoint.
TEST_P(ServiceEdges, NotReadyBackendsAreNoBackends) {
  BackendManifest unready = backend("web-a");
  unready.ready = false;
  cluster().apply("edge", open_service("edge", 30, {unready}).yaml());
  expect_all_fail(from_everywhere(ways(30), kPatience), ECONNREFUSED);
}

// S31: silence where only the node's own backends count and it has none; S22: whoever is inside still gets
// through.
TEST_P(ServiceEdges, LocalPolicyWithoutLocalBackendIsSilentForOutsideOnly) {
  ServiceManifest service = open_service("edge", 30, {backend("web-b")});
  service.external_traffic_policy = "Local";
  cluster().apply("edge", service.yaml());
  std::vector<Probe> outside;
  std::vector<Probe> inside;
  for (const auto* protocol : kProtocols) {
    for (const auto& to : ways(30)) {
      const bool external = to.address != cluster_ip(30, family());
      if (external)
        outside.push_back(probe("outside", network().client().netns(), protocol, to, kSilence));
      else
        inside.push_back(probe("outside", network().client().netns(), protocol, to));
      inside.push_back(probe("pod", pod("client-a").netns(), protocol, to));
      inside.push_back(probe("host", node(0).netns(), protocol, to));
    }
  }
  expect_all_fail(outside, ETIMEDOUT);
  expect_all_answer(inside);
}

// The stack routes such a packet by the default gateway, whose neighbour it waits for; then ours is waited
// for.
TEST_P(ServiceEdges, HostReachesRemoteBackendsWhenNoNeighbourIsKnown) {
  cluster().apply("edge", open_service("edge", 30, {backend("web-b")}).yaml());
  for (const auto& address : {load_balancer_ip(30, family()), external_ip(30, family())}) {
    for (const auto* protocol : kProtocols) {
      node(0).netns().ip("neigh flush dev eth0");
      EXPECT_TRUE(answered(ask(node(0).netns(), protocol, {address, 80}), "web-b", ip(0)))
          << protocol << " to " << address.to_string();
    }
  }
}

// S34: every address the node has or gets, also on a bridge.
TEST_P(ServiceEdges, NodePortOnAddressesThatTheNodeGetsLater) {
  cluster().apply("edge", open_service("edge", 30, {backend("web-a")}).yaml());
  const bool v4 = family() == Family::kIpv4;
  const Address second = pick(family(), "192.0.2.211", "2001:db8:1::211");
  const Address bridge = pick(family(), "192.0.2.129", "2001:db8:77::1");
  node(0).netns().ip(
      fmt::format("addr add {}/{} dev eth0 {}\nlink add br9 type bridge\nlink set br9 up\n"
                  "addr add {}/{} dev br9 {}",
                  second.to_string(), v4 ? 24 : 64, v4 ? "" : "nodad", bridge.to_string(), v4 ? 32 : 64,
                  v4 ? "" : "nodad"));
  network().client().netns().ip(
      fmt::format("route replace {} via {}", bridge.to_string(), ip(0).to_string()));
  for (const auto& address : {second, bridge}) {
    const HostPort to{address, node_port(30)};
    const Netns& client = network().client().netns();
    EXPECT_TRUE(eventually([&] { return ask(client, "tcp", to, {.timeout = kSilence}).has_value(); }))
        << to.to_string();
    for (const auto* protocol : kProtocols) {
      EXPECT_TRUE(answered(ask(client, protocol, to), "web-a", network().client().ip(family())));
      EXPECT_TRUE(worked(ask(node(0).netns(), protocol, to)));
      EXPECT_TRUE(
          answered(ask(pod("client-a").netns(), protocol, to), "web-a", pod("client-a").ip(family())));
    }
  }
  node(0).netns().ip(fmt::format("link del br9\naddr del {}/{} dev eth0", second.to_string(), v4 ? 24 : 64));
}

// S36: and a service that goes leaves the process its port.
TEST_P(ServiceEdges, NodePortWinsOverAProcessOfTheHost) {
  const EchoServer process(node(0).netns(), "process", kHostProcessPort);
  const HostPort to{ip(0), kHostProcessPort};
  const auto expect = [&](const std::string& server) {
    for (const auto* protocol : kProtocols) {
      for (const Netns* from : Callers{&network().client().netns(), &pod("client-a").netns(),
                                       &node(0).netns(), &node(1).netns()}) {
        const auto seen = ask(*from, protocol, to);
        ASSERT_TRUE(worked(seen)) << protocol << " " << from->name();
        EXPECT_EQ(seen->server, server) << protocol << " " << from->name();
      }
    }
  };
  expect("process");
  cluster().apply("edge", open_service("edge", 31, {backend("web-b")}).yaml());
  expect("web-b");
  cluster().remove("edge");
  expect("process");
}

// S35: addresses that are not listed have no NodePorts, not even refusing ones: the host's process answers.
TEST_P(ServiceEdges, NodePortAddressesLeaveOtherAddressesAlone) {
  const bool v4 = family() == Family::kIpv4;
  const Address unlisted = pick(family(), "192.0.2.213", "2001:db8:1::213");
  node(2).stop_agent();
  node(2).netns().ip(
      fmt::format("addr add {}/{} dev eth0 {}", unlisted.to_string(), v4 ? 24 : 64, v4 ? "" : "nodad"));
  node(2).start({"--nodeport-addresses", fmt::format("{}/{}", ip(2).to_string(), v4 ? 32 : 128)});
  const EchoServer process(node(2).netns(), "process", kHostProcessPort, unlisted);
  const Netns& client = network().client().netns();
  cluster().apply("edge", open_service("edge", 31, {backend("web-a")}).yaml());
  for (const auto* protocol : kProtocols) {
    EXPECT_TRUE(answered(ask(client, protocol, {ip(2), kHostProcessPort}), "web-a", ip(2)));
    EXPECT_TRUE(answered(ask(client, protocol, {unlisted, kHostProcessPort}), "process",
                         network().client().ip(family())));
  }
  // The other family has no CIDR: open on all its addresses.
  const Family other = v4 ? Family::kIpv6 : Family::kIpv4;
  EXPECT_TRUE(
      answered(ask(client, "tcp", {node(2).ip(other), kHostProcessPort}), "web-a", node(2).ip(other)));
  cluster().apply("edge", open_service("edge", 31, {}).yaml());
  EXPECT_TRUE(failed_with(ask(client, "tcp", {ip(2), kHostProcessPort}), ECONNREFUSED));
  EXPECT_TRUE(
      answered(ask(client, "tcp", {unlisted, kHostProcessPort}), "process", network().client().ip(family())));
  node(2).stop_agent();
  node(2).netns().ip(fmt::format("addr del {}/{} dev eth0", unlisted.to_string(), v4 ? 24 : 64));
  node(2).start();
}

// S35: `primary` is the Node's own first address of each family; what the node has besides is left alone. A
// Node without an address of a family lists none of it, and NodePorts are open on all addresses of that
// family.
TEST_P(ServiceEdges, NodePortAddressesPrimaryAreTheNodesOwn) {
  const auto secondary = [](Family of) {
    return Address::parse(of == Family::kIpv4 ? "192.0.2.214" : "2001:db8:1::214").value();
  };
  const Netns& client = network().client().netns();
  const Address from = network().client().ip(family());
  node(2).stop_agent();
  node(2).netns().ip(fmt::format("addr add {}/24 dev eth0\naddr add {}/64 dev eth0 nodad",
                                 secondary(Family::kIpv4).to_string(), secondary(Family::kIpv6).to_string()));
  node(2).start({"--nodeport-addresses", "primary"});
  const EchoServer process4(node(2).netns(), "process", kHostProcessPort, secondary(Family::kIpv4));
  const EchoServer process6(node(2).netns(), "process", kHostProcessPort, secondary(Family::kIpv6));
  const HostPort primary_port{ip(2), kHostProcessPort};
  const HostPort secondary_port{secondary(family()), kHostProcessPort};
  cluster().apply("edge", open_service("edge", 31, {backend("web-c")}).yaml());
  for (const auto* protocol : kProtocols) {
    EXPECT_TRUE(answered(ask(client, protocol, primary_port), "web-c", from)) << protocol;
    EXPECT_TRUE(answered(ask(client, protocol, secondary_port), "process", from)) << protocol;
    EXPECT_TRUE(answered(ask(node(2).netns(), protocol, primary_port), "web-c", ip(2))) << protocol;
  }
  cluster().apply("edge", open_service("edge", 31, {}).yaml());
  EXPECT_TRUE(failed_with(ask(client, "tcp", primary_port), ECONNREFUSED));
  EXPECT_TRUE(answered(ask(client, "tcp", secondary_port), "process", from));

  cluster().apply("edge", open_service("edge", 31, {backend("web-c")}).yaml());
  const Family other = family() == Family::kIpv4 ? Family::kIpv6 : Family::kIpv4;
  cluster().list_node_addresses(2, {node(2).ip(other)});
  for (const auto* protocol : kProtocols) {
    EXPECT_TRUE(answered(ask(client, protocol, primary_port), "web-c", from)) << protocol;
    EXPECT_TRUE(answered(ask(client, protocol, secondary_port), "web-c", from)) << protocol;
    EXPECT_TRUE(answered(ask(client, protocol, {secondary(other), kHostProcessPort}), "process",
                         network().client().ip(other)))
        << protocol;
  }
  cluster().list_node_addresses(2, {node(2).ip(Family::kIpv4), node(2).ip(Family::kIpv6)});
  EXPECT_TRUE(answered(ask(client, "tcp", secondary_port), "process", from));
  node(2).stop_agent();
  node(2).netns().ip(fmt::format("addr del {}/24 dev eth0\naddr del {}/64 dev eth0",
                                 secondary(Family::kIpv4).to_string(), secondary(Family::kIpv6).to_string()));
  node(2).start();
}

// S37: an address in Proxy mode is somebody else's; S41: without node ports the addresses still work.
TEST_P(ServiceEdges, LoadBalancerAddressInProxyModeIsLeftAlone) {
  ServiceManifest service = open_service("edge", 30, {backend("web-a")});
  service.load_balancer_ip_mode = "Proxy";
  cluster().apply("edge", service.yaml());
  const HostPort balancer{load_balancer_ip(30, family()), 80};
  EXPECT_FALSE(worked(ask(pod("client-a").netns(), "tcp", balancer, {.timeout = kSilence})));
  EXPECT_TRUE(worked(ask(pod("client-a").netns(), "tcp", {external_ip(30, family()), 80})));
  service.load_balancer_ip_mode = "VIP";
  cluster().apply("edge", service.yaml());
  EXPECT_TRUE(worked(ask(pod("client-a").netns(), "tcp", balancer)));
}

TEST_P(ServiceEdges, LoadBalancerWithoutNodePorts) {
  ServiceManifest service = open_service("edge", 30, {backend("web-a")});
  service.allocate_node_ports = false;
  for (auto& port : service.ports) port.node_port = 0;
  cluster().apply("edge", service.yaml());
  for (const Netns* from : Callers{&network().client().netns(), &pod("client-b").netns(), &node(1).netns()}) {
    EXPECT_TRUE(worked(ask(*from, "tcp", {load_balancer_ip(30, family()), 80})));
    EXPECT_TRUE(worked(ask(*from, "tcp", {external_ip(30, family()), 80})));
  }
  // Nobody listens there: the node itself refuses.
  EXPECT_TRUE(failed_with(ask(network().client().netns(), "tcp", {ip(0), node_port(30)}), ECONNREFUSED));
}

// S7: UDP to a port that only TCP has is refused, and TCP goes on.
TEST_P(ServiceEdges, ProtocolWithoutPortOnNodePortIsTheHosts) {
  ServiceManifest service = open_service("edge", 30, {backend("web-a")});
  service.ports.pop_back();
  cluster().apply("edge", service.yaml());
  const HostPort to{ip(0), node_port(30)};
  for (const Netns* from : Callers{&network().client().netns(), &pod("client-a").netns(), &node(0).netns()}) {
    EXPECT_TRUE(worked(ask(*from, "tcp", to)));
    EXPECT_TRUE(failed_with(ask(*from, "udp", to), ECONNREFUSED));
  }
}

// S1, S2: what takes a Service out of proxying does so live, and back.
TEST_P(ServiceEdges, TypeChangesTakeEffectLive) {
  const HostPort at{cluster_ip(30, family()), 80};
  const HostPort by_node{ip(0), node_port(30)};
  const Netns& from = pod("client-a").netns();
  cluster().apply("edge", open_service("edge", 30, {backend("web-a")}).yaml());
  EXPECT_TRUE(worked(ask(from, "tcp", by_node)));
  auto open = TcpClient::connect(from, at);
  ASSERT_TRUE(worked(open));
  cluster().apply("edge", echo_service("edge", 30, {backend("web-a")}).yaml());
  EXPECT_TRUE(worked(ask(from, "tcp", at)));
  EXPECT_TRUE(failed_with(ask(from, "tcp", by_node), ECONNREFUSED));
  ServiceManifest external = echo_service("edge", 30, {backend("web-a")});
  external.type = "ExternalName";
  cluster().apply("edge", external.yaml());
  EXPECT_FALSE(worked(ask(from, "tcp", at, {.timeout = kSilence})));
  EXPECT_TRUE(worked(open->echo("S33: established connections stay")));
  cluster().apply("edge", echo_service("edge", 30, {backend("web-b")}).yaml());
  EXPECT_TRUE(worked(ask(from, "tcp", at)));
}

INSTANTIATE_TEST_SUITE_P(E2e, ServiceEdges, testing::ValuesIn(kFamilies), family_name);

}  // namespace
}  // namespace bpfnet::e2e
