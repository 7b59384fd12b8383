#include "control/health/monitor.h"

#include <spdlog/spdlog.h>

#include <cerrno>
#include <numeric>

namespace bpfnet::health {
namespace {

/// What kube-proxy answers is the name of its rule set; ours.
constexpr const char* kProxyMode = "bpf";
constexpr const char* kPrometheusText = "text/plain; version=0.0.4; charset=utf-8";

}  // namespace

Monitor::Monitor(Options options, std::optional<maps::Maps> maps)
    : options_(std::move(options)),
      health_(options_.clock, options_.ask_loop, options_.eligible),
      metrics_(options_.clock, options_.version),
      healthz_{.option = "--healthz-address",
               .where = {},
               .handler = [this](const Request& request) { return answer_healthz(request); }},
      metrics_site_{.option = "--metrics-address", .where = {}, .handler = [this](const Request& request) {
                      return answer_metrics(request);
                    }} {
  metrics_.collect_from(std::make_shared<ProcessMetrics>());
  if (!maps) return;
  maps_ = std::make_shared<MapMetrics>(std::move(*maps));
  metrics_.collect_from(maps_);
}

Result<std::unique_ptr<Monitor>> Monitor::start(Options options, std::optional<maps::Maps> maps) {
  std::unique_ptr<Monitor> monitor(new Monitor(std::move(options), std::move(maps)));
  const std::pair<Site*, const std::string*> sites[] = {
      {&monitor->healthz_, &monitor->options_.healthz_address},
      {&monitor->metrics_site_, &monitor->options_.metrics_address}};
  for (const auto& [site, text] : sites) {
    if (text->empty()) continue;
    auto where = ListenAddress::parse(*text);
    if (!where) return pass(where, site->option);
    site->where = *where;
  }
  auto server = HttpServer::start();
  if (!server) return pass(server);
  monitor->server_ = std::move(*server);
  monitor->checks_ = std::make_unique<ServiceChecks>(
      *monitor->server_, [self = monitor.get()] { return self->health_.view().healthy; },
      monitor->options_.retry);
  monitor->open_sites();
  return monitor;
}

Monitor::~Monitor() {
  server_.reset();  // its thread asks the rest
}

void Monitor::open_sites() {
  const std::lock_guard lock(mutex_);
  bool missing = false;
  for (Site* site : {&healthz_, &metrics_site_}) {
    if (!site->where || site->listener != 0) continue;
    auto id = server_->listen(*site->where, site->handler);
    if (id) {
      site->listener = *id;
      if (!site->cause.empty()) spdlog::info("{}: {} is served now", site->option, site->where->to_string());
      site->cause.clear();
      continue;
    }
    missing = true;
    const std::string cause =
        id.error().code == EADDRINUSE
            ? fmt::format(
                  "{} (does kube-proxy or another bpfnetd run here? `ss -ltnp sport = :{}` tells; "
                  "free the port, or name another address, or \"\" for none)",
                  id.error().message, site->where->port)
            : id.error().message;
    if (cause != site->cause) spdlog::error("{}: {}; it is tried again", site->option, cause);
    site->cause = cause;
  }
  if (missing) server_->after(options_.retry, [this] { open_sites(); });
}

Answer Monitor::answer_healthz(const Request& request) {
  if (request.path != "/healthz" && request.path != "/livez" && request.path != "/readyz")
    return Answer::text("404: there are /healthz, /livez and /readyz\n", 404);
  const auto view = health_.view();
  if (request.path == "/readyz") return Answer::json(readyz_body(view), view.ready() ? 200 : 503);
  const bool livez = request.path == "/livez";
  const unsigned status = view.healthy && (livez || view.eligible) ? 200 : 503;
  livez ? metrics_.count_livez(status) : metrics_.count_healthz(status);
  return Answer::json(livez ? livez_body(view) : healthz_body(view), status);
}

Answer Monitor::answer_metrics(const Request& request) {
  if (request.path == "/metrics") {
    metrics_.set_problems("health", problems().size());
    return {.content_type = kPrometheusText, .body = metrics_.render()};
  }
  if (request.path == "/healthz") return Answer::text("ok");
  if (request.path == "/proxyMode") return Answer::text(kProxyMode);
  if (request.path == "/configz") return Answer::json(options_.configz);
  return Answer::text("404: there are /metrics, /healthz, /proxyMode and /configz\n", 404);
}

void Monitor::queued(const Queued& changes) {
  health_.queued();
  metrics_.queued(changes);
}

void Monitor::synced(const Synced& sync) {
  health_.applied();
  metrics_.synced(sync);
}

void Monitor::set_writes(std::vector<MapWrites> writes, uint32_t slots_used) {
  const uint64_t all =
      std::accumulate(writes.begin(), writes.end(), uint64_t{0},
                      [](uint64_t sum, const MapWrites& map) { return sum + map.puts + map.erases; });
  if (maps_) maps_->note(all, slots_used);
  metrics_.set_writes(std::move(writes));
}

std::vector<Problem> Monitor::problems() const {
  auto problems = checks_->problems();
  const std::lock_guard lock(mutex_);
  for (const Site* site : {&healthz_, &metrics_site_})
    if (!site->cause.empty())
      problems.push_back({"AddressNotServed", site->option, site->option + ": " + site->cause});
  return problems;
}

uint16_t Monitor::healthz_port() const {
  const std::lock_guard lock(mutex_);
  return server_->port(healthz_.listener);
}

uint16_t Monitor::metrics_port() const {
  const std::lock_guard lock(mutex_);
  return server_->port(metrics_site_.listener);
}

}  // namespace bpfnet::health
