#include "control/health/proxy_health.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

namespace bpfnet::health {
namespace {

/// Set by the cluster autoscaler on a node it is about to remove.
constexpr const char* kToBeDeleted = "ToBeDeletedByClusterAutoscaler";

std::string rfc3339(Clock::Wall time) {
  using std::chrono::microseconds;
  const auto since = std::chrono::floor<microseconds>(time.time_since_epoch());
  const auto seconds = std::chrono::floor<std::chrono::seconds>(since);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:06d}Z", fmt::gmtime(std::time_t{seconds.count()}),
                     (since - seconds).count());
}

nlohmann::ordered_json body(const ProxyHealth::View& view, bool well, std::optional<bool> eligible) {
  nlohmann::ordered_json json;
  // Older readers take a recent time for "the loop runs".
  json["lastUpdated"] = rfc3339(well ? view.now : view.last_updated.value_or(Clock::Wall{}));
  json["currentTime"] = rfc3339(view.now);
  if (eligible) json["nodeEligible"] = *eligible;
  json["healthy"] = view.healthy;
  if (view.last_updated) {
    // One sync writes both families.
    const nlohmann::ordered_json status = {{"lastUpdated", rfc3339(*view.last_updated)},
                                           {"healthy", view.healthy}};
    json["status"] = {{"IPv4", status}, {"IPv6", status}};
  }
  return json;
}

}  // namespace

bool node_eligible(const std::map<std::string, model::Node>& nodes, const std::string& own) {
  if (nodes.empty()) return true;
  const auto found = nodes.find(own);
  if (found == nodes.end()) return false;
  const model::Node& node = found->second;
  return !node.deleting &&
         std::find(node.taints.begin(), node.taints.end(), kToBeDeleted) == node.taints.end();
}

ProxyHealth::ProxyHealth(std::shared_ptr<const Clock> clock, AskLoop ask_loop, bool eligible)
    : clock_(std::move(clock)), ask_loop_(std::move(ask_loop)), eligible_(eligible) {}

void ProxyHealth::queued() {
  const std::lock_guard lock(mutex_);
  if (!waiting_since_) waiting_since_ = clock_->now();
}

void ProxyHealth::applied() {
  const std::lock_guard lock(mutex_);
  waiting_since_.reset();
  last_updated_ = clock_->wall();
}

void ProxyHealth::set_eligible(bool eligible) {
  const std::lock_guard lock(mutex_);
  eligible_ = eligible;
}

ProxyHealth::View ProxyHealth::view() {
  const auto now = clock_->now();
  std::optional<Clock::Steady> unanswered;
  bool ask = false;
  {
    const std::lock_guard lock(ask_->mutex);
    unanswered = ask_->since;
    if (!ask_->since) {
      ask_->since = now;
      ask = true;
    }
  }
  if (ask) {
    ask_loop_([shared = ask_] {
      const std::lock_guard lock(shared->mutex);
      shared->since.reset();
    });
  }
  const std::lock_guard lock(mutex_);
  const auto late = [&](const std::optional<Clock::Steady>& since) {
    return since && now - *since >= kPatience;
  };
  return {.healthy = !late(waiting_since_) && !late(unanswered),
          .eligible = eligible_,
          .last_updated = last_updated_,
          .now = clock_->wall()};
}

std::string healthz_body(const ProxyHealth::View& view) {
  return body(view, view.healthy && view.eligible, view.eligible).dump();
}

std::string livez_body(const ProxyHealth::View& view) {
  return body(view, view.healthy, std::nullopt).dump();
}

std::string readyz_body(const ProxyHealth::View& view) {
  auto json = body(view, view.ready(), std::nullopt);
  json["ready"] = view.ready();
  return json.dump();
}

}  // namespace bpfnet::health
