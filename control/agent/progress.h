#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace bpfnet::agent {

/// Lets threads wait for the next step of the loop.
class Progress {
 public:
  void step() {
    change([this] { ++steps_; });
  }
  /// Nobody waits from now on.
  void end() {
    change([this] { ended_ = true; });
  }

  [[nodiscard]] uint64_t steps() {
    const std::lock_guard lock(mutex_);
    return steps_;
  }
  /// Until there were more than `seen` steps. False: there were not, until `deadline` or the end.
  bool wait_past(uint64_t seen, std::chrono::steady_clock::time_point deadline) {
    std::unique_lock lock(mutex_);
    moved_.wait_until(lock, deadline, [&] { return ended_ || steps_ > seen; });
    return steps_ > seen && !ended_;
  }

 private:
  template <typename Change>
  void change(Change change) {
    const std::lock_guard lock(mutex_);
    change();
    moved_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable moved_;
  uint64_t steps_ = 0;
  bool ended_ = false;
};

}  // namespace bpfnet::agent
