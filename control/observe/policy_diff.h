#pragma once

#include <string>

#include "control/observe/views.h"

namespace bpfnet::observe {

struct DiffQuery {
  std::string file;  ///< `-`: standard input
  bool remove = false;
};

struct DiffView {
  View view;
  bool breaks = false;  ///< some live connection would be cut
};

/// `bpfnetctl policy diff`: has the agent judge by a candidate state. Errors: the file cannot be read or
/// used, no agent.
Result<DiffView> policy_diff(const std::string& socket, const DiffQuery& query);

/// The answer of POST /v1/policy/diff as it is shown.
DiffView diff_view(const nlohmann::ordered_json& answer);

}  // namespace bpfnet::observe
