#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "maps/key_text.h"

namespace bpfnet::maps {

/// What may cross into the kernel: plain bytes without hidden padding (the kernel hashes and compares all of
/// them, and padding would leak our memory).
template <typename T>
concept MapRecord = std::is_trivially_copyable_v<T> && std::has_unique_object_representations_v<T>;

/// Update flags of bpf(2).
enum class Put : uint64_t {
  kAny = 0,       ///< create or replace
  kNew = 1,       ///< BPF_NOEXIST: EEXIST when the key is there
  kExisting = 2,  ///< BPF_EXIST: ENOENT when it is not
};

/// What the kernel says about a map.
struct MapInfo {
  std::string name;
  uint32_t id = 0;
  uint32_t type = 0;  ///< enum bpf_map_type
  uint32_t key_size = 0;
  uint32_t value_size = 0;
  uint32_t max_entries = 0;
  uint32_t flags = 0;

  /// Asks the kernel about the map behind `fd`.
  static Result<MapInfo> of(int fd);
};

/// One BPF map, untyped: owns the descriptor and speaks bpf(2). Every error reads
/// `map <name>: <operation> {<key>}: <errno>`, E2BIG with the number of entries the map has room for.
/// The typed views below are what callers use.
class MapBase {
 public:
  MapBase() = default;
  /// Takes the descriptor; `key_size` and `value_size` are checked against the kernel's (0: not checked).
  static Result<MapBase> adopt(Fd fd, std::string name, size_t key_size, size_t value_size);

  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] bool valid() const { return fd_.valid(); }
  /// The contract's name (the kernel cuts names at 15 characters).
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const MapInfo& info() const { return info_; }
  [[nodiscard]] uint32_t max_entries() const { return info_.max_entries; }

 protected:
  /// false: no such key.
  Result<bool> raw_get(const void* key, void* value, const std::string& text) const;
  Status raw_put(const void* key, const void* value, Put flags, const std::string& text) const;
  /// false: no such key.
  Result<bool> raw_erase(const void* key, const std::string& text) const;
  /// Reads everything by batches; keys and values are appended, packed. `value_stride` is the size of one
  /// value as the kernel copies it (per-CPU maps: rounded up to 8, times the possible CPUs).
  Status raw_entries(std::vector<uint8_t>& keys, std::vector<uint8_t>& values, size_t value_stride) const;
  /// Writes `count` pairs; `done` says how many are written, also on failure.
  Status raw_put_batch(const void* keys, const void* values, size_t count, Put flags, size_t& done) const;
  /// Deletes `count` keys, passing over those that are gone; gives the number deleted.
  Result<size_t> raw_erase_batch(const void* keys, size_t count) const;
  tl::unexpected<Error> error(int code, std::string_view operation, const std::string& text) const;

  Fd fd_;
  std::string name_;
  MapInfo info_;
};

/// A hash or longest-prefix map. Safe to use from one thread at a time; the datapath may change it meanwhile.
template <MapRecord K, MapRecord V>
class Map : public MapBase {
 public:
  using Key = K;
  using Value = V;
  using Entry = std::pair<K, V>;

  Map() = default;
  /// Takes the descriptor; fails when the kernel's record sizes are not those of K and V.
  static Result<Map> adopt(Fd fd, std::string name) {
    auto base = MapBase::adopt(std::move(fd), std::move(name), sizeof(K), sizeof(V));
    if (!base) return pass(base);
    return Map(std::move(*base));
  }

  /// The value; nullopt when there is no such key. LPM maps: the value of the longest matching prefix.
  [[nodiscard]] Result<std::optional<V>> get(const K& key) const {
    V value{};
    auto found = raw_get(&key, &value, key_text(key));
    if (!found) return pass(found);
    if (!*found) return std::optional<V>{};
    return std::optional<V>{value};
  }

  /// One update, atomic for readers. E2BIG: the map is full.
  Status put(const K& key, const V& value, Put flags = Put::kAny) const {
    return raw_put(&key, &value, flags, key_text(key));
  }

  /// true: was there and is gone.
  Result<bool> erase(const K& key) const { return raw_erase(&key, key_text(key)); }

  /// All entries, in the kernel's order. A map which changes meanwhile may show an entry twice or not at all.
  [[nodiscard]] Result<std::vector<Entry>> entries() const {
    std::vector<uint8_t> keys;
    std::vector<uint8_t> values;
    BPFNET_TRY(raw_entries(keys, values, sizeof(V)));
    std::vector<Entry> result(keys.size() / sizeof(K));
    for (size_t i = 0; i < result.size(); ++i) {
      std::memcpy(&result[i].first, keys.data() + i * sizeof(K), sizeof(K));
      std::memcpy(&result[i].second, values.data() + i * sizeof(V), sizeof(V));
    }
    return result;
  }

  /// Calls visit(key, value) for every entry; the map may be changed from within (a copy is walked).
  template <typename Visit>
  Status for_each(Visit&& visit) const {
    auto all = entries();
    if (!all) return pass(all);
    for (const auto& [key, value] : *all) visit(key, value);
    return ok();
  }

  /// Writes all pairs with one system call where the kernel can. On failure the pairs before the failing one
  /// (it is named in the error) are written, the rest not; `done` gets their number.
  Status put_batch(std::span<const K> keys, std::span<const V> values, Put flags = Put::kAny) const {
    size_t done = 0;
    return put_batch(keys, values, flags, done);
  }
  Status put_batch(std::span<const K> keys, std::span<const V> values, Put flags, size_t& done) const {
    done = 0;
    if (keys.size() != values.size())
      return fail("map {}: update batch: {} keys, {} values", name_, keys.size(), values.size());
    auto status = raw_put_batch(keys.data(), values.data(), keys.size(), flags, done);
    if (!status && done < keys.size()) return error(status.error().code, "update", key_text(keys[done]));
    return status;
  }

  /// Deletes all these keys; keys that are not there are passed over. Gives the number deleted.
  Result<size_t> erase_batch(std::span<const K> keys) const {
    return raw_erase_batch(keys.data(), keys.size());
  }

  /// Deletes every entry that is there when it is called.
  Status clear() const {
    auto all = entries();
    if (!all) return pass(all);
    std::vector<K> keys;
    keys.reserve(all->size());
    for (const auto& entry : *all) keys.push_back(entry.first);
    auto erased = erase_batch(keys);
    return erased ? ok() : Status(pass(erased));
  }

 private:
  explicit Map(MapBase base) : MapBase(std::move(base)) {}
};

/// An array: every index below max_entries() is always there.
template <MapRecord V>
class Array : public MapBase {
 public:
  using Key = uint32_t;
  using Value = V;

  Array() = default;
  static Result<Array> adopt(Fd fd, std::string name) {
    auto base = MapBase::adopt(std::move(fd), std::move(name), sizeof(uint32_t), sizeof(V));
    if (!base) return pass(base);
    return Array(std::move(*base));
  }

  /// Fails with ENOENT at and above max_entries().
  [[nodiscard]] Result<V> get(uint32_t index) const {
    V value{};
    auto found = raw_get(&index, &value, std::to_string(index));
    if (!found) return pass(found);
    if (!*found) return error(ENOENT, "lookup", std::to_string(index));
    return value;
  }

  Status put(uint32_t index, const V& value) const {
    return raw_put(&index, &value, Put::kAny, std::to_string(index));
  }

  /// Writes values to first, first + 1, ... in one system call.
  Status put_range(uint32_t first, std::span<const V> values) const {
    std::vector<uint32_t> keys(values.size());
    for (size_t i = 0; i < keys.size(); ++i) keys[i] = first + static_cast<uint32_t>(i);
    return put_batch(keys, values);
  }

  Status put_batch(std::span<const uint32_t> indices, std::span<const V> values) const {
    size_t done = 0;
    return put_batch(indices, values, done);
  }
  Status put_batch(std::span<const uint32_t> indices, std::span<const V> values, size_t& done) const {
    done = 0;
    if (indices.size() != values.size())
      return fail("map {}: update batch: {} indices, {} values", name_, indices.size(), values.size());
    auto status = raw_put_batch(indices.data(), values.data(), indices.size(), Put::kAny, done);
    if (!status && done < indices.size())
      return error(status.error().code, "update", std::to_string(indices[done]));
    return status;
  }

  /// All values, by index.
  [[nodiscard]] Result<std::vector<V>> values() const {
    std::vector<uint8_t> keys;
    std::vector<uint8_t> bytes;
    BPFNET_TRY(raw_entries(keys, bytes, sizeof(V)));
    std::vector<V> result(bytes.size() / sizeof(V));
    if (!result.empty()) std::memcpy(result.data(), bytes.data(), result.size() * sizeof(V));
    return result;
  }

  /// Calls visit(index, value) for every index.
  template <typename Visit>
  Status for_each(Visit&& visit) const {
    auto all = values();
    if (!all) return pass(all);
    for (uint32_t i = 0; i < all->size(); ++i) visit(i, (*all)[i]);
    return ok();
  }

 private:
  explicit Array(MapBase base) : MapBase(std::move(base)) {}
};

/// Possible CPUs of this machine: the number of values a per-CPU map holds for a key.
uint32_t possible_cpus();

/// A per-CPU array of counters whose fields are all of type Counter (uint64_t).
template <MapRecord V, typename Counter = uint64_t>
class PerCpuArray : public MapBase {
 public:
  using Key = uint32_t;
  using Value = V;
  static_assert(sizeof(V) % sizeof(Counter) == 0, "a record of counters");

  PerCpuArray() = default;
  static Result<PerCpuArray> adopt(Fd fd, std::string name) {
    auto base = MapBase::adopt(std::move(fd), std::move(name), sizeof(uint32_t), sizeof(V));
    if (!base) return pass(base);
    return PerCpuArray(std::move(*base));
  }

  /// The record of every possible CPU.
  [[nodiscard]] Result<std::vector<V>> get(uint32_t index) const {
    std::vector<uint8_t> bytes(kStride * possible_cpus());
    auto found = raw_get(&index, bytes.data(), std::to_string(index));
    if (!found) return pass(found);
    if (!*found) return error(ENOENT, "lookup", std::to_string(index));
    std::vector<V> result(possible_cpus());
    for (size_t cpu = 0; cpu < result.size(); ++cpu)
      std::memcpy(&result[cpu], bytes.data() + cpu * kStride, sizeof(V));
    return result;
  }

  /// Field by field over all CPUs.
  [[nodiscard]] Result<V> sum(uint32_t index) const {
    std::vector<uint8_t> bytes(kStride * possible_cpus());
    auto found = raw_get(&index, bytes.data(), std::to_string(index));
    if (!found) return pass(found);
    if (!*found) return error(ENOENT, "lookup", std::to_string(index));
    return add(bytes.data());
  }

  /// sum() of every index, in one pass.
  [[nodiscard]] Result<std::vector<V>> sums() const {
    std::vector<uint8_t> keys;
    std::vector<uint8_t> bytes;
    const size_t all_cpus = kStride * possible_cpus();
    BPFNET_TRY(raw_entries(keys, bytes, all_cpus));
    std::vector<V> result(bytes.size() / all_cpus);
    for (size_t i = 0; i < result.size(); ++i) result[i] = add(bytes.data() + i * all_cpus);
    return result;
  }

  /// Sets the record of every CPU to `value`.
  Status put(uint32_t index, const V& value) const {
    std::vector<uint8_t> bytes(kStride * possible_cpus());
    for (uint32_t cpu = 0; cpu < possible_cpus(); ++cpu)
      std::memcpy(bytes.data() + cpu * kStride, &value, sizeof(V));
    return raw_put(&index, bytes.data(), Put::kAny, std::to_string(index));
  }

 private:
  explicit PerCpuArray(MapBase base) : MapBase(std::move(base)) {}

  static constexpr size_t kStride = (sizeof(V) + 7) / 8 * 8;  // the kernel rounds each CPU's value up
  static constexpr size_t kFields = sizeof(V) / sizeof(Counter);

  static V add(const uint8_t* per_cpu) {
    Counter total[kFields] = {};
    for (uint32_t cpu = 0; cpu < possible_cpus(); ++cpu) {
      Counter fields[kFields];
      std::memcpy(fields, per_cpu + cpu * kStride, sizeof(V));
      for (size_t i = 0; i < kFields; ++i) total[i] += fields[i];
    }
    V result;
    std::memcpy(&result, total, sizeof(V));
    return result;
  }
};

/// A FIFO of records.
template <MapRecord V>
class Queue : public MapBase {
 public:
  using Value = V;

  Queue() = default;
  static Result<Queue> adopt(Fd fd, std::string name) {
    auto base = MapBase::adopt(std::move(fd), std::move(name), 0, sizeof(V));
    if (!base) return pass(base);
    return Queue(std::move(*base));
  }

  /// E2BIG when full.
  Status push(const V& value) const { return raw_put(nullptr, &value, Put::kAny, "push"); }
  /// Takes the oldest; nullopt when empty.
  [[nodiscard]] Result<std::optional<V>> pop() const;

 private:
  explicit Queue(MapBase base) : MapBase(std::move(base)) {}
};

/// Takes the oldest value off the queue behind `fd`; false when it is empty. For Queue<V>::pop().
Result<bool> queue_pop(int fd, const std::string& name, void* value);

template <MapRecord V>
Result<std::optional<V>> Queue<V>::pop() const {
  V value{};
  auto found = queue_pop(fd(), name(), &value);
  if (!found) return pass(found);
  if (!*found) return std::optional<V>{};
  return std::optional<V>{value};
}

}  // namespace bpfnet::maps
