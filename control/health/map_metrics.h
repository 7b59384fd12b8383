#pragma once

#include <prometheus/collectable.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "maps/maps.h"

namespace bpfnet::health {

/// What the datapath's maps say, read when somebody scrapes. Counters and the endpoint table are read every
/// time (a few hundred records). Tables that only the agent writes are walked again only after it has written
/// (0.1 us an entry), the flow table never: its bookkeeping says how full it is.
class MapMetrics : public prometheus::Collectable {
 public:
  /// Descriptors of its own, so that a scrape needs nothing of the agent's loop.
  explicit MapMetrics(maps::Maps maps) : maps_(std::move(maps)) {}

  /// All map writes of the agent since its start, and backend slots in use; from any thread.
  void note(uint64_t writes, uint32_t slots_used) {
    writes_ = writes;
    slots_used_ = slots_used;
  }
  /// On one thread at a time.
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  struct Walked {
    uint64_t writes = UINT64_MAX;  ///< as they were when the tables were walked
    std::map<std::string, uint64_t> entries;
    uint64_t no_local_internal = 0;
    uint64_t no_local_external = 0;
  };
  void packets(std::vector<prometheus::MetricFamily>& out) const;
  void flows(std::vector<prometheus::MetricFamily>& out) const;
  void endpoints(std::vector<prometheus::MetricFamily>& out) const;
  void tables(std::vector<prometheus::MetricFamily>& out) const;
  void walk() const;

  maps::Maps maps_;
  std::atomic<uint64_t> writes_ = 0;
  std::atomic<uint32_t> slots_used_ = 0;
  mutable Walked walked_;
};

/// process_*: the agent as the kernel sees it, from /proc/self.
class ProcessMetrics : public prometheus::Collectable {
 public:
  std::vector<prometheus::MetricFamily> Collect() const override;
};

}  // namespace bpfnet::health
