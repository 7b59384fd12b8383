#pragma once

#include "control/agent/agent.h"
#include "control/api/server.h"

namespace bpfnet::agent {

/// The routes of docs/local-api.md.
void register_routes(api::Server& server, Agent& agent);

}  // namespace bpfnet::agent
