#include "control/sources/claims.h"

#include <fmt/format.h>

#include <set>

namespace bpfnet::sources {
namespace {

using Type = Holding::Type;

class Collector {
 public:
  explicit Collector(std::vector<Claim>& claims) : claims_(claims) {}

  template <typename T>
  void operator()(const T&) {}  // nothing but a name

  void operator()(const model::Node& node) {
    for (const Cidr& cidr : node.pod_cidrs) {
      add({.type = Type::kPodCidr, .number = static_cast<uint16_t>(cidr.length()), .address = cidr.address()},
          "spec.podCIDRs", true);
    }
    for (const Address& ip : node.internal_ips)
      add({.type = Type::kNodeIp, .address = ip}, "status.addresses", true);
  }

  // Losing an address must not cost a pod its labels: policies select it by them.
  void operator()(const model::Pod& pod) {
    if (pod.host_network || pod.finished() || pod.deleting)
      return;  // P21: the address may be another's by now
    for (const Address& ip : pod.ips) add({.type = Type::kPodIp, .address = ip}, "status.podIPs", true);
  }

  // Whoever names another's external address must not lose more than that: anybody may come later who has it.
  void operator()(const model::Service& service) {
    for (const Address& ip : service.cluster_ips)
      add({.type = Type::kClusterIp, .address = ip}, "spec.clusterIP", false);
    for (const model::ServicePort& port : service.ports) {
      if (port.node_port != 0) add_node_port("spec.ports.nodePort", port.node_port, port.protocol);
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
      add_node_port("spec.healthCheckNodePort", service.health_check_node_port, model::Protocol::kTcp);
    }
  }

 private:
  void add(const Holding& holding, std::string_view field, bool separable) {
    claims_.push_back({holding, field, separable});
  }
  void add_node_port(std::string_view field, uint16_t port, model::Protocol protocol) {
    add({.type = Type::kNodePort, .protocol = protocol, .number = port, .address = {}}, field, false);
  }
  void add_vip(std::string_view field, const Address& ip, const model::ServicePort& port) {
    add({.type = Type::kVip, .protocol = port.protocol, .number = port.port, .address = ip}, field, true);
  }

  std::vector<Claim>& claims_;
};

}  // namespace

size_t HoldingHash::operator()(const Holding& holding) const noexcept {
  const auto rest =
      static_cast<size_t>(holding.type) << 24 | static_cast<size_t>(holding.protocol) << 16 | holding.number;
  return std::hash<Address>{}(holding.address) ^ (rest * 0x9e3779b97f4a7c15);
}

std::string Holding::to_string() const {
  switch (type) {
    case Type::kPodCidr:
      return Cidr(address, number).to_string();
    case Type::kNodePort:
      return fmt::format("{} {}", number, model::to_string(protocol));
    case Type::kVip:
      return fmt::format("{} port {} {}", address.to_string(), number, model::to_string(protocol));
    case Type::kNodeIp:
    case Type::kPodIp:
    case Type::kClusterIp:
      break;
  }
  return address.to_string();
}

std::vector<Claim> claims_of(const Object& object) {
  std::vector<Claim> claims{{{}, "", false}};
  std::visit(Collector(claims), object);
  return claims;
}

void give_up(Object& object, const Claim& claim) {
  if (!claim.holding) return;
  const Holding& lost = *claim.holding;
  if (auto* pod = std::get_if<model::Pod>(&object)) std::erase(pod->ips, lost.address);
  if (auto* service = std::get_if<model::Service>(&object))
    service->withheld.push_back({lost.address, lost.number, lost.protocol});
  if (auto* node = std::get_if<model::Node>(&object)) {
    if (lost.type == Type::kPodCidr) std::erase(node->pod_cidrs, Cidr(lost.address, lost.number));
    if (lost.type == Type::kNodeIp) std::erase(node->internal_ips, lost.address);
  }
}

}  // namespace bpfnet::sources
