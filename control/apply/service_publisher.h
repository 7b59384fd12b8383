#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "control/apply/backend_runs.h"
#include "control/apply/map_writer.h"
#include "control/apply/report.h"
#include "control/apply/service_numbers.h"
#include "control/apply/source_sets.h"
#include "control/compile/images.h"

namespace bpfnet::apply {

/// What one publish of services makes true.
struct ServiceUpdate {
  const compile::ServiceImage& image;
  const ServiceNumbers& numbers;
  const ServingBackends& serving;
  /// The only frontends that may differ from the last publish. Missing: all are compared with the maps.
  const std::set<compile::FrontendAddress>* frontends = nullptr;
  /// The only keys of `serving` that may differ. Missing: all.
  const std::set<std::string>* serving_keys = nullptr;
  /// Try again what was refused before.
  bool retry = true;
};

/// Frontends with their runs of backends and sets of allowed sources, each published by copy, then switch:
/// what a frontend will name is written before it, what it named is reused after a grace period in which
/// every program that read the old frontend has ended.
class ServicePublisher {
 public:
  struct Options {
    uint64_t tick_ns = 1'000'000'000;  ///< of the datapath's clock, for affinity timeouts
    /// Counted from the moment in which the last frontend has left a run: a publish may take longer itself.
    std::chrono::milliseconds grace{100};
    std::function<Clock::time_point()> clock = Clock::now;
  };

  ServicePublisher(MapWriter& maps, Options options);

  /// Reads back what the maps hold, so that it is kept. Call once, before the first publish.
  Status adopt();

  /// Makes the maps say what the image says. Every frontend stands alone: one that fails keeps its old value
  /// and is told in `problems` until it is in place.
  void publish(const ServiceUpdate& update, Clock::time_point now, Problems& problems);

  /// Frees what its grace is over for; true when room was made.
  bool reclaim(Clock::time_point now);
  /// When reclaim() has work next.
  [[nodiscard]] std::optional<Clock::time_point> deadline() const;

  /// Reads the maps again and puts right what somebody else changed. Gives the number of entries.
  size_t repair(Problems& problems);

  /// Service keys that are in no map any more; each is told once. Their numbers may be forgotten.
  std::vector<std::string> take_forgotten() { return std::exchange(forgotten_, {}); }

  [[nodiscard]] const SlotAllocator& slots() const { return runs_.slots(); }
  [[nodiscard]] size_t frontends() const { return applied_.size(); }
  [[nodiscard]] size_t source_sets() const { return sources_.size(); }
  [[nodiscard]] size_t refused() const { return refused_.size(); }
  /// Highest service id found in the maps by adopt(); new ids start above it.
  [[nodiscard]] uint32_t highest_service() const { return highest_service_; }

 private:
  struct ServiceRecord {
    std::string key;
    uint32_t frontends = 0;
    uint32_t affine = 0;   ///< frontends with FRONTEND_AFFINITY
    uint32_t refused = 0;  ///< frontends that wait to be tried again
    bool published_port = false;
    BackendRuns::Owner backends;
  };
  /// A frontend as the map holds it.
  struct Applied {
    frontend value{};
    BackendRuns::Run* internal = nullptr;
    BackendRuns::Run* external = nullptr;
  };
  /// A frontend whose runs and sources are ready, and which no map names yet.
  struct Prepared {
    compile::FrontendAddress address;
    const compile::Frontend* wanted = nullptr;
    Applied next;
    std::string flaw;  ///< a problem that does not keep it from being published
    bool differs = true;
  };
  struct Refusal {
    uint32_t service = 0;
    Problem problem;
  };
  using Queue = std::vector<Prepared>;

  /// A backend in no run lives on in its flows (S46).
  void adopt_flow(const flow& flow);
  void adopt_frontend(const compile::FrontendAddress& address, const frontend& value);
  [[nodiscard]] std::vector<compile::FrontendAddress> to_do(const ServiceUpdate& update) const;
  void prepare(const compile::FrontendAddress& address, const compile::Frontend& wanted, uint32_t id,
               Clock::time_point now, Queue& queue);
  void commit(Queue& queue, Clock::time_point now);
  void put_exact(Queue& queue, Clock::time_point now);
  void install(Prepared& prepared);
  void undo(Prepared& prepared, const std::string& message, Clock::time_point now);
  void refuse(const compile::FrontendAddress& address, uint32_t service, Problem problem);
  void accept(const compile::FrontendAddress& address);
  void remove(const compile::FrontendAddress& address);
  void detach(Applied& applied);
  void settle(const ServiceUpdate& update);
  /// False: nothing of the service is left.
  bool settle_service(ServiceRecord& service, const ServingBackends& serving);
  void erase_affinities(const std::set<uint32_t>& services);

  MapWriter& maps_;
  Options options_;
  BackendRuns runs_;
  SourceSets sources_;
  std::map<compile::FrontendAddress, Applied> applied_;
  std::map<uint32_t, ServiceRecord> services_;
  std::set<uint32_t> touched_;  ///< services whose backends settle() must look at
  std::map<compile::FrontendAddress, Refusal> refused_;
  std::map<uint32_t, Clock::time_point> affinity_lost_;  ///< services whose records are to be erased
  std::vector<std::string> forgotten_;
  uint32_t highest_service_ = 0;
};

}  // namespace bpfnet::apply
