#include "control/compile/host_ports.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "maps/abi/service.h"

namespace bpfnet::compile {
namespace {

std::string owner_name(const LocalEndpoint& endpoint) {
  if (!endpoint.pod.name.empty()) return endpoint.pod.to_string();
  return fmt::format("endpoint {}", endpoint.index);
}

/// The addresses on which a host port for `family` listens. Every local address is one any-local frontend,
/// and where nodePortAddresses closes some of them to NodePorts, those by name: hostPorts are not restricted
/// by it.
std::vector<FrontendAddress> listening(const LocalEndpoint::HostPort& port, Family family,
                                       const ServiceContext& context) {
  const auto proto = static_cast<uint8_t>(port.protocol);
  if (port.host_ip && !port.host_ip->is_unspecified())
    return {{*port.host_ip, port.host_port, proto, SCOPE_ADDRESS}};
  const Address any = family == Family::kIpv4 ? Address::from_ipv4({0, 0, 0, 0}) : Address();
  std::vector<FrontendAddress> addresses = {{any, port.host_port, proto, SCOPE_ANY_LOCAL}};
  for (const Address& address : context.node_addresses)
    if (address.family() == family && !serves_node_ports(address, context.node_port_cidrs))
      addresses.push_back({address, port.host_port, proto, SCOPE_ADDRESS});
  return addresses;
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
                         const Backend& backend, bool by_address) {
    Frontend frontend{"hostport:" + owner_name(endpoint), {backend}, {backend}, FRONTEND_HOST_PORT, 0, {}};
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
      if (port.host_port == 0 || port.container_port == 0) continue;
      for (const Family family : {Family::kIpv4, Family::kIpv6}) {
        if (port.host_ip && port.host_ip->family() != family) continue;  // C21: the other family is ignored
        const auto ip =
            std::ranges::find_if(endpoint.ips, [&](const Address& each) { return each.family() == family; });
        if (ip == endpoint.ips.end()) continue;
        const bool by_address = port.host_ip && !port.host_ip->is_unspecified();
        for (const auto& address : listening(port, family, context))
          claim(endpoint, address, {*ip, port.container_port}, by_address);
      }
    }
  }
  return frontends;
}

}  // namespace bpfnet::compile
