// The host's side: from_host, to_uplink, to_pod, loopback, and what of the uplink is the host's own.
#include <linux/pkt_cls.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "base/fd.h"
#include "maps/convert.h"
#include "tests/support/fixture.h"

namespace bpfnet::test {
namespace {

class Host : public DatapathFixture {
 protected:
  Outcome from_host(const Address& src, const Address& dst, const Packet& rest) {
    return node().run(HOOK_from_host, "bpfnet1", from_stack() / Ip{.src = src, .dst = dst} / rest);
  }
  Outcome to_uplink(const Packet& packet, RunOptions options = {}) {
    return node().run(HOOK_to_uplink, "uplink",
                      Eth{.dst = Node::gateway_mac(), .src = Node::node_mac(1)} / packet, options);
  }
  [[nodiscard]] Packet header(const Address& src, const Address& dst) const {
    Packet packet;
    packet.add(Ip{.src = src, .dst = dst});
    return packet;
  }
};

TEST_P(Host, ReachesALocalPod) {
  const auto run = from_host(who().node1, who().client, Packet(Tcp{.sport = 1, .dport = 80}));
  EXPECT_THAT(run,
              Sends(VERDICT_TO_ENDPOINT, header(who().node1, who().client) / Tcp{.sport = 1, .dport = 80}));
  EXPECT_THAT(run, LeavesBy(node().ifindex("pod1")));
}

TEST_P(Host, ThePodsAnswerReachesTheStack) {
  from_host(who().node1, who().client, Packet(Tcp{.sport = 1, .dport = 80}));
  const Packet answer = header(who().client, who().node1) / Tcp{.sport = 80, .dport = 1, .flags = SYN | ACK};
  const auto run = node().run(HOOK_from_pod, "pod1", from_pod(1) / answer);
  EXPECT_THAT(run, Sends(VERDICT_TO_HOST, answer));
  EXPECT_THAT(run, LeavesBy(node().ifindex("bpfnet0")));
}

// The device was made anew: another number, another address.
TEST_P(Host, AFlowIntoTheStackFindsTheHostDeviceOfToday) {
  const Packet packet = header(who().client, who().node1) / Udp{.sport = 9, .dport = 53};
  node().run(HOOK_from_pod, "pod1", from_pod(1) / packet);
  node().change_flow(key(who().client, 9, who().node1, 53, IPPROTO_UDP), [](flow& record) {
    record.out_ifindex = 9999;
    record.dmac = maps::to_abi(Node::pod_mac(9));
  });
  const auto run = node().run(HOOK_from_pod, "pod1", from_pod(1) / packet);
  EXPECT_THAT(run, Sends(VERDICT_TO_HOST, packet));
  EXPECT_THAT(run, LeavesBy(node().ifindex("bpfnet0")));
  EXPECT_EQ(run.packet.at<Eth>().dst, node().device_mac("bpfnet0"));
}

// A tunnel's packets enter the stack by our device, where their sender's route is; without tunnels it is the
// uplink's, and the stack takes nothing of theirs from another.
TEST_P(Host, WhatCameByTheOverlayEntersTheStackWhereItComesNow) {
  node().add_service({.address = who().any,
                      .port = kNodePort,
                      .proto = IPPROTO_UDP,
                      .backends = {{who().node1, 53}},
                      .flags = FRONTEND_NODE_PORT,
                      .scope = SCOPE_ANY_LOCAL});
  const Packet sent = header(who().remote, who().node1) / Udp{.sport = 9, .dport = kNodePort};
  const Packet seen = header(who().remote, who().node1) / Udp{.sport = 9, .dport = 53};
  node().run(HOOK_from_uplink, "uplink", from_wire() / sent);
  node().change_flow(key(who().remote, 9, who().node1, kNodePort, IPPROTO_UDP), [this](flow& record) {
    record.out_ifindex = node().ifindex("bpfnet0");
    record.smac = record.dmac = maps::to_abi(node().device_mac("bpfnet0"));
  });
  const auto run = node().run(HOOK_from_uplink, "uplink", from_wire() / sent);
  EXPECT_THAT(run, Sends(VERDICT_TO_HOST, from_wire() / seen));
  EXPECT_EQ(run.code, TC_ACT_OK);
}

// S20: node -> ClusterIP.
TEST_P(Host, ReachesAClusterIpWithALocalBackend) {
  node().add_service({.address = who().vip, .port = 80, .backends = {{who().server, kServerPort}}});
  EXPECT_THAT(
      from_host(who().node1, who().vip, Packet(Tcp{.sport = 1, .dport = 80})),
      Sends(VERDICT_TO_ENDPOINT, header(who().node1, who().server) / Tcp{.sport = 1, .dport = kServerPort}));
}

TEST_P(Host, ReachesAClusterIpWithARemoteBackend) {
  node().add_service({.address = who().vip, .port = 80, .backends = {{who().remote, kServerPort}}});
  const auto run = from_host(who().node1, who().vip, Packet(Tcp{.sport = 1, .dport = 80}));
  EXPECT_THAT(run, HasVerdict(VERDICT_TO_NEXT_HOP));
  EXPECT_THAT(run, LeavesBy(node().ifindex("uplink")));
  EXPECT_EQ(run.packet.at<Tcp>().dport, kServerPort);
}

TEST_P(Host, TheAnswerOfARemoteBackendReachesTheStackFromTheServiceAddress) {
  node().add_service({.address = who().vip, .port = 80, .backends = {{who().remote, kServerPort}}});
  const auto sent = from_host(who().node1, who().vip, Packet(Tcp{.sport = 1, .dport = 80}));
  const Packet answer = from_wire() / header(who().remote, who().node1) /
                        Tcp{.sport = kServerPort, .dport = sent.packet.at<Tcp>().sport, .flags = SYN | ACK};
  const auto run = node().run(HOOK_from_uplink, "uplink", answer);
  EXPECT_THAT(run, HasVerdict(VERDICT_TO_HOST));
  EXPECT_EQ(run.packet.at<Tcp>().sport, 80);
  EXPECT_EQ(run.packet.at<Tcp>().dport, 1);
}

// S34 [D]: a host process reaches its node ports by loopback addresses; the pod sees the node.
TEST_P(Host, LoopbackReachesANodePort) {
  node().add_service({.address = who().any,
                      .port = kNodePort,
                      .backends = {{who().server, kServerPort}},
                      .flags = FRONTEND_NODE_PORT,
                      .scope = SCOPE_ANY_LOCAL});
  const Packet syn = header(who().loopback, who().loopback) / Tcp{.sport = 1, .dport = kNodePort};
  const auto run = node().run(HOOK_from_host, "lo", Eth{} / syn);
  const uint16_t port = run.packet.at<Tcp>().sport;
  EXPECT_THAT(run, Sends(VERDICT_TO_ENDPOINT,
                         header(who().node1, who().server) / Tcp{.sport = port, .dport = kServerPort}));
  const Packet answer = from_pod(2) / header(who().server, who().node1) /
                        Tcp{.sport = kServerPort, .dport = port, .flags = SYN | ACK};
  EXPECT_THAT(node().run(HOOK_from_pod, "pod2", answer),
              Sends(VERDICT_TO_HOST, header(who().loopback, who().loopback) /
                                         Tcp{.sport = kNodePort, .dport = 1, .flags = SYN | ACK}));
}

TEST_P(Host, OtherLoopbackTrafficIsUntouched) {
  const Packet packet = Eth{} / header(who().loopback, who().loopback) / Tcp{.sport = 1, .dport = 5432};
  const auto run = node().run(HOOK_from_host, "lo", packet);
  EXPECT_EQ(run.code, TC_ACT_OK);
  EXPECT_THAT(run.packet, IsPacket(packet));
}

TEST_P(Host, OwnPacketsWithTheMarkPassTheUplink) {
  const auto run = to_uplink(header(who().client, who().outside) / Tcp{}, {.mark = node().config().mark});
  EXPECT_EQ(run.code, TC_ACT_OK);
  EXPECT_EQ(run.flow_delta, 0);
}

TEST_P(Host, OrdinaryHostTrafficPassesUntracked) {
  const Packet packet = header(who().node1, who().outside) / Tcp{.sport = 1, .dport = 443};
  const auto run = to_uplink(packet);
  EXPECT_THAT(run, Sends(VERDICT_PASS, packet));
  EXPECT_EQ(run.flow_delta, 0);
}

// A NodePort answered by a process of the host's own network leaves with the node port as its source.
TEST_P(Host, HostNetworkBackendOfANodePort) {
  node().add_service({.address = who().any,
                      .port = kNodePort,
                      .backends = {{who().node1, kServerPort}},
                      .flags = FRONTEND_NODE_PORT,
                      .scope = SCOPE_ANY_LOCAL});
  const Packet syn = from_wire() / header(who().outside, who().node1) / Tcp{.sport = 9, .dport = kNodePort};
  EXPECT_THAT(node().run(HOOK_from_uplink, "uplink", syn), HasVerdict(VERDICT_TO_HOST));
  const auto run = to_uplink(header(who().node1, who().outside) /
                             Tcp{.sport = kServerPort, .dport = 9, .flags = SYN | ACK});
  EXPECT_EQ(run.packet.at<Tcp>().sport, kNodePort);
}

TEST_P(Host, UplinkTrafficForTheHostPassesUntracked) {
  const Packet packet = from_wire() / header(who().outside, who().node1) / Tcp{.sport = 9, .dport = 22};
  const auto run = node().run(HOOK_from_uplink, "uplink", packet);
  EXPECT_THAT(run, Sends(VERDICT_PASS, packet));
  EXPECT_EQ(run.flow_delta, 0);
}

TEST_P(Host, UplinkLeavesLinkLayerProtocolsAlone) {
  const Eth broadcast{.dst = mac("ff:ff:ff:ff:ff:ff"), .src = Node::gateway_mac()};
  const Packet arp =
      broadcast /
      Arp{.sender_mac = Node::gateway_mac(), .sender = ip("192.0.2.254"), .target = ip("192.0.2.1")};
  const Packet nd = broadcast / Ip{.src = ip("2001:db8:1::fe"), .dst = ip("ff02::1:ff00:1"), .ttl = 255} /
                    neighbour_solicit(ip("2001:db8:1::1"), Node::gateway_mac());
  EXPECT_THAT(node().run(HOOK_from_uplink, "uplink", who().v4() ? arp : nd),
              Sends(VERDICT_PASS, who().v4() ? arp : nd));
}

TEST_P(Host, PodsAreReachedFromTheWire) {
  const auto run = node().run(HOOK_from_uplink, "uplink",
                              from_wire() / header(who().remote, who().client) / Udp{.sport = 1, .dport = 2});
  EXPECT_THAT(run, HasVerdict(VERDICT_TO_ENDPOINT));
  EXPECT_THAT(run, LeavesBy(node().ifindex("pod1")));
}

TEST_P(Host, MarkedPacketsEnterThePod) {
  const Packet packet = Eth{.dst = Node::pod_mac(1), .src = node().device_mac("pod1")} /
                        header(who().server, who().client) / Tcp{};
  const auto run = node().run(HOOK_to_pod, "pod1", packet, {.mark = node().config().mark});
  EXPECT_EQ(run.code, TC_ACT_OK);
}

// Nothing reaches a pod past its policy, whatever the stack may send into its veth.
TEST_P(Host, UnmarkedPacketsIntoAPodAreJudged) {
  node().change_pod(1, [](auto& pod) { pod.ingress_set = POLICY_SET_DENY_ALL; });
  const Packet packet = Eth{.dst = Node::pod_mac(1), .src = node().device_mac("pod1")} /
                        header(who().outside, who().client) / Tcp{};
  EXPECT_THAT(node().run(HOOK_to_pod, "pod1", packet), HasVerdict(VERDICT_DROP));
}

/// A socket of the host at a port, connected to a port of another address.
Fd connected_socket(const Actors& who, bool tcp, uint16_t port, const Address& peer, uint16_t to) {
  const auto family = static_cast<sa_family_t>(who.v4() ? AF_INET : AF_INET6);
  const auto at = [&](const Address& address, uint16_t number) {
    std::pair<sockaddr_storage, socklen_t> result{};
    if (family == AF_INET) {
      sockaddr_in v4{.sin_family = family, .sin_port = htons(number), .sin_addr = {}, .sin_zero = {}};
      v4.sin_addr.s_addr = maps::to_abi(address).w[3];
      std::memcpy(&result.first, &v4, sizeof(v4));
      result.second = sizeof(v4);
    } else {
      sockaddr_in6 v6{};
      v6.sin6_family = family;
      v6.sin6_port = htons(number);
      const addr bytes = maps::to_abi(address);
      std::memcpy(&v6.sin6_addr, &bytes, sizeof(bytes));
      std::memcpy(&result.first, &v6, sizeof(v6));
      result.second = sizeof(v6);
    }
    return result;
  };
  Fd socket(::socket(family, (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK, 0));
  const auto here = at(who.any, port);
  const auto there = at(peer, to);
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&here.first), here.second) != 0) return Fd();
  const int rc = ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&there.first), there.second);
  return rc == 0 || errno == EINPROGRESS ? std::move(socket) : Fd();
}

// The host's stack may choose a published port for a connection of its own, or have had it before it was
// published: a range of hostPorts easily covers ephemeral ports. The answers are the stack's.
TEST_P(Host, AnAnswerToTheHostsOwnConnectionIsNotTheServices) {
  for (const bool tcp : {true, false}) {
    SCOPED_TRACE(tcp ? "TCP" : "UDP");
    node().reset();
    node().add_service({.address = who().any,
                        .port = kNodePort,
                        .proto = static_cast<uint8_t>(tcp ? 6 : 17),
                        .backends = {{who().server, kServerPort}},
                        .flags = FRONTEND_HOST_PORT,
                        .scope = SCOPE_ANY_LOCAL});
    const Netns::Inside inside(node().netns());
    const Fd socket = connected_socket(who(), tcp, kNodePort, who().outside, 53);
    ASSERT_TRUE(socket) << strerror(errno);
    const auto arrives = [&](uint16_t from, uint8_t flags) {
      const Packet packet = from_wire() / header(who().outside, who().node1);
      return node().run(HOOK_from_uplink, "uplink",
                        tcp ? packet / Tcp{.sport = from, .dport = kNodePort, .flags = flags}
                            : packet / Udp{.sport = from, .dport = kNodePort});
    };
    const auto answer = arrives(53, SYN | ACK);
    EXPECT_THAT(answer, HasVerdict(VERDICT_PASS));
    EXPECT_EQ(answer.flow_delta, 0);
    EXPECT_THAT(arrives(54, SYN), HasVerdict(VERDICT_TO_ENDPOINT)) << "a client of the published port";
  }
}

// As a resolver of the node's own does.
TEST_P(Host, AnAnswerOnLoopbackIsNotTheServices) {
  node().add_service({.address = who().any,
                      .port = kNodePort,
                      .proto = 17,
                      .backends = {{who().server, kServerPort}},
                      .flags = FRONTEND_HOST_PORT,
                      .scope = SCOPE_ANY_LOCAL});
  const Netns::Inside inside(node().netns());
  const Fd socket = connected_socket(who(), false, kNodePort, who().loopback, 53);
  ASSERT_TRUE(socket) << strerror(errno);
  const auto sent = [&](uint16_t from) {
    return node().run(
        HOOK_from_host, "lo",
        Eth{} / header(who().loopback, who().loopback) / Udp{.sport = from, .dport = kNodePort});
  };
  EXPECT_THAT(sent(53), HasVerdict(VERDICT_PASS));
  EXPECT_THAT(sent(54), HasVerdict(VERDICT_TO_ENDPOINT)) << "a client of the published port";
}

// Found by churn: a client whose port was last used towards the node port now asks its backend, a process of
// this node, itself. The answer is that process's and not the service's.
TEST_P(Host, AConnectionThatEndedDoesNotTakeTheAnswersOfTheNextOne) {
  node().add_service({.address = who().any,
                      .port = kNodePort,
                      .backends = {{who().node1, 9090}},
                      .flags = FRONTEND_NODE_PORT,
                      .scope = SCOPE_ANY_LOCAL});
  const auto arrives = [&](uint16_t port, uint8_t flags) {
    return node().run(HOOK_from_uplink, "uplink",
                      from_wire() / Ip{.src = who().outside, .dst = who().node1} /
                          Tcp{.sport = kClientPort, .dport = port, .flags = flags});
  };
  EXPECT_EQ(arrives(kNodePort, SYN).flow_delta, 2);
  arrives(kNodePort, RST);
  const auto next = arrives(9090, SYN);
  EXPECT_THAT(next, HasVerdict(VERDICT_PASS));
  EXPECT_EQ(next.flow_delta, -2);
}

/// A client that uses one port of its own towards a node port and towards the process of this node behind it.
class HostClash : public Host {
 protected:
  static constexpr uint16_t kProcess = 9090;
  void serve(uint8_t proto) {
    node().reset();
    node().add_service({.address = who().any,
                        .port = kNodePort,
                        .proto = proto,
                        .backends = {{who().node1, kProcess}},
                        .flags = FRONTEND_NODE_PORT,
                        .scope = SCOPE_ANY_LOCAL});
  }
  static Packet segment(const Packet& header, uint8_t proto, uint16_t sport, uint16_t dport, uint8_t flags) {
    return proto == 6 ? header / Tcp{.sport = sport, .dport = dport, .flags = flags}
                      : header / Udp{.sport = sport, .dport = dport};
  }
  static uint16_t source(const Outcome& run) {
    const auto* tcp = run.packet.find<Tcp>();
    return tcp ? tcp->sport : run.packet.at<Udp>().sport;
  }
  static uint16_t destination(const Outcome& run) {
    const auto* tcp = run.packet.find<Tcp>();
    return tcp ? tcp->dport : run.packet.at<Udp>().dport;
  }
  Outcome arrives(uint8_t proto, uint16_t port, uint8_t flags = SYN) {
    return node().run(
        HOOK_from_uplink, "uplink",
        from_wire() / segment(header(who().outside, who().node1), proto, kClientPort, port, flags));
  }
  Outcome process_answers(uint8_t proto, uint16_t to) {
    return to_uplink(segment(header(who().node1, who().outside), proto, kProcess, to, SYN | ACK));
  }
};

TEST_P(HostClash, BothAreAnsweredWhereTheServiceIsFirst) {
  for (const uint8_t proto : {6, 17}) {
    SCOPED_TRACE(int{proto});
    serve(proto);
    EXPECT_EQ(source(arrives(proto, kNodePort)), kClientPort);
    const auto direct = arrives(proto, kProcess);
    EXPECT_THAT(direct, HasVerdict(VERDICT_TO_HOST));
    EXPECT_EQ(destination(direct), kProcess);
    const uint16_t moved = source(direct);
    EXPECT_NE(moved, kClientPort);
    EXPECT_EQ(source(arrives(proto, kProcess, ACK)), moved);
    const auto to_direct = process_answers(proto, moved);
    EXPECT_EQ(source(to_direct), kProcess);
    EXPECT_EQ(destination(to_direct), kClientPort);
    const auto to_service = process_answers(proto, kClientPort);
    EXPECT_EQ(source(to_service), kNodePort);
    EXPECT_EQ(destination(to_service), kClientPort);
  }
}

TEST_P(HostClash, BothAreAnsweredWhereTheProcessIsFirst) {
  serve(6);
  const Netns::Inside inside(node().netns());
  const Fd socket = connected_socket(who(), true, kProcess, who().outside, kClientPort);
  ASSERT_TRUE(socket) << strerror(errno);
  const auto service = arrives(6, kNodePort);
  EXPECT_THAT(service, HasVerdict(VERDICT_TO_HOST));
  const uint16_t moved = source(service);
  EXPECT_NE(moved, kClientPort);
  const auto to_service = process_answers(6, moved);
  EXPECT_EQ(source(to_service), kNodePort);
  EXPECT_EQ(destination(to_service), kClientPort);
  EXPECT_THAT(process_answers(6, kClientPort), HasVerdict(VERDICT_PASS));
}

// A server with a connected socket for each client: its client is not another one after a pause.
TEST_P(HostClash, AnUdpSessionOfTheServiceGoesOnWhenItsFlowIsMadeAgain) {
  serve(17);
  EXPECT_EQ(source(arrives(17, kNodePort)), kClientPort);
  const Netns::Inside inside(node().netns());
  const Fd socket = connected_socket(who(), false, kProcess, who().outside, kClientPort);
  ASSERT_TRUE(socket) << strerror(errno);
  serve(17);  // forgets all flows
  EXPECT_EQ(source(arrives(17, kNodePort)), kClientPort);
  EXPECT_EQ(source(process_answers(17, kClientPort)), kNodePort);
}

// A half closed connection may carry most of its data still.
TEST_P(HostClash, AHalfClosedConnectionLives) {
  serve(6);
  arrives(6, kNodePort);
  arrives(6, kNodePort, FIN | ACK);
  EXPECT_NE(source(arrives(6, kProcess)), kClientPort);
  EXPECT_EQ(source(process_answers(6, kClientPort)), kNodePort);
}

TEST_P(HostClash, OnLoopbackToo) {
  for (const uint8_t proto : {6, 17}) {
    SCOPED_TRACE(int{proto});
    serve(proto);
    const auto sends = [&](uint16_t from, uint16_t to, uint8_t flags) {
      return node().run(HOOK_from_host, "lo",
                        Eth{} / segment(header(who().node1, who().node1), proto, from, to, flags));
    };
    EXPECT_EQ(source(sends(kClientPort, kNodePort, SYN)), kClientPort);
    const uint16_t moved = source(sends(kClientPort, kProcess, SYN));
    EXPECT_NE(moved, kClientPort);
    const auto to_direct = sends(kProcess, moved, SYN | ACK);
    EXPECT_EQ(source(to_direct), kProcess);
    EXPECT_EQ(destination(to_direct), kClientPort);
    EXPECT_EQ(source(sends(kProcess, kClientPort, SYN | ACK)), kNodePort);
  }
}

INSTANTIATE_FAMILIES(Host);
INSTANTIATE_FAMILIES(HostClash);

}  // namespace
}  // namespace bpfnet::test
