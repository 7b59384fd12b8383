#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/apiserver/resources.h"

namespace bpfnet::test {

/// One version of an object.
struct StoredObject {
  const Resource* resource = nullptr;
  std::string ns;
  std::string name;
  uint64_t version = 0;
  std::string text;  ///< JSON without kind and apiVersion, as items of lists are
  std::map<std::string, std::string> labels;
  std::map<std::string, std::string> fields;  ///< those that field selectors can ask for
  [[nodiscard]] std::string with_kind() const;
};
using ObjectPtr = std::shared_ptr<const StoredObject>;

/// One change; `before` or `after` is missing.
struct StoredEvent {
  uint64_t version = 0;
  ObjectPtr before;
  ObjectPtr after;
};

/// The objects and their history. Not locked: the server does.
class ObjectStore {
 public:
  /// Creates or replaces; metadata.resourceVersion, uid and creationTimestamp are the store's. Throws if kind
  /// or name are missing.
  uint64_t put(nlohmann::json object);
  /// False: there is none.
  bool remove(const Resource& resource, const std::string& ns, const std::string& name);
  [[nodiscard]] ObjectPtr find(const Resource& resource, const std::string& ns,
                               const std::string& name) const;
  [[nodiscard]] std::vector<ObjectPtr> all(const Resource& resource) const;
  [[nodiscard]] uint64_t version() const { return version_; }
  /// Events after `version`, of one resource, at most as many as one wants to hold at a time.
  [[nodiscard]] std::vector<StoredEvent> since(const Resource& resource, uint64_t version,
                                               size_t limit) const;
  /// Forgets the history: what is older than now is gone (410).
  void compact() {
    events_.clear();
    oldest_ = version_;
  }
  /// As a server does that starts: it can watch from now on only, though the history is still there.
  void restart_cache() { watched_from_ = version_; }
  /// Of watches; lists at a version need the history alone.
  [[nodiscard]] bool forgotten(uint64_t version) const { return version < std::max(oldest_, watched_from_); }
  [[nodiscard]] bool compacted(uint64_t version) const { return version < oldest_; }
  /// The objects as they were at `version`, which is not compacted.
  [[nodiscard]] std::vector<ObjectPtr> at(const Resource& resource, uint64_t version) const;
  /// Lets the versions jump, as in a cluster where other things change too.
  void skip_versions(uint64_t count) { version_ += count; }

 private:
  using Key = std::pair<std::string, std::string>;
  std::map<const Resource*, std::map<Key, ObjectPtr>> objects_;
  std::map<const Resource*, std::deque<StoredEvent>> events_;
  uint64_t version_ = 1000;
  uint64_t oldest_ = 0;
  uint64_t watched_from_ = 0;
};

}  // namespace bpfnet::test
