#include "control/apply/source_sets.h"

#include <algorithm>

#include "maps/convert.h"

namespace bpfnet::apply {
namespace {

constexpr source_range kAllowed{.allowed = 1};

}  // namespace

Status SourceSets::adopt() {
  BPFNET_TRY(table_.for_each([this](const source_range_key& key, const source_range&) {
    sets_[key.set].ranges.push_back(maps::from_abi(key));
  }));
  for (auto& [id, set] : sets_) {
    std::ranges::sort(set.ranges);
    by_ranges_.try_emplace(set.ranges, id);
    next_ = std::max(next_, id + 1);
  }
  return ok();
}

void SourceSets::adopt_use(uint32_t id) {
  const auto set = sets_.find(id);
  if (set != sets_.end()) ++set->second.uses;
}

void SourceSets::retire_unused(Clock::time_point due) {
  for (auto& [id, set] : sets_)
    if (set.uses == 0) set.due = due;
}

Result<uint32_t> SourceSets::obtain(const std::vector<Cidr>& ranges) {
  if (const auto known = by_ranges_.find(ranges); known != by_ranges_.end()) {
    Set& set = sets_.at(known->second);
    ++set.uses;
    set.due.reset();
    return known->second;
  }
  while (next_ == 0 || next_ == kNobody || sets_.contains(next_)) ++next_;
  const uint32_t id = next_++;
  std::vector<Cidr> written;
  for (const Cidr& range : ranges) {
    Status done = table_.put(maps::make_source_range_key(id, range), kAllowed);
    if (done) {
      written.push_back(range);
      continue;
    }
    // Nobody names it yet. What cannot be taken back now goes with the next reclaim().
    if (!erase_entries(id, written)) sets_[id] = {.ranges = std::move(written), .due = Clock::time_point{}};
    return pass(done);
  }
  by_ranges_.emplace(ranges, id);
  sets_.emplace(id, Set{.ranges = ranges, .uses = 1, .due = {}});
  return id;
}

void SourceSets::release(uint32_t id, Clock::time_point due) {
  const auto set = sets_.find(id);
  if (set == sets_.end() || set->second.uses == 0) return;
  if (--set->second.uses == 0) set->second.due = due;
}

bool SourceSets::erase_entries(uint32_t id, std::vector<Cidr>& ranges) {
  while (!ranges.empty()) {
    if (!table_.erase(maps::make_source_range_key(id, ranges.back()))) return false;
    ranges.pop_back();
  }
  return true;
}

bool SourceSets::reclaim(Clock::time_point now) {
  bool freed = false;
  for (auto entry = sets_.begin(); entry != sets_.end();) {
    auto& [id, set] = *entry;
    if (!set.due || *set.due > now) {
      ++entry;
      continue;
    }
    if (const auto known = by_ranges_.find(set.ranges); known != by_ranges_.end() && known->second == id)
      by_ranges_.erase(known);
    if (!erase_entries(id, set.ranges)) {
      set.due = now + std::chrono::seconds(1);
      ++entry;
      continue;
    }
    entry = sets_.erase(entry);
    freed = true;
  }
  return freed;
}

std::optional<Clock::time_point> SourceSets::deadline() const {
  std::optional<Clock::time_point> first;
  for (const auto& [id, set] : sets_)
    if (set.due && (!first || *set.due < *first)) first = set.due;
  return first;
}

size_t SourceSets::repair(Problems& problems) {
  Records<source_range_key, source_range> wanted;
  for (const auto& [id, set] : sets_)
    for (const Cidr& range : set.ranges) wanted[maps::make_source_range_key(id, range)] = kAllowed;
  Records<source_range_key, source_range> held;
  Status read =
      table_.for_each([&held](const source_range_key& key, const source_range& value) { held[key] = value; });
  if (!read) {
    problems.push_back({table_.name(), read.error().message});
    return 0;
  }
  return repair_table(table_, wanted, held, problems);
}

}  // namespace bpfnet::apply
