#pragma once

#include <vector>

#include "base/address.h"
#include "base/result.h"
#include "control/cni/error.h"
#include "control/cni/types.h"
#include "control/ipam/records.h"

// The devices, addresses and routes of one pod: everything that touches the pod's network namespace.
namespace bpfnet::cni {

/// The next hop of every pod. No device has these addresses: the datapath answers for them (ARP, ND).
Address gateway(Family family);

/// A default route for every family the endpoint has, then `extra` by the same gateways. Those of interfaces
/// after the first (eth1, ...) have a metric that lets the first one's stand before them.
std::vector<ResultRoute> pod_routes(const ipam::EndpointRecord& record, const std::vector<Cidr>& extra);

/// Whether the pod has no `ifname` yet (C9: code 100 if it does).
CniResult<void> refuse_existing(int pod_netns, const std::string& ifname);

/// Makes the pair of `record`, both sides down: nothing passes before programs are attached. Gives the host
/// side's ifindex. On failure nothing is left.
Result<int> create_pair(int host_netns, int pod_netns, const ipam::EndpointRecord& record);

/// Brings both sides up and gives the pod its addresses (/32, /128, usable at once) and routes.
Status configure_pair(int host_netns, int pod_netns, int host_ifindex, const ipam::EndpointRecord& record,
                      const std::vector<ResultRoute>& routes);

/// Whether the pod side still is as `prev_result` tells; changes by later plugins are fine (C13).
Status check_pod(int pod_netns, const ipam::EndpointRecord& record, const std::string& sandbox,
                 const AddResult& prev_result);

}  // namespace bpfnet::cni
