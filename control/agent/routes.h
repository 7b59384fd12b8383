#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "control/agent/node_links.h"
#include "control/ipam/store.h"
#include "control/model/objects.h"
#include "loader/netlink.h"

namespace bpfnet::agent {

/// What decides the node's routes.
struct RouteInput {
  std::string node_name;
  NodeAddresses addresses;
  int host_ifindex = 0;
  std::vector<int> uplinks;
  std::vector<Cidr> pod_cidrs;  ///< of this node
  std::vector<Cidr> service_cidrs;
  uint32_t overlay_mtu = 0;      ///< of routes to other nodes' pods by the overlay; 0: there is none
  std::vector<Address> pod_ips;  ///< of pods here; those outside pod_cidrs get routes of their own
};

/// Routes of ours: own pods and services to the host device, other nodes' pods to their node where it is a
/// neighbour, or to the host device too, from where the overlay takes them. `unreachable` collects the names
/// of nodes on no segment of ours: their pods are left to the network's routing.
std::vector<loader::Route> wanted_routes(const RouteInput& input, const model::ClusterState& state,
                                         const NodeLinks& links, std::vector<std::string>& unreachable);

/// Makes the main table hold exactly `wanted` among the routes that bear our protocol number; routes of
/// others are never touched. Each is journalled. Gives what could not be done.
std::vector<std::string> sync_routes(loader::Netlink& netlink, ipam::Store& store,
                                     const std::vector<loader::Route>& wanted);

}  // namespace bpfnet::agent
