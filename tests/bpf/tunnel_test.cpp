// Tunnels as they are on the wire: the programs run at their devices, frames go in and come out at the far
// ends.
#include "tests/bpf/overlay.h"
#include "tests/support/must.h"
#include "tests/support/wire.h"

namespace bpfnet::test {
namespace {

const Address& node1_of(Family family) {
  static const Actors v4(Family::kIpv4);
  static const Actors v6(Family::kIpv6);
  return family == Family::kIpv4 ? v4.node1 : v6.node1;
}
const Address& node2_of(Family family) {
  static const Actors v4(Family::kIpv4);
  static const Actors v6(Family::kIpv6);
  return family == Family::kIpv4 ? v4.node2 : v6.node2;
}

/// The parameter is the family of the packets inside; tunnels are IPv4 unless a test says otherwise.
class Tunnel : public DatapathFixture {
 protected:
  void SetUp() override {
    DatapathFixture::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    if (!wire_) {
      live_ = must(Node::create(1, overlay_config())).release();
      wire_ = must(Wire::attach(*live_)).release();
    }
    live_->reset();
    wire_->drain();
    (void)wire_->drops(HOOK_from_overlay);
  }

  [[nodiscard]] static Packet ip_of(const Address& src, const Address& dst, uint8_t ttl = 64) {
    Packet packet;
    packet.add(Ip{.src = src, .dst = dst, .ttl = ttl});
    return packet;
  }
  /// A tunnel packet for this node as it comes by the wire.
  [[nodiscard]] static Packet tunnel(const Address& from, const Packet& inside, uint32_t vni = kVni) {
    return Eth{.dst = Node::node_mac(1), .src = Node::node_mac(2)} /
           (ip_of(from, node1_of(from.family())) / Udp{.sport = 50001, .dport = kTunnelPort} /
            Vxlan{.vni = vni} / inside_tunnel() / inside);
  }
  void pod_sends(const Packet& packet) { wire_->send("pod1p", from_pod(1) / packet); }
  [[nodiscard]] Packet syn_from_remote() const {
    return ip_of(who().remote, who().client) / Tcp{.sport = 9, .dport = 80, .flags = SYN};
  }
  [[nodiscard]] Packet syn_to_remote() const {
    return ip_of(who().client, who().remote) / Tcp{.sport = 9, .dport = 80, .flags = SYN};
  }
  void expect_dropped(int reason) {
    EXPECT_FALSE(wire_->receive("pod1p"));
    EXPECT_EQ(wire_->drops(HOOK_from_overlay), (std::map<int, uint64_t>{{reason, 1}}));
  }
  /// That the next frame on the wire is a tunnel between these nodes with `inside` in it.
  void expect_tunnel(const Address& to, const Packet& inside) {
    const auto frame = wire_->receive("uplinkp");
    ASSERT_TRUE(frame) << "nothing on the wire";
    SCOPED_TRACE(frame->describe());
    if (to.is_ipv4()) {
      EXPECT_EQ(frame->at<Ip4>().src, node1_of(Family::kIpv4));
      EXPECT_EQ(frame->at<Ip4>().dst, to);
      EXPECT_FALSE(frame->at<Ip4>().df);  // a narrower path fragments it
    } else {
      EXPECT_EQ(frame->at<Ip6>().src, node1_of(Family::kIpv6));
      EXPECT_EQ(frame->at<Ip6>().dst, to);
    }
    EXPECT_EQ(frame->at<Udp>().dport, kTunnelPort);
    EXPECT_EQ(frame->at<Vxlan>().vni, kVni);
    Packet inner;
    const auto& layers = frame->layers();
    const auto vxlan = std::find_if(layers.begin(), layers.end(),
                                    [](const Layer& layer) { return std::holds_alternative<Vxlan>(layer); });
    for (auto layer = vxlan + 1; layer != layers.end(); ++layer) inner.add(*layer);
    EXPECT_THAT(inner, IsPacket(inside_tunnel() / inside));
  }

  static Node* live_;
  static Wire* wire_;
};
Node* Tunnel::live_ = nullptr;
Wire* Tunnel::wire_ = nullptr;

TEST_P(Tunnel, PacketsOfAPodGoIntoOne) {
  pod_sends(syn_to_remote());
  expect_tunnel(node2_of(Family::kIpv4),
                ip_of(who().client, who().remote, 63) / Tcp{.sport = 9, .dport = 80, .flags = SYN});
}

TEST_P(Tunnel, TheyMayBeIpv6Themselves) {
  live_->add_tunnel(kNode2, node2_of(Family::kIpv6), node1_of(Family::kIpv6));
  pod_sends(syn_to_remote());
  expect_tunnel(node2_of(Family::kIpv6),
                ip_of(who().client, who().remote, 63) / Tcp{.sport = 9, .dport = 80, .flags = SYN});
}

TEST_P(Tunnel, OfBothFamiliesAreTakenFromANodeThatIsKnown) {
  for (const Family outer : {Family::kIpv4, Family::kIpv6}) {
    wire_->send("uplinkp", tunnel(node2_of(outer), syn_from_remote()));
    const auto frame = wire_->receive("pod1p");
    ASSERT_TRUE(frame);
    EXPECT_THAT(*frame,
                IsPacket(ip_of(who().remote, who().client, 63) / Tcp{.sport = 9, .dport = 80, .flags = SYN}));
  }
  EXPECT_TRUE(wire_->drops(HOOK_from_overlay).empty());
}

TEST_P(Tunnel, OfAStrangerIsRefused) {
  wire_->send("uplinkp", tunnel(pick("192.0.2.99", "2001:db8:1::99"), syn_from_remote()));
  expect_dropped(DROP_FOREIGN_TUNNEL);
}

TEST_P(Tunnel, OfAnotherNetworkIsRefused) {
  wire_->send("uplinkp", tunnel(node2_of(Family::kIpv4), syn_from_remote(), kVni + 1));
  expect_dropped(DROP_FOREIGN_TUNNEL);
}

TEST_P(Tunnel, ANodeSpeaksForItsOwnPodsAlone) {
  const Address third = pick("192.0.2.3", "2001:db8:1::3");
  live_->add_node_address(third, ADDRESS_REMOTE_NODE, kNode3);
  wire_->send("uplinkp", tunnel(third, syn_from_remote()));
  expect_dropped(DROP_SPOOFED);
  for (const Address& source : {who().outside, who().server, who().node1}) {
    wire_->send("uplinkp",
                tunnel(node2_of(Family::kIpv4), ip_of(source, who().client) / Tcp{.sport = 9, .dport = 80}));
    expect_dropped(DROP_SPOOFED);
  }
}

TEST_P(Tunnel, AnotherNodeDoesNotJoinAConnection) {
  const Address third = pick("192.0.2.3", "2001:db8:1::3");
  live_->add_node_address(third, ADDRESS_REMOTE_NODE, kNode3);
  pod_sends(syn_to_remote());
  ASSERT_TRUE(wire_->receive("uplinkp"));
  const Packet answer = ip_of(who().remote, who().client) / Tcp{.sport = 80, .dport = 9, .flags = SYN | ACK};
  wire_->send("uplinkp", tunnel(third, answer));
  expect_dropped(DROP_SPOOFED);
  wire_->send("uplinkp", tunnel(node2_of(Family::kIpv4), answer));
  EXPECT_TRUE(wire_->receive("pod1p"));
}

TEST_P(Tunnel, AConnectionFollowsItsNodeToAnotherAddress) {
  const Address moved = ip("192.0.2.22");
  pod_sends(syn_to_remote());
  expect_tunnel(node2_of(Family::kIpv4),
                ip_of(who().client, who().remote, 63) / Tcp{.sport = 9, .dport = 80, .flags = SYN});
  must(live_->netns().ip_batch("neigh replace 192.0.2.22 lladdr " + Node::node_mac(2).to_string() +
                               " dev uplink nud permanent"));
  live_->add_tunnel(kNode2, moved, node1_of(Family::kIpv4));
  live_->add_node_address(moved, ADDRESS_REMOTE_NODE, kNode2);
  must(live_->maps().addresses.erase(maps::make_address_key(node2_of(Family::kIpv4))));
  pod_sends(syn_to_remote());
  expect_tunnel(moved, ip_of(who().client, who().remote, 63) / Tcp{.sport = 9, .dport = 80, .flags = SYN});
  const Packet answer = ip_of(who().remote, who().client) / Tcp{.sport = 80, .dport = 9, .flags = SYN | ACK};
  wire_->send("uplinkp", tunnel(moved, answer));
  EXPECT_TRUE(wire_->receive("pod1p"));
  wire_->send("uplinkp", tunnel(node2_of(Family::kIpv4), answer));
  expect_dropped(DROP_FOREIGN_TUNNEL);
}

TEST_P(Tunnel, WhatIsRefusedIsToldByOne) {
  live_->change_pod(1, [](endpoint& pod) {
    pod.ingress_set = POLICY_SET_DENY_ALL;
    pod.flags = ENDPOINT_REJECTS;
  });
  wire_->send("uplinkp", tunnel(node2_of(Family::kIpv4), syn_from_remote()));
  const auto frame = wire_->receive("uplinkp");
  ASSERT_TRUE(frame);
  EXPECT_EQ(frame->at<Tcp>().flags, RST | ACK) << frame->describe();
  EXPECT_EQ(frame->at<Eth>(1).dst, tunnel_mac(true));
  if (who().v4()) {
    EXPECT_EQ(frame->at<Ip4>(1).dst, who().remote);
  } else {
    EXPECT_EQ(frame->at<Ip6>().dst, who().remote);
  }
}

// Fragments keep their tunnel's node on the way through: the later ones are known by the first.
TEST_P(Tunnel, FragmentsInOrderArrive) {
  const Packet datagram =
      ip_of(who().remote, who().client) / Udp{.sport = 9, .dport = 80} / Payload::of_size(200);
  for (const Packet& piece : fragments(datagram, 104, 77)) {
    wire_->send("uplinkp", tunnel(node2_of(Family::kIpv4), piece));
    EXPECT_TRUE(wire_->receive("pod1p")) << piece.describe();
  }
}

INSTANTIATE_FAMILIES(Tunnel);

}  // namespace
}  // namespace bpfnet::test
