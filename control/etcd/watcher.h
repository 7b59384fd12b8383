#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "control/etcd/gateway.h"
#include "control/etcd/wire.h"
#include "control/http/backoff.h"

namespace bpfnet::etcd {

/// What a Watcher tells. All on its client's thread.
struct Listener {
  /// The keys that are new or different, and those that are gone, at `revision`; `whole`: everything there is
  /// was read at it.
  struct Changes {
    int64_t revision = 0;
    bool whole = false;
    std::vector<Event> events;
  };
  std::function<void(Changes)> changed;
  /// `watched`, `listing`, `waiting: connection refused`; `current`: changes arrive.
  std::function<void(std::string state, bool current)> moved;
};

/// Keeps a listener up to date with all keys of a prefix: reads them at one revision, in pages, then watches
/// from the next one on. What was compacted away, or belongs to another cluster, is read anew and told as the
/// difference. Lives on the client's thread.
///
/// A stream whose peer is gone is noticed by TCP (http::Client). One whose member is alive but cut off, or
/// stopped, is by a read through the same endpoint every few seconds, which needs the cluster's quorum.
class Watcher {
 public:
  Watcher(http::Client& client, Gateway& gateway, Listener listener)
      : client_(client), gateway_(gateway), listener_(std::move(listener)) {}
  Watcher(const Watcher&) = delete;
  Watcher& operator=(const Watcher&) = delete;

  void start() { list(); }

  struct Counts {
    uint64_t lists = 0;
    uint64_t failures = 0;
  };
  [[nodiscard]] const Counts& counts() const { return counts_; }

 private:
  void list();
  void ask_page(const std::string& key);
  void take_page(Result<std::string> body);
  void finish_list();
  void watch();
  void open_stream(http::Request request);
  bool take_frame(std::string_view line);
  bool take_created(const WatchFrame& frame);
  bool take_canceled(const WatchFrame& frame);
  void take_events(WatchFrame frame);
  void ended(const http::Outcome& outcome);
  void look_soon();
  void look();
  void take_look(const Result<std::string>& body);
  void close_stream();
  /// Tries again, at another endpoint, at once or after a while.
  void failed(const std::string& why, bool relist);
  void told(std::string state, bool current);

  http::Client& client_;
  Gateway& gateway_;
  Listener listener_;
  /// A half to the whole of each wait.
  http::Backoff backoff_{std::random_device{}(), http::Backoff::kFirst, {0.5, 1.0}};
  Counts counts_;
  std::unordered_map<std::string, int64_t> known_;  ///< key -> mod_revision, as told to the listener
  uint64_t cluster_id_ = 0;                         ///< that `known_` is of
  int64_t next_revision_ = 0;                       ///< the first one that is not known
  int64_t newest_ = 0;                              ///< revision of the store, as any frame has told it
  std::string state_;

  struct Listing {
    Header header;
    std::vector<KeyValue> values;
  };
  std::optional<Listing> listing_;
  std::optional<FrameSplitter> frames_;
  std::vector<Event> fragments_;
  http::Client::Id stream_ = 0;
  http::Client::Id timer_ = 0;
  std::function<void()> ending_;  ///< what comes after the stream that a frame has ended
  http::Backoff::Clock::time_point last_failure_{};
  uint64_t stream_number_ = 0;  ///< answers to looks of an earlier stream mean nothing
  bool suspicious_ = false;     ///< the last look saw keys that the stream has not told
};

}  // namespace bpfnet::etcd
