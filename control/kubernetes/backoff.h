#pragma once

#include <chrono>
#include <optional>
#include <random>

namespace bpfnet::kubernetes {

/// How long to wait before the next attempt (K6): 0.8 s, doubled up to 30 s, and up to as much again at
/// random; from the beginning after two minutes without a failure.
class Backoff {
 public:
  using Clock = std::chrono::steady_clock;
  using Duration = std::chrono::milliseconds;
  static constexpr Duration kFirst{800};
  static constexpr Duration kLongest{30'000};
  static constexpr Duration kReset{120'000};

  explicit Backoff(uint64_t seed) : random_(seed) {}

  /// `asked`: by the server's Retry-After; it is not tried sooner.
  Duration next(Clock::time_point now, std::optional<Duration> asked = {}) {
    if (!last_ || now - *last_ > kReset + wait_) wait_ = kFirst;
    last_ = now;
    const double stretch = std::uniform_real_distribution<double>(1.0, 2.0)(random_);
    const auto jittered = std::chrono::duration_cast<Duration>(wait_ * stretch);
    wait_ = std::min(wait_ * 2, kLongest);
    return asked ? std::max(*asked, jittered) : jittered;
  }

 private:
  std::mt19937_64 random_;
  std::optional<Clock::time_point> last_;
  Duration wait_ = kFirst;
};

}  // namespace bpfnet::kubernetes
