#pragma once

#include <map>
#include <mutex>
#include <optional>

#include "tests/support/cluster/cluster.h"

namespace bpfnet::e2e {

/// Backends at every address of a prefix, all of them one host on the switch, TCP and UDP on Pod::kPort. Each
/// tells which address was reached.
class ManyBackends {
 public:
  /// In no range of a cluster's.
  static constexpr auto kPrefix = "10.200.0.0/14";

  ManyBackends(Network& network, const std::string& netns_name);
  /// `node` reaches them from now on.
  void route_from(const Node& node) const;

 private:
  Host host_;
  std::optional<EchoServer> server_;
};

/// From when to when each backend was one, as far as can be known from outside: from before it is told until
/// maps are seen without it. May be used by several threads.
class Lifetimes {
 public:
  using Clock = std::chrono::steady_clock;

  /// To be called before it is told.
  void begin(const Address& backend);
  /// To be called when it is seen to be none any more.
  void end(const Address& backend);
  /// What is wrong with `backend` for a connection that took from `from` to `to`: it was one at no time of
  /// that. Empty: nothing. Remembers that it was asked.
  std::string wrong(const std::string& backend, Clock::time_point from, Clock::time_point to);
  /// How many have answered.
  [[nodiscard]] size_t answered() const;

 private:
  struct Life {
    Clock::time_point begin;
    std::optional<Clock::time_point> end;
    bool answered = false;
  };
  mutable std::mutex mutex_;
  std::map<Address, Life> lives_;
};

}  // namespace bpfnet::e2e
