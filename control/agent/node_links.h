#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/result.h"
#include "control/model/objects.h"
#include "loader/netlink.h"
#include "maps/abi/endpoint.h"

namespace bpfnet::agent {

inline constexpr const char* kHostDevice = "bpfnet0";
inline constexpr const char* kRouterDevice = "bpfnet1";
inline constexpr uint32_t kDefaultMtu = 1500;
/// Host sides of pods' veths begin with this (control/cni names them).
inline constexpr const char* kPodDevicePrefix = "bpn";

/// Links and addresses of the node's netns at one moment.
struct NodeLinks {
  std::vector<loader::Link> links;
  std::vector<loader::InterfaceAddress> addresses;

  static Result<NodeLinks> read(loader::Netlink& netlink);

  [[nodiscard]] const loader::Link* find(int ifindex) const;
  [[nodiscard]] const loader::Link* find(const std::string& name) const;
  /// Every address of the stack, sorted, without loopback and link-local ones.
  [[nodiscard]] std::vector<Address> own_addresses() const;
  /// The first global address of the family on the device.
  [[nodiscard]] std::optional<Address> address_of(int ifindex, Family family) const;
  /// The device that holds the address; 0: none.
  [[nodiscard]] int holder(const Address& address) const;
  /// The largest MTU of these devices, at least kDefaultMtu; missing: none of them is there.
  [[nodiscard]] std::optional<uint32_t> largest_mtu(const std::vector<int>& devices) const;
  /// The device among `candidates` with the longest prefix that contains `address`: it is a neighbour there.
  [[nodiscard]] std::optional<int> segment(const Address& address, const std::vector<int>& candidates) const;
};

/// The node's own address of each family: what its Node object says if the node holds it, else the first of
/// the uplinks in their order.
struct NodeAddresses {
  std::optional<Address> ip4;
  std::optional<Address> ip6;
  [[nodiscard]] std::optional<Address> of(Family family) const { return family == Family::kIpv4 ? ip4 : ip6; }
};
NodeAddresses node_addresses(const NodeLinks& links, const std::vector<int>& uplinks,
                             const model::Node* node);

/// Uplinks by the rules of --uplink: the named ones (an unknown name is an error), else the devices of
/// default routes, else those that hold an address of the Node object. May be empty.
Result<std::vector<int>> choose_uplinks(const std::vector<std::string>& names, const NodeLinks& links,
                                        const std::vector<loader::Link>& default_devices,
                                        const model::Node* node);

/// Records of uplinks, host device and loopback, by ifindex. Pods' are added by whoever knows them.
std::map<uint32_t, interface> interface_records(const NodeLinks& links, const std::vector<int>& uplinks,
                                                int host_ifindex, int router_ifindex,
                                                const NodeAddresses& node);

}  // namespace bpfnet::agent
