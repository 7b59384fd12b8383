#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <random>

namespace bpfnet::http {

/// How long to wait before the next attempt (K6): 0.8 s, doubled up to 30 s, and stretched at random; from
/// the beginning after two minutes without a failure.
class Backoff {
 public:
  using Clock = std::chrono::steady_clock;
  using Duration = std::chrono::milliseconds;
  static constexpr Duration kFirst{800};
  static constexpr Duration kLongest{30'000};
  static constexpr Duration kReset{120'000};

  /// No server is believed that wants to be left alone for longer than this.
  static constexpr std::chrono::seconds kLongestAsked{300};

  /// A wait is multiplied by something between the two.
  struct Stretch {
    double least = 1.0;
    double most = 2.0;
  };

  explicit Backoff(uint64_t seed, Duration first = kFirst, Stretch stretch = {1.0, 2.0})
      : random_(seed), stretch_(stretch.least, stretch.most), first_(first), wait_(first) {}

  /// `asked`: by the server's Retry-After; it is not tried sooner, up to kLongestAsked.
  Duration next(Clock::time_point now, std::optional<std::chrono::seconds> asked = {}) {
    if (!last_ || now - *last_ > kReset + wait_) wait_ = first_;
    last_ = now;
    const auto jittered = std::chrono::duration_cast<Duration>(wait_ * stretch_(random_));
    wait_ = std::min(wait_ * 2, kLongest);
    return asked ? std::max<Duration>(std::min(*asked, kLongestAsked), jittered) : jittered;
  }

 private:
  std::mt19937_64 random_;
  std::uniform_real_distribution<double> stretch_;
  std::optional<Clock::time_point> last_;
  Duration first_;
  Duration wait_;
};

}  // namespace bpfnet::http
