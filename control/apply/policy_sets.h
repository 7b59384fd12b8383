#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <set>

#include "control/apply/map_writer.h"
#include "control/compile/images.h"

namespace bpfnet::apply {

using Clock = std::chrono::steady_clock;

/// Orders the entries of a set by identity, so that those of one stand together.
struct ByIdentity {
  bool operator()(const policy_key& a, const policy_key& b) const;
};

/// The sets in the policy map. What a set that an endpoint uses says of an identity is never changed, as some
/// packet may just be judged by it; entries are added for identities that no address has yet, and those of
/// identities that no address has any more are removed when every program that may read them has ended. All
/// else is another set, written beside the old one.
class PolicySets {
 public:
  using Entries = std::map<policy_key, policy_entry, ByIdentity>;

  explicit PolicySets(Table<policy_key, policy_entry>& table) : table_(table) {}

  Status adopt();
  /// Reads the map again; what is due of each set is kept.
  Status reload();

  /// Makes set `id` hold what `wanted` says, or leaves it as it was: whether it fits is asked before anything
  /// is written, and what the kernel refuses is taken back. `identities`: only these may differ; empty: all.
  /// What the set has too much stays until reclaim().
  Status write(uint32_t id, const compile::PolicySet& wanted, const std::set<uint32_t>& identities = {});
  /// A copy of `base` under a number of its own, which says of `identities` what `old` says: for the time
  /// between the move of endpoints and that of addresses. Both may be sets without entries.
  Result<uint32_t> write_transition(uint32_t base, uint32_t old, const std::set<uint32_t>& identities);

  struct InUse {
    const std::set<uint32_t>& wanted;   ///< sets of the image
    const std::set<uint32_t>& records;  ///< sets that endpoint records name
    /// Whether an address has the identity.
    const std::function<bool(uint32_t)>& has_address;
  };
  /// Removes what is not in use, once its grace is over; true when something was erased.
  bool reclaim(const InUse& in_use, Clock::time_point now, std::chrono::milliseconds grace);
  [[nodiscard]] std::optional<Clock::time_point> deadline() const;

  [[nodiscard]] bool holds(uint32_t id) const { return sets_.contains(id); }
  /// Identities of `wanted` that the set does not know: it could not grow.
  [[nodiscard]] std::set<uint32_t> unknown(uint32_t id, const compile::PolicySet& wanted) const;
  /// Whether `id` has an entry for one of the identities.
  [[nodiscard]] bool names(uint32_t id, const std::set<uint32_t>& identities) const;
  /// Raises each to the highest number that is in use; transition sets do not count.
  void highest(uint32_t& set, uint32_t& identity, uint32_t& rule) const;
  [[nodiscard]] size_t size() const { return sets_.size(); }

 private:
  struct Held {
    Entries entries;
    std::optional<Clock::time_point> due;  ///< set while nobody wants it
    /// Identities whose entries are too many, and when they may go.
    std::map<uint32_t, std::optional<Clock::time_point>> surplus;
  };
  Status add_entries(uint32_t id, const Entries& wanted);
  bool erase_identity(Held& held, uint32_t identity);

  Table<policy_key, policy_entry>& table_;
  std::map<uint32_t, Held> sets_;
  size_t entries_ = 0;  ///< of all sets
};

}  // namespace bpfnet::apply
