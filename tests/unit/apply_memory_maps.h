#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "control/apply/map_writer.h"
#include "maps/key_text.h"

namespace bpfnet::apply {

/// Maps in memory that note every write in one common list, in order: `frontends put`, `policies erase`.
/// Their contents outlive the tables, as pinned maps do the agent.
class MemoryMaps {
 public:
  Records<frontend_key, frontend> frontends;
  Records<frontend_range_key, frontend> frontend_ranges;
  Records<source_range_key, source_range> source_ranges;
  Records<affinity_key, affinity> affinities;
  Records<flow_key, flow> flows;
  Records<uint32_t, backend_slot> backend_slots;
  Records<uint32_t, backend_state> backend_states;
  Records<uint32_t, endpoint> endpoints;
  Records<uint32_t, interface> interfaces;
  Records<address_key, address_info> addresses;
  Records<cidr_key, cidr_info> cidrs;
  Records<uint32_t, node> nodes;
  Records<policy_key, policy_entry> policies;

  std::vector<std::string> log;
  std::map<std::string, uint32_t> capacity;  ///< by map name; missing: 1024
  /// Called before each write with the map's name: a look at the maps as a packet would see them.
  std::function<void(const std::string&)> before_write;

  /// Writes to the maps it says yes to fail.
  std::function<bool(const std::string&)> refuse;

  MapWriter writer();
  [[nodiscard]] size_t count(const std::string& entry) const;
  /// Index of the first such entry of the log, or its size.
  [[nodiscard]] size_t first(const std::string& entry) const;
  [[nodiscard]] size_t last(const std::string& entry) const;
};

}  // namespace bpfnet::apply
