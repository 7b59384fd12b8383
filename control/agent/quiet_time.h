#pragma once

#include <algorithm>
#include <chrono>
#include <optional>

namespace bpfnet::agent {

/// When to look at what a burst of events is about: once it is quiet, but never longer after its first event
/// than a limit. Pure: told the time, gives a time.
class QuietTime {
 public:
  using Clock = std::chrono::steady_clock;

  QuietTime(Clock::duration quiet, Clock::duration limit) : quiet_(quiet), limit_(limit) {}

  /// An event has come: when to look.
  Clock::time_point event(Clock::time_point now) {
    if (!first_) first_ = now;
    return std::min(now + quiet_, *first_ + limit_);
  }
  /// All events so far are looked at now.
  void looked() { first_.reset(); }

 private:
  Clock::duration quiet_;
  Clock::duration limit_;
  std::optional<Clock::time_point> first_;  ///< of those not looked at
};

}  // namespace bpfnet::agent
