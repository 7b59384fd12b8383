#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "tests/e2e/many_backends.h"

namespace bpfnet::e2e {

/// Connections (TCP) or flows of one datagram each (UDP) at a fixed rate, every one of which must be answered
/// by a backend that was right at some instant between its beginning and its end.
class JudgedCaller {
 public:
  struct Options {
    std::string protocol;
    milliseconds interval;
    /// Every UDP flow has a port of its own, from here on: it meets no flow that was.
    uint16_t first_port = 0;
  };

  /// `where`: whom it asks, the n-th time.
  JudgedCaller(const Netns& from, Options options, Lifetimes& backends,
               std::function<HostPort(size_t n)> where);
  ~JudgedCaller() { finish(); }
  JudgedCaller(const JudgedCaller&) = delete;
  JudgedCaller& operator=(const JudgedCaller&) = delete;

  void finish();
  [[nodiscard]] size_t made() const { return made_; }
  /// After finish().
  [[nodiscard]] const std::vector<std::string>& failures() const { return failures_; }

 private:
  void run();
  void attempt();

  const Netns& from_;
  Options options_;
  Lifetimes& backends_;
  std::function<HostPort(size_t n)> where_;
  std::vector<std::string> failures_;
  std::atomic<size_t> made_ = 0;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

}  // namespace bpfnet::e2e
