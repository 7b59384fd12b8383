#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "control/agent/node_links.h"
#include "control/ipam/store.h"
#include "control/model/objects.h"
#include "loader/netlink.h"
#include "maps/abi/endpoint.h"

namespace bpfnet::agent {

/// The device of the tunnels to other nodes.
inline constexpr const char* kOverlayDevice = "bpfnet3";

/// Bytes that a tunnel puts before a packet: outer IP header, UDP, VXLAN, inner Ethernet header.
uint32_t tunnel_overhead(Family outer);

/// Makes the device, or takes over ours that is there; one with another port is made anew. Journalled before
/// it is made. Gives its index.
Result<int> ensure_overlay_device(loader::Netlink& netlink, ipam::Store& store, uint16_t port);
/// Takes away one that an agent with an overlay left. Fine when there is none.
Status remove_overlay_device(loader::Netlink& netlink, ipam::Store& store);
/// Whether it is ours, and not somebody else's device by that name.
bool is_overlay_device(const loader::Link& link);

/// What decides where tunnels begin and end.
struct TunnelInput {
  std::string node_name;       ///< this node's
  NodeAddresses addresses;     ///< and its own
  uint32_t uplink_mtu = 1500;  ///< the smallest of the uplinks
};

/// The family that tunnels have where both ends have both: that of the Node's first address.
Family tunnel_family(const model::ClusterState& state, const TunnelInput& input);

struct Tunnels {
  std::map<uint32_t, node> records;      ///< by index of the node
  std::vector<std::string> unreachable;  ///< nodes with which this one shares no family
  uint32_t mtu = 0;                      ///< L3 bytes that fit in every tunnel
};
/// `indices`: of the other nodes (compile::PolicyImage::nodes); one without is left out of the records.
Tunnels tunnels_to(const model::ClusterState& state, const std::map<std::string, uint16_t>& indices,
                   const TunnelInput& input);

}  // namespace bpfnet::agent
