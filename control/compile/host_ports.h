#pragma once

#include <vector>

#include "control/compile/service.h"

namespace bpfnet::compile {

/// Pure: the frontends of the host ports that local endpoints publish (C21): an exact one for a single port,
/// for a range the blocks of ports that make it up. Of two endpoints that want one address the earlier in
/// `endpoints` keeps it and a warning names both; different host addresses or protocols coexist, and a host
/// port for one address goes before one for all.
FrontendList compile_host_ports(const std::vector<LocalEndpoint>& endpoints, const ServiceContext& context,
                                std::vector<Warning>& warnings);

/// Pure: the frontend of a Service that has this port of the node already, or one port of the range (a
/// NodePort, or the port of an address that the host port names); nullptr: none has.
const Frontend* service_holding(const ServiceImage& image, const LocalEndpoint::HostPort& port);

/// Whose NodePorts lie within published ranges and win over them: {NodePort, range}.
std::vector<std::pair<FrontendAddress, FrontendAddress>> node_ports_within(
    const ServiceImage& image, const std::vector<FrontendAddress>& host_ports);

/// True when `address` of this node is open for NodePorts, of which `cidrs` are node_port_cidrs() (S35).
bool serves_node_ports(const Address& address, const std::vector<Cidr>& cidrs);

}  // namespace bpfnet::compile
