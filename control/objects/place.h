#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "control/etcd/config.h"
#include "control/objects/store.h"

namespace bpfnet::objects {

/// Where a command line says that objects are. Empty: where the agent says.
struct Place {
  std::string socket;     ///< the agent's
  std::string manifests;  ///< directory
  /// Without endpoints: those of the agent, with what is said here (who we are, say) in place of the agent's.
  etcd::Config etcd;
};

/// Errors: no agent answers and nothing else says it; objects come from an API
/// server; two places are given.
Result<std::unique_ptr<ObjectStore>> open_store(const Place& place);

/// Waits until the agent behind `socket` has in the maps what was written up to `revision`. Gives what it has
/// to say of the objects of `keys`; empty: they are as they were written.
Result<std::vector<std::string>> await_agent(const std::string& socket, int64_t revision,
                                             const std::vector<Key>& keys, std::chrono::seconds timeout);

}  // namespace bpfnet::objects
