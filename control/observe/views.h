#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "base/result.h"
#include "control/observe/flow_filter.h"
#include "control/observe/fresh_names.h"
#include "control/observe/live_policy.h"
#include "control/observe/names.h"
#include "maps/maps.h"

// What bpfnetctl shows: read from the pinned maps, so it is what the datapath acts on, with the agent's names
// where there is an agent.
namespace bpfnet::observe {

/// One answer in both of its forms.
struct View {
  std::string text;  ///< ends with a newline
  nlohmann::ordered_json json;
};

/// What the agent says of itself.
struct AgentAnswers {
  Result<nlohmann::ordered_json> status;  ///< of GET /v1/status, or why there is none
  nlohmann::json problems;                ///< the list of GET /v1/problems
  static AgentAnswers ask(const std::string& socket);
};

Result<View> status_view(const maps::Maps& maps, const AgentAnswers& agent);
Result<View> endpoints_view(const maps::Maps& maps, const Names& names);
/// The other nodes, with what leads to them.
Result<View> nodes_view(const maps::Maps& maps, const Names& names);
/// Frontends with their backends.
Result<View> services_view(const maps::Maps& maps, const Names& names);
/// Connections, one row for both directions.
Result<View> flows_view(const maps::Maps& maps, const Names& names, const FlowFilter& filter);
/// What each endpoint is under, and the entries of each set.
Result<View> policies_view(const maps::Maps& maps, const Names& names);
Result<View> identities_view(const maps::Maps& maps, const Names& names);
/// Counters by hook and reason.
Result<View> drops_view(const maps::Maps& maps);
Result<View> map_list_view(const maps::Maps& maps);
/// `all`: unused array elements too.
Result<View> map_dump_view(const maps::Maps& maps, const std::string& name, bool all);

/// Reads drop events as they come and gives each to `show`, until `keep_on` says no (asked at least every
/// 200 ms). Events that were waiting when it starts are passed over.
/// A ring buffer has one reader: whoever follows holds a lock on the pin directory, and a second one is
/// refused. The agent does not read it, so nothing is taken from anybody.
/// `names` are asked for again as the agent's state moves on.
Status follow_drops(const maps::Maps& maps, const std::string& pin_dir, FreshNames& names,
                    const std::function<void(const View&)>& show, const std::function<bool()>& keep_on);

/// One event as follow_drops() shows it. `sets`: to tell what policy would have allowed; null: unknown.
View event_view(const packet_event& event, const Names& names, LiveSets* sets = nullptr);

}  // namespace bpfnet::observe
