#pragma once

#include <map>
#include <set>
#include <vector>

#include "control/compile/identities.h"

namespace bpfnet::compile {

/// Network and address.
using AddressKey = std::pair<uint16_t, Address>;

/// Who has an address.
struct Occupant {
  IdentityKind kind = IdentityKind::kAddress;
  const model::Pod* pod = nullptr;  ///< kPod
  std::string ns;                   ///< kUnknownPod
  uint16_t endpoint = 0;
  uint16_t flags = 0;  ///< enum address_flags
};

/// The Pod object of a local endpoint; null: not known (yet). An object that says the pod runs on another
/// node, or without a network of its own, is not of this endpoint.
const model::Pod* pod_of(const LocalEndpoint& endpoint, const model::ClusterState& state,
                         const NodeView& node);

/// The pod that has an address among those whose status names it, as OccupantIndex has it: not one that is
/// finished or in its node's network. Null: none.
const model::Pod* pod_at(const Address& address, const model::ClusterState& state);

/// Keeps in step who wants which address, at the cost of what changed. The address is had (P14, P21) by this
/// node, then by another node, then by a local endpoint, then by a live pod (a running one, then the first by
/// name).
class OccupantIndex {
 public:
  /// Each takes up one object, new, changed or gone, and gives the addresses whose occupant may be another.
  void update_nodes(const model::ClusterState& state, const NodeView& node, std::set<AddressKey>& touched);
  void update_pod(const model::ClusterState& state, const model::ObjectName& name,
                  std::set<AddressKey>& touched);
  /// `endpoint` null: it is gone.
  void update_endpoint(uint16_t index, const LocalEndpoint* endpoint, std::set<AddressKey>& touched);

  /// Missing: nobody has it.
  [[nodiscard]] std::optional<Occupant> occupant(const AddressKey& key, const model::ClusterState& state,
                                                 const NodeView& node) const;
  /// Addresses in `cidr` that somebody has, in every network.
  void within(const Cidr& cidr, std::set<AddressKey>& found) const;
  /// This node or another has the address.
  [[nodiscard]] bool of_node(const AddressKey& key) const { return nodes_.contains(key); }
  /// Addresses that the pod wants; none: it is not live.
  void of_pod(const model::ObjectName& pod, std::set<AddressKey>& found) const;
  /// Tells of addresses that several want.
  void warn(const model::ClusterState& state, std::vector<Warning>& warnings) const;

 private:
  friend const model::Pod* pod_at(const Address& address, const model::ClusterState& state);

  /// A terminating pod comes last: it may have lost its network, and its address to another (P22).
  enum Rank { kOwnNode, kOtherNode, kEndpoint, kRunningPod, kPod, kTerminatingPod };
  /// nullopt: the pod claims nothing.
  static std::optional<Rank> rank_of(const model::Pod& pod);
  struct Claim {
    Rank rank = kPod;
    uint16_t endpoint = 0;
    model::ObjectName pod;
    auto operator<=>(const Claim&) const = default;
  };

  struct PodClaim {
    Rank rank = kPod;
    std::vector<Address> addresses;  ///< in network 0
  };

  void claim(const AddressKey& key, Claim claim, std::set<AddressKey>& touched);
  void withdraw(const AddressKey& key, const Claim& claim, std::set<AddressKey>& touched);

  using Claims = std::set<std::pair<AddressKey, Claim>>;
  /// The first claim to this address, or to a later one.
  [[nodiscard]] Claims::const_iterator first_of(const AddressKey& key) const;
  /// Null: nobody wants it.
  [[nodiscard]] const Claim* holder(const AddressKey& key) const;
  [[nodiscard]] bool contested(const AddressKey& key) const;

  Claims claims_;                        ///< of one address, the one that has it first
  std::map<uint16_t, size_t> networks_;  ///< and how many addresses of each are wanted
  std::map<AddressKey, Rank> nodes_;
  std::map<model::ObjectName, PodClaim> pods_;
  std::map<uint16_t, LocalEndpoint> endpoints_;
  std::set<AddressKey> contested_;
};

}  // namespace bpfnet::compile
