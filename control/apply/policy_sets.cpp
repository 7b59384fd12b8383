#include "control/apply/policy_sets.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cerrno>
#include <tuple>
#include <vector>

#include "maps/convert.h"

namespace bpfnet::apply {
namespace {

constexpr uint32_t kFirstTransition = 0x80000000;

policy_entry to_entry(const compile::PolicyVerdict& verdict) {
  policy_entry value{};
  value.rule = verdict.rule;
  value.verdict = verdict.verdict;
  return value;
}

policy_key to_key(uint32_t id, const compile::PolicyEntry& entry) {
  return maps::make_policy_key(id, entry.identity, entry.proto, entry.port, entry.port_bits);
}

/// Sorts before every entry of the identity.
policy_key first_of(uint32_t identity) {
  policy_key key{};
  key.identity = htonl(identity);
  return key;
}

uint32_t identity_of(const policy_key& key) {
  return ntohl(key.identity);
}

/// Whether a lookup of what `narrow` is about finds `broad` too; both of one identity.
bool covers(const policy_key& broad, const policy_key& narrow) {
  if (broad.prefixlen > narrow.prefixlen) return false;
  if (broad.prefixlen <= POLICY_PREFIX_IDENTITY) return true;
  if (broad.proto != narrow.proto) return false;
  const uint32_t bits = broad.prefixlen - POLICY_PREFIX_PROTO;
  const uint32_t mask = bits == 0 ? 0 : 0xffffU << (16 - bits);
  return ((ntohs(broad.port) ^ ntohs(narrow.port)) & mask & 0xffff) == 0;
}

}  // namespace

bool ByIdentity::operator()(const policy_key& a, const policy_key& b) const {
  const auto order = [](const policy_key& key) {
    return std::tuple(ntohl(key.identity), key.proto, ntohs(key.port), key.prefixlen, key.set);
  };
  return order(a) < order(b);
}

Status PolicySets::adopt() {
  entries_ = 0;
  return table_.for_each([this](const policy_key& key, const policy_entry& value) {
    sets_[maps::from_abi(key).set].entries[key] = value;
    ++entries_;
  });
}

Status PolicySets::reload() {
  for (auto& [id, held] : sets_) held.entries.clear();
  return adopt();
}

Status PolicySets::write(uint32_t id, const compile::PolicySet& wanted,
                         const std::set<uint32_t>& identities) {
  Entries entries;
  if (identities.empty()) {
    for (const auto& [entry, verdict] : wanted.entries) entries[to_key(id, entry)] = to_entry(verdict);
  }
  for (const uint32_t identity : identities) {
    for (auto entry = wanted.entries.lower_bound({identity, 0, 0, 0});
         entry != wanted.entries.end() && entry->first.identity == identity; ++entry)
      entries[to_key(id, entry->first)] = to_entry(entry->second);
  }
  BPFNET_TRY(add_entries(id, entries));

  Held& held = sets_[id];
  held.due.reset();
  std::set<uint32_t> looked_at = identities;
  if (identities.empty()) {
    held.surplus.clear();
    for (const auto& [key, value] : held.entries) looked_at.insert(identity_of(key));
  }
  for (const uint32_t identity : looked_at) {
    held.surplus.erase(identity);
    const auto first = entries.lower_bound(first_of(identity));
    const bool wanted_at_all = first != entries.end() && identity_of(first->first) == identity;
    for (auto entry = held.entries.lower_bound(first_of(identity));
         entry != held.entries.end() && identity_of(entry->first) == identity;) {
      if (entries.contains(entry->first)) {
        ++entry;
      } else if (wanted_at_all) {  // no work of ours, or of a number that was lost
        BPFNET_TRY(table_.erase(entry->first));
        entry = held.entries.erase(entry);
        --entries_;
      } else {
        held.surplus.try_emplace(identity);
        ++entry;
      }
    }
  }
  return ok();
}

Status PolicySets::add_entries(uint32_t id, const Entries& wanted) {
  const auto set = sets_.find(id);
  const Entries none;
  const Entries& there = set == sets_.end() ? none : set->second.entries;
  std::vector<policy_key> keys;
  std::vector<policy_entry> values;
  size_t added = 0;
  for (const auto& [key, value] : wanted) {
    const auto held = there.find(key);
    if (held != there.end() && same_bytes(held->second, value)) continue;
    added += held == there.end();
    keys.push_back(key);
    values.push_back(value);
  }
  const size_t capacity = table_.capacity();
  if (entries_ + added > capacity)
    return fail_errno(E2BIG,
                      "map {}: set {} needs {} entries more, {} of {} are in use; raise --max-policy-entries",
                      table_.name(), id, added, entries_, capacity);
  Held& held = sets_[id];
  size_t done = 0;
  Status written = table_.put_batch(keys, values, done);
  std::vector<policy_key> fresh;
  for (size_t i = 0; i < done; ++i) {
    const auto [entry, is_new] = held.entries.insert_or_assign(keys[i], values[i]);
    if (!is_new) continue;
    ++entries_;
    fresh.push_back(keys[i]);
  }
  if (written) return ok();
  for (const policy_key& key : fresh) {
    if (!table_.erase(key)) continue;
    held.entries.erase(key);
    --entries_;
  }
  if (held.entries.empty()) sets_.erase(id);
  return written;
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
  if (const auto to = sets_.find(base); to != sets_.end()) {
    for (const auto& [key, value] : to->second.entries)
      if (!identities.contains(identity_of(key))) copy(key, value);
  }
  // What the old set says of an identity by IDENTITY_ANY is said of it by name, and so is a denial by
  // default: the new set's IDENTITY_ANY is not asked.
  const Entries none;
  const auto from = sets_.find(old);
  const Entries& old_entries = from == sets_.end() ? none : from->second.entries;
  for (const uint32_t identity : identities) {
    std::vector<policy_key> own;
    for (auto entry = old_entries.lower_bound(first_of(identity));
         entry != old_entries.end() && identity_of(entry->first) == identity; ++entry) {
      own.push_back(entry->first);
      copy(entry->first, entry->second);
    }
    for (auto entry = old_entries.begin();
         entry != old_entries.end() && identity_of(entry->first) == IDENTITY_ANY; ++entry) {
      policy_key key = entry->first;
      key.identity = htonl(identity);
      if (std::ranges::none_of(own, [&](const policy_key& each) { return covers(each, key); }))
        copy(key, entry->second);
    }
    policy_entry rest{};
    rest.verdict = old == POLICY_SET_ALLOW_ALL ? POLICY_ALLOW : POLICY_DENY;
    policy_key all = maps::make_policy_key(id, identity, 0, 0, 0);
    entries.try_emplace(all, rest);
  }
  BPFNET_TRY(add_entries(id, entries));
  return id;
}

std::set<uint32_t> PolicySets::unknown(uint32_t id, const compile::PolicySet& wanted) const {
  std::set<uint32_t> identities;
  const auto held = sets_.find(id);
  for (const auto& [entry, verdict] : wanted.entries)
    if (held == sets_.end() || !held->second.entries.contains(to_key(id, entry)))
      identities.insert(entry.identity);
  return identities;
}

bool PolicySets::names(uint32_t id, const std::set<uint32_t>& identities) const {
  const auto held = sets_.find(id);
  if (held == sets_.end()) return false;
  return std::ranges::any_of(identities, [&](uint32_t identity) {
    const auto entry = held->second.entries.lower_bound(first_of(identity));
    return entry != held->second.entries.end() && identity_of(entry->first) == identity;
  });
}

void PolicySets::highest(uint32_t& set, uint32_t& identity, uint32_t& rule) const {
  for (const auto& [id, held] : sets_) {
    if (id < kFirstTransition) set = std::max(set, id);
    for (const auto& [key, entry] : held.entries) {
      identity = std::max(identity, identity_of(key));
      rule = std::max(rule, entry.rule);
    }
  }
}

bool PolicySets::erase_identity(Held& held, uint32_t identity) {
  auto entry = held.entries.lower_bound(first_of(identity));
  while (entry != held.entries.end() && identity_of(entry->first) == identity) {
    if (!table_.erase(entry->first)) return false;
    entry = held.entries.erase(entry);
    --entries_;
  }
  return true;
}

bool PolicySets::reclaim(const InUse& in_use, Clock::time_point now, std::chrono::milliseconds grace) {
  const size_t before = entries_;
  for (auto set = sets_.begin(); set != sets_.end();) {
    Held& held = set->second;
    if (in_use.wanted.contains(set->first) || in_use.records.contains(set->first)) {
      held.due.reset();
      for (auto each = held.surplus.begin(); each != held.surplus.end();) {
        // An address that could not be moved is judged by what it was.
        if (in_use.has_address(each->first)) each->second.reset();
        if (!in_use.has_address(each->first) && !each->second) each->second = now + grace;
        const bool gone = each->second && *each->second <= now && erase_identity(held, each->first);
        each = gone ? held.surplus.erase(each) : std::next(each);
      }
      ++set;
      continue;
    }
    if (!held.due) held.due = now + grace;
    if (*held.due > now) {
      ++set;
      continue;
    }
    while (!held.entries.empty() && erase_identity(held, identity_of(held.entries.begin()->first))) continue;
    if (!held.entries.empty()) {  // the kernel refused: later
      held.due = now + grace;
      ++set;
      continue;
    }
    set = sets_.erase(set);
  }
  return entries_ != before;
}

std::optional<Clock::time_point> PolicySets::deadline() const {
  std::optional<Clock::time_point> first;
  const auto consider = [&first](const std::optional<Clock::time_point>& due) {
    if (due && (!first || *due < *first)) first = due;
  };
  for (const auto& [id, held] : sets_) {
    consider(held.due);
    for (const auto& [identity, due] : held.surplus) consider(due);
  }
  return first;
}

}  // namespace bpfnet::apply
