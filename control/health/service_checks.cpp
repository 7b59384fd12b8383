#include "control/health/service_checks.h"

#include <spdlog/spdlog.h>

#include <cerrno>
#include <nlohmann/json.hpp>

namespace bpfnet::health {
namespace {

constexpr const char* kReason = "FailedToStartServiceHealthcheck";

/// S51, S52: what kube-proxy answers, to the byte.
Answer answer(const model::ObjectName& service, uint32_t ready, bool healthy) {
  const nlohmann::ordered_json body = {{"service", {{"namespace", service.ns}, {"name", service.name}}},
                                       {"localEndpoints", ready},
                                       {"serviceProxyHealthy", healthy}};
  Answer answer = Answer::json(body.dump(1, '\t'), ready != 0 && healthy ? 200 : 503);
  answer.headers.emplace_back("X-Load-Balancing-Endpoint-Weight", std::to_string(ready));
  return answer;
}

std::string sentence(const model::ObjectName& service, uint16_t port, const std::string& cause) {
  return fmt::format("{}: service {}: healthCheckNodePort {}: {}", kReason, service.to_string(), port, cause);
}

}  // namespace

ServiceChecks::ServiceChecks(HttpServer& server, std::function<bool()> healthy,
                             std::chrono::milliseconds retry)
    : server_(server), healthy_(std::move(healthy)), retry_(retry) {}

void ServiceChecks::update(const Wanted& wanted, const std::vector<ListenAddress>& where) {
  const std::lock_guard lock(mutex_);
  const bool moved = where != where_;
  where_ = where;
  for (auto it = checks_.begin(); it != checks_.end();) {
    auto next = wanted.find(it->first);
    const bool stays = next != wanted.end() && next->second.port == it->second.port;
    if (!stays || moved) close(it->second);
    it = stays ? std::next(it) : checks_.erase(it);
  }
  for (const auto& [service, check] : wanted) {
    Check& mine = checks_[service];
    mine.port = check.port;
    mine.ready->store(check.local_ready, std::memory_order_relaxed);
  }
  open_missing();
}

std::vector<Problem> ServiceChecks::problems() const {
  const std::lock_guard lock(mutex_);
  std::vector<Problem> problems;
  for (const auto& [service, check] : checks_)
    if (!check.cause.empty())
      problems.push_back(
          {kReason, "service " + service.to_string(), sentence(service, check.port, check.cause)});
  return problems;
}

void ServiceChecks::close(Check& check) {
  for (const uint64_t id : check.listeners) server_.close(id);
  check.listeners.clear();
}

void ServiceChecks::open_missing() {
  bool missing = false;
  for (auto& [service, check] : checks_) {
    if (check.listeners.empty()) open(service, check);
    missing = missing || check.listeners.empty();
  }
  if (!missing || retrying_) return;
  retrying_ = true;
  server_.after(retry_, [this] {
    const std::lock_guard lock(mutex_);
    retrying_ = false;
    open_missing();
  });
}

void ServiceChecks::open(const model::ObjectName& service, Check& check) {
  const bool had_failed = !check.cause.empty();
  std::string cause = where_.empty() ? "no address of this node is in --nodeport-addresses" : "";
  for (ListenAddress where : where_) {
    where.port = check.port;
    auto id = server_.listen(where, [this, service, ready = check.ready](const Request&) {
      return answer(service, ready->load(std::memory_order_relaxed), healthy_());
    });
    if (!id) {
      cause = cause_of(service, check, id.error());
      break;
    }
    check.listeners.push_back(*id);
  }
  if (!cause.empty()) {
    close(check);  // all addresses or none: a probe must not depend on which one it asks
    if (cause != check.cause) spdlog::warn("{}", sentence(service, check.port, cause));
  } else if (had_failed) {
    spdlog::info("service {}: healthCheckNodePort {} is served now", service.to_string(), check.port);
  }
  check.cause = std::move(cause);
}

std::string ServiceChecks::cause_of(const model::ObjectName& service, const Check& check,
                                    const Error& error) const {
  if (error.code != EADDRINUSE) return error.message;
  for (const auto& [other, theirs] : checks_)
    if (other != service && theirs.port == check.port && !theirs.listeners.empty())
      return fmt::format("{} (service {} has that healthCheckNodePort; give one of them another)",
                         error.message, other.to_string());
  return fmt::format("{} (`ss -ltnp sport = :{}` names the process that holds the port)", error.message,
                     check.port);
}

}  // namespace bpfnet::health
