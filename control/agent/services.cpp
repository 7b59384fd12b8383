#include "control/agent/services.h"

namespace bpfnet::agent {

void Services::update(const model::ClusterState& state, const compile::NodeView& node,
                      const std::vector<compile::LocalEndpoint>& endpoints,
                      const compile::ServiceChanges& changes) {
  frontends_.merge(compiler_.update(state, node, endpoints, changes));
  serving_keys_.merge(changes.everything ? serving_.update(state) : serving_.update(state, changes.slices));
  const auto numbered = first_ ? numbers_.assign(image()) : numbers_.assign(image(), frontends_);
  for (const std::string& key : numbered) {
    const auto id = numbers_.ids.find(key);
    unsaved_[key] = id == numbers_.ids.end() ? std::nullopt : std::optional(id->second);
  }
}

apply::ServiceUpdate Services::pending(bool retry) const {
  return {.image = image(),
          .numbers = numbers_,
          .serving = serving_.backends(),
          .frontends = first_ ? nullptr : &frontends_,
          .serving_keys = first_ ? nullptr : &serving_keys_,
          .retry = retry};
}

void Services::published(const std::vector<std::string>& forgotten) {
  for (const std::string& key : forgotten)
    if (numbers_.ids.erase(key) != 0) unsaved_[key] = std::nullopt;
  first_ = false;
  frontends_.clear();
  serving_keys_.clear();
}

}  // namespace bpfnet::agent
