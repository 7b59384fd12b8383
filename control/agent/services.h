#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "control/apply/service_publisher.h"
#include "control/compile/services.h"

namespace bpfnet::agent {

/// The services of this node, compiled and numbered: what is between the sources and the publisher. An update
/// costs what changed, whatever else there is.
class Services {
 public:
  explicit Services(apply::ServiceNumbers numbers) : numbers_(std::move(numbers)) {}

  /// Compiles what `changes` names. What is different by it waits for pending().
  void update(const model::ClusterState& state, const compile::NodeView& node,
              const std::vector<compile::LocalEndpoint>& endpoints, const compile::ServiceChanges& changes);

  /// For the publisher; good until the next update(). The first is of everything. `retry`: what the maps
  /// refused before is tried again.
  [[nodiscard]] apply::ServiceUpdate pending(bool retry) const;
  /// pending() was published; `forgotten` service keys are in no map any more.
  void published(const std::vector<std::string>& forgotten);

  [[nodiscard]] const compile::ServiceImage& image() const { return compiler_.image(); }
  [[nodiscard]] const apply::ServiceNumbers& numbers() const { return numbers_; }
  /// No id up to `highest` is given to a service that has none yet.
  void skip_numbers(uint32_t highest) { numbers_.next = std::max(numbers_.next, highest + 1); }
  /// Ids that are new or gone (missing) since they were last taken, to be persisted.
  std::map<std::string, std::optional<uint32_t>> take_unsaved() { return std::exchange(unsaved_, {}); }

 private:
  compile::ServiceCompiler compiler_;
  apply::ServiceNumbers numbers_;
  apply::ServingIndex serving_;
  bool first_ = true;  ///< nothing was published yet
  std::set<compile::FrontendAddress> frontends_;
  std::set<std::string> serving_keys_;
  std::map<std::string, std::optional<uint32_t>> unsaved_;
};

}  // namespace bpfnet::agent
