#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>

#include "control/compile/identities.h"
#include "control/compile/occupants.h"

namespace bpfnet::compile {

/// Which of the other nodes an address is on, by the indices that datapath and flows know them by.
class NodeIndex {
 public:
  /// Takes up the Node objects as they are now. Gives the names of nodes whose index is another: come, gone.
  std::set<std::string> update(const model::ClusterState& state, const NodeView& own, PolicyNumbers& numbers);

  /// The node that has the address, or that the pod which has it runs on; 0: this one, or none that is known.
  [[nodiscard]] uint16_t of(const Occupant& occupant, const Address& address) const;
  /// The node whose pods have the addresses of `prefix`.
  [[nodiscard]] uint16_t of_prefix(const Cidr& prefix) const;
  [[nodiscard]] const std::map<std::string, uint16_t>& all() const { return indices_; }

 private:
  std::string own_name_;
  std::map<std::string, uint16_t> indices_;
  std::map<Address, uint16_t> addresses_;
  std::map<Cidr, uint16_t> prefixes_;  ///< this node's too: 0
  PrefixSet lengths_;                  ///< the same prefixes, to find the longest
};

}  // namespace bpfnet::compile
