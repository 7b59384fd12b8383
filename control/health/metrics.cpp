#include "control/health/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <sstream>

#include "control/health/metric_table.h"

namespace bpfnet::health {
namespace {

using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Histogram;

std::string help(const std::string& name) {
  return std::string(metric_spec(name).help);
}

/// 1 ms to 16 s, as kube-proxy's.
std::vector<double> sync_buckets() {
  std::vector<double> bounds;
  for (int i = 0; i < 15; ++i) bounds.push_back(0.001 * (1 << i));
  return bounds;
}

/// 0.25 s to 5 minutes, as kube-proxy's.
std::vector<double> programming_buckets() {
  std::vector<double> bounds = {0.25, 0.5};
  for (int i = 1; i < 60; ++i) bounds.push_back(i);
  for (int i = 60; i < 120; i += 5) bounds.push_back(i);
  for (int i = 120; i <= 300; i += 30) bounds.push_back(i);
  return bounds;
}

double seconds(std::chrono::duration<double> duration) {
  return duration.count();
}

}  // namespace

/// Children without labels exist from the start, so that every name is there with a zero.
struct Metrics::Families {
  explicit Families(prometheus::Registry& registry)
      : registry_(registry),
        sync(histogram("kubeproxy_sync_proxy_rules_duration_seconds", sync_buckets())),
        sync_full(histogram("kubeproxy_sync_full_proxy_rules_duration_seconds", sync_buckets())),
        sync_partial(histogram("kubeproxy_sync_partial_proxy_rules_duration_seconds", sync_buckets())),
        programming(histogram("kubeproxy_network_programming_duration_seconds", programming_buckets())),
        last(gauge("kubeproxy_sync_proxy_rules_last_timestamp_seconds")),
        last_queued(gauge("kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds")),
        endpoint_changes(counter("kubeproxy_sync_proxy_rules_endpoint_changes_total")),
        endpoint_pending(gauge("kubeproxy_sync_proxy_rules_endpoint_changes_pending")),
        service_changes(counter("kubeproxy_sync_proxy_rules_service_changes_total")),
        service_pending(gauge("kubeproxy_sync_proxy_rules_service_changes_pending")),
        healthz(counters("kubeproxy_proxy_healthz_total")),
        livez(counters("kubeproxy_proxy_livez_total")),
        problems(gauges("bpfnet_problems")),
        build(gauges("bpfnet_build_info")) {
    for (auto* family : {&healthz, &livez})
      for (const char* code : {"200", "503"}) family->Add({{"code", code}});
  }

  Histogram& histogram(const std::string& name, const std::vector<double>& bounds) {
    return prometheus::BuildHistogram().Name(name).Help(help(name)).Register(registry_).Add({}, bounds);
  }
  Family<Counter>& counters(const std::string& name) {
    return prometheus::BuildCounter().Name(name).Help(help(name)).Register(registry_);
  }
  Family<Gauge>& gauges(const std::string& name) {
    return prometheus::BuildGauge().Name(name).Help(help(name)).Register(registry_);
  }
  Counter& counter(const std::string& name) { return counters(name).Add({}); }
  Gauge& gauge(const std::string& name) { return gauges(name).Add({}); }

  prometheus::Registry& registry_;
  Histogram& sync;
  Histogram& sync_full;
  Histogram& sync_partial;
  Histogram& programming;
  Gauge& last;
  Gauge& last_queued;
  Counter& endpoint_changes;
  Gauge& endpoint_pending;
  Counter& service_changes;
  Gauge& service_pending;
  Family<Counter>& healthz;
  Family<Counter>& livez;
  Family<Gauge>& problems;
  Family<Gauge>& build;
};

/// Counts that the agent keeps itself and hands over whole.
class Metrics::WriteCollector : public prometheus::Collectable {
 public:
  void set(std::vector<MapWrites> writes) {
    const std::lock_guard lock(mutex_);
    writes_ = std::move(writes);
  }
  std::vector<prometheus::MetricFamily> Collect() const override {
    auto family = make_family("bpfnet_sync_map_writes_total");
    const std::lock_guard lock(mutex_);
    for (const MapWrites& map : writes_) {
      add_sample(family, {{"map", map.map}, {"operation", "put"}}, static_cast<double>(map.puts));
      add_sample(family, {{"map", map.map}, {"operation", "erase"}}, static_cast<double>(map.erases));
      add_sample(family, {{"map", map.map}, {"operation", "failure"}}, static_cast<double>(map.failures));
    }
    return {family};
  }

 private:
  mutable std::mutex mutex_;
  std::vector<MapWrites> writes_;
};

class Metrics::SourceCollector : public prometheus::Collectable {
 public:
  void set(std::vector<SourceKind> kinds) {
    const std::lock_guard lock(mutex_);
    kinds_ = std::move(kinds);
  }
  std::vector<prometheus::MetricFamily> Collect() const override {
    const std::lock_guard lock(mutex_);
    return {family("bpfnet_source_current", [](const SourceKind& kind) { return kind.current ? 1 : 0; }),
            family("bpfnet_source_objects", [](const SourceKind& kind) { return kind.objects; }),
            family("bpfnet_source_events_total", [](const SourceKind& kind) { return kind.events; }),
            family("bpfnet_source_relists_total", [](const SourceKind& kind) { return kind.relists; }),
            family("bpfnet_source_failures_total", [](const SourceKind& kind) { return kind.failures; })};
  }

 private:
  template <typename Value>
  [[nodiscard]] prometheus::MetricFamily family(const std::string& name, Value value) const {
    auto result = make_family(name);
    for (const SourceKind& kind : kinds_)
      add_sample(result, {{"kind", kind.kind}}, static_cast<double>(value(kind)));
    return result;
  }

  mutable std::mutex mutex_;
  std::vector<SourceKind> kinds_;
};

prometheus::MetricFamily make_family(const std::string& name) {
  const MetricSpec& spec = metric_spec(name);
  return {.name = name,
          .help = std::string(spec.help),
          .type = spec.kind == MetricKind::kCounter ? prometheus::MetricType::Counter
                                                    : prometheus::MetricType::Gauge,
          .metric = {}};
}

void add_sample(prometheus::MetricFamily& family,
                const std::vector<std::pair<std::string, std::string>>& labels, double value) {
  prometheus::ClientMetric metric;
  for (const auto& [name, text] : labels) metric.label.push_back({name, text});
  (family.type == prometheus::MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
  family.metric.push_back(std::move(metric));
}

Metrics::Metrics(std::shared_ptr<const Clock> clock, const std::string& version)
    : clock_(std::move(clock)),
      started_(clock_->wall()),
      registry_(std::make_shared<prometheus::Registry>()),
      families_(std::make_unique<Families>(*registry_)),
      writes_(std::make_shared<WriteCollector>()),
      source_(std::make_shared<SourceCollector>()),
      sources_{registry_, writes_, source_} {
  families_->build.Add({{"version", version}}).Set(1);
}

Metrics::~Metrics() = default;

void Metrics::queued(const Queued& changes) {
  families_->last_queued.Set(seconds(clock_->wall().time_since_epoch()));
  families_->service_changes.Increment(static_cast<double>(changes.services));
  families_->service_pending.Increment(static_cast<double>(changes.services));
  families_->endpoint_changes.Increment(static_cast<double>(changes.slices));
  families_->endpoint_pending.Increment(static_cast<double>(changes.slices));
  const std::lock_guard lock(mutex_);
  for (const auto& trigger : changes.triggers)
    if (trigger >= started_) triggers_.push_back(trigger);
}

void Metrics::synced(const Synced& sync) {
  if (!sync.services) return;
  const double took = seconds(sync.took);
  families_->sync.Observe(took);
  (sync.full ? families_->sync_full : families_->sync_partial).Observe(took);
  families_->last.Set(seconds(clock_->wall().time_since_epoch()));
  families_->service_pending.Set(0);
  families_->endpoint_pending.Set(0);
  const std::lock_guard lock(mutex_);
  for (const auto& trigger : triggers_)
    families_->programming.Observe(std::max(0.0, seconds(clock_->wall() - trigger)));
  triggers_.clear();
}

void Metrics::set_writes(std::vector<MapWrites> writes) {
  writes_->set(std::move(writes));
}

void Metrics::set_source(std::vector<SourceKind> kinds) {
  source_->set(std::move(kinds));
}

void Metrics::set_problems(const std::string& from, size_t count) {
  families_->problems.Add({{"from", from}}).Set(static_cast<double>(count));
}

void Metrics::count_healthz(unsigned code) {
  families_->healthz.Add({{"code", std::to_string(code)}}).Increment();
}

void Metrics::count_livez(unsigned code) {
  families_->livez.Add({{"code", std::to_string(code)}}).Increment();
}

void Metrics::collect_from(std::shared_ptr<const prometheus::Collectable> source) {
  sources_.push_back(std::move(source));
}

std::vector<prometheus::MetricFamily> Metrics::collect() const {
  std::vector<prometheus::MetricFamily> families;
  for (const auto& source : sources_)
    for (auto& family : source->Collect()) families.push_back(std::move(family));
  return families;
}

std::string Metrics::render() const {
  std::ostringstream text;
  prometheus::TextSerializer().Serialize(text, collect());
  return text.str();
}

}  // namespace bpfnet::health
