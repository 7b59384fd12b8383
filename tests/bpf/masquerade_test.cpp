// Pods leave the cluster with the node's address (S28), and the answers find them.
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <set>

#include "maps/convert.h"
#include "tests/support/fixture.h"

namespace bpfnet::test {
namespace {

class Masquerade : public DatapathFixture {
 protected:
  Outcome out(const Packet& rest) { return out_of(node(), 1, who().client, rest); }
  static Outcome out_of(Node& at, uint32_t pod, const Address& src, const Packet& rest) {
    const Actors actors(src.family());
    return at.run(HOOK_from_pod, "pod" + std::to_string(pod),
                  from_pod(pod) / Ip{.src = src, .dst = actors.outside} / rest);
  }
  Outcome back(const Packet& rest) {
    return node().run(HOOK_from_uplink, "uplink",
                      from_wire() / Ip{.src = who().outside, .dst = who().node1} / rest);
  }
  /// Masquerades with exactly these ports.
  static datapath_config ports(uint16_t first, uint16_t last) {
    auto config = default_config();
    config.masquerade_port_first = first;
    config.masquerade_port_last = last;
    return config;
  }
};

TEST_P(Masquerade, TcpLeavesWithTheNodesAddressAndAFreePort) {
  const auto run = out(Tcp{.sport = kClientPort, .dport = 443} / Payload("hello"));
  const uint16_t port = run.packet.at<Tcp>().sport;
  EXPECT_THAT(run, Sends(VERDICT_TO_NEXT_HOP, Ip{.src = who().node1, .dst = who().outside, .ttl = 63} /
                                                  Tcp{.sport = port, .dport = 443} / Payload("hello")));
  EXPECT_GE(port, node().config().masquerade_port_first);
  EXPECT_LE(port, node().config().masquerade_port_last);
}

TEST_P(Masquerade, TheReplyReachesThePod) {
  const uint16_t port = out(Packet(Tcp{.sport = kClientPort, .dport = 443})).packet.at<Tcp>().sport;
  const auto run = back(Packet(Tcp{.sport = 443, .dport = port, .flags = SYN | ACK}));
  const Eth into{.dst = Node::pod_mac(1), .src = node().device_mac("pod1")};
  EXPECT_THAT(run,
              Sends(VERDICT_TO_ENDPOINT, into / Ip{.src = who().outside, .dst = who().client, .ttl = 63} /
                                             Tcp{.sport = 443, .dport = kClientPort, .flags = SYN | ACK}));
}

TEST_P(Masquerade, UdpAndItsReply) {
  const auto sent = out(Udp{.sport = 5353, .dport = 53} / Payload("q"));
  const uint16_t port = sent.packet.at<Udp>().sport;
  EXPECT_THAT(sent, Sends(VERDICT_TO_NEXT_HOP, Ip{.src = who().node1, .dst = who().outside, .ttl = 63} /
                                                   Udp{.sport = port, .dport = 53} / Payload("q")));
  EXPECT_THAT(back(Udp{.sport = 53, .dport = port} / Payload("a")),
              Sends(VERDICT_TO_ENDPOINT, Eth{.dst = Node::pod_mac(1), .src = node().device_mac("pod1")} /
                                             Ip{.src = who().outside, .dst = who().client, .ttl = 63} /
                                             Udp{.sport = 53, .dport = 5353} / Payload("a")));
}

// The node is renumbered: a client that never pauses goes on with the address of today, as answers to the
// last one come nowhere.
TEST_P(Masquerade, UdpGoesOnWithTheNodesNewAddress) {
  const Address renumbered = pick("192.0.2.99", "2001:db8:1::99");
  const Packet query = Udp{.sport = 5353, .dport = 53} / Payload("q");
  const flow_key forward = key(who().client, 5353, who().outside, 53, IPPROTO_UDP);
  const auto source = [&] {
    const Packet sent = out(query).packet;
    return who().v4() ? sent.at<Ip4>().src : sent.at<Ip6>().src;
  };
  EXPECT_EQ(source(), who().node1);
  node().add_node_address(renumbered, ADDRESS_LOCAL_NODE);
  interface uplink = must(node().maps().interfaces.get(node().ifindex("uplink"))).value();
  (who().v4() ? uplink.ip4 : uplink.ip6) = maps::to_abi(renumbered);
  must(node().maps().interfaces.put(node().ifindex("uplink"), uplink));
  node().age_flow(forward, 1);
  EXPECT_EQ(source(), who().node1);  // the node still has it
  must(node().maps().addresses.erase(maps::make_address_key(who().node1)));
  node().age_flow(forward, 1);
  EXPECT_EQ(source(), renumbered);
}

TEST_P(Masquerade, UdpWithoutChecksumStaysWithout) {
  if (!who().v4()) GTEST_SKIP() << "IPv6 UDP always has a checksum";
  const auto run = out(Udp{.sport = 5353, .dport = 53, .checksum = 0} / Payload("q"));
  EXPECT_EQ(run.packet.at<Udp>().checksum, 0);
}

TEST_P(Masquerade, EchoIdentifierIsThePort) {
  Packet request(Ip{.src = who().client, .dst = who().outside});
  const auto sent = node().run(HOOK_from_pod, "pod1", from_pod(1) / request / Echo{.id = 7});
  const uint16_t id = icmp_of(sent.packet).id;
  EXPECT_THAT(sent.packet,
              IsPacket(Ip{.src = who().node1, .dst = who().outside, .ttl = 63} / Echo{.id = id}));
  const Packet reply =
      from_wire() / Ip{.src = who().outside, .dst = who().node1} / Echo{.id = id, .reply = true};
  EXPECT_THAT(
      node().run(HOOK_from_uplink, "uplink", reply).packet,
      IsPacket(Ip{.src = who().outside, .dst = who().client, .ttl = 63} / Echo{.id = 7, .reply = true}));
}

TEST_P(Masquerade, NotTowardsTheClusterOrNodes) {
  for (const Address& dst : {who().remote, who().node2, who().server}) {
    const auto run =
        node().run(HOOK_from_pod, "pod1", from_pod(1) / Ip{.src = who().client, .dst = dst} / Udp{});
    EXPECT_THAT(run.packet, IsPacket(Ip{.src = who().client, .dst = dst, .ttl = 63} / Udp{}));
  }
}

TEST_P(Masquerade, TwoPodsNeverShareAPort) {
  auto& small = pooled_node(1, ports(40000, 40001));
  const auto first = out_of(small, 1, who().client, Packet(Udp{.sport = 5, .dport = 53}));
  const auto second = out_of(small, 2, who().server, Packet(Udp{.sport = 5, .dport = 53}));
  ASSERT_EQ(second.verdict(), VERDICT_TO_NEXT_HOP);
  EXPECT_NE(first.packet.at<Udp>().sport, second.packet.at<Udp>().sport);
}

// S28: any port of the range, and none more often than others.
TEST_P(Masquerade, PortsAreSpreadOverTheWholeRange) {
  auto& wide = pooled_node(1, ports(1024, 65535));
  std::map<int, int> eighths;
  for (uint16_t sport = 1; sport <= 100; ++sport) {
    const auto run = out_of(wide, 1, who().client, Packet(Udp{.sport = sport, .dport = 53}));
    ++eighths[run.packet.at<Udp>().sport >> 13];
  }
  EXPECT_EQ(eighths.size(), 8U);
  for (const auto& [eighth, count] : eighths) EXPECT_LT(count, 40) << "eighth " << eighth;
}

// S28: one free port among those taken is found.
TEST_P(Masquerade, TheLastFreePortIsFound) {
  auto& small = pooled_node(1, ports(40000, 40007));
  std::set<uint16_t> taken;
  for (uint16_t sport = 1; sport <= 8; ++sport) {
    const auto run = out_of(small, 1, who().client, Packet(Udp{.sport = sport, .dport = 53}));
    ASSERT_EQ(run.verdict(), VERDICT_TO_NEXT_HOP) << sport;
    taken.insert(run.packet.at<Udp>().sport);
  }
  EXPECT_EQ(taken.size(), 8U);
  EXPECT_EQ(*taken.begin(), 40000);
  EXPECT_EQ(*taken.rbegin(), 40007);
  EXPECT_THAT(out_of(small, 1, who().client, Packet(Udp{.sport = 9, .dport = 53})), Drops(DROP_NO_PORT));
  // Towards another peer the same ports are free.
  EXPECT_EQ(out_of(small, 1, who().client, Packet(Udp{.sport = 9, .dport = 54})).verdict(),
            VERDICT_TO_NEXT_HOP);
}

TEST_P(Masquerade, NoPortLeft) {
  auto& small = pooled_node(1, ports(40000, 40000));
  EXPECT_EQ(out_of(small, 1, who().client, Packet(Udp{.sport = 5, .dport = 53})).verdict(),
            VERDICT_TO_NEXT_HOP);
  const auto refused = out_of(small, 2, who().server, Packet(Udp{.sport = 5, .dport = 53}));
  EXPECT_THAT(refused, Drops(DROP_NO_PORT));
  EXPECT_EQ(refused.flow_delta, 0);
}

// S28: a port of the range which a host process uses is not taken.
TEST_P(Masquerade, APortOfAHostSocketIsNotTaken) {
  for (const bool tcp : {false, true}) {
    auto& small = pooled_node(1, ports(40000, 40001));
    const Netns::Inside inside(small.netns());
    const Fd socket(::socket(who().v4() ? AF_INET : AF_INET6, tcp ? SOCK_STREAM : SOCK_DGRAM, 0));
    sockaddr_in6 any{};
    any.sin6_family = who().v4() ? AF_INET : AF_INET6;
    any.sin6_port = htons(40000);
    ASSERT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&any),
                     who().v4() ? sizeof(sockaddr_in) : sizeof(any)),
              0);
    ASSERT_TRUE(!tcp || ::listen(socket.get(), 1) == 0);
    const auto send = [&](uint16_t sport) {
      return out_of(
          small, 1, who().client,
          tcp ? Packet(Tcp{.sport = sport, .dport = 53}) : Packet(Udp{.sport = sport, .dport = 53}));
    };
    const auto run = send(5);
    EXPECT_EQ(tcp ? run.packet.at<Tcp>().sport : run.packet.at<Udp>().sport, 40001);
    EXPECT_THAT(send(6), Drops(DROP_NO_PORT));
  }
}

TEST_P(Masquerade, FlowIsMarkedAndItsPairAgrees) {
  const auto run = out(Udp{.sport = 5353, .dport = 53} / Payload("q"));
  const auto original = node().find_flow(key(who().client, 5353, who().outside, 53, 17)).value();
  EXPECT_TRUE(original.flags & FLOW_MASQUERADED);
  const auto reply = node().find_flow(original.peer).value();
  EXPECT_TRUE(reply.flags & FLOW_IS_REPLY);
  EXPECT_EQ(maps::key_text(reply.peer), maps::key_text(run.event.value().key));
  EXPECT_EQ(reply.slot, original.slot);
}

TEST_P(Masquerade, OffByConfiguration) {
  auto config = default_config();
  config.masquerade = 0;
  const auto run = out_of(pooled_node(1, config), 1, who().client, Packet(Udp{.sport = 5, .dport = 53}));
  EXPECT_THAT(run.packet, IsPacket(Ip{.src = who().client, .dst = who().outside, .ttl = 63} /
                                   Udp{.sport = 5, .dport = 53}));
}

// The host's own flow to the same peer must not take over the port which a pod holds.
TEST_P(Masquerade, HostFlowWithTheSameTupleGetsAnotherPort) {
  const uint16_t port = out(Packet(Udp{.sport = 5, .dport = 53})).packet.at<Udp>().sport;
  const Eth eth{.dst = Node::gateway_mac(), .src = Node::node_mac(1)};
  const auto run =
      node().run(HOOK_to_uplink, "uplink",
                 eth / Ip{.src = who().node1, .dst = who().outside} / Udp{.sport = port, .dport = 53});
  ASSERT_NE(run.packet.find<Udp>(), nullptr);
  EXPECT_NE(run.packet.at<Udp>().sport, port);
  const auto answer = back(Packet(Udp{.sport = 53, .dport = run.packet.at<Udp>().sport}));
  EXPECT_EQ(answer.packet.at<Udp>().dport, port);
}

INSTANTIATE_FAMILIES(Masquerade);

}  // namespace
}  // namespace bpfnet::test
