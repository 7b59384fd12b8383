#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "control/health/http_server.h"
#include "control/health/map_metrics.h"
#include "control/health/metrics.h"
#include "control/health/proxy_health.h"
#include "control/health/service_checks.h"
#include "maps/maps.h"

namespace bpfnet::health {

/// Everything the agent tells by HTTP over TCP: healthCheckNodePorts, /healthz and /livez (S54)
/// and /readyz; /metrics, /healthz, /proxyMode and /configz (S56). All of it is served by one thread of its
/// own. The agent tells it what happens; nothing here waits for the agent.
class Monitor {
 public:
  struct Options {
    std::string healthz_address = "0.0.0.0:10256";    ///< empty: off
    std::string metrics_address = "127.0.0.1:10249";  ///< empty: off
    std::string version;
    std::string configz;  ///< JSON: the options in effect
    ProxyHealth::AskLoop ask_loop;
    bool eligible = false;  ///< until set_eligible(): does the datapath serve already?
    std::shared_ptr<const Clock> clock = std::make_shared<Clock>();
    std::chrono::milliseconds retry{1000};  ///< of addresses that are in use
  };

  /// `maps`: of its own, see MapMetrics; missing: no metrics of maps. An address that does not parse is an
  /// error that names the option; one that is in use is a problem, told and tried again: the datapath must
  /// not wait for whoever holds it.
  static Result<std::unique_ptr<Monitor>> start(Options options, std::optional<maps::Maps> maps);
  ~Monitor();

  // Told by the agent, from one thread.

  /// Changes of the source were seen: the clock of S54 runs until synced().
  void queued(const Queued& changes);
  void synced(const Synced& sync);
  void set_eligible(bool eligible) { health_.set_eligible(eligible); }
  void set_checks(const ServiceChecks::Wanted& wanted, const std::vector<ListenAddress>& where) {
    checks_->update(wanted, where);
  }
  void set_writes(std::vector<MapWrites> writes, uint32_t slots_used);
  void set_source(std::vector<SourceKind> kinds) { metrics_.set_source(std::move(kinds)); }
  void set_problems(const std::string& from, size_t count) { metrics_.set_problems(from, count); }

  /// Listeners that could not be opened.
  [[nodiscard]] std::vector<Problem> problems() const;
  /// The ports in use; 0: off, or not open.
  [[nodiscard]] uint16_t healthz_port() const;
  [[nodiscard]] uint16_t metrics_port() const;

 private:
  /// One of the two fixed addresses.
  struct Site {
    std::string option;
    std::optional<ListenAddress> where;  ///< missing: off
    HttpServer::Handler handler;
    uint64_t listener = 0;
    std::string cause;
  };
  Monitor(Options options, std::optional<maps::Maps> maps);
  void open_sites();
  Answer answer_healthz(const Request& request);
  Answer answer_metrics(const Request& request);

  Options options_;
  ProxyHealth health_;
  Metrics metrics_;
  std::shared_ptr<MapMetrics> maps_;
  mutable std::mutex mutex_;
  Site healthz_;
  Site metrics_site_;
  std::unique_ptr<HttpServer> server_;
  std::unique_ptr<ServiceChecks> checks_;
};

}  // namespace bpfnet::health
