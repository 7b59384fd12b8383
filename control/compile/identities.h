#pragma once

#include <compare>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "control/compile/images.h"

namespace bpfnet::compile {

/// The prefixes that policies name: ipBlocks and their exceptions. The longest one that holds an address is
/// its class: it alone decides which ipBlocks match the address, because every other prefix that holds it
/// holds its class as well.
class PrefixSet {
 public:
  void insert(const Cidr& cidr);
  [[nodiscard]] std::optional<Cidr> longest(const Address& address) const { return longest(address, 128); }
  /// The longest that covers `cidr`, itself included.
  [[nodiscard]] std::optional<Cidr> longest(const Cidr& cidr) const {
    return longest(cidr.address(), cidr.length());
  }
  [[nodiscard]] const std::set<Cidr>& all() const { return prefixes_; }

 private:
  [[nodiscard]] std::optional<Cidr> longest(const Address& address, int at_most) const;

  std::set<Cidr> prefixes_;
  std::set<int, std::greater<>> lengths_[2];  ///< of IPv4 and IPv6
};

enum class IdentityKind {
  kPod,         ///< by its namespace and labels
  kUnknownPod,  ///< a pod of this node whose Pod object has not come yet: namespace known, labels not
  kContainer,   ///< a local endpoint that is no pod
  kHost,        ///< this node's own addresses
  kRemoteNode,
  kAddress,  ///< nothing but an address: matched by ipBlocks alone
};

struct NamedPort {
  std::string name;
  model::Protocol protocol = model::Protocol::kTcp;
  uint16_t port = 0;
  auto operator<=>(const NamedPort&) const = default;
};

/// Everything a policy can ask about a peer. Two addresses with the same answers share an identity.
struct Identity {
  IdentityKind kind = IdentityKind::kAddress;
  std::string ns;
  const model::Labels* ns_labels = nullptr;  ///< kPod, kUnknownPod
  const model::Labels* labels = nullptr;     ///< kPod
  std::optional<Cidr> cidr;                  ///< class of the address; none: no policy names a prefix of it
  std::vector<NamedPort> ports;              ///< kPod: those that egress rules name (P6), sorted
  uint32_t id = 0;
};

/// Who has an address.
struct Occupant {
  IdentityKind kind = IdentityKind::kAddress;
  const model::Pod* pod = nullptr;  ///< kPod
  std::string ns;                   ///< kUnknownPod
  uint16_t endpoint = 0;
  uint16_t flags = 0;  ///< enum address_flags
};

using Occupants = std::map<std::pair<uint16_t, Address>, Occupant>;

/// Resolves every address of pods, nodes and local endpoints to the one that has it now (P14, P21): this
/// node's own addresses, then other nodes', then local endpoints, then live pods (the running one of
/// several).
Occupants find_occupants(const model::ClusterState& state, const NodeView& node,
                         const std::vector<LocalEndpoint>& endpoints, std::vector<Warning>& warnings);

/// The Pod object of a local endpoint; null: not known (yet). An object that says the pod runs on another
/// node, or without a network of its own, is not of this endpoint.
const model::Pod* pod_of(const LocalEndpoint& endpoint, const model::ClusterState& state,
                         const NodeView& node);

/// Interns identities and numbers them.
class IdentityTable {
 public:
  IdentityTable(const model::ClusterState& state, PolicyNumbers& numbers);

  /// The identity of an address, for whoever has it.
  uint32_t intern(const Occupant& occupant, const Address& address);
  /// The identity of addresses in `cidr` that nobody has.
  uint32_t intern(const Cidr& cidr);

  [[nodiscard]] const std::vector<Identity>& all() const { return identities_; }
  [[nodiscard]] const std::map<uint32_t, std::string>& texts() const { return texts_; }
  [[nodiscard]] const PrefixSet& prefixes() const { return prefixes_; }
  /// Labels of a namespace; one without an object has the name label alone (P9).
  const model::Labels& namespace_labels(const std::string& ns);

 private:
  uint32_t add(Identity identity);
  [[nodiscard]] std::string text_of(const Identity& identity);

  const model::ClusterState& state_;
  PolicyNumbers& numbers_;
  PrefixSet prefixes_;
  std::set<std::pair<std::string, model::Protocol>> egress_port_names_;
  std::map<std::string, model::Labels> implied_namespaces_;
  std::unordered_map<const model::Labels*, std::string> label_texts_;
  std::unordered_map<std::string, uint32_t> known_;
  std::vector<Identity> identities_;
  std::map<uint32_t, std::string> texts_;
};

}  // namespace bpfnet::compile
