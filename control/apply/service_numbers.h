#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "control/compile/images.h"

namespace bpfnet::apply {

/// A service port and its protocol, as ids are given: `default/web:http/udp`.
std::string service_key(const compile::FrontendAddress& address, const compile::Frontend& frontend);

/// Ids of service ports, stable while they are known; never used twice. Owned and persisted by the agent.
struct ServiceNumbers {
  std::map<std::string, uint32_t> ids;  ///< service_key -> id, from 1
  uint32_t next = 1;

  /// Numbers what is new among the frontends at `addresses`. Gives the keys that were added.
  std::vector<std::string> assign(const compile::ServiceImage& image,
                                  const std::set<compile::FrontendAddress>& addresses);
  /// Numbers what is new, forgets what is gone. Gives the keys that were added or forgotten.
  std::vector<std::string> assign(const compile::ServiceImage& image);
};

/// Endpoints that are serving, listed as a backend or not: UDP flows stay with them (S46), and clients with
/// affinity come back to one that topology had left out for a while (S44; over a restart of the agent, if it
/// had connections). service_key -> backends.
using ServingBackends = std::map<std::string, std::set<compile::Backend>>;

/// Keeps ServingBackends in step with the slices, at the cost of the services whose slices changed.
class ServingIndex {
 public:
  /// Takes up the named slices, new, changed or gone. Gives the keys whose backends may be different.
  std::set<std::string> update(const model::ClusterState& state, const std::set<model::ObjectName>& slices);
  /// The same for all slices there are or were.
  std::set<std::string> update(const model::ClusterState& state);

  [[nodiscard]] const ServingBackends& backends() const { return backends_; }

 private:
  void collect(const model::ClusterState& state, const std::string& key);

  ServingBackends backends_;
  std::map<model::ObjectName, std::set<std::string>> keys_of_;  ///< by slice
  std::map<std::string, std::set<model::ObjectName>> slices_of_;
};

}  // namespace bpfnet::apply
