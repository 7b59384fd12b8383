#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "control/model/objects.h"

namespace bpfnet::health {

/// The seam of everything here that tells the time.
class Clock {
 public:
  using Steady = std::chrono::steady_clock::time_point;
  using Wall = std::chrono::system_clock::time_point;
  virtual ~Clock() = default;
  [[nodiscard]] virtual Steady now() const { return std::chrono::steady_clock::now(); }
  [[nodiscard]] virtual Wall wall() const { return std::chrono::system_clock::now(); }
};

/// Whether a load balancer may send to this node (S55): not when the Node is being deleted or carries the
/// autoscaler's taint, nor when the source knows nodes and this one is not among them. Without any Node
/// object (plain manifests) nobody has said anything against the node: eligible.
bool node_eligible(const std::map<std::string, model::Node>& nodes, const std::string& own);

/// Whether the agent keeps up (S54). From any thread.
class ProxyHealth {
 public:
  /// How long a change may wait before the agent counts as unhealthy.
  static constexpr std::chrono::seconds kPatience{60};
  /// Runs its argument on the agent's loop, some time. A loop that does not come to it is a waiting change.
  using AskLoop = std::function<void(std::function<void()>)>;

  /// `eligible`: until set_eligible() is called. A node about which nothing is known is not (S55), unless its
  /// datapath serves already.
  ProxyHealth(std::shared_ptr<const Clock> clock, AskLoop ask_loop, bool eligible = false);

  /// A change was seen. It waits from the first call after applied().
  void queued();
  /// Everything seen so far is in the maps.
  void applied();
  void set_eligible(bool eligible);

  struct View {
    bool healthy = true;  ///< of the agent alone; also while it starts
    bool eligible = false;
    std::optional<Clock::Wall> last_updated;  ///< missing: not synced since start
    Clock::Wall now;
    /// The agent has applied a first state and keeps up: pods can be made.
    [[nodiscard]] bool ready() const { return healthy && last_updated; }
  };
  /// Also asks the loop for a sign of life, which the views of the next minute judge.
  [[nodiscard]] View view();

 private:
  struct Ask {
    std::mutex mutex;
    std::optional<Clock::Steady> since;  ///< unanswered since
  };
  std::shared_ptr<const Clock> clock_;
  AskLoop ask_loop_;
  std::shared_ptr<Ask> ask_ = std::make_shared<Ask>();  ///< shared with an answer that may come late
  std::mutex mutex_;
  std::optional<Clock::Steady> waiting_since_;
  std::optional<Clock::Wall> last_updated_;
  bool eligible_;
};

/// Bodies of /healthz (with `eligible`) and /livez (without), as kube-proxy's (S54): `lastUpdated` is the
/// current time while all is well.
std::string healthz_body(const ProxyHealth::View& view);
std::string livez_body(const ProxyHealth::View& view);
/// Body of /readyz: as livez_body(), and `ready`.
std::string readyz_body(const ProxyHealth::View& view);

}  // namespace bpfnet::health
