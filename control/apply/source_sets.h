#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "base/address.h"
#include "control/apply/report.h"
#include "control/apply/table.h"
#include "maps/abi/service.h"

namespace bpfnet::apply {

using Clock = std::chrono::steady_clock;

/// Who may use a frontend (S39): sets of prefixes, one for each different list. A set is never changed: a
/// frontend moves to another one, and a set that no frontend names is removed after a grace period.
class SourceSets {
 public:
  /// A set without a single prefix: nobody. What a frontend gets whose own set does not fit the map.
  static constexpr uint32_t kNobody = UINT32_MAX;

  explicit SourceSets(Table<source_range_key, source_range>& table) : table_(table) {}

  /// Reads what the map holds; then adopt_use() for every frontend, then retire_unused().
  Status adopt();
  void adopt_use(uint32_t id);
  void retire_unused(Clock::time_point due);

  /// The set of exactly these prefixes (sorted, not empty), written if there is none; one use is counted.
  Result<uint32_t> obtain(const std::vector<Cidr>& ranges);
  /// One use less. 0 and kNobody are nobody's.
  void release(uint32_t id, Clock::time_point due);

  /// Removes unused sets whose grace is over; true when some were.
  bool reclaim(Clock::time_point now);
  [[nodiscard]] std::optional<Clock::time_point> deadline() const;
  [[nodiscard]] size_t size() const { return sets_.size(); }

  /// Makes the map hold what it should. Gives the number of entries that were put right.
  size_t repair(Problems& problems);

 private:
  struct Set {
    std::vector<Cidr> ranges;
    uint32_t uses = 0;
    std::optional<Clock::time_point> due;  ///< set while unused
  };
  /// False: some prefix is still there.
  bool erase_entries(uint32_t id, std::vector<Cidr>& ranges);

  Table<source_range_key, source_range>& table_;
  std::map<uint32_t, Set> sets_;
  std::map<std::vector<Cidr>, uint32_t> by_ranges_;
  uint32_t next_ = 1;
};

}  // namespace bpfnet::apply
