#include "control/sources/claims.h"

#include <fmt/format.h>

#include <set>

namespace bpfnet::sources {
namespace {

class Collector {
 public:
  explicit Collector(std::vector<Claim>& claims) : claims_(claims) {}

  void operator()(const model::Namespace& object) { name(Kind::kNamespace, {"", object.name}); }
  void operator()(const model::EndpointSlice& object) { name(Kind::kEndpointSlice, object.name); }
  void operator()(const model::ServiceCidr& object) { name(Kind::kServiceCidr, {"", object.name}); }
  void operator()(const model::NetworkPolicy& object) { name(Kind::kNetworkPolicy, object.name); }
  void operator()(const model::ClusterNetworkPolicy& object) {
    name(Kind::kClusterNetworkPolicy, {"", object.name});
  }

  void operator()(const model::Node& node) {
    name(Kind::kNode, {"", node.name});
    for (const Cidr& cidr : node.pod_cidrs) add("podCIDR ", "spec.podCIDRs", cidr.to_string(), true);
    for (const Address& ip : node.internal_ips) add("nodeIP ", "status.addresses", ip.to_string(), true);
  }

  // Losing an address must not cost a pod its labels: policies select it by them.
  void operator()(const model::Pod& pod) {
    name(Kind::kPod, pod.name);
    if (pod.host_network || pod.finished() || pod.deleting)
      return;  // P21: the address may be another's by now
    for (const Address& ip : pod.ips) add("podIP ", "status.podIPs", ip.to_string(), true);
  }

  void operator()(const model::Service& service) {
    name(Kind::kService, service.name);
    for (const Address& ip : service.cluster_ips) add("clusterIP ", "spec.clusterIP", ip.to_string(), false);
    for (const model::ServicePort& port : service.ports) {
      const std::string_view protocol = to_string(port.protocol);
      if (port.node_port != 0) {
        add("nodePort ", "spec.ports.nodePort", fmt::format("{} {}", port.node_port, protocol), false);
      }
      std::set<Address> vips;  // one address may well stand in both lists
      for (const Address& ip : service.external_ips) {
        if (vips.insert(ip).second) add_vip("spec.externalIPs", ip, port);
      }
      for (const model::LoadBalancerIngress& ingress : service.load_balancer_ingress) {
        if (!ingress.proxy_mode && vips.insert(ingress.ip).second) {
          add_vip("status.loadBalancer.ingress", ingress.ip, port);
        }
      }
    }
    if (service.health_check_node_port != 0) {
      add("nodePort ", "spec.healthCheckNodePort", fmt::format("{} TCP", service.health_check_node_port),
          false);
    }
  }

 private:
  void name(Kind kind, const model::ObjectName& object) {
    claims_.push_back({fmt::format("{} {}", to_string(kind), object.to_string()), "", "", false});
  }
  void add(std::string_view type, std::string_view field, std::string what, bool separable) {
    std::string key = fmt::format("{}{}", type, what);
    claims_.push_back({std::move(key), std::string(field), std::move(what), separable});
  }
  void add_vip(std::string_view field, const Address& ip, const model::ServicePort& port) {
    add("vip ", field, fmt::format("{} port {} {}", ip.to_string(), port.port, to_string(port.protocol)),
        false);
  }

  std::vector<Claim>& claims_;
};

}  // namespace

std::vector<Claim> claims_of(const Object& object) {
  std::vector<Claim> claims;
  std::visit(Collector(claims), object);
  return claims;
}

void give_up(Object& object, const Claim& claim) {
  const auto is_it = [&](const auto& value) { return value.to_string() == claim.what; };
  if (auto* pod = std::get_if<model::Pod>(&object)) std::erase_if(pod->ips, is_it);
  if (auto* node = std::get_if<model::Node>(&object)) {
    if (claim.field == "spec.podCIDRs") std::erase_if(node->pod_cidrs, is_it);
    if (claim.field == "status.addresses") std::erase_if(node->internal_ips, is_it);
  }
}

}  // namespace bpfnet::sources
