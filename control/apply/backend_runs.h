#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <list>
#include <optional>
#include <vector>

#include "control/apply/report.h"
#include "control/apply/slots.h"
#include "control/apply/table.h"
#include "control/compile/images.h"
#include "maps/abi/service.h"

namespace bpfnet::apply {

using Clock = std::chrono::steady_clock;

/// Backend ids with their generations, and the runs of slots that frontends name. Slots stand in the order of
/// backend ids. A run is never changed in place: a new one is written, the frontend is switched by one
/// update, the old run is used again after a grace period in which every program that read it has ended.
/// Writes are collected until flush(), which must come before a frontend names a new run.
class BackendRuns {
 public:
  struct Run {
    uint32_t first = 0;
    uint32_t refs = 0;
    std::vector<uint32_t> ids;  ///< sorted

    [[nodiscard]] uint32_t count() const { return static_cast<uint32_t>(ids.size()); }
  };
  struct Known {
    compile::Backend backend;
    uint32_t id = 0;
  };
  /// What one service port has: its runs, and every backend whose flows may still live.
  struct Owner {
    std::list<Run> runs;
    std::vector<Known> backends;  ///< sorted by backend
  };

  BackendRuns(Table<uint32_t, backend_slot>& slots, Table<uint32_t, backend_state>& states);

  /// Reads both maps. Then adopt_run() for all frontends, then adopted().
  Status adopt();
  /// The run that a frontend in the map names. nullptr for an empty one, and for one that overlaps another or
  /// lies outside or is out of order: it cannot be kept and will be replaced.
  Run* adopt_run(Owner& owner, uint32_t first, uint32_t count);
  /// A backend in no run whose flows live on (S46), as it was before a restart. False: its id or generation
  /// is another's by now.
  bool adopt_backend(Owner& owner, const compile::Backend& backend, uint32_t id, uint32_t generation);
  void adopted();

  /// The run of exactly these backends, new if there is none; one reference is counted. nullptr: no backends.
  Result<Run*> obtain(Owner& owner, const std::vector<compile::Backend>& backends);
  /// One reference less. `due`: when an unused run may be overwritten; missing: no frontend ever named it.
  void release(Owner& owner, Run* run, std::optional<Clock::time_point> due);
  /// Writes what was collected. What the kernel refuses stays collected.
  Status flush();

  /// Whether a run in use contains the backend.
  [[nodiscard]] bool listed(uint32_t id) const { return ids_[id].listed > 0; }
  [[nodiscard]] uint32_t generation(uint32_t id) const { return ids_[id].generation; }
  /// UDP flows of this backend are stale from the next flush() on (S45).
  void raise(uint32_t id);
  /// Takes a backend that is not listed off its owner; its id rests, then may be given again.
  void forget(Owner& owner, uint32_t id);

  bool reclaim(Clock::time_point now);
  [[nodiscard]] std::optional<Clock::time_point> deadline() const;
  [[nodiscard]] const SlotAllocator& slots() const { return slots_; }

  /// Reads both maps again and puts right what is not as it was written. Slots of no run are not looked at.
  template <typename EachOwner>  // each_owner(f) calls f(owner) for every owner
  size_t repair(const EachOwner& each_owner, Problems& problems) {
    std::vector<backend_slot> wanted;
    each_owner([&](const Owner& owner) { expect(owner, wanted); });
    return repair(wanted, problems);
  }

 private:
  struct Id {
    uint32_t generation = 0;
    uint32_t listed = 0;  ///< runs in use that contain it
    bool taken = false;
  };
  struct Retired {
    Clock::time_point due;
    uint32_t first;
    uint32_t count;
  };

  Result<uint32_t> id_of(Owner& owner, const compile::Backend& backend);
  [[nodiscard]] backend_slot slot_of(const Known& known) const;
  /// Puts the owner's slots at their indices.
  void expect(const Owner& owner, std::vector<backend_slot>& wanted) const;
  size_t repair(const std::vector<backend_slot>& wanted, Problems& problems);

  Table<uint32_t, backend_slot>& slot_table_;
  Table<uint32_t, backend_state>& state_table_;
  SlotAllocator slots_;
  std::vector<Id> ids_;  ///< by id; those never used are not there
  uint32_t taken_ = 0;
  uint32_t next_id_ = 1;
  std::deque<Retired> retired_;
  std::vector<uint32_t> state_keys_;
  std::vector<backend_state> state_values_;
  std::vector<uint32_t> slot_keys_;
  std::vector<backend_slot> slot_values_;
  std::vector<backend_slot> found_;  ///< between adopt() and adopted()
};

}  // namespace bpfnet::apply
