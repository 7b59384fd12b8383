// How long servers are left alone after a failure.
#include <gtest/gtest.h>

#include "control/http/backoff.h"

namespace bpfnet::http {
namespace {

using namespace std::chrono_literals;

// K6
TEST(Backoff, DoublesToItsCapWithJitterAndForgetsAfterTwoMinutes) {
  Backoff backoff(1);
  auto now = Backoff::Clock::now();
  auto base = 800ms;
  for (int i = 0; i < 10; ++i) {
    const auto wait = backoff.next(now);
    EXPECT_GE(wait, base);
    EXPECT_LE(wait, 2 * base);
    now += wait;
    base = std::min<std::chrono::milliseconds>(2 * base, 30s);
  }
  now += 30s + 120s + 1ms;
  EXPECT_LE(backoff.next(now), 1600ms);
  EXPECT_GE(backoff.next(now, 20s), 20s) << "Retry-After is honoured";
  EXPECT_LE(backoff.next(now, 9'999'999'999s), 5min) << "but no year 2099";
  Backoff one(1);
  Backoff other(2);
  EXPECT_NE(one.next(now), other.next(now));
}

// K6
TEST(Backoff, MayBeHalvedInsteadOfStretched) {
  Backoff backoff(1, Backoff::kFirst, {0.5, 1.0});
  auto now = Backoff::Clock::now();
  for (const int64_t whole : {800, 1600, 3200, 6400, 12'800, 25'600, 30'000, 30'000}) {
    const auto wait = backoff.next(now).count();
    EXPECT_GE(wait, whole / 2);
    EXPECT_LE(wait, whole);
    now += std::chrono::milliseconds(whole);
  }
  EXPECT_LE(backoff.next(now + std::chrono::minutes(3)).count(), 800);
}

}  // namespace
}  // namespace bpfnet::http
