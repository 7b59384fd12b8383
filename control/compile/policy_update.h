#pragma once

#include "control/compile/policies.h"

namespace bpfnet::compile {

struct PolicyCompiler::Update {
  const model::ClusterState& state;
  const NodeView& node;
  const std::vector<LocalEndpoint>& endpoints;
  const PolicyChanges& changes;
  PolicyNumbers& numbers;
  PolicyDelta delta{};
  std::set<AddressKey> addresses{};    ///< whose identity may be another
  std::set<model::ObjectName> pods{};  ///< that are others, or are seen differently
  std::set<uint16_t> subjects{};       ///< endpoints whose policies may be others
  std::set<std::string> namespaces{};  ///< whose policies are others
  bool all_subjects = false;           ///< other policies for every endpoint
  std::vector<std::string> fresh{};    ///< keys of sets that are to be built, in the order of their numbers
  bool cidrs = false;                  ///< other prefixes or ranges
  bool node_selectors = false;         ///< other selectors of nodes
  IdentityTable::Turnover turnover{};
};

}  // namespace bpfnet::compile
