#pragma once

#include "base/result.h"
#include "control/apply/service_publisher.h"
#include "control/compile/images.h"
#include "control/ipam/store.h"

namespace bpfnet::agent {

/// The ids that must come back the same after a restart, kept as blobs of the store.
Result<compile::PolicyNumbers> load_policy_numbers(const ipam::Store& store);
Status save_policy_numbers(ipam::Store& store, const compile::PolicyNumbers& numbers);
Result<apply::ServiceNumbers> load_service_numbers(const ipam::Store& store);
/// One row a service port, so that a change costs what changed. Missing ids are forgotten.
Status save_service_numbers(ipam::Store& store, const std::map<std::string, std::optional<uint32_t>>& changes,
                            uint32_t next);

/// Whether two sets of numbers are the same.
bool same_numbers(const compile::PolicyNumbers& a, const compile::PolicyNumbers& b);

}  // namespace bpfnet::agent
