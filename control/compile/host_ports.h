#pragma once

#include <vector>

#include "control/compile/service.h"

namespace bpfnet::compile {

/// Pure: the frontends of the host ports that local endpoints publish (C21). Of two endpoints that want one
/// address the earlier in `endpoints` keeps it and a warning names both; different host addresses or
/// protocols coexist, and a host port for one address goes before one for all.
FrontendList compile_host_ports(const std::vector<LocalEndpoint>& endpoints, const ServiceContext& context,
                                std::vector<Warning>& warnings);

/// True when `address` of this node is open for NodePorts, of which `cidrs` are node_port_cidrs() (S35).
bool serves_node_ports(const Address& address, const std::vector<Cidr>& cidrs);

}  // namespace bpfnet::compile
