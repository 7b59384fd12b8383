#pragma once

#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "control/agent/policy_candidate.h"
#include "control/compile/images.h"
#include "control/compile/policy_diff.h"

namespace bpfnet::agent {

/// What a diff is made of.
struct DiffInput {
  const compile::PolicyImage& before;
  const compile::PolicyImage& after;
  const model::ClusterState& current;
  const Candidate& candidate;
  const std::vector<compile::LocalEndpoint>& endpoints;
  const std::vector<compile::LiveFlow>& flows;
};

/// Pure. The answer of POST /v1/policy/diff, by name.
nlohmann::ordered_json diff_view(const DiffInput& input);

}  // namespace bpfnet::agent
