#pragma once

#include <atomic>
#include <thread>

#include "tests/support/cluster/sockets.h"

namespace bpfnet::e2e {

/// Connections by the service, one after another, until it goes.
class Traffic {
 public:
  Traffic(const Netns& from, HostPort to) {
    thread_ = std::thread([this, &from, to] {
      while (!stop_) {
        if (!ask(from, "tcp", to, {.timeout = milliseconds(8000)})) ++failed_;
        ++made_;
        pause(milliseconds(5));
      }
    });
  }
  ~Traffic() { finish(); }
  Traffic(const Traffic&) = delete;
  Traffic& operator=(const Traffic&) = delete;
  void finish() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }
  [[nodiscard]] int failed() const { return failed_; }
  [[nodiscard]] int made() const { return made_; }

 private:
  std::atomic<bool> stop_ = false;
  std::atomic<int> failed_ = 0;
  std::atomic<int> made_ = 0;
  std::thread thread_;
};

}  // namespace bpfnet::e2e
