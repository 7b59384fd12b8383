#include "control/compile/backends.h"

#include <algorithm>

namespace bpfnet::compile {
namespace {

using model::EndpointSlice;
using model::SliceEndpoint;

/// One endpoint of one slice port, with its address settled.
struct Candidate {
  Backend backend;
  const SliceEndpoint* endpoint = nullptr;
  bool local = false;

  [[nodiscard]] bool ready() const { return endpoint->ready; }
  [[nodiscard]] bool draining() const { return endpoint->serving && endpoint->terminating; }
};

/// Which of two duplicates is the truth: a pod that took over the address of a terminating one, then a ready
/// one, then one that is known to be here (S10).
bool beats(const Candidate& a, const Candidate& b) {
  if (a.endpoint->terminating != b.endpoint->terminating) return !a.endpoint->terminating;
  if (a.ready() != b.ready()) return a.ready();
  return a.local && !b.local;
}

std::vector<Candidate> join(const std::vector<const EndpointSlice*>& slices, const model::ServicePort& port,
                            Family family, const Locality& here) {
  std::vector<Candidate> found;
  for (const EndpointSlice* slice : slices) {
    if (slice->family != family) continue;
    for (const auto& slice_port : slice->ports) {
      if (slice_port.port == 0 || slice_port.name != port.name || slice_port.protocol != port.protocol)
        continue;
      for (const auto& endpoint : slice->endpoints) {
        if (endpoint.ip.is_unspecified() || endpoint.ip.family() != family) continue;
        found.push_back({{endpoint.ip, slice_port.port}, &endpoint, is_local(endpoint, here)});
      }
    }
  }
  // Stable: of equal duplicates the one of the slice named first counts.
  std::ranges::stable_sort(found, [](const Candidate& a, const Candidate& b) {
    if (a.backend != b.backend) return a.backend < b.backend;
    return beats(a, b);
  });
  const auto rest = std::ranges::unique(
      found, [](const Candidate& a, const Candidate& b) { return a.backend == b.backend; });
  found.erase(rest.begin(), rest.end());
  return found;
}

enum class Topology { kAll, kSameNode, kSameZone };

bool holds(const std::vector<std::string>& names, const std::string& name) {
  return !name.empty() && std::ranges::find(names, name) != names.end();
}

/// S16, S17: a level of hints counts only when every ready endpoint bears it and one of them is meant for
/// here.
Topology topology(const std::vector<Candidate>& candidates, const Locality& here) {
  bool all_for_nodes = true;
  bool all_for_zones = true;
  bool one_for_node = false;
  bool one_for_zone = false;
  for (const Candidate& each : candidates) {
    if (!each.ready()) continue;
    all_for_nodes &= !each.endpoint->for_nodes.empty();
    all_for_zones &= !each.endpoint->for_zones.empty();
    one_for_node |= holds(each.endpoint->for_nodes, here.node_name);
    one_for_zone |= holds(each.endpoint->for_zones, here.zone);
  }
  if (all_for_nodes && one_for_node) return Topology::kSameNode;
  if (all_for_zones && one_for_zone) return Topology::kSameZone;
  return Topology::kAll;
}

template <typename Wanted>
std::vector<Backend> pick(const std::vector<Candidate>& candidates, Wanted&& wanted) {
  std::vector<Backend> picked;
  for (const Candidate& each : candidates)
    if (wanted(each)) picked.push_back(each.backend);
  return picked;
}

}  // namespace

BackendLists choose_backends(const std::vector<const EndpointSlice*>& slices, const model::ServicePort& port,
                             Family family, const Locality& here) {
  const auto candidates = join(slices, port, family, here);
  BackendLists lists;
  const Topology level = topology(candidates, here);
  lists.cluster = pick(candidates, [&](const Candidate& each) {
    if (!each.ready()) return false;
    if (level == Topology::kSameNode) return holds(each.endpoint->for_nodes, here.node_name);
    if (level == Topology::kSameZone) return holds(each.endpoint->for_zones, here.zone);
    return true;
  });
  if (lists.cluster.empty())
    lists.cluster = pick(candidates, [](const Candidate& each) { return each.draining(); });
  lists.local = pick(candidates, [](const Candidate& each) { return each.local && each.ready(); });
  if (lists.local.empty())
    lists.local = pick(candidates, [](const Candidate& each) { return each.local && each.draining(); });
  lists.any_usable =
      std::ranges::any_of(candidates, [](const Candidate& each) { return each.ready() || each.draining(); });
  return lists;
}

}  // namespace bpfnet::compile
