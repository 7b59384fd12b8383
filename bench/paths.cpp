#include "bench/paths.h"

namespace bpfnet::bench {
namespace {

using namespace test;

using Prepare = std::function<Packet(Node&, const Actors&)>;

Eth pod_to_gateway(Node& node, int pod) {
  return Eth{.dst = node.device_mac("pod" + std::to_string(pod)),
             .src = Node::pod_mac(static_cast<uint32_t>(pod))};
}
Eth wire(Node& node) {
  return Eth{.dst = node.device_mac("uplink"), .src = Node::gateway_mac()};
}
Eth stack(Node& node) {
  return Eth{.dst = node.device_mac("bpfnet0"), .src = node.device_mac("bpfnet0")};
}

/// A segment as one side sends it.
struct Segment {
  enum hook hook;
  std::string device;
  Eth eth;
  Address src;
  Address dst;
};

Packet tcp(const Segment& s, uint16_t sport, uint16_t dport, int flags) {
  return s.eth / Ip{.src = s.src, .dst = s.dst} /
         Tcp{.sport = sport, .dport = dport, .flags = static_cast<uint8_t>(flags)} / Payload::of_size(64);
}

/// Runs the three packets of a handshake; gives the tuple the answering side sees in `answer`.
uint16_t shake_hands(Node& node, const Segment& client, uint16_t vport, Segment server, uint16_t bport) {
  const auto syn = node.run(client.hook, client.device, tcp(client, kClientPort, vport, SYN));
  const uint16_t port = syn.packet.at<Tcp>().sport;
  if (const auto* v4 = syn.packet.find<Ip4>()) server.dst = v4->src;
  if (const auto* v6 = syn.packet.find<Ip6>()) server.dst = v6->src;
  // A test run has no tunnel: see RunOptions::mark.
  const uint32_t mark = server.hook == HOOK_from_overlay ? node.config().mark : 0;
  node.run(server.hook, server.device, tcp(server, bport, port, SYN | ACK), {.mark = mark});
  node.run(client.hook, client.device, tcp(client, kClientPort, vport, ACK));
  return port;
}

Segment client_pod(Node& node, const Actors& who, const Address& dst) {
  return {HOOK_from_pod, "pod1", pod_to_gateway(node, 1), who.client, dst};
}
Segment server_pod(Node& node, const Actors& who, const Address& dst) {
  return {HOOK_from_pod, "pod2", pod_to_gateway(node, 2), who.server, dst};
}
Segment from_wire(Node& node, const Address& src, const Address& dst) {
  return {HOOK_from_uplink, "uplink", wire(node), src, dst};
}

void add_web(Node& node, const Actors& who, const Address& backend) {
  node.add_service({.address = who.vip, .port = kServicePort, .backends = {{backend, kServerPort}}});
}
void add_node_port(Node& node, const Actors& who, const Address& backend) {
  node.add_service({.address = who.any,
                    .port = kNodePort,
                    .backends = {{backend, kServerPort}},
                    .flags = FRONTEND_NODE_PORT,
                    .scope = SCOPE_ANY_LOCAL});
}

Packet pod_to_pod(Node& node, const Actors& who) {
  const auto client = client_pod(node, who, who.server);
  shake_hands(node, client, kServerPort, server_pod(node, who, who.client), kServerPort);
  return tcp(client, kClientPort, kServerPort, ACK);
}

Packet pod_to_remote_pod(Node& node, const Actors& who) {
  const auto client = client_pod(node, who, who.remote);
  shake_hands(node, client, kServerPort, from_wire(node, who.remote, who.client), kServerPort);
  return tcp(client, kClientPort, kServerPort, ACK);
}

Packet remote_pod_reply(Node& node, const Actors& who) {
  pod_to_remote_pod(node, who);
  return tcp(from_wire(node, who.remote, who.client), kServerPort, kClientPort, ACK);
}

Segment from_tunnel(Node& node, const Actors& who) {
  return {HOOK_from_overlay, "bpfnet3", Eth{.dst = node.device_mac("bpfnet3"), .src = Node::gateway_mac()},
          who.remote, who.client};
}

Packet pod_to_overlay_pod(Node& node, const Actors& who) {
  const auto client = client_pod(node, who, who.remote);
  shake_hands(node, client, kServerPort, from_tunnel(node, who), kServerPort);
  return tcp(client, kClientPort, kServerPort, ACK);
}

Packet overlay_pod_reply(Node& node, const Actors& who) {
  pod_to_overlay_pod(node, who);
  return tcp(from_tunnel(node, who), kServerPort, kClientPort, ACK);
}

Packet new_from(const Segment& client) {
  return client.eth / Ip{.src = client.src, .dst = client.dst} / Udp{.sport = 1, .dport = 53} /
         Payload::of_size(64);
}

Packet new_from_remote_pod(Node& node, const Actors& who) {
  return new_from(from_wire(node, who.remote, who.client));
}

Packet new_from_overlay_pod(Node& node, const Actors& who) {
  return new_from(from_tunnel(node, who));
}

Packet pod_to_cluster_ip_local(Node& node, const Actors& who) {
  add_web(node, who, who.server);
  const auto client = client_pod(node, who, who.vip);
  shake_hands(node, client, kServicePort, server_pod(node, who, who.client), kServerPort);
  return tcp(client, kClientPort, kServicePort, ACK);
}

Packet cluster_ip_reply(Node& node, const Actors& who) {
  pod_to_cluster_ip_local(node, who);
  return tcp(server_pod(node, who, who.client), kServerPort, kClientPort, ACK);
}

Packet pod_to_cluster_ip_remote(Node& node, const Actors& who) {
  add_web(node, who, who.remote);
  const auto client = client_pod(node, who, who.vip);
  shake_hands(node, client, kServicePort, from_wire(node, who.remote, who.client), kServerPort);
  return tcp(client, kClientPort, kServicePort, ACK);
}

Packet pod_to_outside(Node& node, const Actors& who) {
  const auto client = client_pod(node, who, who.outside);
  shake_hands(node, client, 443, from_wire(node, who.outside, who.node1), 443);
  return tcp(client, kClientPort, 443, ACK);
}

Packet outside_reply(Node& node, const Actors& who) {
  const auto client = client_pod(node, who, who.outside);
  const auto answer = from_wire(node, who.outside, who.node1);
  const uint16_t port = shake_hands(node, client, 443, answer, 443);
  return tcp(answer, 443, port, ACK);
}

Packet node_port_local(Node& node, const Actors& who) {
  add_node_port(node, who, who.server);
  const auto client = from_wire(node, who.outside, who.node1);
  shake_hands(node, client, kNodePort, server_pod(node, who, who.outside), kServerPort);
  return tcp(client, kClientPort, kNodePort, ACK);
}

Packet node_port_remote(Node& node, const Actors& who) {
  add_node_port(node, who, who.remote);
  const auto client = from_wire(node, who.outside, who.node1);
  shake_hands(node, client, kNodePort, from_wire(node, who.remote, who.node1), kServerPort);
  return tcp(client, kClientPort, kNodePort, ACK);
}

Packet host_to_cluster_ip(Node& node, const Actors& who) {
  add_web(node, who, who.server);
  const Segment client{HOOK_from_host, "bpfnet1", stack(node), who.node1, who.vip};
  shake_hands(node, client, kServicePort, server_pod(node, who, who.node1), kServerPort);
  return tcp(client, kClientPort, kServicePort, ACK);
}

Packet host_untracked(Node& node, const Actors& who) {
  const Segment client{HOOK_to_uplink, "uplink", wire(node), who.node1, who.outside};
  return tcp(client, kClientPort, 443, ACK);
}

Packet uplink_untracked(Node& node, const Actors& who) {
  return tcp(from_wire(node, who.outside, who.node1), kClientPort, 22, ACK);
}

Packet new_udp(Node& node, const Address& src, const Address& dst) {
  return pod_to_gateway(node, 1) / Ip{.src = src, .dst = dst} / Udp{.sport = 1, .dport = 53} /
         Payload::of_size(64);
}

Packet new_pod_to_pod(Node& node, const Actors& who) {
  return new_udp(node, who.client, who.server);
}

/// What 1,000 policies make on a node of 100 pods: 200 sets of 250 entries. Both ends are isolated, the
/// client by an entry for everybody (two lookups), the server by one for the client among 500.
void add_policies(Node& node) {
  constexpr uint32_t kFirst = 20;
  constexpr uint32_t kSets = 200;
  constexpr uint32_t kIdentities = 125;
  for (uint32_t set = kFirst; set < kFirst + kSets; ++set)
    for (uint32_t i = 0; i < kIdentities; ++i)
      for (const uint8_t proto : {6, 17}) node.add_policy(set, 2000 + 7 * i, proto, 53);
  constexpr uint32_t kClient = kFirst + 70;
  constexpr uint32_t kServer = kFirst + 150;
  for (const uint8_t proto : {6, 17}) {
    node.add_policy(kClient, IDENTITY_ANY, proto, 0, 0);
    node.add_policy(kServer, 1001, proto, 0, 0);
  }
  node.change_pod(1, [](auto& pod) { pod.egress_set = kClient; });
  node.change_pod(2, [](auto& pod) { pod.ingress_set = kServer; });
}

Packet new_pod_to_pod_policy(Node& node, const Actors& who) {
  add_policies(node);
  return new_udp(node, who.client, who.server);
}

Packet pod_to_pod_policy(Node& node, const Actors& who) {
  add_policies(node);
  return pod_to_pod(node, who);
}

Packet new_pod_to_cluster_ip(Node& node, const Actors& who) {
  node.add_service({.address = who.vip, .port = 53, .proto = 17, .backends = {{who.server, 5353}}});
  return new_udp(node, who.client, who.vip);
}

Packet new_pod_to_outside(Node& node, const Actors& who) {
  return new_udp(node, who.client, who.outside);
}

}  // namespace

std::vector<Path> all_paths() {
  struct Row {
    const char* name;
    enum hook hook;
    const char* device;
    bool new_flow;
    Prepare prepare;
    bool overlay = false;
  };
  const std::vector<Row> rows = {
      {"from_pod/established_pod", HOOK_from_pod, "pod1", false, pod_to_pod},
      {"from_pod/established_remote_pod", HOOK_from_pod, "pod1", false, pod_to_remote_pod},
      {"from_pod/established_cluster_ip", HOOK_from_pod, "pod1", false, pod_to_cluster_ip_local},
      {"from_pod/established_cluster_ip_remote", HOOK_from_pod, "pod1", false, pod_to_cluster_ip_remote},
      {"from_pod/established_cluster_ip_reply", HOOK_from_pod, "pod2", false, cluster_ip_reply},
      {"from_pod/established_masquerade", HOOK_from_pod, "pod1", false, pod_to_outside},
      {"from_uplink/established_masquerade_reply", HOOK_from_uplink, "uplink", false, outside_reply},
      {"from_uplink/established_node_port", HOOK_from_uplink, "uplink", false, node_port_local},
      {"from_uplink/established_node_port_remote", HOOK_from_uplink, "uplink", false, node_port_remote},
      {"from_uplink/untracked", HOOK_from_uplink, "uplink", false, uplink_untracked},
      {"to_uplink/untracked", HOOK_to_uplink, "uplink", false, host_untracked},
      {"from_host/established_cluster_ip", HOOK_from_host, "bpfnet1", false, host_to_cluster_ip},
      {"xdp_uplink/untracked", HOOK_xdp_uplink, "uplink", false, uplink_untracked},
      {"xdp_uplink/established_node_port_remote", HOOK_xdp_uplink, "uplink", false, node_port_remote},
      {"from_pod/established_pod_policy_1000", HOOK_from_pod, "pod1", false, pod_to_pod_policy},
      {"from_pod/new_pod", HOOK_from_pod, "pod1", true, new_pod_to_pod},
      {"from_pod/new_pod_policy_1000", HOOK_from_pod, "pod1", true, new_pod_to_pod_policy},
      {"from_pod/new_cluster_ip", HOOK_from_pod, "pod1", true, new_pod_to_cluster_ip},
      {"from_pod/new_masquerade", HOOK_from_pod, "pod1", true, new_pod_to_outside},
      {"from_uplink/established_remote_pod", HOOK_from_uplink, "uplink", false, remote_pod_reply},
      {"from_uplink/new_remote_pod", HOOK_from_uplink, "uplink", true, new_from_remote_pod},
      {"from_pod/established_overlay_pod", HOOK_from_pod, "pod1", false, pod_to_overlay_pod, true},
      {"from_overlay/established_pod", HOOK_from_overlay, "bpfnet3", false, overlay_pod_reply, true},
      {"from_overlay/new_pod", HOOK_from_overlay, "bpfnet3", true, new_from_overlay_pod, true},
  };
  std::vector<Path> paths;
  for (const Row& row : rows) {
    for (const Family family : {Family::kIpv4, Family::kIpv6}) {
      paths.push_back({.name = std::string(row.name) + (family == Family::kIpv4 ? "/v4" : "/v6"),
                       .hook = row.hook,
                       .device = row.device,
                       .overlay = row.overlay,
                       .new_flow = row.new_flow,
                       .prepare = row.prepare,
                       .family = family});
    }
  }
  return paths;
}

}  // namespace bpfnet::bench
