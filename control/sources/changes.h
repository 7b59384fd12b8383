#pragma once

#include <set>
#include <string>

#include "control/model/objects.h"

namespace bpfnet::sources {

/// The objects that were added, changed or removed since a source was last asked.
struct Changes {
  std::set<std::string> namespaces;
  std::set<std::string> nodes;
  std::set<model::ObjectName> pods;
  std::set<model::ObjectName> services;
  std::set<model::ObjectName> slices;
  std::set<model::ObjectName> policies;
  std::set<std::string> cluster_policies;
  std::set<std::string> service_cidrs;
  bool operator==(const Changes&) const = default;
  [[nodiscard]] bool empty() const { return *this == Changes{}; }
};

}  // namespace bpfnet::sources
