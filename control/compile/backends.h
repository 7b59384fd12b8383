#pragma once

#include <string>
#include <vector>

#include "control/compile/images.h"

namespace bpfnet::compile {

/// The facts about the own node that decide which endpoints are near.
struct Locality {
  std::string node_name;
  std::string zone;  ///< topology.kubernetes.io/zone of the Node object; empty: unknown (S17)
  bool operator==(const Locality&) const = default;
};

/// Whether an endpoint runs on this node (S9): one without a node name runs on none.
inline bool is_local(const model::SliceEndpoint& endpoint, const Locality& here) {
  return endpoint.node_name && *endpoint.node_name == here.node_name;
}

/// What clients of one service port and family may be sent to, each list sorted and without duplicates.
struct BackendLists {
  BackendList cluster;      ///< S13
  BackendList local;        ///< S14
  bool any_usable = false;  ///< some endpoint anywhere is ready, or serving while terminating (S30, S31)
};

/// Pure. Joins the slices of a service with one of its ports (S5) for one family and picks the backends
/// (S4, S6, S8-S10, S13-S17).
BackendLists choose_backends(const std::vector<const model::EndpointSlice*>& slices,
                             const model::ServicePort& port, Family family, const Locality& here);

}  // namespace bpfnet::compile
