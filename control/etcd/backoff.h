#pragma once

#include <chrono>
#include <random>

namespace bpfnet::etcd {

/// How long to wait before the next try (K6): 0.8 s, doubled each time up to 30 s, a half of it by chance;
/// from the beginning again after two minutes without a failure.
class Backoff {
 public:
  using Clock = std::chrono::steady_clock;
  std::chrono::milliseconds failed(Clock::time_point now);

 private:
  std::chrono::milliseconds next_{800};
  Clock::time_point last_{};
  std::minstd_rand random_{std::random_device{}()};
};

}  // namespace bpfnet::etcd
