#pragma once

#include <string>

#include "control/observe/views.h"

namespace bpfnet::observe {

/// `bpfnetctl policy show POD`: what applies to a pod of this node, in the order of judgement, and what it
/// compiled to, from the maps. Without an agent what it compiled to alone. `pod` as for policy_verdict().
Result<View> policy_show_view(const maps::Maps& maps, const Names& names, const std::string& socket,
                              const std::string& pod);

/// One endpoint as policy_show_view() shows it. `applied`: of GET /v1/policy/show, or why there is none.
Result<View> endpoint_policy_view(const maps::Maps& maps, const Names& names, uint16_t index,
                                  const Result<nlohmann::ordered_json>& applied);

}  // namespace bpfnet::observe
