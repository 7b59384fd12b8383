#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "control/compile/backends.h"
#include "control/compile/images.h"

namespace bpfnet::compile {

/// What one service needs to know of its node.
struct ServiceContext {
  Locality here;
  std::vector<Address> node_addresses;  ///< for S40
  std::vector<Cidr> node_port_cidrs;    ///< S35, of any family
};

ServiceContext make_service_context(const model::ClusterState& state, const NodeView& node);

/// Frontends in the order they were found; an address stands in it once.
using FrontendList = std::vector<std::pair<FrontendAddress, Frontend>>;

/// True for services that are served at all (S1, S2).
bool is_proxied(const model::Service& service);
/// True for slices whose endpoints count (S3, S4).
bool is_used(const model::EndpointSlice& slice);

/// Pure: the frontends of one service. `slices` are its own and in order of name; those that do not count are
/// passed over. Needs microseconds: an incremental driver calls it for the services that changed.
FrontendList compile_service(const model::Service& service,
                             const std::vector<const model::EndpointSlice*>& slices,
                             const ServiceContext& context, std::vector<Warning>& warnings);

/// Pure: what the service's healthCheckNodePort tells (S50); nullopt for services that have none. The pods of
/// a dual-stack service count once.
std::optional<HealthCheck> compile_health_check(const model::Service& service,
                                                const std::vector<const model::EndpointSlice*>& slices,
                                                const ServiceContext& context);

/// `203.0.113.1 TCP port 80`, `node port 30080/TCP (IPv4)`: how a frontend address is named to people.
std::string describe(const FrontendAddress& address);

}  // namespace bpfnet::compile
