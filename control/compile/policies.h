#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "control/compile/images.h"
#include "control/compile/node_index.h"
#include "control/compile/occupants.h"
#include "control/compile/policy_sets.h"

namespace bpfnet::compile {

/// What is new since the last update. Names of removed objects belong in it too. Local endpoints and the
/// node's own facts are compared with the last ones without being told.
struct PolicyChanges {
  std::set<model::ObjectName> pods;
  std::set<model::ObjectName> policies;
  std::set<std::string> cluster_policies;
  std::set<std::string> namespaces;
  bool nodes = false;       ///< Node or ServiceCIDR objects
  bool everything = false;  ///< compile all of it anew
};

/// What an update made different in the image. Nothing else needs to be looked at.
struct PolicyDelta {
  std::set<AddressKey> addresses;
  std::set<std::pair<uint16_t, Cidr>> cidrs;
  /// Sets, and of each the identities whose entries came or went; none: all of it.
  std::map<uint32_t, std::set<uint32_t>> sets;
  void merge(const PolicyDelta& later);
};

/// Keeps the policy of all endpoints up to date: an update compiles again what a change concerns and nothing
/// else, so a relabelled pod or a changed policy among 10,000 pods costs little. compile_policy() is one
/// update of everything.
///
/// A new identity adds entries to the sets that are there, one that nobody has any more takes its own away;
/// both leave the sets' numbers as they are (see SetBuilder).
class PolicyCompiler {
 public:
  PolicyDelta update(const model::ClusterState& state, const NodeView& node,
                     const std::vector<LocalEndpoint>& endpoints, const PolicyChanges& changes,
                     PolicyNumbers& numbers);

  [[nodiscard]] const PolicyImage& image() const { return image_; }
  PolicyImage take_image() && { return std::move(image_); }

 private:
  /// What one update reads and collects.
  struct Update;
  using PortName = std::pair<std::string, model::Protocol>;
  /// What all policies together must be asked for.
  struct PolicyUse {
    std::set<Cidr> prefixes;
    std::set<PortName> egress_ports;
    std::map<std::string, model::Selector> nodes;  ///< by their text
    [[nodiscard]] bool empty() const { return prefixes.empty() && egress_ports.empty() && nodes.empty(); }
  };
  struct NamespaceLabels {
    model::Labels labels;
    std::string text;
  };
  /// A set that endpoints use, with all that its contents are made of.
  struct SetInUse {
    uint32_t id = 0;  ///< 0: it never had an entry
    Direction direction = Direction::kIngress;
    Applicable applicable;
    std::optional<model::Pod> pod;  ///< with nothing but its ports
    PrefixVerdicts of_itself;       ///< over IPv4; part of the key
    PrefixVerdicts of_itself6;      ///< over IPv6; likewise
    std::set<uint32_t> rules;
    std::vector<uint32_t> numbers;  ///< of the applicable rules, in their order
    size_t users = 0;
  };
  /// Of an endpoint's own addresses, by family, in their order.
  struct OwnIdentities {
    std::vector<uint32_t> ip4;
    std::vector<uint32_t> ip6;
    uint32_t shown = 0;  ///< of the first address of all; 0: it has none
    bool operator==(const OwnIdentities&) const = default;
  };
  /// A key of sets_; empty: not restricted.
  struct EndpointSets {
    std::string ingress;
    std::string egress;
    OwnIdentities self;  ///< when they were chosen (A11)
  };

  void take_up_policies(Update& update);
  /// `name` of a ClusterNetworkPolicy: without a namespace.
  void take_up_policy(Update& update, const model::ObjectName& name, PolicyUse use);
  static PolicyUse use_of(const model::ClusterState& state, const model::ObjectName& name);
  /// The pod's identity may be another, though its addresses are the same.
  void see_differently(Update& update, const model::ObjectName& pod);
  void take_up_namespaces(Update& update);
  void take_up_endpoints(Update& update);
  void take_up_nodes(Update& update);
  void classify_nodes(Update& update);
  void index_nodes(Update& update);
  void identify(Update& update);
  Identity identity_of(const Occupant& occupant, const AddressKey& key) const;
  const NamespaceLabels& namespace_labels(const model::ClusterState& state, const std::string& ns);
  void place_cidrs(Update& update);
  void derive_endpoints(Update& update);
  void derive_endpoint(Update& update, const LocalEndpoint& endpoint, PolicyOrder& order, SetBuilder& sets);
  std::string take_set(Update& update, const Applicable& applicable, const model::Pod* pod,
                       const OwnIdentities& self, Direction direction, SetBuilder& sets);
  [[nodiscard]] OwnIdentities own_identities(const LocalEndpoint& endpoint) const;
  void leave_set(Update& update, const std::string& key);
  void build_set(Update& update, const std::string& key, SetInUse& set, PolicySet contents);
  void grow_set(Update& update, const std::string& key, SetInUse& set, SetBuilder& of_born,
                PeerMatcher& born);
  void settle_endpoints(const Update& update);
  [[nodiscard]] uint32_t set_number(const std::string& key) const;

  PolicyImage image_;
  bool first_ = true;
  NodeView node_;
  std::map<uint16_t, LocalEndpoint> endpoints_;
  OccupantIndex occupants_;
  NodeIndex node_index_;
  IdentityTable identities_;
  std::map<std::string, NamespaceLabels> namespaces_;  ///< those that identities were asked for
  std::map<model::ObjectName, PolicyUse> policies_;    ///< cluster policies have no namespace
  PrefixSet prefixes_;
  std::map<PortName, size_t> egress_ports_;  ///< and how many policies name each
  std::map<std::string, std::pair<model::Selector, size_t>> node_selectors_;  ///< likewise, by their text
  std::map<Address, std::set<std::string>>
      node_classes_;  ///< of Nodes' addresses: the selectors that find them
  std::map<std::string, SetInUse> sets_;
  std::map<uint32_t, size_t> rules_;  ///< and how many sets have each
  std::map<uint16_t, EndpointSets> endpoint_sets_;
};

}  // namespace bpfnet::compile
