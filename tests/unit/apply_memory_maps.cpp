#include "tests/unit/apply_memory_maps.h"

#include <algorithm>
#include <cerrno>

namespace bpfnet::apply {
namespace {

template <typename Key, typename Value>
class MemoryTable : public Table<Key, Value> {
 public:
  MemoryTable(std::string name, Records<Key, Value>& records, MemoryMaps& maps)
      : Table<Key, Value>(std::move(name)), records_(records), maps_(maps) {}

  Result<std::optional<Value>> get(const Key& key) const override {
    auto found = records_.find(key);
    return found == records_.end() ? std::optional<Value>{} : std::optional<Value>{found->second};
  }
  Status for_each(const std::function<void(const Key&, const Value&)>& visit) const override {
    for (const auto& [key, value] : records_) visit(key, value);
    return ok();
  }
  uint32_t capacity() const override {
    auto set = maps_.capacity.find(this->name());
    return set == maps_.capacity.end() ? 1024 : set->second;
  }

 protected:
  Status do_put(const Key& key, const Value& value) override {
    note("put");
    if (maps_.refuse && maps_.refuse(this->name()))
      return fail_errno(EIO, "map {}: update {{{}}}", this->name(), maps::key_text(key));
    if (!records_.contains(key) && records_.size() >= capacity())
      return fail_errno(E2BIG, "map {}: update {{{}}}", this->name(), maps::key_text(key));
    records_[key] = value;
    return ok();
  }
  Status do_erase(const Key& key) override {
    note("erase");
    records_.erase(key);
    return ok();
  }

 private:
  void note(const char* what) {
    if (maps_.before_write) maps_.before_write(this->name());
    maps_.log.push_back(this->name() + " " + what);
  }
  Records<Key, Value>& records_;
  MemoryMaps& maps_;
};

}  // namespace

MapWriter MemoryMaps::writer() {
  const auto table = [this]<typename Key, typename Value>(const char* name, Records<Key, Value>& records) {
    return std::unique_ptr<Table<Key, Value>>(
        std::make_unique<MemoryTable<Key, Value>>(name, records, *this));
  };
  return {.frontends = table("frontends", frontends),
          .frontend_ranges = table("frontend_ranges", frontend_ranges),
          .source_ranges = table("source_ranges", source_ranges),
          .affinities = table("affinities", affinities),
          .flows = table("flows", flows),
          .backend_slots = table("backend_slots", backend_slots),
          .backend_states = table("backend_states", backend_states),
          .endpoints = table("endpoints", endpoints),
          .interfaces = table("interfaces", interfaces),
          .addresses = table("addresses", addresses),
          .cidrs = table("cidrs", cidrs),
          .nodes = table("nodes", nodes),
          .policies = table("policies", policies)};
}

size_t MemoryMaps::count(const std::string& entry) const {
  return static_cast<size_t>(std::count(log.begin(), log.end(), entry));
}

size_t MemoryMaps::first(const std::string& entry) const {
  return static_cast<size_t>(std::find(log.begin(), log.end(), entry) - log.begin());
}

size_t MemoryMaps::last(const std::string& entry) const {
  for (size_t i = log.size(); i > 0; --i)
    if (log[i - 1] == entry) return i - 1;
  return log.size();
}

}  // namespace bpfnet::apply
