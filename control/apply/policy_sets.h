#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <set>

#include "control/apply/map_writer.h"
#include "control/compile/images.h"

namespace bpfnet::apply {

using Clock = std::chrono::steady_clock;

/// The sets in the policy map. A set that an endpoint uses is never changed: another is written beside it,
/// endpoints move over, and the old one is removed when every program that may read it has ended.
class PolicySets {
 public:
  using Entries = Records<policy_key, policy_entry>;

  explicit PolicySets(Table<policy_key, policy_entry>& table) : table_(table) {}

  Status adopt();
  /// Reads the map again; what is due of each set is kept.
  Status reload();

  /// Makes set `id` hold exactly what `wanted` says, or leaves it as it was: a set that does not fit whole
  /// is taken back.
  Status write(uint32_t id, const compile::PolicySet& wanted);
  /// A copy of `base` under a number of its own, with those entries of `old` that name an identity of
  /// `identities`: for the time between the move of endpoints and that of addresses.
  Result<uint32_t> write_transition(uint32_t base, uint32_t old, const std::set<uint32_t>& identities);

  /// Removes what stands in neither list, once its grace is over; true when something was erased.
  /// `in_use` are the sets that endpoint records name.
  bool reclaim(const std::set<uint32_t>& wanted, const std::set<uint32_t>& in_use, Clock::time_point now,
               std::chrono::milliseconds grace);
  [[nodiscard]] std::optional<Clock::time_point> deadline() const;

  [[nodiscard]] bool holds(uint32_t id) const { return sets_.contains(id); }
  /// Whether `id` has an entry for one of the identities.
  [[nodiscard]] bool names(uint32_t id, const std::set<uint32_t>& identities) const;
  /// Raises each to the highest number that is in use; transition sets do not count.
  void highest(uint32_t& set, uint32_t& identity, uint32_t& rule) const;
  [[nodiscard]] size_t size() const { return sets_.size(); }

 private:
  struct Held {
    Entries entries;
    std::optional<Clock::time_point> due;  ///< set while nobody wants it
  };
  Status write_entries(uint32_t id, const Entries& wanted);

  Table<policy_key, policy_entry>& table_;
  std::map<uint32_t, Held> sets_;
};

}  // namespace bpfnet::apply
