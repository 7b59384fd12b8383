#pragma once

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <set>
#include <string>

#include "control/compile/policies.h"
#include "tests/support/policy/random_cluster.h"

namespace bpfnet::compile::test {

using bpfnet::test::ClusterGenerator;
using bpfnet::test::RandomCluster;

/// Whatever one cluster may become: objects of another one in the place of its own.
class Mutation {
 public:
  Mutation(RandomCluster& cluster, ClusterGenerator& generator, uint64_t seed)
      : cluster_(cluster), generator_(generator), other_(ClusterGenerator(seed).make()) {}

  PolicyChanges apply() {
    PolicyChanges changes;
    for (size_t n = 1 + generator_.pick(3); n > 0; --n) apply_one(changes);
    return changes;
  }

 private:
  void apply_one(PolicyChanges& changes) {
    auto& state = cluster_.state;
    switch (generator_.pick(10)) {
      case 0:
      case 1:
        return swap(state.policies, other_.state.policies, changes.policies);
      case 2:
        return swap(state.namespaces, other_.state.namespaces, changes.namespaces);
      case 3: {
        std::set<std::string> names;
        swap(state.nodes, other_.state.nodes, names);
        changes.nodes = true;
        return;
      }
      case 4: {
        cluster_.node = other_.node;
        return;
      }
      case 5:
        return swap_endpoint();
      case 6:
        return swap(state.cluster_policies, other_.state.cluster_policies, changes.cluster_policies);
      default:
        return swap(state.pods, other_.state.pods, changes.pods);
    }
  }
  template <typename Objects, typename Names>
  void swap(Objects& objects, const Objects& others, Names& changed) {
    if (!objects.empty() && generator_.pick(4) == 0) {
      const auto gone = std::next(objects.begin(), static_cast<ptrdiff_t>(generator_.pick(objects.size())));
      changed.insert(gone->first);
      objects.erase(gone);
    } else if (!others.empty()) {
      const auto come = std::next(others.begin(), static_cast<ptrdiff_t>(generator_.pick(others.size())));
      changed.insert(come->first);
      objects.insert_or_assign(come->first, come->second);
    }
  }
  void swap_endpoint() {
    auto& endpoints = cluster_.endpoints;
    if (!endpoints.empty() && generator_.pick(2) == 0) {
      endpoints.erase(endpoints.begin() + static_cast<ptrdiff_t>(generator_.pick(endpoints.size())));
      return;
    }
    if (other_.endpoints.empty()) return;
    const LocalEndpoint& come = generator_.one_of(other_.endpoints);
    std::erase_if(endpoints, [&](const auto& each) { return each.index == come.index; });
    endpoints.push_back(come);
    std::ranges::sort(endpoints, {}, &LocalEndpoint::index);
  }

  RandomCluster& cluster_;
  ClusterGenerator& generator_;
  RandomCluster other_;
};

}  // namespace bpfnet::compile::test
