#pragma once

#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "control/apply/address_maps.h"
#include "control/apply/endpoint_records.h"
#include "control/apply/map_writer.h"
#include "control/apply/policy_sets.h"
#include "control/apply/report.h"
#include "control/apply/service_publisher.h"
#include "control/compile/images.h"

namespace bpfnet::apply {

/// Everything one publish makes true.
struct Wanted {
  ServiceUpdate services;
  const compile::PolicyImage& policy;
  const std::map<uint16_t, EndpointFacts>& endpoints;
  const std::map<uint32_t, interface>& interfaces;  ///< by ifindex
  /// All of the policy that may differ from the last publish. Null: everything is compared with the maps.
  const compile::PolicyDelta* changes = nullptr;
  std::map<uint32_t, node> nodes = {};  ///< that the overlay reaches, by index
};

/// Images -> maps. Reads once what the maps hold, then writes differences only; keeps the order that makes
/// every instant's maps a right answer. Failures are per object: the old state stays, the next publish tries
/// again. One thread.
class Publisher {
 public:
  Publisher(MapWriter maps, const ServicePublisher::Options& options);

  /// Reads the maps. Nothing is written before this has succeeded and publish() is called with full state.
  Status adopt();

  /// Nothing is deleted that `wanted` holds; call it only when every source has delivered its state (S60).
  Problems publish(const Wanted& wanted, Clock::time_point now);
  /// The same when services alone may have changed.
  Problems publish(const ServiceUpdate& services, Clock::time_point now);
  /// Reads all maps again, puts right what somebody else changed in them (S61) and publishes. Gives the
  /// number of entries that were not as written.
  uint64_t resync(const Wanted& wanted, Clock::time_point now, Problems& problems);
  std::vector<std::string> take_forgotten_services() { return services_.take_forgotten(); }

  /// Frees what its grace is over for. True when room was made: refused objects may fit now.
  bool reclaim(Clock::time_point now);
  [[nodiscard]] std::optional<Clock::time_point> deadline() const;

  /// Asks the kernel whether this endpoint is open, known by its device and by each address.
  [[nodiscard]] Status verify_endpoint(uint16_t index, uint32_t ifindex, const std::vector<Address>& ips,
                                       uint16_t net) const;
  /// Asks the kernel for each frontend.
  [[nodiscard]] Status verify_frontends(const std::vector<compile::FrontendAddress>& frontends) const;

  /// The highest numbers found in the maps by adopt(); 0: none. Numbers of objects that the agent's database
  /// has forgotten are not given to others.
  struct HighestIds {
    uint32_t service = 0;
    uint32_t identity = 0;
    uint32_t set = 0;
    uint32_t rule = 0;
  };
  [[nodiscard]] HighestIds highest_ids() const;
  /// Whether these maps carried traffic before adopt(): some agent has published to them.
  [[nodiscard]] bool has_served() const { return has_served_; }
  /// Whether some of the policy waits for room in a map: the next publish tries it again.
  [[nodiscard]] bool policy_waits() const { return !refusals_.empty() || addresses_.waits(); }

  struct MapCounts {
    std::string name;
    WriteCounts counts;
  };
  [[nodiscard]] std::vector<MapCounts> counts() const;
  /// Puts and erases of all maps since start.
  [[nodiscard]] uint64_t writes() const;

  [[nodiscard]] const ServicePublisher& services() const { return services_; }
  [[nodiscard]] const EndpointRecords& endpoints() const { return endpoints_; }

 private:
  /// Gives the identities that some set in use has no room for: no address may take one.
  std::set<uint32_t> write_sets(const Wanted& wanted, bool new_ones, Problems& problems);
  bool reclaim_sets(Clock::time_point now);

  MapWriter maps_;
  std::chrono::milliseconds grace_;
  std::function<Clock::time_point()> clock_;
  ServicePublisher services_;
  PolicySets sets_;
  EndpointRecords endpoints_;
  Mirror<uint32_t, interface> interfaces_;
  Mirror<uint32_t, node> nodes_;
  AddressMaps addresses_;
  bool has_served_ = false;
  std::set<uint32_t> wanted_sets_;
  std::map<uint32_t, std::string> refusals_;  ///< sets that are not in the map as they should be, and why
  Problems other_problems_;                   ///< of the last publish, those that services have no part in
};

}  // namespace bpfnet::apply
