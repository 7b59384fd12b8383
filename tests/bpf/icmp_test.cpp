// ICMP errors find the socket they are about, through masquerade and services (P16).
#include <netinet/in.h>

#include "maps/convert.h"
#include "tests/support/fixture.h"

namespace bpfnet::test {
namespace {

class IcmpError : public DatapathFixture {
 protected:
  Outcome from_outside(const Packet& packet) {
    return node().run(HOOK_from_uplink, "uplink", from_wire() / packet);
  }
  [[nodiscard]] Packet header(const Address& src, const Address& dst, uint8_t ttl = 64) const {
    Packet packet;
    packet.add(Ip{.src = src, .dst = dst, .ttl = ttl});
    return packet;
  }
  /// Transport checksums of the packet inside are left as they were sent: no receiver looks at them, and of a
  /// packet cut short they cannot be known.
  static Packet inner_sums_aside(Packet packet) {
    bool inside = false;
    for (auto& layer : packet.layers()) {
      if (auto* udp = std::get_if<Udp>(&layer); udp && inside) udp->checksum = 0;
      if (auto* tcp = std::get_if<Tcp>(&layer); tcp && inside) tcp->checksum = 0;
      if (auto* icmp4 = std::get_if<Icmp4>(&layer)) {
        if (inside) icmp4->checksum = 0;
        inside = true;
      }
      if (auto* icmp6 = std::get_if<Icmp6>(&layer)) {
        if (inside) icmp6->checksum = 0;
        inside = true;
      }
    }
    return packet;
  }
  Outcome client_sends(const Address& dst, const Packet& rest) {
    return node().run(HOOK_from_pod, "pod1", from_pod(1) / header(who().client, dst) / rest);
  }
};

TEST_P(IcmpError, PortUnreachableReachesAMasqueradedPod) {
  const auto sent = client_sends(who().outside, Udp{.sport = 5353, .dport = 53} / Payload("query"));
  const uint16_t port = sent.packet.at<Udp>().sport;
  const Packet about =
      header(who().node1, who().outside, 50) / Udp{.sport = port, .dport = 53} / Payload("query");
  const auto run = from_outside(header(who().outside, who().node1) / PortUnreachable{} / about);
  EXPECT_THAT(run, HasVerdict(VERDICT_TO_ENDPOINT));
  const Packet want = header(who().outside, who().client, 63) / PortUnreachable{} /
                      header(who().client, who().outside, 50) / Udp{.sport = 5353, .dport = 53} /
                      Payload("query");
  EXPECT_THAT(inner_sums_aside(run.packet), IsPacket(inner_sums_aside(want)));
}

// No data of the flow ever came this way, which alone would have found that the overlay is gone.
TEST_P(IcmpError, FromAPodAboutWhatCameByAnOverlayThatIsGone) {
  const Packet datagram =
      header(who().remote, who().client) / Udp{.sport = 9, .dport = 53} / Payload("query");
  node().run(HOOK_from_uplink, "uplink", from_wire() / datagram);
  node().change_flow(key(who().client, 53, who().remote, 9, IPPROTO_UDP), [this](flow& answers) {
    answers.action = FLOW_TO_NODE;
    answers.out_node = 2;
    answers.out_ifindex = node().ifindex("pod2");
    answers.dmac = maps::to_abi(Node::pod_mac(2));
  });
  const auto run = node().run(
      HOOK_from_pod, "pod1", from_pod(1) / header(who().client, who().remote) / PortUnreachable{} / datagram);
  EXPECT_THAT(run, HasVerdict(VERDICT_TO_NEXT_HOP));
  EXPECT_THAT(run, LeavesBy(node().ifindex("uplink")));
}

// A router on the way is its own source: only the destination is translated.
TEST_P(IcmpError, TooBigFromARouterThroughMasquerade) {
  const auto sent = client_sends(who().outside, Packet(Tcp{.sport = kClientPort, .dport = 80}));
  const uint16_t port = sent.packet.at<Tcp>().sport;
  const Packet about = header(who().node1, who().outside, 50) / Tcp{.sport = port, .dport = 80};
  const auto run = from_outside(header(who().gateway, who().node1) / TooBig{1400} / about);
  EXPECT_THAT(inner_sums_aside(run.packet),
              IsPacket(inner_sums_aside(header(who().gateway, who().client, 63) / TooBig{1400} /
                                        header(who().client, who().outside, 50) /
                                        Tcp{.sport = kClientPort, .dport = 80})));
}

TEST_P(IcmpError, TimeExceededAboutAnEcho) {
  const auto sent =
      node().run(HOOK_from_pod, "pod1", from_pod(1) / header(who().client, who().outside) / Echo{.id = 7});
  const uint16_t id = icmp_of(sent.packet).id;
  const Packet about = header(who().node1, who().outside, 1) / Echo{.id = id};
  const auto run = from_outside(header(who().gateway, who().node1) / TimeExceeded{} / about);
  EXPECT_THAT(inner_sums_aside(run.packet),
              IsPacket(inner_sums_aside(header(who().gateway, who().client, 63) / TimeExceeded{} /
                                        header(who().client, who().outside, 1) / Echo{.id = 7})));
}

// Routers may send no more than the header and eight bytes (RFC 792).
TEST_P(IcmpError, EightBytesOfTheTransportAreEnough) {
  const auto sent = client_sends(who().outside, Packet(Tcp{.sport = kClientPort, .dport = 80}));
  const uint16_t port = sent.packet.at<Tcp>().sport;
  const Packet about = header(who().node1, who().outside) / Tcp{.sport = port, .dport = 80};
  const auto run = from_outside(header(who().gateway, who().node1) / PortUnreachable{} /
                                quote(about, who().v4() ? 28 : 48));
  EXPECT_THAT(run, HasVerdict(VERDICT_TO_ENDPOINT));
  const Bytes out = run.packet.bytes();
  const size_t inner = 14 + (who().v4() ? 20 + 8 + 20 : 40 + 8 + 40);
  EXPECT_EQ(out[inner] << 8 | out[inner + 1], kClientPort);
  EXPECT_FALSE(icmp_of(run.packet).checksum) << "checksum must be right";
}

TEST_P(IcmpError, FromABackendThroughTheServiceAddress) {
  node().add_service({.address = who().vip, .port = 53, .proto = 17, .backends = {{who().server, 5300}}});
  client_sends(who().vip, Udp{.sport = 9, .dport = 53} / Payload("q"));
  const Packet about = header(who().client, who().server, 63) / Udp{.sport = 9, .dport = 5300} / Payload("q");
  const auto run = node().run(HOOK_from_pod, "pod2",
                              from_pod(2) / header(who().server, who().client) / PortUnreachable{} / about);
  EXPECT_THAT(inner_sums_aside(run.packet),
              IsPacket(inner_sums_aside(header(who().vip, who().client, 63) / PortUnreachable{} /
                                        header(who().client, who().vip, 63) / Udp{.sport = 9, .dport = 53} /
                                        Payload("q"))));
}

TEST_P(IcmpError, FromAPodAboutNothingKnown) {
  const Packet about = header(who().server, who().client) / Udp{.sport = 1, .dport = 2};
  const auto run = node().run(HOOK_from_pod, "pod1",
                              from_pod(1) / header(who().client, who().server) / PortUnreachable{} / about);
  EXPECT_THAT(run, Drops(DROP_ICMP_UNRELATED));
}

TEST_P(IcmpError, FromThePathAboutTheHostsOwnPacketPasses) {
  const Packet about = header(who().node1, who().outside) / Udp{.sport = 1, .dport = 2};
  EXPECT_THAT(from_outside(header(who().gateway, who().node1) / PortUnreachable{} / about),
              HasVerdict(VERDICT_PASS));
}

TEST_P(IcmpError, DoesNotMakeOrPromoteAFlow) {
  const auto sent = client_sends(who().server, Udp{.sport = 5, .dport = 53} / Payload("q"));
  const Packet about = header(who().client, who().server, 63) / Udp{.sport = 5, .dport = 53} / Payload("q");
  const auto run = node().run(HOOK_from_pod, "pod2",
                              from_pod(2) / header(who().server, who().client) / PortUnreachable{} / about);
  EXPECT_EQ(run.flow_delta, 0);
  EXPECT_EQ(node().find_flow(sent.event.value().key).value().state, FLOW_NEW);
}

INSTANTIATE_FAMILIES(IcmpError);

}  // namespace
}  // namespace bpfnet::test
