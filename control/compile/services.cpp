#include "control/compile/services.h"

#include <fmt/format.h>

#include <algorithm>

#include "control/compile/host_ports.h"
#include "maps/abi/service.h"

namespace bpfnet::compile {
namespace {

using model::ClusterState;
using model::ObjectName;

/// Owner of all published host ports. No service has an empty name.
const ObjectName kHostPorts;

int rank_of(uint32_t flags) {
  int rank = 0;
  for (const uint32_t kind : {FRONTEND_CLUSTER_IP, FRONTEND_LOAD_BALANCER, FRONTEND_EXTERNAL_IP,
                              FRONTEND_NODE_PORT, FRONTEND_HOST_PORT}) {
    if (flags & kind) return rank;
    ++rank;
  }
  return rank;
}

}  // namespace

std::set<FrontendAddress> ServiceCompiler::update(const ClusterState& state, const NodeView& node,
                                                  const std::vector<LocalEndpoint>& endpoints,
                                                  const ServiceChanges& changes) {
  const ServiceContext context = make_service_context(state, node);
  const std::set<ObjectName> owners = concerned(state, context, changes);
  context_ = context;

  std::set<FrontendAddress> touched;
  std::map<FrontendAddress, Frontend> before;
  // What an owner gives up falls to the next claimant, which is then compiled as well.
  std::set<ObjectName> todo = owners;
  for (const ObjectName& owner : owners) {
    if (const auto known = addresses_.find(owner); known != addresses_.end()) {
      for (const auto& address : known->second)
        if (const auto frontend = image_.frontends.find(address); frontend != image_.frontends.end())
          before.insert(*frontend);
    }
    withdraw(owner, touched, todo);
  }
  for (const ObjectName& owner : todo) {
    std::vector<Warning> warnings;
    FrontendList frontends;
    if (owner == kHostPorts) {
      frontends = compile_host_ports(endpoints, context, warnings);
    } else if (const auto service = state.services.find(owner); service != state.services.end()) {
      const auto slices = slices_of(state, owner);
      frontends = compile_service(service->second, slices, context, warnings);
      if (const auto check = compile_health_check(service->second, slices, context))
        image_.health_checks.insert_or_assign(owner, *check);
    }
    install(owner, frontends, std::move(warnings), touched);
  }
  std::erase_if(touched, [&](const FrontendAddress& address) {
    const auto was = before.find(address);
    const auto is = image_.frontends.find(address);
    return was != before.end() && is != image_.frontends.end() && was->second == is->second;
  });
  collect_warnings(state);
  return touched;
}

std::set<ObjectName> ServiceCompiler::concerned(const ClusterState& state, const ServiceContext& context,
                                                const ServiceChanges& changes) {
  std::set<ObjectName> owners = changes.services;
  const bool moved = !context_ || context_->here != context.here;
  const bool readdressed = !context_ || context_->node_addresses != context.node_addresses ||
                           context_->node_port_cidrs != context.node_port_cidrs;
  if (changes.everything || moved) {
    for (const auto& [owner, addresses] : addresses_) owners.insert(owner);
    for (const auto& [owner, warnings] : warnings_) owners.insert(owner);
    for (const auto& [name, service] : state.services) owners.insert(name);
    std::set<ObjectName> slices;
    for (const auto& [slice, service] : service_of_slice_) slices.insert(slice);
    for (const auto& [name, slice] : state.slices) slices.insert(name);
    index_slices(state, slices, owners);
  } else {
    index_slices(state, changes.slices, owners);
  }
  if (changes.host_ports || changes.everything || readdressed) owners.insert(kHostPorts);
  if (readdressed && context_) {
    for (const auto& [name, service] : state.services)
      if (!service.source_ranges.empty()) owners.insert(name);
  }
  return owners;
}

void ServiceCompiler::index_slices(const ClusterState& state, const std::set<ObjectName>& changed,
                                   std::set<ObjectName>& services) {
  for (const ObjectName& name : changed) {
    if (const auto old = service_of_slice_.find(name); old != service_of_slice_.end()) {
      services.insert(old->second);
      if (const auto siblings = slices_by_service_.find(old->second); siblings != slices_by_service_.end()) {
        siblings->second.erase(name);
        if (siblings->second.empty()) slices_by_service_.erase(siblings);
      }
      service_of_slice_.erase(old);
    }
    const auto slice = state.slices.find(name);
    if (slice == state.slices.end() || slice->second.service.empty()) continue;
    const ObjectName service{name.ns, slice->second.service};
    service_of_slice_[name] = service;
    slices_by_service_[service].insert(name);
    services.insert(service);
  }
}

std::vector<const model::EndpointSlice*> ServiceCompiler::slices_of(const ClusterState& state,
                                                                    const ObjectName& service) const {
  std::vector<const model::EndpointSlice*> slices;
  if (const auto names = slices_by_service_.find(service); names != slices_by_service_.end())
    for (const ObjectName& name : names->second)
      if (const auto slice = state.slices.find(name); slice != state.slices.end())
        slices.push_back(&slice->second);
  return slices;
}

void ServiceCompiler::withdraw(const ObjectName& owner, std::set<FrontendAddress>& changed,
                               std::set<ObjectName>& heirs) {
  warnings_.erase(owner);
  image_.health_checks.erase(owner);
  const auto claimed = addresses_.find(owner);
  if (claimed == addresses_.end()) return;
  for (const FrontendAddress& address : claimed->second) {
    const auto claims = claims_.find(address);
    if (claims == claims_.end()) continue;
    const bool held = claims->second.begin()->owner == owner;
    std::erase_if(claims->second, [&](const Claim& claim) { return claim.owner == owner; });
    if (claims->second.size() < 2) contested_.erase(address);
    if (held) {
      image_.frontends.erase(address);
      changed.insert(address);
      if (!claims->second.empty()) heirs.insert(claims->second.begin()->owner);
    }
    if (claims->second.empty()) claims_.erase(claims);
  }
  addresses_.erase(claimed);
}

void ServiceCompiler::install(const ObjectName& owner, FrontendList& frontends, std::vector<Warning> warnings,
                              std::set<FrontendAddress>& changed) {
  std::vector<FrontendAddress> claimed;
  for (auto& [address, frontend] : frontends) {
    claimed.push_back(address);
    auto& claims = claims_[address];
    claims.insert({rank_of(frontend.flags), owner});
    // Several services may share an address, each with ports of its own: then either may mark it.
    if (claims.size() > 1 && !address.is_marker()) contested_.insert(address);
    if (claims.begin()->owner != owner) continue;
    const auto known = image_.frontends.find(address);
    if (known != image_.frontends.end() && known->second == frontend) continue;
    changed.insert(address);
    image_.frontends.insert_or_assign(address, std::move(frontend));
  }
  if (!claimed.empty()) addresses_.insert_or_assign(owner, std::move(claimed));
  if (!warnings.empty()) warnings_.insert_or_assign(owner, std::move(warnings));
}

void ServiceCompiler::collect_warnings(const ClusterState& state) {
  image_.warnings.clear();
  warn_of_node_ports_in_ranges();
  for (const auto& [owner, warnings] : warnings_)
    image_.warnings.insert(image_.warnings.end(), warnings.begin(), warnings.end());
  for (const FrontendAddress& address : contested_) {
    const auto& claims = claims_.at(address);
    const std::string& holder = image_.frontends.at(address).service;
    for (auto claim = std::next(claims.begin()); claim != claims.end(); ++claim) {
      const auto loser = state.services.find(claim->owner);
      const std::string name =
          loser == state.services.end() ? "a published hostPort" : claim->owner.to_string();
      image_.warnings.push_back({loser == state.services.end() ? model::Origin{} : loser->second.origin,
                                 fmt::format("{} is claimed by {} and by {}; {} keeps it", describe(address),
                                             holder, name, holder)});
    }
  }
}

/// A range and a NodePort in it are two addresses that do not meet as claims: the exact one is asked first.
void ServiceCompiler::warn_of_node_ports_in_ranges() {
  const auto published = addresses_.find(kHostPorts);
  if (published == addresses_.end()) return;
  for (const auto& [node_port, range] : node_ports_within(image_, published->second)) {
    const std::string& holder = image_.frontends.at(node_port).service;
    image_.warnings.push_back(
        {{},
         fmt::format("{} is claimed by {} and, in a range, by {}; {} keeps it", describe(node_port), holder,
                     image_.frontends.at(range).service, holder)});
  }
}

ServiceImage compile_services(const ClusterState& state, const NodeView& node,
                              const std::vector<LocalEndpoint>& endpoints) {
  ServiceCompiler compiler;
  compiler.update(state, node, endpoints, {.everything = true});
  return compiler.image();
}

}  // namespace bpfnet::compile
