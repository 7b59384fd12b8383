#pragma once

#include <chrono>
#include <memory>
#include <mutex>

#include "tests/e2e/churn_specification.h"

namespace bpfnet::e2e::churn {

using Clock = std::chrono::steady_clock;

/// One state of the objects, and from when it may be in force.
struct Version {
  size_t number = 0;
  World world;
  std::string what;     ///< the change that led to it
  std::string subject;  ///< the service that changed
  Clock::time_point begun;
};
using VersionPtr = std::shared_ptr<const Version>;
using Versions = std::vector<VersionPtr>;

/// Every state that there was, and which of them a node may have been in at what time: from before a change
/// is written until a later one is known to be visible. May be used by several threads.
class History {
 public:
  /// Begins with a state without services.
  explicit History(size_t nodes);

  /// To be called before the change is written. Gives its number.
  size_t append(World world, std::string what, std::string subject);
  /// `node` shows `number` by now, and nothing older.
  void visible(size_t node, size_t number);

  [[nodiscard]] VersionPtr latest() const;
  [[nodiscard]] VersionPtr at(size_t number) const;
  /// What `node` may have shown at any time between the two, oldest first; never empty.
  [[nodiscard]] Versions in_force(size_t node, Clock::time_point from, Clock::time_point to) const;
  /// Changes around these versions, one a line.
  [[nodiscard]] std::string around(size_t first, size_t last) const;
  /// Changes of one service from the first version to the last, one a line.
  [[nodiscard]] std::string of(const std::string& service, size_t first, size_t last) const;
  [[nodiscard]] static std::string milliseconds_since(Clock::time_point from, Clock::time_point to);
  [[nodiscard]] Clock::time_point start() const { return start_; }

 private:
  struct Shown {
    size_t number;
    Clock::time_point from;
  };
  /// Under the lock.
  [[nodiscard]] std::string line(size_t number) const;

  mutable std::mutex mutex_;
  Clock::time_point start_ = Clock::now();
  Versions versions_;
  std::vector<std::vector<Shown>> shown_;  ///< by node, both members rising
};

/// The manifests of one service in this state, empty where there is none.
std::string service_text(const World& world, const std::string& service);
std::string slices_text(const World& world, const std::string& service);

}  // namespace bpfnet::e2e::churn
