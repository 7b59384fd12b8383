#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "control/compile/policies.h"

namespace bpfnet::agent {

/// The policy of this node, compiled and numbered: what is between the sources and the publisher. An update
/// costs what changed, whatever else there is.
class Policies {
 public:
  explicit Policies(compile::PolicyNumbers numbers) : numbers_(std::move(numbers)) {}

  /// Compiles what `changes` names. What is different by it waits for pending().
  void update(const model::ClusterState& state, const compile::NodeView& node,
              const std::vector<compile::LocalEndpoint>& endpoints, const compile::PolicyChanges& changes);

  /// What differs from the last publish; null: everything may.
  [[nodiscard]] const compile::PolicyDelta* pending() const { return first_ ? nullptr : &pending_; }
  void published();

  [[nodiscard]] const compile::PolicyImage& image() const { return compiler_.image(); }
  /// For other threads. Costs a copy after each change.
  [[nodiscard]] std::shared_ptr<const compile::PolicyImage> copy() const;

  [[nodiscard]] const compile::PolicyNumbers& numbers() const { return numbers_; }
  /// No number up to these is given to anything that has none yet.
  void skip_numbers(uint32_t identity, uint32_t set, uint32_t rule);

 private:
  compile::PolicyCompiler compiler_;
  compile::PolicyNumbers numbers_;
  compile::PolicyDelta pending_;
  bool first_ = true;  ///< nothing was published yet
  mutable std::shared_ptr<const compile::PolicyImage> copy_;
};

}  // namespace bpfnet::agent
