#include "control/apply/policy_sets.h"

#include <arpa/inet.h>

#include <algorithm>
#include <vector>

#include "maps/convert.h"

namespace bpfnet::apply {
namespace {

constexpr uint32_t kFirstTransition = 0x80000000;

PolicySets::Entries entries_of(uint32_t id, const compile::PolicySet& set) {
  PolicySets::Entries entries;
  for (const auto& [entry, verdict] : set.entries) {
    policy_entry value{};
    value.rule = verdict.rule;
    value.verdict = verdict.verdict;
    entries[maps::make_policy_key(id, entry.identity, entry.proto, entry.port, entry.port_bits)] = value;
  }
  return entries;
}

}  // namespace

Status PolicySets::adopt() {
  return table_.for_each([this](const policy_key& key, const policy_entry& value) {
    sets_[maps::from_abi(key).set].entries[key] = value;
  });
}

Status PolicySets::reload() {
  for (auto& [id, held] : sets_) held.entries.clear();
  return adopt();
}

Status PolicySets::write(uint32_t id, const compile::PolicySet& wanted) {
  return write_entries(id, entries_of(id, wanted));
}

Status PolicySets::write_entries(uint32_t id, const Entries& wanted) {
  Held& held = sets_[id];
  held.due.reset();
  std::vector<policy_key> added;
  for (const auto& [key, value] : wanted) {
    auto there = held.entries.find(key);
    if (there != held.entries.end() && same_bytes(there->second, value)) continue;
    Status written = table_.put(key, value);
    if (!written) {
      for (const policy_key& back : added) {
        if (table_.erase(back)) held.entries.erase(back);
      }
      if (held.entries.empty()) sets_.erase(id);
      return written;
    }
    if (there == held.entries.end()) added.push_back(key);
    held.entries[key] = value;
  }
  // Only a set that was cut off half-written, or whose number was lost, has more than it should.
  for (auto entry = held.entries.begin(); entry != held.entries.end();) {
    if (wanted.contains(entry->first)) {
      ++entry;
      continue;
    }
    BPFNET_TRY(table_.erase(entry->first));
    entry = held.entries.erase(entry);
  }
  return ok();
}

Result<uint32_t> PolicySets::write_transition(uint32_t base, uint32_t old,
                                              const std::set<uint32_t>& identities) {
  uint32_t id = kFirstTransition;
  while (sets_.contains(id)) ++id;
  Entries entries;
  const auto copy = [&entries, id](policy_key key, const policy_entry& value) {
    key.set = htonl(id);
    entries[key] = value;
  };
  auto from = sets_.find(old);
  if (from != sets_.end()) {
    for (const auto& [key, value] : from->second.entries)
      if (identities.contains(ntohl(key.identity))) copy(key, value);
  }
  auto to = sets_.find(base);
  if (to != sets_.end()) {
    for (const auto& [key, value] : to->second.entries) copy(key, value);
  }
  Status written = write_entries(id, entries);
  if (!written) return pass(written);
  return id;
}

bool PolicySets::names(uint32_t id, const std::set<uint32_t>& identities) const {
  auto held = sets_.find(id);
  if (held == sets_.end()) return false;
  return std::any_of(held->second.entries.begin(), held->second.entries.end(),
                     [&](const auto& entry) { return identities.contains(ntohl(entry.first.identity)); });
}

void PolicySets::highest(uint32_t& set, uint32_t& identity, uint32_t& rule) const {
  for (const auto& [id, held] : sets_) {
    if (id < kFirstTransition) set = std::max(set, id);
    for (const auto& [key, entry] : held.entries) {
      identity = std::max(identity, ntohl(key.identity));
      rule = std::max(rule, entry.rule);
    }
  }
}

bool PolicySets::reclaim(const std::set<uint32_t>& wanted, const std::set<uint32_t>& in_use,
                         Clock::time_point now, std::chrono::milliseconds grace) {
  bool erased = false;
  for (auto entry = sets_.begin(); entry != sets_.end();) {
    Held& held = entry->second;
    if (wanted.contains(entry->first) || in_use.contains(entry->first)) {
      held.due.reset();
      ++entry;
      continue;
    }
    if (!held.due) held.due = now + grace;
    if (*held.due > now) {
      ++entry;
      continue;
    }
    for (auto record = held.entries.begin(); record != held.entries.end();) {
      if (!table_.erase(record->first)) break;
      record = held.entries.erase(record);
      erased = true;
    }
    if (!held.entries.empty()) {  // the kernel refused: later
      held.due = now + grace;
      ++entry;
      continue;
    }
    entry = sets_.erase(entry);
  }
  return erased;
}

std::optional<Clock::time_point> PolicySets::deadline() const {
  std::optional<Clock::time_point> first;
  for (const auto& [id, held] : sets_)
    if (held.due && (!first || *held.due < *first)) first = held.due;
  return first;
}

}  // namespace bpfnet::apply
