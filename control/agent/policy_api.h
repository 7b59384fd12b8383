#pragma once

#include "control/agent/agent.h"
#include "control/api/server.h"

namespace bpfnet::agent {

/// Routes that explain policy: GET /v1/pods, GET /v1/policy/show, POST /v1/policy/diff (docs/local-api.md).
void register_policy_routes(api::Server& server, Agent& agent);

}  // namespace bpfnet::agent
