// What goes wrong behind a service comes back to whoever it concerns, in the words of the tuple that it
// knows: traceroute through a service address, packets too big on the way there and on the way back.
#include "tests/bpf/traversal.h"

namespace bpfnet::test {
namespace {

class ServiceErrors : public Traversal {
 protected:
  /// A service at its cluster IP, at the node's port and at a load balancer's address, all on port 80.
  void serve(const Address& backend, uint8_t proto) {
    for (const auto& [address, scope] : {std::pair{who().vip, SCOPE_ADDRESS}, {who().any, SCOPE_ANY_LOCAL}}) {
      one().add_service({.address = address,
                         .port = 80,
                         .proto = proto,
                         .backends = {{backend, kServerPort}},
                         .flags = scope == SCOPE_ADDRESS ? FRONTEND_CLUSTER_IP : FRONTEND_NODE_PORT,
                         .scope = static_cast<uint8_t>(scope)});
    }
  }
  static Packet probe(uint8_t proto, uint16_t sport = 9, uint16_t dport = 80) {
    return proto == 6 ? Packet(Tcp{.sport = sport, .dport = dport})
                      : Udp{.sport = sport, .dport = dport} / Payload("traceroute-1");
  }
  static uint16_t source_port(const Packet& packet) {
    return packet.find<Tcp>() ? packet.at<Tcp>().sport : packet.at<Udp>().sport;
  }
  /// An error's packet inside, without the sums that no receiver can check.
  [[nodiscard]] Packet inside(const Outcome& run) const {
    Packet packet;
    bool behind = false;
    for (auto layer : run.packet.layers()) {
      if (auto* tcp = std::get_if<Tcp>(&layer)) tcp->checksum.reset();
      if (auto* udp = std::get_if<Udp>(&layer)) udp->checksum.reset();
      if (auto* v4 = std::get_if<Ip4>(&layer)) v4->ttl = 64;
      if (auto* v6 = std::get_if<Ip6>(&layer)) v6->hop_limit = 64;
      if (behind) packet.add(layer);
      behind |= std::holds_alternative<Icmp4>(layer) || std::holds_alternative<Icmp6>(layer);
    }
    return packet;
  }
  [[nodiscard]] Address source(const Outcome& run) const {
    return who().v4() ? run.packet.at<Ip4>().src : run.packet.at<Ip6>().src;
  }
  [[nodiscard]] Address destination(const Outcome& run) const {
    return who().v4() ? run.packet.at<Ip4>().dst : run.packet.at<Ip6>().dst;
  }
  [[nodiscard]] auto time_exceeded() const { return IsIcmp(who().v4() ? 11 : 3, 0); }
  [[nodiscard]] auto too_big() const { return IsIcmp(who().v4() ? 3 : 2, who().v4() ? 4 : 0); }
};

TEST_P(ServiceErrors, TracerouteOfAPodNamesItsNodeFirst) {
  for (const uint8_t proto : {6, 17}) {
    serve(who().remote, proto);
    const auto first = pod_sends(one(), 1, header(who().client, who().vip, 1) / probe(proto));
    EXPECT_EQ(first.reason(), DROP_TTL_EXCEEDED);
    EXPECT_THAT(first, time_exceeded());
    EXPECT_EQ(source(first), who().node1);
    EXPECT_EQ(destination(first), who().client);
    EXPECT_THAT(inside(first), IsPacket(header(who().client, who().vip) / probe(proto)));
  }
}

TEST_P(ServiceErrors, TracerouteOfAPodNamesTheBackendsNode) {
  for (const uint8_t proto : {6, 17}) {
    serve(who().remote, proto);
    const auto sent = pod_sends(one(), 1, header(who().client, who().vip, 2) / probe(proto));
    const auto expired = across(one(), two(), sent);
    EXPECT_EQ(expired.reason(), DROP_TTL_EXCEEDED);
    EXPECT_EQ(source(expired), who().node2);
    const auto told = wire_brings(one(), l3(expired));
    EXPECT_THAT(told, HasVerdict(VERDICT_TO_ENDPOINT));
    EXPECT_THAT(told, LeavesBy(one().ifindex("pod1")));
    EXPECT_THAT(told, time_exceeded());
    EXPECT_EQ(source(told), who().node2);
    EXPECT_THAT(inside(told), IsPacket(header(who().client, who().vip) / probe(proto)));
  }
}

// Through masquerade: the second node answers the first, which tells the client.
TEST_P(ServiceErrors, TracerouteFromOutsideThroughANodePort) {
  for (const uint8_t proto : {6, 17}) {
    serve(who().remote, proto);
    const auto first = wire_brings(one(), header(who().outside, who().node1, 1) / probe(proto));
    EXPECT_EQ(first.reason(), DROP_TTL_EXCEEDED);
    EXPECT_EQ(source(first), who().node1);
    EXPECT_EQ(destination(first), who().outside);
    const auto expired =
        across(one(), two(), wire_brings(one(), header(who().outside, who().node1, 2) / probe(proto)));
    EXPECT_EQ(expired.reason(), DROP_TTL_EXCEEDED);
    EXPECT_EQ(destination(expired), who().node1);
    const auto told = wire_brings(one(), l3(expired));
    EXPECT_THAT(told, HasVerdict(VERDICT_TO_NEXT_HOP));
    EXPECT_EQ(source(told), who().node2);
    EXPECT_EQ(destination(told), who().outside);
    EXPECT_THAT(inside(told), IsPacket(header(who().outside, who().node1) / probe(proto)));
  }
}

// Which uplink speaks for the node is learned while the programs run.
TEST_P(ServiceErrors, TheNodeSpeaksOnceItsUplinkIsKnown) {
  serve(who().remote, 17);
  const datapath_config known = must(one().maps().node_config.get(0));
  datapath_config unknown = known;
  unknown.primary_uplink = 0;
  const auto trace = [&] { return wire_brings(one(), header(who().outside, who().node1, 1) / probe(17)); };
  must(one().maps().node_config.put(0, unknown));
  const auto before = trace();
  must(one().maps().node_config.put(0, known));
  EXPECT_EQ(before.reason(), DROP_TTL_EXCEEDED);
  EXPECT_THAT(before, HasVerdict(VERDICT_DROP));
  const auto after = trace();
  EXPECT_THAT(after, time_exceeded());
  EXPECT_EQ(source(after), who().node1);
}

TEST_P(ServiceErrors, TracerouteOfTheHostNamesTheBackendsNode) {
  serve(who().remote, 17);
  const auto sent = host_sends(one(), header(who().node1, who().vip, 1) / probe(17));
  const auto told = wire_brings(one(), l3(across(one(), two(), sent)));
  EXPECT_THAT(told, HasVerdict(VERDICT_TO_HOST));
  EXPECT_EQ(source(told), who().node2);
  EXPECT_THAT(inside(told), IsPacket(header(who().node1, who().vip) / probe(17)));
}

// A router between the client's node and the backend, about the client's packets.
TEST_P(ServiceErrors, TooBigOnTheWayToTheBackendReachesTheClient) {
  for (const uint8_t proto : {6, 17}) {
    serve(who().remote, proto);
    const auto sent = pod_sends(one(), 1, header(who().client, who().vip) / probe(proto));
    const auto told =
        wire_brings(one(), header(who().gateway, who().client) / TooBig{1400} / quote(l3(sent)));
    EXPECT_THAT(told, LeavesBy(one().ifindex("pod1")));
    EXPECT_THAT(told, too_big());
    EXPECT_THAT(inside(told), IsPacket(header(who().client, who().vip) / probe(proto)));
  }
}

TEST_P(ServiceErrors, TooBigBehindAMasqueradedNodePortReachesTheClientOutside) {
  for (const uint8_t proto : {6, 17}) {
    serve(who().remote, proto);
    const auto sent = wire_brings(one(), header(who().outside, who().node1) / probe(proto));
    const auto told = wire_brings(one(), header(who().gateway, who().node1) / TooBig{1400} / quote(l3(sent)));
    EXPECT_THAT(told, HasVerdict(VERDICT_TO_NEXT_HOP));
    EXPECT_THAT(told, too_big());
    EXPECT_EQ(destination(told), who().outside);
    EXPECT_THAT(inside(told), IsPacket(header(who().outside, who().node1) / probe(proto)));
  }
}

// A router between the node and a client outside, about the backend's answers: it must be the backend that
// makes its packets smaller.
TEST_P(ServiceErrors, TooBigOnTheWayToTheClientReachesTheBackend) {
  for (const uint8_t proto : {6, 17}) {
    serve(who().server, proto);
    wire_brings(one(), header(who().outside, who().node1) / probe(proto));
    const Packet answer = header(who().server, who().outside) / probe(proto, kServerPort, 9);
    const auto sent = pod_sends(one(), 2, answer);
    EXPECT_EQ(source(sent), who().node1);
    const auto told = wire_brings(one(), header(who().gateway, who().node1) / TooBig{1300} / quote(l3(sent)));
    EXPECT_THAT(told, LeavesBy(one().ifindex("pod2")));
    EXPECT_THAT(told, too_big());
    EXPECT_EQ(destination(told), who().server);
    EXPECT_THAT(inside(told), IsPacket(answer));
  }
}

TEST_P(ServiceErrors, TooBigOnTheWayToTheClientReachesTheBackendOnAnotherNode) {
  for (const uint8_t proto : {6, 17}) {
    serve(who().remote, proto);
    const auto forwarded = wire_brings(one(), header(who().outside, who().node1) / probe(proto));
    across(one(), two(), forwarded);
    const uint16_t port = source_port(forwarded.packet);
    const Packet answer = header(who().remote, who().node1) / probe(proto, kServerPort, port);
    const auto back = across(two(), one(), pod_sends(two(), 1, answer));
    const auto told = wire_brings(one(), header(who().gateway, who().node1) / TooBig{1300} / quote(l3(back)));
    const auto arrived = across(one(), two(), told);
    EXPECT_THAT(arrived, LeavesBy(two().ifindex("pod1")));
    EXPECT_THAT(arrived, too_big());
    EXPECT_EQ(destination(arrived), who().remote);
    EXPECT_THAT(inside(arrived), IsPacket(answer));
  }
}

// A pod with a smaller device than the uplink: the node itself says so, in the client's words.
TEST_P(ServiceErrors, TooBigForTheBackendsDevice) {
  serve(who().server, 17);
  one().change_pod(2, [](auto& pod) { pod.mtu = 1300; });
  const Packet large =
      header(who().client, who().vip) / Udp{.sport = 9, .dport = 80} / Payload::of_size(1400);
  const auto told = pod_sends(one(), 1, large);
  EXPECT_EQ(told.reason(), DROP_TOO_BIG);
  EXPECT_THAT(told, too_big());
  EXPECT_EQ(destination(told), who().client);
  const auto quoted = inside(told);
  EXPECT_EQ(who().v4() ? quoted.at<Ip4>().dst : quoted.at<Ip6>().dst, who().vip);
  EXPECT_EQ(quoted.at<Udp>().dport, 80);
}

/// A route to one client that takes smaller packets only, while it lives. Forwarding heeds none but a locked
/// MTU.
class NarrowRoute {
 public:
  NarrowRoute(Node& node, const Address& to, const Address& gateway, int mtu)
      : node_(node), route_(to.to_string() + " via " + gateway.to_string() + " dev uplink") {
    must(node_.netns().ip_batch("route add " + route_ + " mtu lock " + std::to_string(mtu) + "\n"));
  }
  ~NarrowRoute() { EXPECT_TRUE(node_.netns().ip_batch("route del " + route_ + "\n")); }
  NarrowRoute(const NarrowRoute&) = delete;
  NarrowRoute& operator=(const NarrowRoute&) = delete;

 private:
  Node& node_;
  std::string route_;
};

// Also the first answer, whose way back was not known before.
TEST_P(ServiceErrors, TheFirstAnswerIsTooBigForTheWayToTheClient) {
  serve(who().server, 17);
  const Address far = pick("203.0.113.66", "2001:db8:66::66");
  const NarrowRoute route(one(), far, who().gateway, 1300);
  wire_brings(one(), header(far, who().node1) / probe(17));
  const Packet answer =
      header(who().server, far) / Udp{.sport = kServerPort, .dport = 9} / Payload::of_size(1400);
  const auto told = pod_sends(one(), 2, answer);
  EXPECT_EQ(told.reason(), DROP_TOO_BIG);
  EXPECT_THAT(told, too_big());
  EXPECT_EQ(destination(told), who().server);
  EXPECT_EQ(inside(told).at<Udp>().sport, kServerPort) << "as the backend sent it";
}

// The port that a host backend does not serve.
TEST_P(ServiceErrors, PortUnreachableOfARemoteBackendReachesTheClientAsTheService) {
  serve(who().remote, 17);
  const auto arrived = across(one(), two(), pod_sends(one(), 1, header(who().client, who().vip) / probe(17)));
  const auto error =
      pod_sends(two(), 1, header(who().remote, who().client) / PortUnreachable{} / quote(l3(arrived)));
  const auto told = across(two(), one(), error);
  EXPECT_THAT(told, LeavesBy(one().ifindex("pod1")));
  EXPECT_EQ(source(told), who().vip);
  EXPECT_THAT(inside(told), IsPacket(header(who().client, who().vip) / probe(17)));
}

INSTANTIATE_FAMILIES(ServiceErrors);

}  // namespace
}  // namespace bpfnet::test
