#pragma once

#include <nlohmann/json_fwd.hpp>

#include "control/agent/state.h"

namespace bpfnet::agent {

// Snapshots as the JSON of docs/local-api.md.
nlohmann::ordered_json status_view(const Snapshot& snapshot);
nlohmann::ordered_json endpoints_view(const Snapshot& snapshot);
nlohmann::ordered_json nodes_view(const Snapshot& snapshot);
nlohmann::ordered_json services_view(const Snapshot& snapshot);
nlohmann::ordered_json policies_view(const Snapshot& snapshot);
nlohmann::ordered_json identities_view(const Snapshot& snapshot);
nlohmann::ordered_json problems_view(const Snapshot& snapshot);

}  // namespace bpfnet::agent
