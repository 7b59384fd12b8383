#pragma once

#include <atomic>
#include <functional>
#include <thread>
#include <utility>

#include "tests/support/cluster/sockets.h"

namespace bpfnet::e2e {

/// Does something again and again on a thread of its own, until it goes.
class Repeated {
 public:
  explicit Repeated(std::function<void()> once)
      : thread_([this, once = std::move(once)] {
          while (!stop_) once();
        }) {}
  ~Repeated() { finish(); }
  Repeated(const Repeated&) = delete;
  Repeated& operator=(const Repeated&) = delete;
  void finish() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }

 private:
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

/// Connections by the service, one after another, until it goes.
class Traffic {
 public:
  Traffic(const Netns& from, HostPort to)
      : asking_([this, &from, to] {
          if (!ask(from, "tcp", to, {.timeout = milliseconds(8000)})) ++failed_;
          ++made_;
          pause(milliseconds(5));
        }) {}
  void finish() { asking_.finish(); }
  [[nodiscard]] int failed() const { return failed_; }
  [[nodiscard]] int made() const { return made_; }

 private:
  std::atomic<int> failed_ = 0;
  std::atomic<int> made_ = 0;
  Repeated asking_;
};

}  // namespace bpfnet::e2e
