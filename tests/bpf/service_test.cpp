// Services: choice of backend, translation, and what happens where there is none.
#include <set>

#include "maps/convert.h"
#include "tests/support/fixture.h"

namespace bpfnet::test {
namespace {

class Service : public DatapathFixture {
 protected:
  Outcome from_client(const Address& dst, const Packet& rest) {
    return node().run(HOOK_from_pod, "pod1", from_pod(1) / Ip{.src = who().client, .dst = dst} / rest);
  }
  Outcome from_outside(const Address& dst, const Packet& rest) {
    return node().run(HOOK_from_uplink, "uplink", from_wire() / Ip{.src = who().outside, .dst = dst} / rest);
  }
  void add_web(std::vector<BackendSpec> backends, uint32_t flags = FRONTEND_CLUSTER_IP) {
    node().add_service(
        {.address = who().vip, .port = 80, .backends = std::move(backends), .flags = flags, .id = 7});
  }
  void add_node_port(std::vector<BackendSpec> inside, std::vector<BackendSpec> outside, uint32_t flags = 0) {
    node().add_service({.address = who().any,
                        .port = kNodePort,
                        .backends = std::move(inside),
                        .flags = FRONTEND_NODE_PORT | flags,
                        .scope = SCOPE_ANY_LOCAL,
                        .outside_backends = std::move(outside)});
  }
  const Packet syn_{Tcp{.sport = kClientPort, .dport = 80}};
  const Packet node_port_syn_{Tcp{.sport = kClientPort, .dport = kNodePort}};
};

// S20: the source is kept.
TEST_P(Service, PodToClusterIpWithALocalBackend) {
  add_web({{who().server, kServerPort}});
  const auto run = from_client(who().vip, syn_);
  EXPECT_THAT(run, Sends(VERDICT_TO_ENDPOINT, Eth{.dst = Node::pod_mac(2), .src = node().device_mac("pod2")} /
                                                  Ip{.src = who().client, .dst = who().server, .ttl = 63} /
                                                  Tcp{.sport = kClientPort, .dport = kServerPort}));
  EXPECT_EQ(run.event.value().service, 7U);
}

TEST_P(Service, PodToClusterIpWithARemoteBackend) {
  add_web({{who().remote, kServerPort}});
  EXPECT_THAT(from_client(who().vip, syn_),
              Sends(VERDICT_TO_NEXT_HOP, Ip{.src = who().client, .dst = who().remote, .ttl = 63} /
                                             Tcp{.sport = kClientPort, .dport = kServerPort}));
}

TEST_P(Service, TheReplyComesFromTheServiceAddress) {
  add_web({{who().server, kServerPort}});
  from_client(who().vip, syn_);
  const Packet reply = from_pod(2) / Ip{.src = who().server, .dst = who().client} /
                       Tcp{.sport = kServerPort, .dport = kClientPort, .flags = SYN | ACK};
  EXPECT_THAT(node().run(HOOK_from_pod, "pod2", reply),
              Sends(VERDICT_TO_ENDPOINT, Eth{.dst = Node::pod_mac(1), .src = node().device_mac("pod1")} /
                                             Ip{.src = who().vip, .dst = who().client, .ttl = 63} /
                                             Tcp{.sport = 80, .dport = kClientPort, .flags = SYN | ACK}));
}

// S29: uniform over the run.
TEST_P(Service, NewConnectionsSpreadOverTheBackends) {
  add_web({{who().server, 1}, {who().server, 2}, {who().remote, 3}, {who().remote, 4}});
  std::map<uint16_t, int> chosen;
  for (uint16_t port = 1; port <= 100; ++port) {
    ++chosen[from_client(who().vip, Packet(Tcp{.sport = port, .dport = 80})).packet.at<Tcp>().dport];
  }
  EXPECT_EQ(chosen.size(), 4U);
  for (const auto& [port, count] : chosen) EXPECT_GT(count, 8) << "backend port " << port;
}

TEST_P(Service, PacketsOfOneConnectionKeepTheirBackend) {
  add_web({{who().server, 1}, {who().server, 2}, {who().server, 3}});
  const uint16_t chosen = from_client(who().vip, syn_).packet.at<Tcp>().dport;
  for (int i = 0; i < 8; ++i) {
    const auto run = from_client(who().vip, Packet(Tcp{.sport = kClientPort, .dport = 80, .flags = ACK}));
    EXPECT_EQ(run.packet.at<Tcp>().dport, chosen);
  }
}

// S30: the client sees connection refused at once.
TEST_P(Service, TcpWithoutBackendsIsReset) {
  add_web({});
  Packet back(Ip{.src = who().vip, .dst = who().client});
  if (who().v4()) back.get<Ip4>().df = true;
  const auto run = from_client(who().vip, Packet(Tcp{.sport = kClientPort, .dport = 80, .seq = 1000}));
  EXPECT_EQ(run.reason(), DROP_NO_BACKEND);
  EXPECT_THAT(
      run.packet,
      IsPacket(back / Tcp{.sport = 80, .dport = kClientPort, .flags = RST | ACK, .ack = 1001, .window = 0}));
  EXPECT_EQ(run.flow_delta, 0);
}

TEST_P(Service, UdpWithoutBackendsIsUnreachable) {
  node().add_service({.address = who().vip, .port = 53, .proto = 17, .backends = {}});
  const auto run = from_client(who().vip, Packet(Udp{.sport = 5, .dport = 53}));
  EXPECT_EQ(run.reason(), DROP_NO_BACKEND);
  EXPECT_THAT(run, IsIcmp(who().v4() ? 3 : 1, who().v4() ? 3 : 4));
  EXPECT_EQ(run.flow_delta, 0);
}

TEST_P(Service, OutsideClientIsToldThatTheNodePortHasNoBackend) {
  add_node_port({}, {});
  const auto run = from_outside(who().node1, Packet(Tcp{.sport = kClientPort, .dport = kNodePort}));
  EXPECT_EQ(run.reason(), DROP_NO_BACKEND);
  EXPECT_EQ(run.packet.at<Tcp>().flags, RST | ACK);
}

// S31: an empty run under traffic policy Local is silent.
TEST_P(Service, WithoutLocalBackendDropsSilently) {
  add_node_port({{who().remote, kServerPort}}, {}, FRONTEND_DROP_EMPTY_EXT);
  EXPECT_THAT(from_outside(who().node1, node_port_syn_), Drops(DROP_NO_LOCAL_BACKEND));
  // S22: clients inside still reach it.
  EXPECT_THAT(from_client(who().node1, node_port_syn_), HasVerdict(VERDICT_TO_NEXT_HOP));
}

TEST_P(Service, EmptyInternalRunUnderLocalDropsSilently) {
  add_web({}, FRONTEND_CLUSTER_IP | FRONTEND_DROP_EMPTY);
  EXPECT_THAT(from_client(who().vip, syn_), Drops(DROP_NO_LOCAL_BACKEND));
}

// S32: an address of a service range nobody owns.
TEST_P(Service, UnallocatedServiceAddress) {
  EXPECT_EQ(from_client(pick("10.96.9.9", "fd00:10:96::99"), syn_).reason(), DROP_NO_SERVICE);
}

// S7: the same port number of another protocol is not this service.
TEST_P(Service, OtherProtocolOfTheSamePortIsNotServed) {
  add_web({{who().server, kServerPort}});
  EXPECT_EQ(from_client(who().vip, Packet(Udp{.sport = 5, .dport = 80})).reason(), DROP_NO_SERVICE);
}

TEST_P(Service, EstablishedConnectionsOutliveTheService) {
  add_web({{who().server, kServerPort}});
  from_client(who().vip, syn_);
  must(node().maps().frontends.clear());
  EXPECT_THAT(from_client(who().vip, Packet(Tcp{.sport = kClientPort, .dport = 80, .flags = ACK})),
              HasVerdict(VERDICT_TO_ENDPOINT));
}

// S33: TCP is never cut.
TEST_P(Service, StaleTcpFlowStays) {
  add_web({{who().server, 1}});
  from_client(who().vip, syn_);
  must(node().maps().backend_states.put(1, {.generation = 2}));
  const auto run = from_client(who().vip, Packet(Tcp{.sport = kClientPort, .dport = 80, .flags = ACK}));
  EXPECT_EQ(run.packet.at<Tcp>().dport, 1);
}

TEST_P(Service, NodePortFromOutsideToALocalBackendKeepsTheClient) {
  add_node_port({{who().server, kServerPort}}, {{who().server, kServerPort}});
  EXPECT_THAT(from_outside(who().node1, node_port_syn_),
              Sends(VERDICT_TO_ENDPOINT, Eth{.dst = Node::pod_mac(2), .src = node().device_mac("pod2")} /
                                             Ip{.src = who().outside, .dst = who().server, .ttl = 63} /
                                             Tcp{.sport = kClientPort, .dport = kServerPort}));
}

// S21: the reply must come back through this node.
TEST_P(Service, NodePortFromOutsideToARemoteBackendIsMasqueraded) {
  add_node_port({{who().remote, kServerPort}}, {{who().remote, kServerPort}});
  const auto run = from_outside(who().node1, node_port_syn_);
  const uint16_t port = run.packet.at<Tcp>().sport;
  EXPECT_THAT(run, Sends(VERDICT_TO_NEXT_HOP, Ip{.src = who().node1, .dst = who().remote, .ttl = 63} /
                                                  Tcp{.sport = port, .dport = kServerPort}));
}

// S35: an address that is not open for NodePorts gets neither translation nor reject.
TEST_P(Service, NodePortOnAnExcludedAddressIsLeftAlone) {
  add_node_port({{who().server, kServerPort}}, {{who().server, kServerPort}});
  node().add_node_address(who().node1, ADDRESS_LOCAL_NODE);
  EXPECT_THAT(from_outside(who().node1, node_port_syn_), HasVerdict(VERDICT_PASS));
}

// S34: every local address.
TEST_P(Service, NodePortOnASecondaryAddress) {
  add_node_port({{who().server, kServerPort}}, {{who().server, kServerPort}});
  const Address second = pick("192.0.2.77", "2001:db8:1::77");
  node().add_node_address(second, ADDRESS_LOCAL_NODE | ADDRESS_NODE_PORT);
  EXPECT_THAT(from_outside(second, node_port_syn_), HasVerdict(VERDICT_TO_ENDPOINT));
}

// S20: external to ClusterIP.
TEST_P(Service, ClusterIpFromOutside) {
  add_web({{who().server, kServerPort}});
  EXPECT_THAT(from_outside(who().vip, syn_), HasVerdict(VERDICT_TO_ENDPOINT));
}

// A pod which talks to a backend both directly and through the service with one port keeps both connections.
TEST_P(Service, SameClientPortThroughTheServiceAndDirectly) {
  add_web({{who().server, kServerPort}});
  from_client(who().server, Packet(Tcp{.sport = kClientPort, .dport = kServerPort}));
  const auto run = from_client(who().vip, syn_);
  ASSERT_EQ(run.verdict(), VERDICT_TO_ENDPOINT);
  EXPECT_NE(run.packet.at<Tcp>().sport, kClientPort);
  EXPECT_EQ(node().flows().size(), 4U);
}

// An element that the kernel has put to another use while it was read: another key's value, or halves of two.
TEST_P(Service, AFrontendThatIsNotWholeIsNotUsed) {
  node().add_service({.address = who().vip, .port = 80, .backends = {{who().server, kServerPort}}});
  const auto key = maps::make_frontend_key(who().vip, 80, 6);
  const auto whole = node().maps().frontends.get(key).value();
  ASSERT_TRUE(whole);
  for (const auto change :
       {+[](frontend& half) { half.first++; }, +[](frontend& half) { half.service++; },
        +[](frontend& half) { half.flags ^= FRONTEND_AFFINITY; }, +[](frontend& half) { half.source_set++; },
        +[](frontend& half) {
          const auto other = maps::make_frontend_key(Address{}, 80, 6);
          half.seal = frontend_seal(&other, &half);
        }}) {
    frontend half = *whole;
    change(half);
    ASSERT_TRUE(node().maps().frontends.put(key, half));
    EXPECT_THAT(from_client(who().vip, syn_), Drops(DROP_NOT_CONFIGURED));
  }
  ASSERT_TRUE(node().maps().frontends.put(key, *whole));
  EXPECT_THAT(from_client(who().vip, syn_), HasVerdict(VERDICT_TO_ENDPOINT));
}

INSTANTIATE_FAMILIES(Service);

}  // namespace
}  // namespace bpfnet::test
