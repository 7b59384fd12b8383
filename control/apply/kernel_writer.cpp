#include <cerrno>

#include "control/apply/map_writer.h"
#include "maps/maps.h"

namespace bpfnet::apply {
namespace {

/// Hash and longest-prefix maps.
template <typename Key, typename Value>
class KernelTable : public Table<Key, Value> {
 public:
  explicit KernelTable(const maps::Map<Key, Value>& map) : Table<Key, Value>(map.name()), map_(map) {}

  Result<std::optional<Value>> get(const Key& key) const override { return map_.get(key); }
  Status for_each(const std::function<void(const Key&, const Value&)>& visit) const override {
    return map_.for_each(visit);
  }
  uint32_t capacity() const override { return map_.max_entries(); }

 protected:
  Status do_put(const Key& key, const Value& value) override { return map_.put(key, value); }
  Status do_erase(const Key& key) override {
    auto erased = map_.erase(key);
    if (!erased) return pass(erased);
    return ok();
  }
  Status do_put_batch(std::span<const Key> keys, std::span<const Value> values, size_t& done) override {
    return map_.put_batch(keys, values, maps::Put::kAny, done);
  }

 private:
  const maps::Map<Key, Value>& map_;
};

/// Arrays: every index is there, and erasing one writes zeros.
template <typename Value>
class KernelArray : public Table<uint32_t, Value> {
 public:
  explicit KernelArray(const maps::Array<Value>& map) : Table<uint32_t, Value>(map.name()), map_(map) {}

  Result<std::optional<Value>> get(const uint32_t& index) const override {
    auto value = map_.get(index);
    if (!value) return pass(value);
    return std::optional<Value>(*value);
  }
  Status for_each(const std::function<void(const uint32_t&, const Value&)>& visit) const override {
    return map_.for_each([&visit](uint32_t index, const Value& value) {
      if (!same_bytes(value, Value{})) visit(index, value);
    });
  }
  uint32_t capacity() const override { return map_.max_entries(); }

 protected:
  Status do_put(const uint32_t& index, const Value& value) override { return map_.put(index, value); }
  Status do_erase(const uint32_t& index) override { return map_.put(index, Value{}); }
  Status do_put_batch(std::span<const uint32_t> indices, std::span<const Value> values,
                      size_t& done) override {
    return map_.put_batch(indices, values, done);
  }

 private:
  const maps::Array<Value>& map_;
};

template <typename Key, typename Value>
std::unique_ptr<Table<Key, Value>> table(const maps::Map<Key, Value>& map) {
  return std::make_unique<KernelTable<Key, Value>>(map);
}
template <typename Value>
std::unique_ptr<Table<uint32_t, Value>> table(const maps::Array<Value>& map) {
  return std::make_unique<KernelArray<Value>>(map);
}

}  // namespace

MapWriter kernel_writer(const maps::Maps& maps) {
  return {.frontends = table(maps.frontends),
          .frontend_ranges = table(maps.frontend_ranges),
          .source_ranges = table(maps.source_ranges),
          .affinities = table(maps.affinities),
          .flows = table(maps.flows),
          .backend_slots = table(maps.backend_slots),
          .backend_states = table(maps.backend_states),
          .endpoints = table(maps.endpoints),
          .interfaces = table(maps.interfaces),
          .addresses = table(maps.addresses),
          .cidrs = table(maps.cidrs),
          .nodes = table(maps.nodes),
          .policies = table(maps.policies)};
}

}  // namespace bpfnet::apply
