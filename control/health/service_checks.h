#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "control/compile/images.h"
#include "control/health/http_server.h"
#include "control/model/objects.h"

namespace bpfnet::health {

/// A listener that could not be opened: told until it is.
struct Problem {
  std::string reason;  ///< `FailedToStartServiceHealthcheck`, as the event of kube-proxy is called (S53)
  std::string object;  ///< `service default/web`, `--healthz-address`
  std::string text;    ///< the whole sentence: object, port, cause, way out
};

/// The servers of healthCheckNodePort (S50-S53): one port for each Service of type LoadBalancer with
/// externalTrafficPolicy Local. Any path answers 200 when the node has a ready endpoint of the service and
/// the agent is healthy, else 503. A port that cannot be had concerns its Service alone and is tried again.
class ServiceChecks {
 public:
  using Wanted = std::map<model::ObjectName, compile::HealthCheck>;

  /// `healthy` is asked on the server's thread. The server must be ended before this is destroyed.
  ServiceChecks(HttpServer& server, std::function<bool()> healthy,
                std::chrono::milliseconds retry = std::chrono::seconds(1));

  /// Closes what is not wanted any more, then opens what is new. `where`: node_port_addresses(). Cheap when
  /// nothing changed.
  void update(const Wanted& wanted, const std::vector<ListenAddress>& where);
  [[nodiscard]] std::vector<Problem> problems() const;

 private:
  struct Check {
    uint16_t port = 0;
    std::shared_ptr<std::atomic<uint32_t>> ready = std::make_shared<std::atomic<uint32_t>>(0);
    std::vector<uint64_t> listeners;  ///< empty: could not be opened
    std::string cause;                ///< why not
  };
  void open(const model::ObjectName& service, Check& check);
  void open_missing();
  void close(Check& check);
  [[nodiscard]] std::string cause_of(const model::ObjectName& service, const Check& check,
                                     const Error& error) const;

  HttpServer& server_;
  std::function<bool()> healthy_;
  std::chrono::milliseconds retry_;
  mutable std::mutex mutex_;
  std::map<model::ObjectName, Check> checks_;
  std::vector<ListenAddress> where_;
  bool retrying_ = false;  ///< a retry is on its way
};

}  // namespace bpfnet::health
