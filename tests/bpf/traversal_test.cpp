// A packet's life, hook after hook: what one program sends is what the next one gets.
#include "tests/bpf/traversal.h"

namespace bpfnet::test {
namespace {

TEST_P(Traversal, PodToPodOnOneNode) {
  const auto syn = pod_sends(one(), 1, header(who().client, who().server) / Tcp{.sport = 9, .dport = 80});
  EXPECT_THAT(
      syn, Sends(VERDICT_TO_ENDPOINT, header(who().client, who().server, 63) / Tcp{.sport = 9, .dport = 80}));
  const auto syn_ack = pod_sends(
      one(), 2, header(who().server, who().client) / Tcp{.sport = 80, .dport = 9, .flags = SYN | ACK});
  EXPECT_THAT(syn_ack, LeavesBy(one().ifindex("pod1")));
  const auto ack =
      pod_sends(one(), 1, header(who().client, who().server) / Tcp{.sport = 9, .dport = 80, .flags = ACK});
  EXPECT_THAT(ack, LeavesBy(one().ifindex("pod2")));
  EXPECT_EQ(one().flows().size(), 2U);
}

TEST_P(Traversal, PodToPodAcrossNodesAndBack) {
  const auto syn = pod_sends(one(), 1, header(who().client, who().remote) / Tcp{.sport = 9, .dport = 80});
  const auto arrived = across(one(), two(), syn);
  EXPECT_THAT(arrived, Sends(VERDICT_TO_ENDPOINT,
                             header(who().client, who().remote, 62) / Tcp{.sport = 9, .dport = 80}));
  const auto answer = pod_sends(
      two(), 1, header(who().remote, who().client) / Tcp{.sport = 80, .dport = 9, .flags = SYN | ACK});
  const auto back = across(two(), one(), answer);
  EXPECT_THAT(back, Sends(VERDICT_TO_ENDPOINT, header(who().remote, who().client, 62) /
                                                   Tcp{.sport = 80, .dport = 9, .flags = SYN | ACK}));
}

TEST_P(Traversal, PodToClusterIpOnAnotherNodeAndBack) {
  one().add_service({.address = who().vip, .port = 80, .backends = {{who().remote, kServerPort}}});
  const auto arrived = across(
      one(), two(), pod_sends(one(), 1, header(who().client, who().vip) / Tcp{.sport = 9, .dport = 80}));
  EXPECT_THAT(arrived, Sends(VERDICT_TO_ENDPOINT,
                             header(who().client, who().remote, 62) / Tcp{.sport = 9, .dport = kServerPort}));
  const auto back = across(two(), one(),
                           pod_sends(two(), 1,
                                     header(who().remote, who().client) /
                                         Tcp{.sport = kServerPort, .dport = 9, .flags = SYN | ACK}));
  EXPECT_THAT(back, Sends(VERDICT_TO_ENDPOINT, header(who().vip, who().client, 62) /
                                                   Tcp{.sport = 80, .dport = 9, .flags = SYN | ACK}));
}

// S21: the backend's node sees node 1 as the client, so the answer returns through it.
TEST_P(Traversal, NodePortWithABackendOnAnotherNodeAndBack) {
  one().add_service({.address = who().any,
                     .port = kNodePort,
                     .backends = {{who().remote, kServerPort}},
                     .flags = FRONTEND_NODE_PORT,
                     .scope = SCOPE_ANY_LOCAL});
  const auto forwarded =
      wire_brings(one(), header(who().outside, who().node1) / Tcp{.sport = 9, .dport = kNodePort});
  const auto arrived = across(one(), two(), forwarded);
  EXPECT_THAT(arrived, Sends(VERDICT_TO_ENDPOINT, header(who().node1, who().remote, 62) /
                                                      Tcp{.sport = sport(forwarded), .dport = kServerPort}));
  const auto answer = pod_sends(two(), 1,
                                header(who().remote, who().node1) /
                                    Tcp{.sport = kServerPort, .dport = sport(forwarded), .flags = SYN | ACK});
  const auto back = across(two(), one(), answer);
  EXPECT_THAT(back, Sends(VERDICT_TO_NEXT_HOP, header(who().node1, who().outside, 62) /
                                                   Tcp{.sport = kNodePort, .dport = 9, .flags = SYN | ACK}));
}

TEST_P(Traversal, NodePortWithALocalBackendAndBack) {
  one().add_service({.address = who().any,
                     .port = kNodePort,
                     .backends = {{who().server, kServerPort}},
                     .flags = FRONTEND_NODE_PORT,
                     .scope = SCOPE_ANY_LOCAL});
  EXPECT_THAT(wire_brings(one(), header(who().outside, who().node1) / Tcp{.sport = 9, .dport = kNodePort}),
              LeavesBy(one().ifindex("pod2")));
  const auto answer = pod_sends(
      one(), 2,
      header(who().server, who().outside) / Tcp{.sport = kServerPort, .dport = 9, .flags = SYN | ACK});
  EXPECT_THAT(answer,
              Sends(VERDICT_TO_NEXT_HOP, header(who().node1, who().outside, 63) /
                                             Tcp{.sport = kNodePort, .dport = 9, .flags = SYN | ACK}));
}

// S22: a pod's way to a node port of its own node keeps its address.
TEST_P(Traversal, PodToItsNodesNodePort) {
  one().add_service({.address = who().any,
                     .port = kNodePort,
                     .backends = {{who().remote, kServerPort}},
                     .flags = FRONTEND_NODE_PORT,
                     .scope = SCOPE_ANY_LOCAL});
  const auto sent =
      pod_sends(one(), 1, header(who().client, who().node1) / Tcp{.sport = 9, .dport = kNodePort});
  EXPECT_THAT(sent, Sends(VERDICT_TO_NEXT_HOP,
                          header(who().client, who().remote, 63) / Tcp{.sport = 9, .dport = kServerPort}));
}

TEST_P(Traversal, MasqueradeAndBackForAWholeConnection) {
  const auto syn = pod_sends(one(), 1, header(who().client, who().outside) / Tcp{.sport = 9, .dport = 80});
  const uint16_t port = sport(syn);
  const auto syn_ack = wire_brings(
      one(), header(who().outside, who().node1) / Tcp{.sport = 80, .dport = port, .flags = SYN | ACK});
  EXPECT_THAT(syn_ack, Sends(VERDICT_TO_ENDPOINT, header(who().outside, who().client, 63) /
                                                      Tcp{.sport = 80, .dport = 9, .flags = SYN | ACK}));
  const auto data = pod_sends(one(), 1,
                              header(who().client, who().outside) /
                                  Tcp{.sport = 9, .dport = 80, .flags = ACK | PSH} / Payload("GET /"));
  EXPECT_THAT(data, Sends(VERDICT_TO_NEXT_HOP, header(who().node1, who().outside, 63) /
                                                   Tcp{.sport = port, .dport = 80, .flags = ACK | PSH} /
                                                   Payload("GET /")));
  const auto fin = wire_brings(
      one(), header(who().outside, who().node1) / Tcp{.sport = 80, .dport = port, .flags = FIN | ACK});
  EXPECT_THAT(fin, LeavesBy(one().ifindex("pod1")));
}

TEST_P(Traversal, HostToClusterIpOnAnotherNodeAndBack) {
  one().add_service({.address = who().vip, .port = 80, .backends = {{who().remote, kServerPort}}});
  const auto sent = host_sends(one(), header(who().node1, who().vip) / Tcp{.sport = 9, .dport = 80});
  const auto arrived = across(one(), two(), sent);
  EXPECT_THAT(arrived, LeavesBy(two().ifindex("pod1")));
  const auto answer = pod_sends(two(), 1,
                                header(who().remote, who().node1) /
                                    Tcp{.sport = kServerPort, .dport = sport(sent), .flags = SYN | ACK});
  const auto back = across(two(), one(), answer);
  EXPECT_THAT(back, HasVerdict(VERDICT_TO_HOST));
  EXPECT_EQ(sport(back), 80);
}

// P13 across nodes: the remote node's datapath judges the pod, not the node.
TEST_P(Traversal, IngressPolicyOfARemotePod) {
  two().change_pod(1, [](auto& pod) { pod.ingress_set = 20; });
  const Packet syn = header(who().client, who().remote) / Tcp{.sport = 9, .dport = 80};
  EXPECT_THAT(across(one(), two(), pod_sends(one(), 1, syn)), Drops(DROP_POLICY_INGRESS));
  two().add_policy(20, 1001, 6, 80);
  EXPECT_THAT(across(one(), two(), pod_sends(one(), 1, syn)), HasVerdict(VERDICT_TO_ENDPOINT));
}

// P17: on both nodes alike.
TEST_P(Traversal, PolicyChangeCutsALiveConnectionOnTheOtherNode) {
  const Packet syn = header(who().client, who().remote) / Tcp{.sport = 9, .dport = 80};
  EXPECT_THAT(across(one(), two(), pod_sends(one(), 1, syn)), HasVerdict(VERDICT_TO_ENDPOINT));
  two().change_pod(1, [](auto& pod) { pod.ingress_set = POLICY_SET_DENY_ALL, ++pod.epoch; });
  const Packet ack = header(who().client, who().remote) / Tcp{.sport = 9, .dport = 80, .flags = ACK};
  EXPECT_THAT(across(one(), two(), pod_sends(one(), 1, ack)), Drops(DROP_POLICY_INGRESS));
  EXPECT_EQ(two().flows().size(), 0U);
}

// The whole way of a traceroute: the second node is the second hop.
TEST_P(Traversal, TimeExceededOnTheOtherNodeComesBack) {
  const auto probe = pod_sends(
      one(), 1,
      header(who().client, who().remote, 2) / Udp{.sport = 9, .dport = 33434} / Payload("traceroute-1"));
  const auto expired = across(one(), two(), probe);
  EXPECT_EQ(expired.reason(), DROP_TTL_EXCEEDED);
  const auto told = wire_brings(one(), l3(expired));
  EXPECT_THAT(told, HasVerdict(VERDICT_TO_ENDPOINT));
  EXPECT_THAT(told, LeavesBy(one().ifindex("pod1")));
}

TEST_P(Traversal, EchoAcrossNodes) {
  const auto request = pod_sends(one(), 1, header(who().client, who().remote) / Echo{.id = 7});
  EXPECT_THAT(across(one(), two(), request),
              Sends(VERDICT_TO_ENDPOINT, header(who().client, who().remote, 62) / Echo{.id = 7}));
  const auto reply = pod_sends(two(), 1, header(who().remote, who().client) / Echo{.id = 7, .reply = true});
  EXPECT_THAT(across(two(), one(), reply), Sends(VERDICT_TO_ENDPOINT, header(who().remote, who().client, 62) /
                                                                          Echo{.id = 7, .reply = true}));
}

INSTANTIATE_FAMILIES(Traversal);

}  // namespace
}  // namespace bpfnet::test
