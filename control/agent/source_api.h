#pragma once

#include "control/agent/agent.h"
#include "control/api/server.h"

namespace bpfnet::agent {

/// /v1/source of docs/local-api.md: where objects come from, and whether what was written there has arrived.
void register_source_routes(api::Server& server, Agent& agent);

}  // namespace bpfnet::agent
