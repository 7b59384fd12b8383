#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>

#include "control/http/client.h"
#include "control/sources/source.h"

namespace bpfnet::kubernetes {

/// Writes Events for what users must know (K17). One object is one Event, cluster-wide: its name is made of
/// what it says, so that a hundred nodes which see the same mistake write it once. What goes on is renewed
/// twice an hour, before the server forgets it. On the client's thread.
class EventWriter {
 public:
  struct Limits {
    size_t burst = 25;                        ///< requests at once
    std::chrono::milliseconds refill{5'000};  ///< until one more is allowed
    std::chrono::milliseconds renew{1'800'000};
    size_t waiting = 1000;  ///< more than these are given up
  };

  /// metadata.uid of what a notice is about; empty: not known. Who asks for the Events of an object asks by
  /// this too.
  using UidOf = std::function<std::string(const sources::Notice&)>;

  EventWriter(http::Client& client, std::string server, std::string node_name, Limits limits, UidOf uid_of);
  void write(const sources::Notice& notice);
  [[nodiscard]] uint64_t written() const { return written_; }
  [[nodiscard]] uint64_t given_up() const { return given_up_; }

 private:
  using Clock = std::chrono::steady_clock;
  struct Told {
    Clock::time_point when;
    uint64_t count = 0;
  };
  struct Event {
    sources::Notice notice;
    std::string uid;
    std::string name;  ///< the Event's own
    [[nodiscard]] std::string key() const { return notice.object.ns.str() + "/" + name; }
  };
  void next();
  void post(const Event& event);
  void renew(const Event& event);
  static std::string name_of(const sources::Notice& notice, const std::string& uid);
  [[nodiscard]] std::string path_of(const sources::Notice& notice) const;
  bool take_token();

  http::Client& client_;
  std::string server_;
  std::string node_name_;
  Limits limits_;
  UidOf uid_of_;
  double tokens_;
  Clock::time_point refilled_ = Clock::now();
  std::deque<Event> waiting_;
  std::map<std::string, Told> told_;
  bool busy_ = false;
  uint64_t written_ = 0;
  uint64_t given_up_ = 0;
};

}  // namespace bpfnet::kubernetes
