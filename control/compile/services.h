#pragma once

#include <map>
#include <optional>
#include <set>
#include <vector>

#include "control/compile/images.h"
#include "control/compile/service.h"

namespace bpfnet::compile {

/// What is new since the last update. Names of removed objects belong in it too.
struct ServiceChanges {
  std::set<model::ObjectName> services;
  std::set<model::ObjectName> slices;
  bool host_ports = false;  ///< local endpoints or their published ports
  bool everything = false;  ///< compile all of it again; what the node's own facts ask for is found anyway
};

/// Keeps the frontends of all services up to date: an update compiles again what changed and nothing else, so
/// one change among 10,000 services costs microseconds. A relabelled own Node (S18), other addresses of the
/// node (S40) or of NodePorts (S35) are noticed without being told. compile_services() is one update of
/// everything.
///
/// Of several services that claim one address, by mistake or malice, one has it, always the same: a ClusterIP
/// goes before a load-balancer VIP, then externalIP, then NodePort, then hostPort; then the first by name.
/// The others are told in a warning, and take over as soon as it is given up.
class ServiceCompiler {
 public:
  /// Brings image() to `state`; gives the addresses whose frontend was added, changed or removed.
  std::set<FrontendAddress> update(const model::ClusterState& state, const NodeView& node,
                                   const std::vector<LocalEndpoint>& endpoints,
                                   const ServiceChanges& changes);

  [[nodiscard]] const ServiceImage& image() const { return image_; }

 private:
  struct Claim {
    int rank = 0;             ///< by kind of frontend
    model::ObjectName owner;  ///< a service; kHostPorts for all published ports
    auto operator<=>(const Claim&) const = default;
  };

  /// The owners that `changes` and the difference between `context` and the last one concern.
  std::set<model::ObjectName> concerned(const model::ClusterState& state, const ServiceContext& context,
                                        const ServiceChanges& changes);
  void index_slices(const model::ClusterState& state, const std::set<model::ObjectName>& changed,
                    std::set<model::ObjectName>& services);
  [[nodiscard]] std::vector<const model::EndpointSlice*> slices_of(const model::ClusterState& state,
                                                                   const model::ObjectName& service) const;
  void withdraw(const model::ObjectName& owner, std::set<FrontendAddress>& changed,
                std::set<model::ObjectName>& heirs);
  /// Takes the values out of `frontends`.
  void install(const model::ObjectName& owner, FrontendList& frontends, std::vector<Warning> warnings,
               std::set<FrontendAddress>& changed);
  void collect_warnings(const model::ClusterState& state);
  void warn_of_node_ports_in_ranges();

  ServiceImage image_;
  std::optional<ServiceContext> context_;  ///< of the last update
  std::map<model::ObjectName, std::set<model::ObjectName>> slices_by_service_;
  std::map<model::ObjectName, model::ObjectName> service_of_slice_;
  std::map<model::ObjectName, std::vector<FrontendAddress>> addresses_;  ///< claimed, by owner
  std::map<model::ObjectName, std::vector<Warning>> warnings_;           ///< by owner; only those with some
  std::map<FrontendAddress, std::set<Claim>> claims_;
  std::set<FrontendAddress> contested_;
};

}  // namespace bpfnet::compile
