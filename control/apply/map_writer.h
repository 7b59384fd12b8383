#pragma once

#include <memory>

#include "control/apply/table.h"
#include "maps/abi/endpoint.h"
#include "maps/abi/flow.h"
#include "maps/abi/policy.h"
#include "maps/abi/service.h"

namespace bpfnet::maps {
struct Maps;
}

namespace bpfnet::apply {

/// Every map the control plane writes. kernel_writer() makes the real one; tests make one in memory.
struct MapWriter {
  std::unique_ptr<Table<frontend_key, frontend>> frontends;
  std::unique_ptr<Table<frontend_range_key, frontend>> frontend_ranges;
  std::unique_ptr<Table<source_range_key, source_range>> source_ranges;
  std::unique_ptr<Table<affinity_key, affinity>> affinities;  ///< erased from only
  std::unique_ptr<Table<flow_key, flow>> flows;               ///< read only
  std::unique_ptr<Table<uint32_t, backend_slot>> backend_slots;
  std::unique_ptr<Table<uint32_t, backend_state>> backend_states;
  std::unique_ptr<Table<uint32_t, endpoint>> endpoints;
  std::unique_ptr<Table<uint32_t, interface>> interfaces;
  std::unique_ptr<Table<address_key, address_info>> addresses;
  std::unique_ptr<Table<cidr_key, cidr_info>> cidrs;
  std::unique_ptr<Table<uint32_t, node>> nodes;
  std::unique_ptr<Table<policy_key, policy_entry>> policies;
};

/// Writes to the pinned maps. `maps` must live as long as the writer.
MapWriter kernel_writer(const maps::Maps& maps);

}  // namespace bpfnet::apply
