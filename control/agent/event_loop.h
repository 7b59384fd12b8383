#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <type_traits>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "base/wake_fd.h"

namespace bpfnet::agent {

/// One epoll loop, one thread: whatever runs here owns the agent's state without locks. Other threads hand
/// in closures by post() and call().
class EventLoop {
 public:
  using Clock = std::chrono::steady_clock;
  using Work = std::function<void()>;

  /// Signals in `signals` are blocked in this thread (and so in every thread started later) and read by the
  /// loop.
  static Result<std::unique_ptr<EventLoop>> make(const std::vector<int>& signals,
                                                 std::function<void(int)> on_signal);
  ~EventLoop();

  /// Calls `ready` while `fd` is readable. The descriptor stays the caller's.
  Status watch(int fd, Work ready);
  void unwatch(int fd);

  /// Runs `work` on the loop's thread soon; from any thread.
  void post(Work work);

  /// Runs `work` on the loop's thread and gives its result; at once when called on that thread. An empty
  /// optional: the loop has ended.
  template <typename F>
  auto call(F&& work) -> std::optional<std::invoke_result_t<F>> {
    using R = std::invoke_result_t<F>;
    if (std::this_thread::get_id() == owner_) return work();
    auto task = std::make_shared<std::packaged_task<R()>>(std::forward<F>(work));
    auto result = task->get_future();
    post([task] { (*task)(); });
    task.reset();
    try {
      return result.get();
    } catch (const std::future_error&) {  // the queue was thrown away with the loop
      return std::nullopt;
    }
  }

  /// One timer for each name: a new time replaces the old one; nullopt disarms.
  void set_timer(int id, std::optional<Clock::time_point> when, Work work);

  /// Runs until stop(). Work posted later is thrown away.
  Status run();
  void stop() { stopping_ = true; }

 private:
  struct Timer {
    Clock::time_point when;
    Work work;
  };
  EventLoop(Fd epoll, WakeFd wake, Fd timer, Fd signals);
  void run_posted();
  void run_timers();
  void arm();

  std::thread::id owner_ = std::this_thread::get_id();  ///< who made it runs it
  Fd epoll_;
  WakeFd wake_;
  Fd timer_;
  Fd signals_;
  std::map<int, std::shared_ptr<Work>> watched_;
  std::map<int, Timer> timers_;
  std::mutex mutex_;
  std::vector<Work> posted_;
  bool closed_ = false;
  bool stopping_ = false;
};

}  // namespace bpfnet::agent
