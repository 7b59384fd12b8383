#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "control/objects/manifest.h"

namespace bpfnet::objects {

/// An object as a source has it now, good or not.
struct Stored {
  Key key;
  nlohmann::ordered_json json;
  std::string text;   ///< as written, where that is YAML with comments; else empty
  std::string where;  ///< `/etc/bpfnet/manifests/web.yaml:7`, an etcd key
};

struct Listing {
  std::vector<Stored> objects;     ///< by key
  std::vector<std::string> notes;  ///< what could not be read, whole sentences
};

enum class Action { kCreated, kConfigured, kUnchanged, kDeleted };
std::string_view to_string(Action action);

struct Change {
  Key key;
  Action action = Action::kUnchanged;
  std::string where;
};

/// What was done.
struct Changes {
  std::vector<Change> changes;  ///< in the order of what was asked for
  std::vector<std::string> notes;
  /// Of the source after the last write, for await_source(); 0 where the source counts none.
  int64_t revision = 0;
};

/// Where objects are written down, as the agent reads it. All complaints that can be found before the first
/// write are made before it, all of them at once, and then nothing is written.
class ObjectStore {
 public:
  ObjectStore() = default;
  ObjectStore(const ObjectStore&) = delete;
  ObjectStore& operator=(const ObjectStore&) = delete;
  virtual ~ObjectStore() = default;

  virtual Result<Listing> list() = 0;
  /// Each object becomes what its manifest says, whole: no field of the old one stays. All have a key.
  /// `dry_run`: nothing is written.
  virtual Result<Changes> apply(const std::vector<Manifest>& manifests, bool dry_run) = 0;
  /// Those that are not there are left out of the answer.
  virtual Result<Changes> remove(const std::vector<Key>& keys, bool dry_run) = 0;
};

}  // namespace bpfnet::objects
