#include "control/agent/policies.h"

#include <algorithm>

namespace bpfnet::agent {

void Policies::update(const model::ClusterState& state, const compile::NodeView& node,
                      const std::vector<compile::LocalEndpoint>& endpoints,
                      const compile::PolicyChanges& changes) {
  pending_.merge(compiler_.update(state, node, endpoints, changes, numbers_));
  if (changes.everything) first_ = true;
  copy_.reset();
}

void Policies::published() {
  first_ = false;
  pending_ = {};
}

std::shared_ptr<const compile::PolicyImage> Policies::copy() const {
  if (!copy_) copy_ = std::make_shared<const compile::PolicyImage>(image());
  return copy_;
}

void Policies::skip_numbers(uint32_t identity, uint32_t set, uint32_t rule) {
  numbers_.next_identity = std::max(numbers_.next_identity, identity + 1);
  numbers_.next_set = std::max(numbers_.next_set, set + 1);
  numbers_.next_rule = std::max(numbers_.next_rule, rule + 1);
}

}  // namespace bpfnet::agent
