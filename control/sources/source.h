#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "control/model/objects.h"
#include "control/sources/changes.h"
#include "control/sources/problem.h"

namespace bpfnet::sources {

/// How a source stands with one kind of objects, for status and metrics.
struct KindStatus {
  std::string kind;   ///< `services`
  std::string state;  ///< `watched`, `listing`, `waiting: connection refused`, `off: not known to the server`
  bool synced = false;   ///< a full state was delivered once
  bool current = false;  ///< changes arrive now
  size_t objects = 0;
  std::string version;    ///< of the kind's newest change in state(), as its server counts; may be empty
  uint64_t events = 0;    ///< changes that came since the start
  uint64_t relists = 0;   ///< full lists after the first
  uint64_t failures = 0;  ///< connections and requests that failed
};

/// Something that a user of the cluster must know about an object.
struct Notice {
  Kind kind = Kind::kNode;
  model::ObjectName object;
  std::string reason;  ///< one word: `ObjectRefused`
  std::string text;
};

/// Where the wanted network state comes from. An owner waits for fd() with epoll (level-triggered) and calls
/// process(); everything here is for its thread alone, and nothing here blocks.
class Source {
 public:
  Source() = default;
  Source(Source&&) = default;
  Source& operator=(Source&&) = default;
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;
  virtual ~Source() = default;

  /// `manifests /etc/bpfnet/manifests`: for logs and status.
  [[nodiscard]] virtual std::string describe() const = 0;

  /// Readable when process() has something to do. Owned by this object.
  [[nodiscard]] virtual int fd() const = 0;
  /// Takes up what happened since the last call; bounded: what is left keeps fd() readable. True if state(),
  /// problems() or synced() changed.
  virtual bool process() = 0;

  /// True once everything that the maps depend on has been read once: nothing may be deleted before that.
  /// Stays true from then on.
  [[nodiscard]] virtual bool synced() const = 0;
  /// The wanted state. Valid until this object is destroyed, changed only by process().
  [[nodiscard]] virtual const model::ClusterState& state() const = 0;
  /// Grows with every change of state(); 0 before the first object.
  [[nodiscard]] virtual uint64_t generation() const = 0;
  /// What changed since the last call (at first: everything). A change of line numbers alone is none.
  [[nodiscard]] virtual Changes take_changes() = 0;
  /// Everything that is wrong now.
  [[nodiscard]] virtual std::vector<Problem> problems() const = 0;

  /// The number that the place of the objects gives to its state, for those who wrote it and wait for it to
  /// be here: state() has everything up to it. 0: it gives none.
  [[nodiscard]] virtual int64_t revision() const { return 0; }

  /// Kind by kind, for sources that have connections.
  [[nodiscard]] virtual std::vector<KindStatus> kinds() const { return {}; }
  /// Tells users of the cluster, where the source has a way to. May be said again and again: it tells once.
  virtual void notify(const Notice&) {}
  /// Datapath, routes and the runtime's configuration stand: pods can be wired from now on.
  virtual void network_ready() {}
};

}  // namespace bpfnet::sources
