#include "maps/abi/policy.h"

#include <algorithm>
#include <array>

#include "control/compile/host_ports.h"
#include "control/compile/identities.h"
#include "control/compile/images.h"
#include "control/compile/numbers.h"
#include "control/compile/policy_sets.h"
#include "maps/abi/endpoint.h"

namespace bpfnet::compile {
namespace {

using model::ClusterState;

void add_addresses(PolicyImage& image, const Occupants& occupants, const NodeView& node,
                   const ClusterState& state, IdentityTable& identities) {
  const std::vector<Cidr> open = node_port_cidrs(state, node);
  for (const auto& [key, occupant] : occupants) {
    AddressEntry entry{identities.intern(occupant, key.second), occupant.endpoint, occupant.flags};
    if ((entry.flags & ADDRESS_LOCAL_NODE) && serves_node_ports(key.second, open))
      entry.flags |= ADDRESS_NODE_PORT;
    image.addresses.emplace(key, entry);
  }
}

/// Every prefix that means something, each with the flags of those that cover it. Both families always have
/// their /0: an IPv4 address would otherwise find an IPv6 prefix such as ::/0, under which IPv4 is mapped.
void add_cidrs(PolicyImage& image, const ClusterState& state, const NodeView& node,
               IdentityTable& identities) {
  std::map<Cidr, uint32_t> flags;
  for (const Cidr& cidr : node.cluster_cidrs) flags[cidr] |= CIDR_CLUSTER;
  for (const Cidr& cidr : service_cidrs(state, node)) flags[cidr] |= CIDR_SERVICE;
  for (const auto& [name, each] : state.nodes)
    for (const Cidr& cidr : each.pod_cidrs) flags[cidr] |= CIDR_CLUSTER;

  std::map<Cidr, uint32_t> all = flags;
  for (const Cidr& cidr : identities.prefixes().all()) all.try_emplace(cidr, 0);
  for (const Address& any : {Address::from_ipv4({0, 0, 0, 0}), Address()}) all.try_emplace(Cidr(any, 0), 0);
  for (auto& [cidr, merged] : all) {
    for (const auto& [cover, cover_flags] : flags)
      if (cover.contains(cidr)) merged |= cover_flags;
    image.cidrs[{0, cidr}] = {identities.intern(cidr), merged};
  }
}

/// Equal sets are one.
uint32_t set_of(const Applicable& applicable, const model::Pod* pod, Direction direction, PolicyImage& image,
                SetBuilder& sets, PolicyNumbers& numbers) {
  if (applicable.isolated_by.empty()) return POLICY_SET_ALLOW_ALL;
  const std::string key = sets.key(applicable, pod, direction).text;
  const auto known = numbers.sets.find(key);
  if (known != numbers.sets.end() && image.sets.contains(known->second)) return known->second;
  PolicySet set = sets.build(applicable, pod, direction);
  if (set.entries.empty()) return POLICY_SET_DENY_ALL;
  const uint32_t id = number_of(numbers.sets, numbers.next_set, POLICY_SET_FIRST, key);
  image.sets.emplace(id, std::move(set));
  return id;
}

EndpointPolicy endpoint_policy(const LocalEndpoint& endpoint, const ClusterState& state, const NodeView& node,
                               PolicyImage& image, SetBuilder& sets, PolicyNumbers& numbers) {
  EndpointPolicy policy;
  policy.identity = IDENTITY_WORLD;
  for (const Address& ip : endpoint.ips) {
    const auto entry = image.addresses.find({endpoint.net, ip});
    if (entry == image.addresses.end() || entry->second.endpoint != endpoint.index) continue;
    policy.identity = entry->second.identity;
    break;
  }
  if (endpoint.pod.name.empty()) return policy;  // no pod: NetworkPolicies are not about it
  const model::Pod* pod = pod_of(endpoint, state, node);
  if (pod && pod->finished()) return policy;  // P21
  const auto ingress = applicable_policies(state, endpoint.pod.ns, pod, Direction::kIngress);
  const auto egress = applicable_policies(state, endpoint.pod.ns, pod, Direction::kEgress);
  policy.ingress_set = set_of(ingress, pod, Direction::kIngress, image, sets, numbers);
  policy.egress_set = set_of(egress, pod, Direction::kEgress, image, sets, numbers);
  policy.isolated_by_ingress = ingress.isolated_by;
  policy.isolated_by_egress = egress.isolated_by;
  return policy;
}

}  // namespace

PolicyImage compile_policy(const ClusterState& state, const NodeView& node,
                           const std::vector<LocalEndpoint>& endpoints, PolicyNumbers& numbers) {
  PolicyImage image;
  IdentityTable identities(state, numbers);
  const Occupants occupants = find_occupants(state, node, endpoints, image.warnings);
  add_addresses(image, occupants, node, state, identities);
  add_cidrs(image, state, node, identities);

  // All identities are known from here on: a set that is built now is complete.
  SetBuilder sets(identities.all(), numbers, image.rules);
  for (const LocalEndpoint& endpoint : endpoints)
    image.endpoints[endpoint.index] = endpoint_policy(endpoint, state, node, image, sets, numbers);

  image.identities = identities.texts();
  forget_unused(numbers.identities, image.identities);
  forget_unused(numbers.sets, image.sets);
  forget_unused(numbers.rules, image.rules);
  return image;
}

}  // namespace bpfnet::compile
