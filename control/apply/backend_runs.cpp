#include "control/apply/backend_runs.h"

#include <arpa/inet.h>

#include <algorithm>
#include <map>
#include <set>

#include "maps/convert.h"

namespace bpfnet::apply {
namespace {

compile::Backend backend_of(const backend_slot& slot) {
  return {.ip = maps::from_abi(slot.addr), .port = ntohs(slot.port)};
}

auto place_of(std::vector<BackendRuns::Known>& backends, const compile::Backend& backend) {
  return std::ranges::lower_bound(backends, backend, {}, &BackendRuns::Known::backend);
}

/// Writes what was collected and keeps what the kernel refused.
template <typename Value>
Status flush_to(Table<uint32_t, Value>& table, std::vector<uint32_t>& keys, std::vector<Value>& values) {
  if (keys.empty()) return ok();
  size_t done = 0;
  Status written = table.put_batch(keys, values, done);
  keys.erase(keys.begin(), keys.begin() + static_cast<ptrdiff_t>(done));
  values.erase(values.begin(), values.begin() + static_cast<ptrdiff_t>(done));
  if (!keys.empty()) return written;
  // A first fill needs megabytes once.
  if (keys.capacity() > 4096) {
    keys.shrink_to_fit();
    values.shrink_to_fit();
  }
  return written;
}

/// Puts right every index where `wanted` is not zero and the map holds something else.
template <typename Value>
size_t repair_array(Table<uint32_t, Value>& table, const std::vector<Value>& wanted, Problems& problems) {
  std::vector<bool> right(wanted.size());
  Status read = table.for_each([&](uint32_t index, const Value& value) {
    if (index < wanted.size()) right[index] = same_bytes(value, wanted[index]);
  });
  if (!read) {
    problems.push_back({table.name(), read.error().message});
    return 0;
  }
  size_t repaired = 0;
  for (uint32_t index = 0; index < wanted.size(); ++index) {
    if (right[index] || same_bytes(wanted[index], Value{})) continue;
    Status written = table.put(index, wanted[index]);
    if (written) ++repaired;
    if (!written) problems.push_back({table.name(), written.error().message});
  }
  return repaired;
}

}  // namespace

BackendRuns::BackendRuns(Table<uint32_t, backend_slot>& slots, Table<uint32_t, backend_state>& states)
    : slot_table_(slots), state_table_(states), slots_(slots.capacity()), ids_(1) {}

Status BackendRuns::adopt() {
  BPFNET_TRY(state_table_.for_each([this](uint32_t id, const backend_state& state) {
    if (id >= ids_.size()) ids_.resize(id + 1);
    ids_[id].generation = state.generation;
  }));
  return slot_table_.for_each([this](uint32_t index, const backend_slot& slot) {
    if (index >= found_.size()) found_.resize(index + 1);
    found_[index] = slot;
  });
}

BackendRuns::Run* BackendRuns::adopt_run(Owner& owner, uint32_t first, uint32_t count) {
  if (count == 0) return nullptr;
  for (Run& run : owner.runs) {
    if (run.first == first && run.count() == count) {
      ++run.refs;
      return &run;
    }
  }
  if (uint64_t{first} + count > found_.size()) return nullptr;
  Run run{.first = first, .refs = 1, .ids = {}};
  std::set<compile::Backend> seen;
  for (uint32_t i = first; i < first + count; ++i) {
    const uint32_t id = found_[i].backend;
    const bool in_order = run.ids.empty() ? id != 0 : id > run.ids.back();
    if (!in_order || !seen.insert(backend_of(found_[i])).second || id >= ids_.size() ||
        ids_[id].generation != found_[i].generation)
      return nullptr;
    const auto known = place_of(owner.backends, backend_of(found_[i]));
    const bool mine = known != owner.backends.end() && known->backend == backend_of(found_[i]);
    if (mine ? known->id != id : ids_[id].taken) return nullptr;
    run.ids.push_back(id);
  }
  if (!slots_.reserve(first, count)) return nullptr;
  for (uint32_t i = first; i < first + count; ++i) {
    const Known known{backend_of(found_[i]), found_[i].backend};
    const auto place = place_of(owner.backends, known.backend);
    if (place == owner.backends.end() || place->backend != known.backend) {
      owner.backends.insert(place, known);
      ids_[known.id].taken = true;
      ++taken_;
      next_id_ = std::max(next_id_, known.id + 1);
    }
    ++ids_[known.id].listed;
  }
  owner.runs.push_back(std::move(run));
  return &owner.runs.back();
}

bool BackendRuns::adopt_backend(Owner& owner, const compile::Backend& backend, uint32_t id,
                                uint32_t generation) {
  if (id == 0 || id >= ids_.size() || ids_[id].taken || ids_[id].generation != generation) return false;
  const auto place = place_of(owner.backends, backend);
  if (place != owner.backends.end() && place->backend == backend) return false;
  owner.backends.insert(place, Known{backend, id});
  ids_[id].taken = true;
  ++taken_;
  next_id_ = std::max(next_id_, id + 1);
  return true;
}

void BackendRuns::adopted() {
  found_ = {};
}

Result<BackendRuns::Run*> BackendRuns::obtain(Owner& owner, const std::vector<compile::Backend>& backends) {
  if (backends.empty()) return nullptr;
  std::vector<uint32_t> ids;
  ids.reserve(backends.size());
  for (const compile::Backend& backend : backends) {
    auto id = id_of(owner, backend);
    if (!id) return pass(id);
    ids.push_back(*id);
  }
  std::vector<uint32_t> sorted = ids;
  std::ranges::sort(sorted);
  for (Run& run : owner.runs) {
    if (run.ids != sorted) continue;
    ++run.refs;
    return &run;
  }
  const auto count = static_cast<uint32_t>(ids.size());
  const auto first = slots_.take(count);
  if (!first)
    return fail_errno(E2BIG, "map {}: no run of {} slots is free ({} of {} used)", slot_table_.name(), count,
                      slots_.used(), slots_.capacity());
  for (uint32_t i = 0; i < count; ++i) {
    const auto place = static_cast<uint32_t>(std::ranges::lower_bound(sorted, ids[i]) - sorted.begin());
    slot_keys_.push_back(*first + place);
    slot_values_.push_back(slot_of({backends[i], ids[i]}));
    ++ids_[ids[i]].listed;
  }
  owner.runs.push_back({.first = *first, .refs = 1, .ids = std::move(sorted)});
  return &owner.runs.back();
}

/// An id's generation moves on before the id is used, so that no UDP flow of an earlier owner fits.
Result<uint32_t> BackendRuns::id_of(Owner& owner, const compile::Backend& backend) {
  const auto place = place_of(owner.backends, backend);
  if (place != owner.backends.end() && place->backend == backend) return place->id;
  const uint32_t capacity = state_table_.capacity();
  if (taken_ + 1 >= capacity)
    return fail_errno(E2BIG, "map {}: all {} backend ids are in use", state_table_.name(), capacity);
  // Round and round: an id rests as long as possible before it is given again.
  if (next_id_ >= capacity) next_id_ = 1;
  while (next_id_ < ids_.size() && ids_[next_id_].taken)
    next_id_ = next_id_ + 1 < capacity ? next_id_ + 1 : 1;
  const uint32_t id = next_id_++;
  if (id >= ids_.size()) ids_.resize(id + 1);
  ids_[id].taken = true;
  ++taken_;
  raise(id);
  owner.backends.insert(place, Known{backend, id});
  return id;
}

backend_slot BackendRuns::slot_of(const Known& known) const {
  backend_slot slot{};
  slot.addr = maps::to_abi(known.backend.ip);
  slot.port = htons(known.backend.port);
  slot.backend = known.id;
  slot.generation = ids_[known.id].generation;
  return slot;
}

void BackendRuns::release(Owner& owner, Run* run, std::optional<Clock::time_point> due) {
  if (!run || --run->refs > 0) return;
  for (const uint32_t id : run->ids) --ids_[id].listed;
  if (due) {
    retired_.push_back({*due, run->first, run->count()});
  } else {
    slots_.release(run->first, run->count());
  }
  owner.runs.remove_if([run](const Run& each) { return &each == run; });
}

Status BackendRuns::flush() {
  BPFNET_TRY(flush_to(state_table_, state_keys_, state_values_));
  return flush_to(slot_table_, slot_keys_, slot_values_);
}

void BackendRuns::raise(uint32_t id) {
  state_keys_.push_back(id);
  state_values_.push_back({.generation = ++ids_[id].generation});
}

void BackendRuns::forget(Owner& owner, uint32_t id) {
  std::erase_if(owner.backends, [id](const Known& known) { return known.id == id; });
  ids_[id].taken = false;
  --taken_;
}

bool BackendRuns::reclaim(Clock::time_point now) {
  bool freed = false;
  while (!retired_.empty() && retired_.front().due <= now) {
    slots_.release(retired_.front().first, retired_.front().count);
    retired_.pop_front();
    freed = true;
  }
  return freed;
}

std::optional<Clock::time_point> BackendRuns::deadline() const {
  if (retired_.empty()) return std::nullopt;
  return retired_.front().due;
}

void BackendRuns::expect(const Owner& owner, std::vector<backend_slot>& wanted) const {
  std::map<uint32_t, const Known*> by_id;
  for (const Known& known : owner.backends) by_id[known.id] = &known;
  for (const Run& run : owner.runs) {
    if (wanted.size() < run.first + run.count()) wanted.resize(run.first + run.count());
    for (uint32_t i = 0; i < run.count(); ++i) wanted[run.first + i] = slot_of(*by_id.at(run.ids[i]));
  }
}

size_t BackendRuns::repair(const std::vector<backend_slot>& wanted, Problems& problems) {
  Status flushed = flush();
  if (!flushed) problems.push_back({"services", flushed.error().message});
  std::vector<backend_state> states(ids_.size());
  for (size_t id = 0; id < ids_.size(); ++id) states[id].generation = ids_[id].generation;
  // Slots of no run are leftovers that nobody reads; states of ids never used likewise.
  return repair_array(state_table_, states, problems) + repair_array(slot_table_, wanted, problems);
}

}  // namespace bpfnet::apply
