#include "control/compile/service.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>

#include "maps/abi/service.h"

namespace bpfnet::compile {
namespace {

using model::EndpointSlice;
using model::Service;
using model::ServicePort;
using model::TrafficPolicy;

constexpr auto kProxyNameLabel = "service.kubernetes.io/service-proxy-name";
constexpr auto kHeadlessLabel = "service.kubernetes.io/headless";
constexpr auto kZoneLabel = "topology.kubernetes.io/zone";
constexpr std::array kFamilies = {Family::kIpv4, Family::kIpv6};

std::string_view name_of(Family family) {
  return family == Family::kIpv4 ? "IPv4" : "IPv6";
}

/// Compiles one service; holds what its ports have in common.
class Compilation {
 public:
  Compilation(const Service& service, const std::vector<const EndpointSlice*>& slices,
              const ServiceContext& context, std::vector<Warning>& warnings)
      : service_(service), context_(context), warnings_(warnings) {
    for (const EndpointSlice* slice : slices)
      if (is_used(*slice)) slices_.push_back(slice);
  }

  FrontendList run() {
    for (const Family family : kFamilies) {
      const auto cluster_ip = cluster_ip_of(family);
      if (!cluster_ip) continue;  // S12: then no other frontend of the family either
      add_markers(family, *cluster_ip);
      for (const auto& port : service_.ports) add_port(port, family, *cluster_ip);
    }
    warn_about_skipped_families();
    return std::move(frontends_);
  }

 private:
  void warn(std::string text) { warnings_.push_back({service_.origin, std::move(text)}); }

  std::optional<Address> cluster_ip_of(Family family) {
    if (service_.ip_families.empty()) {
      const auto found = std::ranges::find_if(service_.cluster_ips,
                                              [&](const Address& ip) { return ip.family() == family; });
      return found == service_.cluster_ips.end() ? std::nullopt : std::optional(*found);
    }
    for (size_t i = 0; i < service_.ip_families.size() && i < service_.cluster_ips.size(); ++i) {
      if (service_.ip_families[i] != family) continue;
      const Address& ip = service_.cluster_ips[i];
      if (ip.family() == family) return ip;
      warn(fmt::format("Service {}: clusterIPs[{}] {} is not {} as ipFamilies says; the family is left out",
                       service_.name.to_string(), i, ip.to_string(), name_of(family)));
      return std::nullopt;
    }
    return std::nullopt;
  }

  [[nodiscard]] bool is_programmed(const model::LoadBalancerIngress& ingress, Family family) const {
    return !ingress.proxy_mode && ingress.ip.family() == family && !ingress.ip.is_unspecified();  // S37
  }

  [[nodiscard]] bool is_withheld(const Address& ip, const ServicePort& port) const {
    return std::ranges::find(service_.withheld, model::ExternalPort{ip, port.port, port.protocol}) !=
           service_.withheld.end();
  }

  /// S32: what else is sent to a ClusterIP is refused. An externalIP may be anybody's address.
  void add_markers(Family family, const Address& cluster_ip) {
    add_marker(cluster_ip, FRONTEND_CLUSTER_IP);
    for (const auto& ingress : service_.load_balancer_ingress)
      if (is_programmed(ingress, family)) add_marker(ingress.ip, FRONTEND_LOAD_BALANCER);
  }

  void add_marker(const Address& ip, uint32_t kind) {
    const FrontendAddress address{ip};
    const bool known =
        std::ranges::any_of(frontends_, [&](const auto& each) { return each.first == address; });
    if (known) return;
    Frontend marker;
    marker.service = service_.name.to_string();
    marker.flags = kind;
    frontends_.emplace_back(address, std::move(marker));
  }

  void add_port(const ServicePort& port, Family family, const Address& cluster_ip) {
    if (port.port == 0) return;
    const BackendLists lists = choose_backends(slices_, port, family, context_.here);
    const bool internal_local = service_.internal_traffic_policy == TrafficPolicy::kLocal;
    const bool external_local = service_.external_traffic_policy == TrafficPolicy::kLocal;

    // S23: under internalTrafficPolicy Local everybody gets the local ones.
    const auto& inside = internal_local ? lists.local : lists.cluster;
    add(port, {cluster_ip, port.port}, make_frontend(port, inside, inside, FRONTEND_CLUSTER_IP, lists));

    // S22: pods and host processes reach all backends whatever externalTrafficPolicy says.
    const auto& outside = external_local ? lists.local : lists.cluster;
    for (const auto& ingress : service_.load_balancer_ingress) {
      if (!is_programmed(ingress, family) || is_withheld(ingress.ip, port)) continue;
      Frontend vip = make_frontend(port, lists.cluster, outside, FRONTEND_LOAD_BALANCER, lists);
      vip.source_ranges = source_ranges(family, ingress.ip);
      add(port, {ingress.ip, port.port}, std::move(vip));
    }
    for (const Address& ip : service_.external_ips) {
      if (ip.family() != family || ip.is_unspecified() || is_withheld(ip, port)) continue;
      add(port, {ip, port.port}, make_frontend(port, lists.cluster, outside, FRONTEND_EXTERNAL_IP, lists));
    }
    if (port.node_port != 0)
      add(port, {Address::unspecified(family), port.node_port, 0, SCOPE_ANY_LOCAL},
          make_frontend(port, lists.cluster, outside, FRONTEND_NODE_PORT, lists));
  }

  Frontend make_frontend(const ServicePort& port, const BackendList& internal, const BackendList& external,
                         uint32_t kind, const BackendLists& lists) const {
    Frontend frontend;
    frontend.service = service_.name.to_string();
    if (!port.name.empty()) frontend.service += ":" + port.name;
    frontend.internal = internal;
    frontend.external = external;
    frontend.flags = kind;
    // S30 and S31: with no usable endpoint anywhere the client is refused; with some elsewhere it hears
    // nothing.
    if (lists.any_usable && internal.empty()) frontend.flags |= FRONTEND_DROP_EMPTY;
    if (lists.any_usable && external.empty()) frontend.flags |= FRONTEND_DROP_EMPTY_EXT;
    if (service_.affinity) {
      frontend.flags |= FRONTEND_AFFINITY;
      frontend.affinity_seconds = static_cast<uint32_t>(service_.affinity->count());
    }
    return frontend;
  }

  void add(const ServicePort& port, FrontendAddress address, Frontend frontend) {
    address.proto = static_cast<uint8_t>(port.protocol);
    const auto known = std::ranges::find(frontends_, address, [](const auto& each) { return each.first; });
    if (known == frontends_.end()) {
      frontends_.emplace_back(address, std::move(frontend));
      return;
    }
    // The same address by two ways, such as a VIP that is also an externalIP, is one frontend: the first.
    if (known->second.service != frontend.service)
      warn(fmt::format("Service {}: {} is claimed by two of its ports; {} keeps it",
                       service_.name.to_string(), describe(address), known->second.service));
  }

  /// S40: no range of the family, or a /0, leaves the VIP open; a range with an address of this node in it
  /// lets the VIP itself in, which is what packets of local processes carry as source.
  std::vector<Cidr> source_ranges(Family family, const Address& vip) {
    std::vector<Cidr> ranges;
    for (const Cidr& range : service_.source_ranges) {
      if (range.family() != family) continue;
      if (range.length() == 0) return {};
      ranges.push_back(range);
    }
    const bool node_allowed = std::ranges::any_of(context_.node_addresses, [&](const Address& ip) {
      return std::ranges::any_of(ranges, [&](const Cidr& range) { return range.contains(ip); });
    });
    if (node_allowed) ranges.emplace_back(vip, vip.bits());
    std::ranges::sort(ranges);
    const auto rest = std::ranges::unique(ranges);
    ranges.erase(rest.begin(), rest.end());
    return ranges;
  }

  void warn_about_skipped_families() {
    for (const Family family : kFamilies) {
      const bool served =
          std::ranges::any_of(frontends_, [&](const auto& each) { return each.first.ip.family() == family; });
      if (served || service_.ports.empty()) continue;
      for (const Address& ip : service_.external_ips)
        if (ip.family() == family)
          warn(fmt::format("Service {}: externalIP {} is left out, the Service has no {} clusterIP",
                           service_.name.to_string(), ip.to_string(), name_of(family)));
      for (const auto& ingress : service_.load_balancer_ingress)
        if (ingress.ip.family() == family && !ingress.proxy_mode)
          warn(
              fmt::format("Service {}: load balancer address {} is left out, the Service has no {} clusterIP",
                          service_.name.to_string(), ingress.ip.to_string(), name_of(family)));
    }
  }

  const Service& service_;
  const ServiceContext& context_;
  std::vector<Warning>& warnings_;
  std::vector<const EndpointSlice*> slices_;
  FrontendList frontends_;
};

}  // namespace

ServiceContext make_service_context(const model::ClusterState& state, const NodeView& node) {
  ServiceContext context{{node.name, {}}, node.addresses, node_port_cidrs(state, node)};
  if (const auto self = state.nodes.find(node.name); self != state.nodes.end()) {
    if (const auto zone = self->second.labels.find(kZoneLabel); zone != self->second.labels.end())
      context.here.zone = zone->second;
  }
  return context;
}

bool is_proxied(const Service& service) {
  return service.type != model::ServiceType::kExternalName && !service.cluster_ips.empty() &&
         !service.labels.contains(kProxyNameLabel) && !service.labels.contains(kHeadlessLabel);
}

bool is_used(const EndpointSlice& slice) {
  return !slice.service.empty() && !slice.labels.contains(kHeadlessLabel);
}

FrontendList compile_service(const Service& service, const std::vector<const EndpointSlice*>& slices,
                             const ServiceContext& context, std::vector<Warning>& warnings) {
  if (!is_proxied(service)) return {};
  return Compilation(service, slices, context, warnings).run();
}

std::optional<HealthCheck> compile_health_check(const Service& service,
                                                const std::vector<const EndpointSlice*>& slices,
                                                const ServiceContext& context) {
  if (!is_proxied(service) || service.type != model::ServiceType::kLoadBalancer ||
      service.external_traffic_policy != TrafficPolicy::kLocal || service.health_check_node_port == 0)
    return std::nullopt;
  HealthCheck check{.port = service.health_check_node_port};
  for (const Family family : kFamilies) {
    std::set<Address> ready;
    for (const EndpointSlice* slice : slices) {
      if (!is_used(*slice) || slice->family != family || slice->ports.empty()) continue;
      for (const auto& endpoint : slice->endpoints)
        if (endpoint.ready && is_local(endpoint, context.here)) ready.insert(endpoint.ip);
    }
    check.local_ready = std::max(check.local_ready, static_cast<uint32_t>(ready.size()));
  }
  return check;
}

std::string describe(const FrontendAddress& address) {
  const auto proto = model::to_string(static_cast<model::Protocol>(address.proto));
  const uint32_t last = address.port + (1U << (16 - address.port_bits)) - 1;
  const std::string ports =
      last == address.port ? std::to_string(last) : fmt::format("{}-{}", address.port, last);
  if (address.scope == SCOPE_ANY_LOCAL)
    return fmt::format("node port {}/{} ({})", ports, proto, name_of(address.ip.family()));
  return fmt::format("{} port {}/{}", address.ip.to_string(), ports, proto);
}

}  // namespace bpfnet::compile
