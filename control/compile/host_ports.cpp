#include "control/compile/host_ports.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "control/compile/port_map.h"
#include "maps/abi/service.h"

namespace bpfnet::compile {
namespace {

std::string owner_name(const LocalEndpoint& endpoint) {
  if (!endpoint.pod.name.empty()) return endpoint.pod.to_string();
  return fmt::format("endpoint {}", endpoint.index);
}

uint16_t last_port(const LocalEndpoint::HostPort& port) {
  return static_cast<uint16_t>(std::min<uint32_t>(port.host_port + port.count - 1U, UINT16_MAX));
}

/// The addresses on which a host port for `family` listens. Every local address is one any-local frontend,
/// and where nodePortAddresses closes some of them to NodePorts, those by name: hostPorts are not restricted
/// by it.
std::vector<FrontendAddress> listening(const LocalEndpoint::HostPort& port, Family family,
                                       const ServiceContext& context) {
  std::vector<FrontendAddress> addresses;
  for (const PortPrefix& block :
       split_range(static_cast<uint8_t>(port.protocol), port.host_port, last_port(port))) {
    FrontendAddress address{{}, block.port, block.proto, SCOPE_ADDRESS, 0, block.bits};
    if (port.host_ip && !port.host_ip->is_unspecified()) {
      address.ip = *port.host_ip;
      addresses.push_back(address);
      continue;
    }
    for (const Address& ip : context.node_addresses) {
      if (ip.family() != family || serves_node_ports(ip, context.node_port_cidrs)) continue;
      address.ip = ip;
      addresses.push_back(address);
    }
    address.ip = Address::unspecified(family);
    address.scope = SCOPE_ANY_LOCAL;
    addresses.push_back(address);
  }
  return addresses;
}

/// Calls `visit` for the exact frontends of one address whose ports are in first..last, until it is true.
template <typename Visit>
const std::pair<const FrontendAddress, Frontend>* find_port(const ServiceImage& image, FrontendAddress from,
                                                            uint16_t last, Visit&& visit) {
  const uint8_t proto = from.proto;
  const uint8_t scope = from.scope;
  from.proto = 0;
  for (auto each = image.frontends.lower_bound(from);
       each != image.frontends.end() && each->first.ip == from.ip && each->first.port <= last; ++each) {
    const bool same = each->first.proto == proto && each->first.scope == scope && each->first.port_bits == 16;
    if (same && visit(each->second)) return &*each;
  }
  return nullptr;
}

}  // namespace

bool serves_node_ports(const Address& address, const std::vector<Cidr>& cidrs) {
  bool family_listed = false;
  for (const Cidr& cidr : cidrs) {
    if (cidr.contains(address)) return true;
    family_listed |= cidr.family() == address.family();
  }
  return !family_listed;
}

const Frontend* service_holding(const ServiceImage& image, const LocalEndpoint::HostPort& port) {
  const auto of_service = [](const Frontend& each) { return !(each.flags & FRONTEND_HOST_PORT); };
  const auto proto = static_cast<uint8_t>(port.protocol);
  for (const Family family : {Family::kIpv4, Family::kIpv6}) {
    if (port.host_ip && port.host_ip->family() != family) continue;
    const FrontendAddress node_port{Address::unspecified(family), port.host_port, proto, SCOPE_ANY_LOCAL};
    if (const auto* found = find_port(image, node_port, last_port(port), of_service)) return &found->second;
    if (!port.host_ip || port.host_ip->is_unspecified()) continue;
    const FrontendAddress exact{*port.host_ip, port.host_port, proto, SCOPE_ADDRESS};
    if (const auto* found = find_port(image, exact, last_port(port), of_service)) return &found->second;
  }
  return nullptr;
}

std::vector<std::pair<FrontendAddress, FrontendAddress>> node_ports_within(
    const ServiceImage& image, const std::vector<FrontendAddress>& host_ports) {
  std::vector<std::pair<FrontendAddress, FrontendAddress>> found;
  for (const FrontendAddress& block : host_ports) {
    if (block.port_bits == 16) continue;  // met as one address of two claims
    const auto last = static_cast<uint16_t>(block.port + (1U << (16 - block.port_bits)) - 1);
    FrontendAddress from = block;
    const auto node_port = [](const Frontend& each) { return (each.flags & FRONTEND_NODE_PORT) != 0; };
    while (const auto* each = find_port(image, from, last, node_port)) {
      found.emplace_back(each->first, block);
      if (each->first.port == last) break;
      from.port = static_cast<uint16_t>(each->first.port + 1);
    }
  }
  return found;
}

FrontendList compile_host_ports(const std::vector<LocalEndpoint>& endpoints, const ServiceContext& context,
                                std::vector<Warning>& warnings) {
  FrontendList frontends;
  struct Owner {
    size_t frontend;
    std::string name;
    bool by_address;  ///< asked for this very address
  };
  std::map<FrontendAddress, Owner> owners;
  const auto claim = [&](const LocalEndpoint& endpoint, const FrontendAddress& address,
                         const BackendList& backend, uint16_t range_first, bool by_address) {
    Frontend frontend{"hostport:" + owner_name(endpoint), backend, backend, FRONTEND_HOST_PORT, 0, {}, 0};
    if (range_first != 0) {
      frontend.flags |= FRONTEND_PORT_RANGE;
      frontend.range_first = range_first;
    }
    const auto [owner, is_new] =
        owners.try_emplace(address, Owner{frontends.size(), owner_name(endpoint), by_address});
    if (is_new) {
      frontends.emplace_back(address, std::move(frontend));
    } else if (by_address && !owner->second.by_address) {
      frontends[owner->second.frontend].second = std::move(frontend);
      owner->second = {owner->second.frontend, owner_name(endpoint), true};
    } else if (by_address == owner->second.by_address && owner->second.name != owner_name(endpoint)) {
      warnings.push_back(
          {{},
           fmt::format("hostPort: {} is published by {} and wanted by {} too; the first keeps it",
                       describe(address), owner->second.name, owner_name(endpoint))});
    }
  };
  for (const LocalEndpoint& endpoint : endpoints) {
    for (const auto& port : endpoint.host_ports) {
      if (port.host_port == 0 || port.container_port == 0 || port.count == 0) continue;
      for (const Family family : {Family::kIpv4, Family::kIpv6}) {
        if (port.host_ip && port.host_ip->family() != family) continue;  // C21: the other family is ignored
        const auto ip =
            std::ranges::find_if(endpoint.ips, [&](const Address& each) { return each.family() == family; });
        if (ip == endpoint.ips.end()) continue;
        const bool by_address = port.host_ip && !port.host_ip->is_unspecified();
        const BackendList backend = {{*ip, port.container_port}};
        for (const auto& address : listening(port, family, context))
          claim(endpoint, address, backend, port.count > 1 ? port.host_port : 0, by_address);
      }
    }
  }
  return frontends;
}

}  // namespace bpfnet::compile
