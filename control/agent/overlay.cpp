#include "control/agent/overlay.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "loader/sysctl.h"
#include "maps/convert.h"

namespace bpfnet::agent {
namespace {

constexpr mac kDeviceMac = OVERLAY_MAC_TO;

/// Nothing of the stack's own goes by tunnels: no link-local addresses, no router discovery. Gone with the
/// device.
constexpr std::pair<const char*, const char*> kSettings[] = {
    {"net/ipv6/conf/bpfnet3/addr_gen_mode", "1"},
    {"net/ipv6/conf/bpfnet3/accept_ra", "0"},
};

Mac device_mac() {
  Mac result;
  std::copy(std::begin(kDeviceMac.b), std::end(kDeviceMac.b), result.bytes.begin());
  return result;
}

Status bring_up(loader::Netlink& netlink, const loader::Link& link, uint16_t port) {
  for (const auto& [key, value] : kSettings) {
    auto written = loader::write_sysctl(key, value);
    if (!written && written.error().code != ENOENT) return pass(written);  // IPv6 may be switched off
  }
  if (link.is_up()) return ok();
  Status up = netlink.set_up(link.ifindex);
  if (!up && up.error().code == EADDRINUSE)
    return fail_errno(EADDRINUSE,
                      "device {}: UDP port {} is in use by another VXLAN device or process; end it or "
                      "choose another --overlay-port, the same on all nodes",
                      kOverlayDevice, port);
  return up;
}

}  // namespace

uint32_t tunnel_overhead(Family outer) {
  return outer == Family::kIpv4 ? 50 : 70;
}

bool is_overlay_device(const loader::Link& link) {
  return link.name == kOverlayDevice && link.kind == "vxlan" && link.vxlan_external;
}

Result<int> ensure_overlay_device(loader::Netlink& netlink, ipam::Store& store, uint16_t port) {
  BPFNET_TRY(store.add_journal({.kind = "device", .object = kOverlayDevice, .before = "", .after = "vxlan"}));
  auto there = netlink.link(kOverlayDevice);
  if (!there) return pass(there);
  if (*there && !is_overlay_device(**there))
    return fail("device {}: exists and is no VXLAN device of ours; remove it or rename it", kOverlayDevice);
  if (*there && ((*there)->vxlan_port != port || (*there)->mac != device_mac())) {
    spdlog::info("device {}: made anew with UDP port {}", kOverlayDevice, port);
    auto deleted = netlink.delete_link(kOverlayDevice);
    if (!deleted) return pass(deleted);
    *there = std::nullopt;
  }
  if (!*there) {
    auto made = netlink.create_vxlan({.name = kOverlayDevice, .port = port, .mac = device_mac()});
    if (!made) return pass(made, "overlay device");
    *there = std::move(*made);
  }
  BPFNET_TRY(bring_up(netlink, **there, port));
  return (*there)->ifindex;
}

Status remove_overlay_device(loader::Netlink& netlink, ipam::Store& store) {
  auto there = netlink.link(kOverlayDevice);
  if (!there) return pass(there);
  if (*there && is_overlay_device(**there)) {
    auto deleted = netlink.delete_link(kOverlayDevice);
    if (!deleted) return pass(deleted);
    spdlog::info("device {}: removed, routing is native", kOverlayDevice);
  }
  return store.remove_journal("device", kOverlayDevice);
}

Family tunnel_family(const model::ClusterState& state, const TunnelInput& input) {
  const auto own = state.nodes.find(input.node_name);
  if (own != state.nodes.end() && !own->second.internal_ips.empty()) {
    const Family first = own->second.internal_ips.front().family();
    if (input.addresses.of(first)) return first;
  }
  return input.addresses.ip4 || !input.addresses.ip6 ? Family::kIpv4 : Family::kIpv6;
}

Tunnels tunnels_to(const model::ClusterState& state, const std::map<std::string, uint16_t>& indices,
                   const TunnelInput& input) {
  const Family first = tunnel_family(state, input);
  const Family second = first == Family::kIpv4 ? Family::kIpv6 : Family::kIpv4;
  Tunnels tunnels;
  uint32_t overhead = tunnel_overhead(first);
  for (const auto& [name, node] : state.nodes) {
    if (name == input.node_name) continue;
    std::optional<Family> common;
    for (const Family family : {second, first})
      if (input.addresses.of(family) && node.address(family)) common = family;
    if (!common) {
      tunnels.unreachable.push_back(name);
      continue;
    }
    overhead = std::max(overhead, tunnel_overhead(*common));
    const auto index = indices.find(name);
    if (index == indices.end()) continue;
    ::node record{};
    record.addr = maps::to_abi(*node.address(*common));
    record.source = maps::to_abi(*input.addresses.of(*common));
    record.mtu =
        static_cast<uint16_t>(std::min<uint32_t>(input.uplink_mtu - tunnel_overhead(*common), UINT16_MAX));
    tunnels.records[index->second] = record;
  }
  tunnels.mtu = input.uplink_mtu - overhead;
  return tunnels;
}

}  // namespace bpfnet::agent
