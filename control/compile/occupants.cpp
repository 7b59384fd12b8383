#include "control/compile/occupants.h"

#include <fmt/format.h>

#include <algorithm>

#include "maps/abi/endpoint.h"

namespace bpfnet::compile {

using model::ClusterState;
using model::ObjectName;
using model::Pod;

const Pod* pod_of(const LocalEndpoint& endpoint, const ClusterState& state, const NodeView& node) {
  if (endpoint.pod.name.empty()) return nullptr;
  const auto found = state.pods.find(endpoint.pod);
  if (found == state.pods.end() || found->second.host_network) return nullptr;
  const SharedText& placed = found->second.node_name;
  return placed.empty() || placed == node.name ? &found->second : nullptr;
}

std::optional<OccupantIndex::Rank> OccupantIndex::rank_of(const Pod& pod) {
  if (pod.host_network || pod.finished()) return std::nullopt;
  if (pod.deleting) return kTerminatingPod;
  return pod.phase == model::PodPhase::kRunning ? kRunningPod : kPod;
}

const Pod* pod_at(const Address& address, const ClusterState& state) {
  const Pod* holder = nullptr;
  std::optional<OccupantIndex::Rank> best;
  for (const auto& [name, pod] : state.pods) {
    if (std::ranges::find(pod.ips, address) == pod.ips.end()) continue;
    const auto rank = OccupantIndex::rank_of(pod);
    if (!rank || (best && *best <= *rank)) continue;
    best = rank;
    holder = &pod;
  }
  return holder;
}

OccupantIndex::Claims::const_iterator OccupantIndex::first_of(const AddressKey& key) const {
  return claims_.lower_bound({key, {kOwnNode, 0, {}}});  // the least of claims
}

const OccupantIndex::Claim* OccupantIndex::holder(const AddressKey& key) const {
  const auto first = first_of(key);
  return first != claims_.end() && first->first == key ? &first->second : nullptr;
}

bool OccupantIndex::contested(const AddressKey& key) const {
  if (holder(key) == nullptr) return false;
  const auto second = std::next(first_of(key));
  return second != claims_.end() && second->first == key;
}

void OccupantIndex::claim(const AddressKey& key, Claim claim, std::set<AddressKey>& touched) {
  if (holder(key) == nullptr) ++networks_[key.first];
  claims_.emplace(key, std::move(claim));
  if (contested(key)) contested_.insert(key);
  touched.insert(key);
}

void OccupantIndex::withdraw(const AddressKey& key, const Claim& claim, std::set<AddressKey>& touched) {
  touched.insert(key);
  if (claims_.erase({key, claim}) == 0) return;
  if (!contested(key)) contested_.erase(key);
  if (holder(key) != nullptr) return;
  if (const auto network = networks_.find(key.first); --network->second == 0) networks_.erase(network);
}

void OccupantIndex::update_nodes(const ClusterState& state, const NodeView& node,
                                 std::set<AddressKey>& touched) {
  std::map<AddressKey, Rank> wanted;
  for (const Address& address : node.addresses) wanted[{0, address}] = kOwnNode;
  for (const auto& [name, each] : state.nodes) {
    if (name == node.name) continue;
    // An address that only the outside sees is a destination outside: pods go there masqueraded.
    auto addresses = each.internal_ips;
    for (const Family family : {Family::kIpv4, Family::kIpv6})
      if (const auto address = each.address(family)) addresses.push_back(*address);
    for (const Address& address : addresses) wanted.try_emplace({0, address}, kOtherNode);
  }
  for (const auto& [key, rank] : nodes_) {
    const auto kept = wanted.find(key);
    if (kept == wanted.end() || kept->second != rank) withdraw(key, {rank, 0, {}}, touched);
  }
  for (const auto& [key, rank] : wanted) {
    const auto held = nodes_.find(key);
    if (held == nodes_.end() || held->second != rank) claim(key, {rank, 0, {}}, touched);
  }
  nodes_ = std::move(wanted);
}

void OccupantIndex::update_pod(const ClusterState& state, const ObjectName& name,
                               std::set<AddressKey>& touched) {
  if (const auto known = pods_.find(name); known != pods_.end()) {
    for (const Address& address : known->second.addresses)
      withdraw({0, address}, {known->second.rank, 0, name}, touched);
    pods_.erase(known);
  }
  const auto pod = state.pods.find(name);
  const auto rank = pod == state.pods.end() ? std::nullopt : rank_of(pod->second);
  if (!rank) return;
  PodClaim& wanted = pods_[name];
  wanted = {*rank, pod->second.ips};
  for (const Address& address : wanted.addresses) claim({0, address}, {wanted.rank, 0, name}, touched);
}

void OccupantIndex::update_endpoint(uint16_t index, const LocalEndpoint* endpoint,
                                    std::set<AddressKey>& touched) {
  if (const auto known = endpoints_.find(index); known != endpoints_.end()) {
    for (const Address& address : known->second.ips)
      withdraw({known->second.net, address}, {kEndpoint, index, known->second.pod}, touched);
    endpoints_.erase(known);
  }
  if (!endpoint) return;
  endpoints_[index] = *endpoint;
  for (const Address& address : endpoint->ips)
    claim({endpoint->net, address}, {kEndpoint, index, endpoint->pod}, touched);
}

std::optional<Occupant> OccupantIndex::occupant(const AddressKey& key, const ClusterState& state,
                                                const NodeView& node) const {
  const Claim* first = holder(key);
  if (first == nullptr) return std::nullopt;
  switch (first->rank) {
    case kOwnNode:
      return Occupant{IdentityKind::kHost, nullptr, {}, 0, ADDRESS_LOCAL_NODE};
    case kOtherNode:
      return Occupant{IdentityKind::kRemoteNode, nullptr, {}, 0, ADDRESS_REMOTE_NODE};
    case kEndpoint: {
      const LocalEndpoint& endpoint = endpoints_.at(first->endpoint);
      const Pod* pod = pod_of(endpoint, state, node);
      Occupant occupant{IdentityKind::kContainer, pod, endpoint.pod.ns, endpoint.index,
                        ADDRESS_POD | ADDRESS_LOCAL_POD};
      if (pod && !pod->finished()) occupant.kind = IdentityKind::kPod;
      if (pod && pod->finished()) occupant.kind = IdentityKind::kAddress;
      if (!pod && !endpoint.pod.name.empty()) occupant.kind = IdentityKind::kUnknownPod;
      return occupant;
    }
    default:
      return Occupant{IdentityKind::kPod, &state.pods.at(first->pod), {}, 0, ADDRESS_POD};
  }
}

void OccupantIndex::within(const Cidr& cidr, std::set<AddressKey>& found) const {
  for (const auto& [net, users] : networks_) {
    auto next = first_of({net, cidr.address()});
    for (; next != claims_.end() && next->first.first == net; ++next) {
      const Address& address = next->first.second;
      if (address.family() != cidr.family()) continue;  // IPv4 lies in the midst of IPv6
      if (!cidr.contains(address)) break;
      found.insert(next->first);
    }
  }
}

void OccupantIndex::of_pod(const ObjectName& pod, std::set<AddressKey>& found) const {
  if (const auto known = pods_.find(pod); known != pods_.end())
    for (const Address& address : known->second.addresses) found.insert({0, address});
}

void OccupantIndex::warn(const ClusterState& state, std::vector<Warning>& warnings) const {
  for (const AddressKey& key : contested_) {
    auto each = first_of(key);
    const Claim& holder = each->second;
    for (++each; each != claims_.end() && each->first == key; ++each) {
      const Claim* claim = &each->second;
      if (claim->rank == kEndpoint) {
        warnings.push_back(
            {{},
             fmt::format("endpoint {} ({}): its address {} is taken by {}; it is left to that",
                         claim->endpoint, claim->pod.to_string(), key.second.to_string(),
                         holder.endpoint ? fmt::format("endpoint {}", holder.endpoint) : "a node")});
      } else if (holder.rank >= kRunningPod &&
                 (holder.rank == claim->rank || claim->rank != kTerminatingPod)) {
        // A pod's own endpoint goes before its object, and so does a node.
        const auto& [first, second] = std::minmax(holder.pod, claim->pod);
        warnings.push_back({state.pods.at(second).origin,
                            fmt::format("pods {} and {} both claim {}; policy takes it for the one that "
                                        "runs, else for the first by name",
                                        first.to_string(), second.to_string(), key.second.to_string())});
      }
    }
  }
}

}  // namespace bpfnet::compile
