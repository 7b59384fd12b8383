#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "control/agent/node_links.h"
#include "control/apply/publisher.h"
#include "control/cni/endpoint_manager.h"
#include "control/compile/images.h"
#include "control/health/service_checks.h"
#include "control/sources/problem.h"
#include "control/sources/source.h"

namespace bpfnet::agent {

/// What the agent shows of itself: a copy of plain values and shared images, made on the loop's thread and
/// rendered on the caller's.
struct Snapshot {
  std::string node_name;
  std::string source;  ///< where the wanted state comes from
  std::vector<sources::KindStatus> source_kinds;
  std::string bpffs;
  std::string state_dir;
  std::string version;
  bool ready = false;
  bool adopted = false;     ///< this start took over pinned maps
  uint64_t generation = 0;  ///< of the source, last applied
  uint64_t syncs = 0;
  uint64_t last_read_us = 0;   ///< manifests read and parsed, without the sync that follows
  uint64_t first_sync_us = 0;  ///< of this start
  uint64_t last_sync_us = 0;   ///< compile and publish
  uint64_t last_sync_writes = 0;
  uint64_t resyncs = 0;         ///< comparisons of the maps with what they should hold
  uint64_t resync_repairs = 0;  ///< entries that these put right
  uint64_t writes = 0;          ///< to all maps since start
  uint64_t uptime_seconds = 0;
  std::vector<apply::Publisher::MapCounts> map_counts;
  std::string sockets;  ///< on or off, and why
  std::vector<std::string> uplinks;
  std::string fragments;  ///< `any order`, or why not
  NodeAddresses addresses;
  std::vector<Cidr> pod_cidrs;
  uint32_t slots_used = 0;
  uint32_t slots_capacity = 0;
  std::map<uint16_t, cni::LiveEndpoint> endpoints;
  std::map<uint16_t, endpoint> records;  ///< as the map holds them
  size_t frontends = 0;
  size_t service_warnings = 0;
  std::shared_ptr<const compile::ServiceImage> services;  ///< only when asked for, as the next
  std::shared_ptr<const apply::ServiceNumbers> service_numbers;
  size_t policy_sets = 0;
  size_t identities = 0;
  size_t policy_warnings = 0;
  std::shared_ptr<const compile::PolicyImage> policy;  ///< only when asked for
  std::vector<sources::Problem> source_problems;
  apply::Problems apply_problems;
  std::vector<std::string> node_problems;  ///< routes, uplinks, datapath warnings
  std::vector<health::Problem> health_problems;
};

}  // namespace bpfnet::agent
