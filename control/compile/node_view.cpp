// What cluster objects add to the node's own configuration.
#include <algorithm>

#include "control/compile/images.h"

namespace bpfnet::compile {

std::vector<Cidr> service_cidrs(const model::ClusterState& state, const NodeView& node) {
  std::vector<Cidr> cidrs = node.service_cidrs;
  for (const auto& [name, object] : state.service_cidrs)
    for (const Cidr& cidr : object.cidrs)
      if (std::ranges::find(cidrs, cidr) == cidrs.end()) cidrs.push_back(cidr);
  return cidrs;
}

std::vector<Cidr> node_port_cidrs(const model::ClusterState& state, const NodeView& node) {
  std::vector<Cidr> cidrs = node.node_port_addresses;
  const auto self = state.nodes.find(node.name);
  if (!node.node_port_primary || self == state.nodes.end()) return cidrs;
  for (const Family family : {Family::kIpv4, Family::kIpv6})
    if (const auto ip = self->second.address(family)) cidrs.emplace_back(*ip, ip->bits());
  return cidrs;
}

}  // namespace bpfnet::compile
