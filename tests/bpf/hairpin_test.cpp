// S27: a pod that is its own backend, by whatever way it asked for the service, sees the node as its peer.
#include "tests/support/fixture.h"

namespace bpfnet::test {
namespace {

class Hairpin : public DatapathFixture {
 protected:
  static constexpr uint16_t kPort = 30123;

  /// A kind of frontend: where the pod asks, and what makes that a service.
  struct Kind {
    const char* name;
    Address dst;
    Address published;
    uint8_t scope;
    uint32_t flags;
    uint8_t port_bits;
  };
  [[nodiscard]] std::vector<Kind> kinds() const {
    const Address outer = pick("203.0.113.80", "2001:db8:80::80");
    const uint32_t range = FRONTEND_HOST_PORT | FRONTEND_PORT_RANGE;
    return {
        {"cluster IP", who().vip, who().vip, SCOPE_ADDRESS, FRONTEND_CLUSTER_IP, 16},
        {"node port", who().node1, who().any, SCOPE_ANY_LOCAL, FRONTEND_NODE_PORT, 16},
        {"load balancer", outer, outer, SCOPE_ADDRESS, FRONTEND_LOAD_BALANCER, 16},
        {"external IP", outer, outer, SCOPE_ADDRESS, FRONTEND_EXTERNAL_IP, 16},
        {"external IP of the node", who().node1, who().node1, SCOPE_ADDRESS, FRONTEND_EXTERNAL_IP, 16},
        {"host port", who().node1, who().any, SCOPE_ANY_LOCAL, FRONTEND_HOST_PORT, 16},
        {"host port of one address", who().node1, who().node1, SCOPE_ADDRESS, FRONTEND_HOST_PORT, 16},
        {"range of ports", who().node1, who().any, SCOPE_ANY_LOCAL, range, 13},
    };
  }
  void publish(const Kind& kind, uint8_t proto) {
    const uint16_t first = kind.port_bits < 16 ? kPort & ~7 : kPort;
    node().add_service({.address = kind.published,
                        .port = first,
                        .proto = proto,
                        .backends = {{who().client, static_cast<uint16_t>(kServerPort - (kPort - first))}},
                        .flags = kind.flags,
                        .scope = kind.scope,
                        .port_bits = kind.port_bits,
                        .range_first = first});
  }
  Outcome client_sends(const Address& dst, const Packet& rest) {
    return node().run(HOOK_from_pod, "pod1", from_pod(1) / Ip{.src = who().client, .dst = dst} / rest);
  }
  [[nodiscard]] Packet arriving(const Address& src) const {
    return Eth{.dst = Node::pod_mac(1), .src = node_->device_mac("pod1")} /
           Ip{.src = src, .dst = who().client, .ttl = 63};
  }
  void SetUp() override {
    DatapathFixture::SetUp();
    node_ = &node();
  }
  Node* node_ = nullptr;
};

TEST_P(Hairpin, TcpThereAndBack) {
  for (const auto& kind : kinds()) {
    SCOPED_TRACE(kind.name);
    node().reset();
    publish(kind, 6);
    const auto syn = client_sends(kind.dst, Packet(Tcp{.sport = kClientPort, .dport = kPort}));
    ASSERT_EQ(syn.verdict(), VERDICT_TO_ENDPOINT);
    const uint16_t port = syn.packet.at<Tcp>().sport;
    EXPECT_THAT(syn,
                Sends(VERDICT_TO_ENDPOINT, arriving(who().node1) / Tcp{.sport = port, .dport = kServerPort}));
    EXPECT_THAT(syn, LeavesBy(node().ifindex("pod1")));
    const auto answer =
        client_sends(who().node1, Packet(Tcp{.sport = kServerPort, .dport = port, .flags = SYN | ACK}));
    EXPECT_THAT(answer,
                Sends(VERDICT_TO_ENDPOINT,
                      arriving(kind.dst) / Tcp{.sport = kPort, .dport = kClientPort, .flags = SYN | ACK}));
    const auto ack = client_sends(kind.dst, Packet(Tcp{.sport = kClientPort, .dport = kPort, .flags = ACK}));
    EXPECT_EQ(ack.packet.at<Tcp>().sport, port);
    EXPECT_EQ(node().flows().size(), 2U);
  }
}

TEST_P(Hairpin, UdpThereAndBack) {
  for (const auto& kind : kinds()) {
    SCOPED_TRACE(kind.name);
    node().reset();
    publish(kind, 17);
    const auto query = client_sends(kind.dst, Udp{.sport = kClientPort, .dport = kPort} / Payload("q"));
    ASSERT_EQ(query.verdict(), VERDICT_TO_ENDPOINT);
    const uint16_t port = query.packet.at<Udp>().sport;
    EXPECT_THAT(query,
                Sends(VERDICT_TO_ENDPOINT,
                      arriving(who().node1) / Udp{.sport = port, .dport = kServerPort} / Payload("q")));
    EXPECT_THAT(client_sends(who().node1, Udp{.sport = kServerPort, .dport = port} / Payload("a")),
                Sends(VERDICT_TO_ENDPOINT,
                      arriving(kind.dst) / Udp{.sport = kPort, .dport = kClientPort} / Payload("a")));
  }
}

// P15: its own policy does not keep a pod from itself.
TEST_P(Hairpin, IsExemptFromPolicy) {
  publish(kinds().front(), 6);
  node().change_pod(1, [](auto& pod) { pod.ingress_set = pod.egress_set = POLICY_SET_DENY_ALL; });
  EXPECT_THAT(client_sends(who().vip, Packet(Tcp{.sport = kClientPort, .dport = kPort})),
              HasVerdict(VERDICT_TO_ENDPOINT));
}

// A node process whose backend is the node itself needs no other address: lo brings the answer by us.
TEST_P(Hairpin, OfTheHostThereAndBack) {
  node().add_service({.address = who().vip, .port = 80, .backends = {{who().node1, kServerPort}}});
  const auto syn = node().run(
      HOOK_from_host, "bpfnet1",
      from_stack() / Ip{.src = who().node1, .dst = who().vip} / Tcp{.sport = kClientPort, .dport = 80});
  EXPECT_THAT(syn, HasVerdict(VERDICT_TO_HOST));
  EXPECT_EQ(syn.packet.at<Tcp>().dport, kServerPort);
  const auto answer =
      node().run(HOOK_from_host, "lo",
                 Eth{} / Ip{.src = who().node1, .dst = who().node1} /
                     Tcp{.sport = kServerPort, .dport = syn.packet.at<Tcp>().sport, .flags = SYN | ACK});
  EXPECT_THAT(answer, Sends(VERDICT_TO_HOST, Ip{.src = who().vip, .dst = who().node1} /
                                                 Tcp{.sport = 80, .dport = kClientPort, .flags = SYN | ACK}));
}

INSTANTIATE_FAMILIES(Hairpin);

}  // namespace
}  // namespace bpfnet::test
