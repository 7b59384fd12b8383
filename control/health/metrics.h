#pragma once

#include <prometheus/collectable.h>
#include <prometheus/registry.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "control/health/proxy_health.h"

namespace bpfnet::health {

/// Changes as they come from the source.
struct Queued {
  size_t services = 0;
  size_t slices = 0;
  /// Trigger times of slices that were added or changed, not removed (S59).
  std::vector<Clock::Wall> triggers;
};

/// One finished sync.
struct Synced {
  bool services = true;  ///< services were part of it
  bool full = false;     ///< everything was compiled anew
  std::chrono::steady_clock::duration took{};
};

/// Writes of the agent to one map since its start.
struct MapWrites {
  std::string map;
  uint64_t puts = 0;
  uint64_t erases = 0;
  uint64_t failures = 0;
};

/// How the source stands with one kind of objects.
struct SourceKind {
  std::string kind;
  bool current = false;
  size_t objects = 0;
  uint64_t events = 0;
  uint64_t relists = 0;
  uint64_t failures = 0;
};

/// What the agent counts and what is collected when somebody asks. From any thread.
class Metrics {
 public:
  /// `clock` also says when the agent started: earlier triggers are not measured (S59).
  Metrics(std::shared_ptr<const Clock> clock, const std::string& version);
  ~Metrics();

  void queued(const Queued& changes);
  void synced(const Synced& sync);
  void set_writes(std::vector<MapWrites> writes);
  void set_source(std::vector<SourceKind> kinds);
  void set_problems(const std::string& from, size_t count);
  void count_healthz(unsigned code);
  void count_livez(unsigned code);
  /// Asked at every scrape, on the scraping thread. Before the first scrape only.
  void collect_from(std::shared_ptr<const prometheus::Collectable> source);

  /// Everything, in the text format that Prometheus reads.
  [[nodiscard]] std::string render() const;
  [[nodiscard]] std::vector<prometheus::MetricFamily> collect() const;

 private:
  struct Families;
  class WriteCollector;
  class SourceCollector;
  std::shared_ptr<const Clock> clock_;
  Clock::Wall started_;
  std::shared_ptr<prometheus::Registry> registry_;
  std::unique_ptr<Families> families_;
  std::shared_ptr<WriteCollector> writes_;
  std::shared_ptr<SourceCollector> source_;
  std::vector<std::shared_ptr<const prometheus::Collectable>> sources_;
  std::mutex mutex_;
  std::vector<Clock::Wall> triggers_;  ///< of changes not yet in the maps
};

/// A family with the name, help and type of its row in the table; for collectables.
prometheus::MetricFamily make_family(const std::string& name);
/// Appends one sample, counter or gauge by the family's type.
void add_sample(prometheus::MetricFamily& family,
                const std::vector<std::pair<std::string, std::string>>& labels, double value);

}  // namespace bpfnet::health
