#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "base/address.h"
#include "base/fd.h"
#include "control/health/proxy_health.h"

namespace bpfnet::health::test {

/// An answer as it came over the wire.
struct Reply {
  int status = 0;  ///< 0: no answer; `raw` says why
  std::string raw;
  std::string body;
  /// The header's value; empty: not there.
  [[nodiscard]] std::string header(const std::string& name) const;
};

/// One request on a connection of its own; waits for the server to close it.
Reply get(uint16_t port, const std::string& path, const std::string& host = "127.0.0.1",
          const std::string& method = "GET");
/// A connection that nothing is sent on; invalid when it is refused.
Fd connect_to(uint16_t port, const std::string& host = "127.0.0.1");
/// Holds a port on every address of both families.
Fd hold(uint16_t& port);

/// A clock that stands still until it is moved.
struct StoppedClock : Clock {
  Steady at = Steady(std::chrono::hours(1));
  Wall wall_at = Wall(std::chrono::seconds(1'700'000'000));
  [[nodiscard]] Steady now() const override { return at; }
  [[nodiscard]] Wall wall() const override { return wall_at; }
  void advance(std::chrono::milliseconds by) {
    at += by;
    wall_at += by;
  }
};

/// Calls `check` until it is true; false after five seconds.
template <typename F>
bool eventually(F&& check) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  while (!check())
    if (std::chrono::steady_clock::now() > end) return false;
  return true;
}

}  // namespace bpfnet::health::test
