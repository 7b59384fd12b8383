#include "control/compile/node_index.h"

#include "control/compile/numbers.h"
#include "maps/abi/endpoint.h"

namespace bpfnet::compile {

std::set<std::string> NodeIndex::update(const model::ClusterState& state, const NodeView& own,
                                        PolicyNumbers& numbers) {
  std::set<std::string> names;
  for (const auto& [name, node] : state.nodes)
    if (name != own.name) names.insert(name);
  auto indices = number_nodes(numbers.nodes, numbers.next_node, NODES_MAX, names);
  std::set<std::string> changed;
  for (const auto* each : {&indices, &indices_})
    for (const auto& [name, index] : *each) {
      const auto now = indices.find(name);
      const auto before = indices_.find(name);
      if (now == indices.end() || before == indices_.end() || now->second != before->second)
        changed.insert(name);
    }
  own_name_ = own.name;
  indices_ = std::move(indices);
  addresses_.clear();
  prefixes_.clear();
  lengths_ = {};
  for (const auto& [name, node] : state.nodes) {
    const auto found = indices_.find(name);
    const uint16_t index = found == indices_.end() ? uint16_t{0} : found->second;
    for (const Cidr& cidr : node.pod_cidrs)
      if (prefixes_.emplace(cidr, index).second) lengths_.insert(cidr);
    if (index == 0) continue;
    for (const Address& address : node.internal_ips) addresses_.emplace(address, index);
    for (const Family family : {Family::kIpv4, Family::kIpv6})
      if (const auto address = node.address(family)) addresses_.emplace(*address, index);
  }
  return changed;
}

// What a Pod object says counts before the range that its address is of.
uint16_t NodeIndex::of(const Occupant& occupant, const Address& address) const {
  if (occupant.kind == IdentityKind::kRemoteNode) {
    const auto found = addresses_.find(address);
    return found == addresses_.end() ? uint16_t{0} : found->second;
  }
  if (!occupant.pod || occupant.endpoint != 0 || occupant.pod->node_name == own_name_) return 0;
  const auto found = indices_.find(occupant.pod->node_name);
  if (found != indices_.end()) return found->second;
  return of_prefix(Cidr(address, address.bits()));
}

uint16_t NodeIndex::of_prefix(const Cidr& prefix) const {
  const auto cover = lengths_.longest(prefix);
  return cover ? prefixes_.at(*cover) : uint16_t{0};
}

}  // namespace bpfnet::compile
