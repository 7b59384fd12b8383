#pragma once

#include <chrono>
#include <deque>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "control/apply/map_writer.h"
#include "control/apply/report.h"
#include "control/apply/slots.h"
#include "control/compile/images.h"

namespace bpfnet::apply {

using Clock = std::chrono::steady_clock;

/// A service port and its protocol, as ids are given: `default/web:http/udp`.
std::string service_key(const compile::FrontendAddress& address, const compile::Frontend& frontend);

/// Ids of service ports, stable while they are known; never used twice. Owned and persisted by the agent.
struct ServiceNumbers {
  std::map<std::string, uint32_t> ids;  ///< service_key -> id, from 1
  uint32_t next = 1;

  /// Numbers what is new, forgets what is gone. True: `ids` changed and must be persisted before publishing.
  bool assign(const compile::ServiceImage& image);
};

/// Endpoints that are serving, listed as a backend or not (S46): service_key -> backends. Only UDP, the one
/// protocol whose flows move.
using ServingBackends = std::map<std::string, std::set<compile::Backend>>;
ServingBackends serving_backends(const model::ClusterState& state);

/// Frontends, slot runs and backend generations. A run is never changed in place: the new one is written,
/// the frontend switched by one update, the old run reused after a grace period in which every program that
/// read the old frontend has ended.
class ServicePublisher {
 public:
  struct Options {
    uint64_t tick_ns = 1'000'000'000;  ///< of the datapath's clock, for affinity timeouts
    std::chrono::milliseconds grace{100};
  };

  ServicePublisher(MapWriter& maps, Options options);

  /// Reads back what the maps hold, so that it is kept. Call once, before the first publish.
  Status adopt();

  /// Makes the maps say what `image` says. Every frontend stands alone: one that fails keeps its old value.
  void publish(const compile::ServiceImage& image, const ServiceNumbers& numbers,
               const ServingBackends& serving, Clock::time_point now, Problems& problems);

  /// Frees runs whose grace is over; true when some were.
  bool reclaim(Clock::time_point now);
  /// When reclaim() has work next.
  [[nodiscard]] std::optional<Clock::time_point> deadline() const;

  [[nodiscard]] const SlotAllocator& slots() const { return slots_; }
  [[nodiscard]] size_t frontends() const { return applied_.size(); }
  /// Highest service id found in the maps by adopt(); new ids start above it.
  [[nodiscard]] uint32_t highest_service() const { return highest_service_; }

 private:
  struct Run {
    uint32_t first = 0;
    uint32_t refs = 0;
    std::vector<backend_slot> slots;
  };
  struct BackendRecord {
    uint32_t id = 0;
    uint32_t generation = 0;
    uint32_t listed = 0;  ///< runs in use that contain it
  };
  struct ServiceRecord {
    std::string key;
    uint32_t frontends = 0;
    bool published_port = false;
    std::list<Run> runs;
    std::map<compile::Backend, BackendRecord> backends;
  };
  /// A frontend as the map holds it.
  struct Applied {
    std::optional<compile::Frontend> wanted;  ///< missing: adopted or refused, compare with the map
    frontend value{};
    Run* internal = nullptr;
    Run* external = nullptr;
  };
  struct Retired {
    Clock::time_point due;
    uint32_t first;
    uint32_t count;
  };

  Status adopt_frontend(const frontend_key& key, const frontend& value);
  Result<Run*> adopt_run(ServiceRecord& service, uint32_t first, uint32_t count);
  Status publish_one(const compile::FrontendAddress& address, const compile::Frontend& wanted, uint32_t id,
                     Clock::time_point now);
  Status remove_one(const compile::FrontendAddress& address, Clock::time_point now);
  Result<Run*> obtain_run(ServiceRecord& service, const std::vector<compile::Backend>& backends);
  Result<BackendRecord*> obtain_backend(ServiceRecord& service, const compile::Backend& backend);
  void drop_run(uint32_t service, Run* run, Clock::time_point now, bool was_visible);
  void detach(Applied& applied, Clock::time_point now);
  void settle_backends(const ServingBackends& serving, Problems& problems);
  Status raise_generation(const BackendRecord& record);

  MapWriter& maps_;
  Options options_;
  SlotAllocator slots_;
  std::map<compile::FrontendAddress, Applied> applied_;
  std::map<uint32_t, ServiceRecord> services_;
  std::set<uint32_t> unsettled_;  ///< services with backends in no run
  std::set<uint32_t> backend_ids_;
  uint32_t next_backend_ = 1;
  uint32_t highest_service_ = 0;
  std::deque<Retired> retired_;
};

}  // namespace bpfnet::apply
