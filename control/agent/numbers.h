#pragma once

#include "base/result.h"
#include "control/apply/service_publisher.h"
#include "control/compile/images.h"
#include "control/ipam/store.h"

namespace bpfnet::agent {

/// The ids that must come back the same after a restart: one row each, so that a change costs what changed.
/// Missing ones are forgotten.
Result<compile::PolicyNumbers> load_policy_numbers(const ipam::Store& store);

/// Writes what is new of the policy's numbers.
class PolicyNumbersSaver {
 public:
  /// These are in the store.
  void loaded(const compile::PolicyNumbers& numbers) {
    saved_ = Extent(numbers);
    saved_nodes_ = numbers.nodes;
  }
  Status save(ipam::Store& store, const compile::PolicyNumbers& numbers);

 private:
  /// Numbers only grow: what is new is above, and a table that is smaller than it should be has forgotten
  /// some.
  struct Extent {
    Extent() = default;
    explicit Extent(const compile::PolicyNumbers& numbers);
    bool operator==(const Extent&) const = default;
    size_t identities = 0;
    size_t sets = 0;
    size_t rules = 0;
    uint32_t next_identity = 0;
    uint32_t next_set = 0;
    uint32_t next_rule = 0;
  };
  Status save_nodes(ipam::Store& store, const compile::PolicyNumbers& numbers);
  Extent saved_;
  std::map<std::string, uint32_t> saved_nodes_;  ///< whose indices are given again, unlike the numbers above
};

Result<apply::ServiceNumbers> load_service_numbers(const ipam::Store& store);
/// As above.
Status save_service_numbers(ipam::Store& store, const std::map<std::string, std::optional<uint32_t>>& changes,
                            uint32_t next);

}  // namespace bpfnet::agent
