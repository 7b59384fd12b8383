#include <fmt/format.h>

#include <algorithm>

#include "control/observe/table.h"
#include "control/observe/views.h"
#include "maps/abi/base.h"
#include "maps/abi/reasons.h"
#include "maps/abi/socket.h"
#include "maps/labels.h"

namespace bpfnet::observe {
namespace {

using nlohmann::ordered_json;

struct EndpointCounts {
  uint32_t open = 0;
  uint32_t closed = 0;
};

Result<EndpointCounts> count_endpoints(const maps::Maps& maps) {
  EndpointCounts counts;
  auto done = maps.endpoints.for_each([&](uint32_t, const endpoint& record) {
    counts.open += record.state == ENDPOINT_OPEN;
    counts.closed += record.state == ENDPOINT_CLOSED;
  });
  if (!done) return pass(done);
  return counts;
}

Result<ordered_json> hook_counts(const maps::Maps& maps) {
  auto counts = maps.verdict_counts.sums();
  if (!counts) return pass(counts);
  ordered_json hooks = ordered_json::object();
  for (uint32_t i = 0; i < counts->size(); ++i)
    if ((*counts)[i].packets != 0)
      hooks[maps::hook_label(i / VERDICTS_MAX)][maps::verdict_label(i % VERDICTS_MAX)] = (*counts)[i].packets;
  return hooks;
}

Result<uint64_t> sum_of(const maps::PerCpuArray<packet_count>& map) {
  auto counts = map.sums();
  if (!counts) return pass(counts);
  uint64_t packets = 0;
  for (const auto& each : *counts) packets += each.packets;
  return packets;
}

Result<ordered_json> socket_counts(const maps::Maps& maps) {
  auto counts = maps.socket_counts.sums();
  if (!counts) return pass(counts);
  ordered_json calls = ordered_json::object();
  for (uint32_t i = 0; i < counts->size(); ++i)
    if ((*counts)[i].calls != 0) calls[maps::socket_outcome_label(i)] = (*counts)[i].calls;
  return calls;
}

std::string text_of(const nlohmann::json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) return value.is_boolean() ? (value.get<bool>() ? "yes" : "no") : value.dump();
  std::string text;
  for (const auto& each : value) text += (text.empty() ? "" : " ") + text_of(each);
  return text;
}

/// What the agent says of itself, line by line; tables within it are for programs.
std::string agent_text(const ordered_json& agent) {
  std::string text;
  for (const auto& [key, value] : agent.items()) {
    if (value.is_object()) continue;
    std::string name = key;
    std::ranges::replace(name, '_', ' ');
    text += fmt::format("  {:<20} {}\n", name + ":", text_of(value));
  }
  return text;
}

std::string problem_text(const nlohmann::json& problem) {
  const auto field = [&](const char* key) {
    return problem.is_object() ? text_of(problem.value(key, nlohmann::json(""))) : "";
  };
  // A manifest's problem names its place and object itself.
  if (field("from") == "source") return field("text");
  std::string text;
  if (!field("source").empty() && field("line") != "0")
    text = fmt::format("{}:{}: ", field("source"), field("line"));
  if (field("from") == "maps" && !field("object").empty()) text += field("object") + ": ";
  return text + field("text");
}

/// A full map may have thousands.
std::string problems_text(const nlohmann::json& problems) {
  constexpr size_t kShown = 20;
  std::string text;
  size_t shown = 0;
  for (const auto& each : problems)
    if (shown++ < kShown) text += "  " + problem_text(each) + "\n";
  if (shown > kShown) text += fmt::format("  and {} more, all with --output json\n", shown - kShown);
  return text;
}

}  // namespace

AgentAnswers AgentAnswers::ask(const std::string& socket) {
  AgentAnswers answers{ask_agent(socket, "/v1/status"), nlohmann::json::array()};
  if (!answers.status) return answers;
  const auto problems = ask_agent(socket, "/v1/problems");
  if (problems && problems->is_object())
    answers.problems = problems->value("problems", nlohmann::json::array());
  return answers;
}

Result<View> status_view(const maps::Maps& maps, const AgentAnswers& agent) {
  auto table = maps.flow_table_state.get(0);
  if (!table) return pass(table);
  auto config = maps.node_config.get(0);
  if (!config) return pass(config);
  auto endpoints = count_endpoints(maps);
  if (!endpoints) return pass(endpoints);
  auto frontends = maps.frontends.entries();
  if (!frontends) return pass(frontends);
  auto policies = maps.policies.entries();
  if (!policies) return pass(policies);
  auto drops = sum_of(maps.drop_counts);
  if (!drops) return pass(drops);
  auto audits = sum_of(maps.audit_counts);
  if (!audits) return pass(audits);
  auto hooks = hook_counts(maps);
  if (!hooks) return pass(hooks);

  auto sockets = socket_counts(maps);
  if (!sockets) return pass(sockets);

  View view;
  if (agent.status) {
    view.json["agent"] = {{"running", true}};
    view.json["agent"].update(*agent.status);
    view.json["agent"]["problems"] = agent.problems;
    view.text = "agent: running\n" + agent_text(*agent.status) + problems_text(agent.problems);
  } else {
    const std::string& why = agent.status.error().message;
    view.json["agent"] = {{"running", false}, {"problem", why}};
    view.text = fmt::format("agent: down ({}); the datapath serves what it was last given\n", why);
  }
  view.json["datapath"] = {{"layout_version", config->layout_version},
                           {"endpoints_open", endpoints->open},
                           {"endpoints_closed", endpoints->closed},
                           {"frontends", frontends->size()},
                           {"policy_entries", policies->size()},
                           {"flows", table->live},
                           {"max_flows", config->max_flows},
                           {"flows_expired", table->expired},
                           {"flows_evicted", table->evicted},
                           {"packets_dropped", *drops},
                           {"packets_audited", *audits},
                           {"hooks", *hooks},
                           {"sockets", *sockets}};
  view.text += fmt::format(
      "\ndatapath: layout v{}\n"
      "  endpoints:           {} open, {} closed\n"
      "  frontends:           {}\n"
      "  policy entries:      {}\n"
      "  flows:               {} of {} ({} expired, {} evicted)\n"
      "  packets dropped:     {}\n"
      "  packets audited:     {} (let through)\n",
      config->layout_version, endpoints->open, endpoints->closed, frontends->size(), policies->size(),
      table->live, config->max_flows, table->expired, table->evicted, *drops, *audits);
  Table packets({"  HOOK", "VERDICT", "PACKETS"});
  for (const auto& [hook, verdicts] : hooks->items())
    for (const auto& [verdict, count] : verdicts.items())
      packets.add({"  " + hook, verdict, std::to_string(count.get<uint64_t>())});
  if (!packets.empty()) view.text += "\n" + packets.text();
  Table calls({"  SOCKETS", "CALLS"});
  for (const auto& [outcome, count] : sockets->items())
    calls.add({"  " + outcome, std::to_string(count.get<uint64_t>())});
  if (!calls.empty()) view.text += "\n" + calls.text();
  return view;
}

}  // namespace bpfnet::observe
