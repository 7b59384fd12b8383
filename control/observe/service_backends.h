#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "base/address.h"
#include "base/result.h"
#include "maps/maps.h"

namespace bpfnet::observe {

/// Where a service sends a client.
struct ServiceBackends {
  uint32_t service = 0;
  std::vector<std::pair<Address, uint16_t>> backends;  ///< each once, in order; ports in host byte order
};

/// The service that answers at an address of the cluster, or at this node's own if `local` (node ports);
/// nullopt: none does. `inside`: the client is a pod or a process of this node. Ports in host byte order.
Result<std::optional<ServiceBackends>> find_service(const maps::Maps& maps, const Address& address,
                                                    uint8_t proto, uint16_t port, bool inside, bool local);

/// Whether it is a service's own address, of which every port that is none of the service is refused (S32).
Result<bool> is_cluster_ip(const maps::Maps& maps, const Address& address);

}  // namespace bpfnet::observe
