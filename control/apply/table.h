#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "base/result.h"
#include "control/apply/report.h"

namespace bpfnet::apply {

/// Writes to one map since the agent's start. A resync with nothing changed leaves them as they were.
struct WriteCounts {
  uint64_t puts = 0;
  uint64_t erases = 0;
  uint64_t failures = 0;
};

/// One BPF map as the publishers see it: the seam between what is wanted and the kernel. Errors read
/// `map NAME: update {...}: E2BIG`.
template <typename Key, typename Value>
class Table {
 public:
  explicit Table(std::string name) : name_(std::move(name)) {}
  virtual ~Table() = default;
  Table(const Table&) = delete;
  Table& operator=(const Table&) = delete;

  [[nodiscard]] virtual Result<std::optional<Value>> get(const Key& key) const = 0;
  [[nodiscard]] virtual Status for_each(const std::function<void(const Key&, const Value&)>& visit) const = 0;
  [[nodiscard]] virtual uint32_t capacity() const = 0;

  Status put(const Key& key, const Value& value) {
    Status done = do_put(key, value);
    ++(done ? counts_.puts : counts_.failures);
    return done;
  }
  /// Writes the pairs in their order, with few system calls where the map can, until one fails. `done`: how
  /// many were written.
  Status put_batch(std::span<const Key> keys, std::span<const Value> values, size_t& done) {
    done = 0;
    Status status = do_put_batch(keys, values, done);
    counts_.puts += done;
    if (!status) ++counts_.failures;
    return status;
  }
  /// A missing key is no error.
  Status erase(const Key& key) {
    Status done = do_erase(key);
    ++(done ? counts_.erases : counts_.failures);
    return done;
  }

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const WriteCounts& counts() const { return counts_; }

 protected:
  virtual Status do_put(const Key& key, const Value& value) = 0;
  virtual Status do_erase(const Key& key) = 0;
  virtual Status do_put_batch(std::span<const Key> keys, std::span<const Value> values, size_t& done) {
    for (; done < keys.size(); ++done) BPFNET_TRY(do_put(keys[done], values[done]));
    return ok();
  }

 private:
  std::string name_;
  WriteCounts counts_;
};

/// Orders records by their bytes; ABI records have no padding bits.
template <typename T>
struct BytesLess {
  bool operator()(const T& a, const T& b) const { return std::memcmp(&a, &b, sizeof(T)) < 0; }
};

template <typename T>
bool same_bytes(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

template <typename Key, typename Value>
using Records = std::map<Key, Value, BytesLess<Key>>;

/// Makes a map that holds `held` hold `wanted`. Gives the number of entries that were put right.
template <typename Key, typename Value>
size_t repair_table(Table<Key, Value>& table, const Records<Key, Value>& wanted,
                    const Records<Key, Value>& held, Problems& problems) {
  size_t repaired = 0;
  const auto note = [&](Status done) {
    if (done) ++repaired;
    if (!done) problems.push_back({table.name(), done.error().message});
  };
  for (const auto& [key, value] : wanted) {
    const auto there = held.find(key);
    if (there == held.end() || !same_bytes(there->second, value)) note(table.put(key, value));
  }
  for (const auto& [key, value] : held)
    if (!wanted.contains(key)) note(table.erase(key));
  return repaired;
}

/// What a map holds, kept beside it: read once from the kernel, then only differences are written.
template <typename Key, typename Value>
class Mirror {
 public:
  explicit Mirror(Table<Key, Value>& table) : table_(table) {}

  /// Reads the map anew; whatever somebody else changed is seen by the next put or erase.
  Status load() {
    held_.clear();
    return table_.for_each([this](const Key& key, const Value& value) { held_[key] = value; });
  }

  /// Writes unless the map holds exactly that. True: something was written.
  Result<bool> put(const Key& key, const Value& value) {
    auto found = held_.find(key);
    if (found != held_.end() && same_bytes(found->second, value)) return false;
    BPFNET_TRY(table_.put(key, value));
    held_[key] = value;
    return true;
  }

  Result<bool> erase(const Key& key) {
    auto found = held_.find(key);
    if (found == held_.end()) return false;
    BPFNET_TRY(table_.erase(key));
    held_.erase(found);
    return true;
  }

  [[nodiscard]] const Value* find(const Key& key) const {
    auto found = held_.find(key);
    return found == held_.end() ? nullptr : &found->second;
  }
  [[nodiscard]] const Records<Key, Value>& held() const { return held_; }
  [[nodiscard]] const Table<Key, Value>& table() const { return table_; }

 private:
  Table<Key, Value>& table_;
  Records<Key, Value> held_;
};

}  // namespace bpfnet::apply
