#include "control/agent/node_links.h"

#include <linux/rtnetlink.h>

#include <algorithm>

#include "control/agent/overlay.h"
#include "loader/defrag.h"
#include "maps/convert.h"

namespace bpfnet::agent {

Result<NodeLinks> NodeLinks::read(loader::Netlink& netlink) {
  NodeLinks node;
  auto links = netlink.links();
  if (!links) return pass(links);
  auto addresses = netlink.addresses();
  if (!addresses) return pass(addresses);
  node.links = std::move(*links);
  node.addresses = std::move(*addresses);
  return node;
}

const loader::Link* NodeLinks::find(int ifindex) const {
  auto found =
      std::find_if(links.begin(), links.end(), [&](const auto& link) { return link.ifindex == ifindex; });
  return found == links.end() ? nullptr : &*found;
}

const loader::Link* NodeLinks::find(const std::string& name) const {
  auto found = std::find_if(links.begin(), links.end(), [&](const auto& link) { return link.name == name; });
  return found == links.end() ? nullptr : &*found;
}

std::vector<Address> NodeLinks::own_addresses() const {
  std::vector<Address> own;
  for (const auto& entry : addresses)
    if (!entry.address.is_loopback() && !entry.address.is_link_local()) own.push_back(entry.address);
  std::sort(own.begin(), own.end());
  own.erase(std::unique(own.begin(), own.end()), own.end());
  return own;
}

std::optional<Address> NodeLinks::address_of(int ifindex, Family family) const {
  for (const auto& entry : addresses)
    if (entry.ifindex == ifindex && entry.address.family() == family && entry.scope == RT_SCOPE_UNIVERSE)
      return entry.address;
  return std::nullopt;
}

int NodeLinks::holder(const Address& address) const {
  auto found = std::find_if(addresses.begin(), addresses.end(),
                            [&](const auto& entry) { return entry.address == address; });
  return found == addresses.end() ? 0 : found->ifindex;
}

std::optional<uint32_t> NodeLinks::largest_mtu(const std::vector<int>& devices) const {
  std::optional<uint32_t> largest;
  for (const int device : devices)
    if (const loader::Link* link = find(device))
      largest = std::max({largest.value_or(0), link->mtu, kDefaultMtu});
  return largest;
}

std::optional<int> NodeLinks::segment(const Address& address, const std::vector<int>& candidates) const {
  const loader::InterfaceAddress* closest = nullptr;
  for (const auto& entry : addresses) {
    if (entry.address.family() != address.family() || entry.prefix_length >= address.bits()) continue;
    if (std::find(candidates.begin(), candidates.end(), entry.ifindex) == candidates.end()) continue;
    if (!Cidr(entry.address, entry.prefix_length).contains(address)) continue;
    if (!closest || entry.prefix_length > closest->prefix_length) closest = &entry;
  }
  return closest ? std::optional(closest->ifindex) : std::nullopt;
}

NodeAddresses node_addresses(const NodeLinks& links, const std::vector<int>& uplinks,
                             const model::Node* node) {
  const auto choose = [&](Family family) -> std::optional<Address> {
    if (node) {
      auto named = node->address(family);
      if (named && links.holder(*named) != 0) return named;
    }
    for (const int uplink : uplinks)
      if (auto address = links.address_of(uplink, family)) return address;
    return std::nullopt;
  };
  return {.ip4 = choose(Family::kIpv4), .ip6 = choose(Family::kIpv6)};
}

Result<std::vector<int>> choose_uplinks(const std::vector<std::string>& names, const NodeLinks& links,
                                        const std::vector<loader::Link>& default_devices,
                                        const model::Node* node) {
  std::vector<int> uplinks;
  const auto add = [&uplinks](int ifindex) {
    if (ifindex != 0 && std::find(uplinks.begin(), uplinks.end(), ifindex) == uplinks.end())
      uplinks.push_back(ifindex);
  };
  if (!names.empty()) {
    for (const std::string& name : names) {
      const loader::Link* link = links.find(name);
      if (!link) {
        std::string present;
        for (const auto& other : links.links) present += (present.empty() ? "" : ", ") + other.name;
        return fail("uplink {}: no such device in this network namespace (there are: {})", name, present);
      }
      add(link->ifindex);
    }
    return uplinks;
  }
  for (const auto& device : default_devices)
    if (device.name != kHostDevice && device.name != kRouterDevice && device.name != loader::kDefragDevice &&
        device.name != kOverlayDevice)
      add(device.ifindex);
  if (uplinks.empty() && node) {
    for (const Family family : {Family::kIpv4, Family::kIpv6})
      if (auto address = node->address(family)) add(links.holder(*address));
  }
  return uplinks;
}

std::map<uint32_t, interface> interface_records(const NodeLinks& links, const std::vector<int>& uplinks,
                                                int host_ifindex, int router_ifindex,
                                                const NodeAddresses& node) {
  std::map<uint32_t, interface> records;
  const auto add = [&](int ifindex, interface_kind kind, const std::optional<Address>& ip4,
                       const std::optional<Address>& ip6) {
    const loader::Link* link = links.find(ifindex);
    if (!link) return;
    interface record {};
    record.kind = static_cast<uint8_t>(kind);
    if (ip4) record.ip4 = maps::to_abi(*ip4);
    if (ip6) record.ip6 = maps::to_abi(*ip6);
    record.mac = maps::to_abi(link->mac);
    record.mtu = static_cast<uint16_t>(std::min<uint32_t>(link->mtu, UINT16_MAX));
    records[static_cast<uint32_t>(ifindex)] = record;
  };
  for (const int uplink : uplinks) {
    // The node's address where the device holds it, else the device's first.
    const auto source = [&](Family family) {
      auto own = node.of(family);
      if (own && links.holder(*own) == uplink) return own;
      return links.address_of(uplink, family);
    };
    add(uplink, INTERFACE_UPLINK, source(Family::kIpv4), source(Family::kIpv6));
  }
  add(host_ifindex, INTERFACE_HOST, node.ip4, node.ip6);
  add(router_ifindex, INTERFACE_HOST, node.ip4, node.ip6);
  for (const auto& link : links.links)
    if (link.is_loopback()) add(link.ifindex, INTERFACE_LOOPBACK, node.ip4, node.ip6);
  return records;
}

}  // namespace bpfnet::agent
