#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "maps/decode.h"
#include "maps/maps.h"

namespace bpfnet::maps {

/// What a person should know about a map.
struct MapSummary {
  std::string name;     ///< BPF map name
  std::string type;     ///< `hash`, `lpm`, `array`, `percpu-array`, `queue`, `ringbuf`, `socket-storage`
  std::string purpose;  ///< one sentence
  MapInfo info;
};

/// All maps of the datapath, in the order of struct Maps.
std::vector<MapSummary> summarize(const Maps& maps);

/// One entry of a dump.
struct DumpedEntry {
  Fields key;
  Fields value;
};

struct DumpOptions {
  bool all = false;  ///< also array elements that are all zero (unused)
};

/// The entries of the map with that BPF name, decoded. Per-CPU arrays are summed over CPUs; counters carry
/// hook and verdict or reason as key. Queues and ring buffers cannot be read without taking from them, and
/// socket storage cannot be listed: errors.
Result<std::vector<DumpedEntry>> dump(const Maps& maps, std::string_view name,
                                      const DumpOptions& options = {});

}  // namespace bpfnet::maps
