// What a test node is made of: devices, routes, and the records that the agent would write.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <linux/bpf.h>

#include <cerrno>
#include <stdexcept>

#include "maps/convert.h"
#include "tests/support/must.h"
#include "tests/support/node.h"

namespace bpfnet::test {
namespace {

constexpr int kPods = 4;

/// veth tells XDP programs its receive queue only while one is attached; BPF_PROG_TEST_RUN insists on it.
Status attach_empty_xdp(uint32_t ifindex) {
  const bpf_insn program[] = {
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = XDP_PASS},
      {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};
  const Fd loaded(bpf_prog_load(BPF_PROG_TYPE_XDP, "pass", "GPL", program, 2, nullptr));
  if (!loaded) return fail_errno(errno, "load an empty XDP program");
  const int error = bpf_xdp_attach(static_cast<int>(ifindex), loaded.get(), 0, nullptr);
  return error == 0 ? ok() : Status(fail_errno(error, "attach an empty XDP program"));
}

Mac host_side_mac(int pod) {
  return Mac{{0x02, 0xcc, 0, 0, 0, static_cast<uint8_t>(pod)}};
}

}  // namespace

datapath_config default_config() {
  datapath_config config{};
  config.layout_version = ABI_LAYOUT_VERSION;
  config.tick_shift = 16;
  config.tick_ns = 262'144'000'000ULL;
  config.hash_seed = 0x5eed;
  config.max_flows = 256;
  config.timeout_tcp_new = 60;
  config.timeout_tcp_established = 86400;
  config.timeout_tcp_closing = 3600;
  config.timeout_tcp_closed = 10;
  config.timeout_udp_new = 30;
  config.timeout_udp_established = 180;
  config.timeout_icmp = 20;
  config.masquerade_port_first = 32768;
  config.masquerade_port_last = 60999;
  config.mark = 0x0b000000;
  config.mark_mask = 0xff000000;
  config.masquerade = 1;
  config.trace = 1;
  config.event_rate = 1U << 20;
  return config;
}

Status Node::make_devices() {
  const Actors v4(Family::kIpv4);
  const Actors v6(Family::kIpv6);
  const bool first = number_ == 1;
  const int own = number_;
  const int other = 3 - number_;
  const Mac host_mac{{0x02, 0xdd, 0, 0, 0, static_cast<uint8_t>(own)}};
  macs_ = {{"uplink", node_mac(own)}, {"bpfnet0", host_mac}, {"bpfnet1", host_mac}};
  std::string batch = fmt::format(
      "link add uplink address {} type veth peer name uplinkp\n"
      "link add bpfnet0 address {} type veth peer name bpfnet1 address {}\n"
      "link set bpfnet0 arp off\nlink set lo up\n",
      node_mac(own).to_string(), host_mac.to_string(), host_mac.to_string());
  std::vector<std::string> devices = {"uplink", "uplinkp", "bpfnet0", "bpfnet1"};
  for (int pod = 1; pod <= kPods; ++pod) {
    const std::string name = fmt::format("pod{}", pod);
    macs_[name] = host_side_mac(pod);
    batch +=
        fmt::format("link add {} address {} type veth peer name {}p address {}\n", name,
                    host_side_mac(pod).to_string(), name, pod_mac(static_cast<uint32_t>(pod)).to_string());
    devices.push_back(name);
    devices.push_back(name + "p");
  }
  if (config_.overlay_port != 0) {
    const struct mac to = OVERLAY_MAC_TO;
    macs_["bpfnet3"] = maps::from_abi(to);
    batch += fmt::format("link add bpfnet3 address {} type vxlan external dstport {}\n",
                         macs_["bpfnet3"].to_string(), maps::from_network(config_.overlay_port));
    devices.push_back("bpfnet3");
  }
  for (const auto& device : devices) batch += fmt::format("link set {} up\n", device);
  for (const auto* actors : {&v4, &v6}) {
    const auto& here = first ? actors->node1 : actors->node2;
    const auto& there = first ? actors->node2 : actors->node1;
    batch += fmt::format("addr add {}/{} dev uplink{}\n", here.to_string(), actors->v4() ? 24 : 64,
                         actors->v4() ? "" : " nodad");
    for (const auto& [address, mac] : {std::pair{there, node_mac(other)}, {actors->gateway, gateway_mac()}}) {
      batch += fmt::format("neigh add {} lladdr {} dev uplink nud permanent\n", address.to_string(),
                           mac.to_string());
    }
    batch += fmt::format("route add {} via {} dev uplink\n", actors->v4() ? "0.0.0.0/0" : "::/0",
                         actors->gateway.to_string());
    batch +=
        fmt::format("route add {} via {} dev uplink\n",
                    actors->v4() ? fmt::format("10.{}.0.0/16", other) : fmt::format("fd00:{}::/64", other),
                    there.to_string());
    batch += fmt::format("route add {} dev bpfnet0\nroute add {} dev bpfnet0\n",
                         actors->v4() ? fmt::format("10.{}.0.0/16", own) : fmt::format("fd00:{}::/64", own),
                         actors->v4() ? "10.96.0.0/12" : "fd00:10:96::/112");
  }
  BPFNET_TRY(netns_.ip_batch(batch));
  for (const char* name : {"net/ipv4/conf/bpfnet0/forwarding", "net/ipv4/conf/bpfnet1/forwarding",
                           "net/ipv6/conf/bpfnet0/forwarding", "net/ipv6/conf/bpfnet1/forwarding"}) {
    BPFNET_TRY(netns_.set_sysctl(name, "1"));
  }
  ifindexes_["lo"] = 1;
  for (const auto& device : devices) ifindexes_[device] = netns_.ifindex(device);
  const Netns::Inside inside(netns_);
  return attach_empty_xdp(ifindex("uplink"));
}

void Node::add_devices() {
  const Actors v4(Family::kIpv4);
  const Actors v6(Family::kIpv6);
  interface uplink {};
  uplink.ip4 = maps::to_abi(number_ == 1 ? v4.node1 : v4.node2);
  uplink.ip6 = maps::to_abi(number_ == 1 ? v6.node1 : v6.node2);
  uplink.kind = INTERFACE_UPLINK;
  uplink.mac = maps::to_abi(device_mac("uplink"));
  uplink.mtu = 1500;
  must(maps_.interfaces.put(ifindex("uplink"), uplink));
  interface host = uplink;
  host.kind = INTERFACE_HOST;
  host.mac = maps::to_abi(device_mac("bpfnet0"));
  must(maps_.interfaces.put(ifindex("bpfnet1"), host));
  must(maps_.interfaces.put(ifindex("bpfnet0"), host));
  interface loopback = host;
  loopback.kind = INTERFACE_LOOPBACK;
  loopback.mac = {};
  must(maps_.interfaces.put(ifindex("lo"), loopback));
  if (config_.overlay_port == 0) return;
  interface overlay {};
  overlay.kind = INTERFACE_OVERLAY;
  overlay.mac = OVERLAY_MAC_TO;
  overlay.mtu = 1450;
  must(maps_.interfaces.put(ifindex("bpfnet3"), overlay));
}

void Node::add_actors() {
  const Actors v4(Family::kIpv4);
  const Actors v6(Family::kIpv6);
  if (number_ == 1) {
    add_pod({.index = 1, .addresses = {v4.client, v6.client}, .identity = 1001});
    add_pod({.index = 2, .addresses = {v4.server, v6.server}, .identity = 1002});
  } else {
    add_pod({.index = 1, .addresses = {v4.remote, v6.remote}, .identity = 1003});
  }
  for (const auto* actors : {&v4, &v6}) {
    const auto& here = number_ == 1 ? actors->node1 : actors->node2;
    const auto& there = number_ == 1 ? actors->node2 : actors->node1;
    add_node_address(here, ADDRESS_LOCAL_NODE | ADDRESS_NODE_PORT);
    add_node_address(there, ADDRESS_REMOTE_NODE);
    if (number_ == 1) {
      add_remote_pod(actors->remote, 1003);
    } else {
      add_remote_pod(actors->client, 1001);
      add_remote_pod(actors->server, 1002);
    }
  }
  for (int of : {1, 2}) {
    const uint16_t on = of == number_ ? uint16_t{0} : static_cast<uint16_t>(of);
    for (const std::string& pods : {fmt::format("10.{}.0.0/16", of), fmt::format("fd00:{}::/64", of)})
      add_cidr(cidr(pods), IDENTITY_WORLD, CIDR_CLUSTER, on);
  }
  add_tunnel(other(), number_ == 1 ? v4.node2 : v4.node1, number_ == 1 ? v4.node1 : v4.node2);
  for (const char* services : {"10.96.0.0/12", "fd00:10:96::/112"}) {
    add_cidr(cidr(services), IDENTITY_WORLD, CIDR_SERVICE);
  }
}

void Node::add_pod(const PodSpec& pod) {
  const std::string device = fmt::format("pod{}", pod.index);
  endpoint record{};
  for (const auto& address : pod.addresses) {
    (address.is_ipv4() ? record.ip4 : record.ip6) = maps::to_abi(address);
    address_info info{};
    info.identity = pod.identity;
    info.endpoint = static_cast<uint16_t>(pod.index);
    info.flags = ADDRESS_POD | ADDRESS_LOCAL_POD;
    must(maps_.addresses.put(maps::make_address_key(address), info));
  }
  record.ifindex = ifindex(device);
  record.identity = pod.identity;
  record.ingress_set = pod.ingress_set;
  record.egress_set = pod.egress_set;
  record.epoch = 1;
  record.mac = maps::to_abi(pod_mac(pod.index));
  record.host_mac = maps::to_abi(device_mac(device));
  record.state = pod.state;
  record.mtu = 1500;
  must(maps_.endpoints.put(pod.index, record));
  interface link {};
  link.kind = INTERFACE_POD;
  link.endpoint = static_cast<uint16_t>(pod.index);
  link.mac = record.host_mac;
  link.mtu = 1500;
  must(maps_.interfaces.put(record.ifindex, link));
}

void Node::add_remote_pod(const Address& address, uint32_t identity, uint16_t on) {
  address_info info{};
  info.identity = identity;
  info.flags = ADDRESS_POD;
  info.node = on != 0 ? on : other();
  must(maps_.addresses.put(maps::make_address_key(address), info));
}

void Node::add_node_address(const Address& address, uint16_t flags, uint16_t index) {
  const bool own = (flags & ADDRESS_LOCAL_NODE) != 0;
  address_info info{};
  info.identity = own ? IDENTITY_HOST : IDENTITY_REMOTE_NODE;
  info.flags = flags;
  info.node = own ? uint16_t{0} : index != 0 ? index : other();
  must(maps_.addresses.put(maps::make_address_key(address), info));
}

void Node::add_tunnel(uint16_t index, const Address& addr, const Address& source, uint16_t mtu) {
  ::node record{};
  if (addr != ip("0.0.0.0")) {
    record.addr = maps::to_abi(addr);
    record.source = maps::to_abi(source);
  }
  record.mtu = mtu;
  must(maps_.nodes.put(index, record));
}

uint32_t Node::add_service(const ServiceSpec& service) {
  const uint32_t first_backend = next_backend_;
  const auto write_run = [&](const std::vector<BackendSpec>& backends) {
    const uint32_t first = next_slot_;
    for (const auto& backend : backends) {
      backend_slot slot{};
      slot.addr = maps::to_abi(backend.address);
      slot.port = maps::to_network(backend.port);
      slot.backend = next_backend_++;
      slot.generation = 1;
      must(maps_.backend_states.put(slot.backend, {.generation = 1}));
      must(maps_.backend_slots.put(next_slot_++, slot));
    }
    return first;
  };
  frontend record{};
  record.first = write_run(service.backends);
  record.count = static_cast<uint32_t>(service.backends.size());
  record.ext_first = record.first;
  record.ext_count = record.count;
  if (service.outside_backends) {
    record.ext_first = write_run(*service.outside_backends);
    record.ext_count = static_cast<uint32_t>(service.outside_backends->size());
  }
  record.service = service.id;
  record.flags = service.flags;
  record.source_set = service.source_set;
  record.affinity_ticks = service.affinity_ticks;
  record.range_first = service.range_first;
  if (service.port_bits < 16) {
    must(maps_.frontend_ranges.put(
        maps::make_frontend_range_key(service.address, service.port, service.port_bits, service.proto,
                                      service.scope),
        record));
  } else {
    const auto key = maps::make_frontend_key(service.address, service.port, service.proto, service.scope);
    record.seal = frontend_seal(&key, &record);
    must(maps_.frontends.put(key, record));
  }
  return first_backend;
}

void Node::add_source_range(uint32_t set, const Cidr& range) {
  must(maps_.source_ranges.put(maps::make_source_range_key(set, range), {.allowed = 1}));
}

void Node::add_policy(uint32_t set, uint32_t identity, uint8_t proto, uint16_t port, uint8_t port_bits,
                      uint32_t rule, uint8_t verdict) {
  policy_entry entry{};
  entry.rule = rule;
  entry.verdict = verdict;
  must(maps_.policies.put(maps::make_policy_key(set, identity, proto, port, port_bits), entry));
}

void Node::add_cidr(const Cidr& prefix, uint32_t identity, uint32_t flags, uint16_t node) {
  cidr_info info{};
  info.identity = identity;
  info.flags = flags;
  info.node = node;
  must(maps_.cidrs.put(maps::make_cidr_key(prefix), info));
}

}  // namespace bpfnet::test
