#include "control/agent/policy_api.h"

#include <fmt/format.h>

#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>

#include "control/agent/policy_candidate.h"
#include "control/agent/policy_diff_view.h"
#include "control/compile/occupants.h"
#include "control/compile/policy_show.h"
#include "maps/convert.h"
#include "maps/maps.h"

namespace bpfnet::agent {
namespace {

using nlohmann::ordered_json;

api::Answer ending() {
  return api::Answer::error(503, 503, "the agent is ending");
}

api::Answer bad_request(const std::string& message) {
  return api::Answer::error(400, 400, message);
}

ordered_json to_json(const model::Pod& pod) {
  ordered_json ips = ordered_json::array();
  for (const Address& ip : pod.ips) ips.push_back(ip.to_string());
  return {{"pod", pod.name.to_string()},
          {"node", pod.node_name},
          {"ips", std::move(ips)},
          {"hostNetwork", pod.host_network},
          {"finished", pod.finished()}};
}

bool is_called(const model::Pod& pod, const std::string& name) {
  return name.find('/') == std::string::npos ? pod.name.name == name : pod.name.to_string() == name;
}

/// The pod whose address it is, as the compiler takes it.
ordered_json pods_at(const model::ClusterState& state, const Address& address) {
  const model::Pod* holder = compile::pod_at(address, state);
  return holder ? ordered_json::array({to_json(*holder)}) : ordered_json::array();
}

ordered_json pods_called(const model::ClusterState& state, const std::string& name) {
  ordered_json list = ordered_json::array();
  for (const auto& [key, pod] : state.pods)
    if (is_called(pod, name)) list.push_back(to_json(pod));
  return list;
}

api::Answer find_pods(Agent& agent, const api::Request& request) {
  const std::string name = request.parameter("name");
  const auto address = Address::parse(request.parameter("address"));
  if (name.empty() && !address) return bad_request("give name=NAMESPACE/NAME or address=ADDRESS");
  const auto pods = agent.inspect_policy([&](const Agent::PolicyInput& input) {
    return name.empty() ? pods_at(input.state, *address) : pods_called(input.state, name);
  });
  return pods ? api::Answer::json(ordered_json{{"pods", *pods}}) : ending();
}

ordered_json to_json(const compile::AppliedPolicies& applied) {
  ordered_json policies = ordered_json::array();
  for (const compile::AppliedPolicy& each : applied.policies)
    policies.push_back({{"kind", each.kind},
                        {"name", each.name},
                        {"tier", each.tier},
                        {"priority", each.priority},
                        {"audit", each.audit},
                        {"source", each.origin.source},
                        {"line", each.origin.line},
                        {"rules", each.rules}});
  return {{"policies", policies}, {"otherwise", applied.otherwise}};
}

api::Answer show_policy(Agent& agent, const api::Request& request) {
  const std::string index = request.parameter("endpoint");
  const auto answer =
      agent.inspect_policy([&](const Agent::PolicyInput& input) -> std::optional<ordered_json> {
        for (const compile::LocalEndpoint& endpoint : input.endpoints) {
          if (std::to_string(endpoint.index) != index) continue;
          ordered_json json = {{"index", endpoint.index}, {"pod", endpoint.pod.to_string()}};
          for (const auto direction : {compile::Direction::kIngress, compile::Direction::kEgress})
            json[std::string(compile::to_string(direction))] =
                to_json(compile::applied_policies(input.state, input.node, endpoint, direction));
          return json;
        }
        return std::nullopt;
      });
  if (!answer) return ending();
  if (!*answer) return api::Answer::error(404, 404, fmt::format("endpoint {}: there is none", index));
  return api::Answer::json(**answer);
}

/// Those parts of a state that policy is compiled from.
model::ClusterState policy_part(const model::ClusterState& state) {
  model::ClusterState part;
  part.namespaces = state.namespaces;
  part.nodes = state.nodes;
  part.pods = state.pods;
  part.policies = state.policies;
  part.cluster_policies = state.cluster_policies;
  part.service_cidrs = state.service_cidrs;
  return part;
}

/// By descriptors of its own: those of the loop are the loop's.
Result<std::vector<compile::LiveFlow>> live_flows(const std::string& bpffs) {
  auto maps = maps::Maps::open_pinned(bpffs);
  if (!maps) return pass(maps);
  auto entries = maps->flows.entries();
  if (!entries) return pass(entries);
  std::vector<compile::LiveFlow> flows;
  for (const auto& [key, entry] : *entries) {
    if ((entry.flags & FLOW_IS_REPLY) != 0 || entry.state == FLOW_CLOSED) continue;
    flows.push_back({.client = maps::from_abi(key.saddr),
                     .backend = maps::from_abi(entry.peer.saddr),
                     .client_port = maps::from_network(key.sport),
                     .backend_port = maps::from_network(entry.peer.sport),
                     .proto = key.proto,
                     .net = key.net,
                     .source = entry.src_endpoint,
                     .destination = entry.dst_endpoint,
                     .by_service = (entry.flags & FLOW_SERVICE) != 0,
                     .picked_up = (entry.flags & FLOW_PICKED_UP) != 0});
  }
  return flows;
}

Result<CandidateText> parse_body(const std::string& body) {
  const auto json = nlohmann::json::parse(body, nullptr, false);
  if (!json.is_object()) return fail("the body is no JSON object");
  CandidateText text;
  for (const auto& [key, value] : json.items()) {
    if (key == "file" && value.is_string()) {
      text.file = value.get<std::string>();
    } else if (key == "manifests" && value.is_string()) {
      text.text = value.get<std::string>();
    } else if (key == "delete" && value.is_boolean()) {
      text.remove = value.get<bool>();
    } else {
      return fail("{}: not known here or of the wrong type, expected file, manifests, delete", key);
    }
  }
  return text;
}

/// Everything but the copy of the input is done here, on the caller's thread: the loop goes on.
api::Answer diff_policy(Agent& agent, const api::Request& request) {
  auto text = parse_body(request.body);
  if (!text) return bad_request(text.error().message);
  struct Input {
    model::ClusterState state;
    compile::NodeView node;
    std::vector<compile::LocalEndpoint> endpoints;
    compile::PolicyNumbers numbers;
  };
  auto input = agent.inspect_policy([](const Agent::PolicyInput& from) {
    return Input{policy_part(from.state), from.node, from.endpoints, from.numbers};
  });
  if (!input) return ending();
  // Both from one copy of the numbers: what is the same in both has the same number.
  const auto before = compile::compile_policy(input->state, input->node, input->endpoints, input->numbers);
  auto candidate = make_candidate(input->state, *text);
  if (!candidate) return bad_request(candidate.error().message);
  if (input->node.policy_audit)
    candidate->notes.push_back("this node audits policy: what is denied here is let through and told");
  const auto after = compile::compile_policy(candidate->state, input->node, input->endpoints, input->numbers);
  auto flows = live_flows(agent.bpffs());
  if (!flows) return api::Answer::error(500, 500, flows.error().message);
  return api::Answer::json(diff_view({.before = before,
                                      .after = after,
                                      .current = input->state,
                                      .candidate = *candidate,
                                      .endpoints = input->endpoints,
                                      .flows = *flows}));
}

}  // namespace

void register_policy_routes(api::Server& server, Agent& agent) {
  server.get("/v1/pods", [&agent](const api::Request& request) { return find_pods(agent, request); });
  server.get("/v1/policy/show",
             [&agent](const api::Request& request) { return show_policy(agent, request); });
  // One at a time: each may take a second of a CPU and a copy of the state. Who would have to wait does so at
  // home, or a few of them would hold all threads that the CNI plugin is served by.
  auto busy = std::make_shared<std::mutex>();
  server.post("/v1/policy/diff", [&agent, busy](const api::Request& request) {
    const std::unique_lock lock(*busy, std::try_to_lock);
    if (!lock) return api::Answer::error(503, 503, "another diff is under way: try again");
    return diff_policy(agent, request);
  });
}

}  // namespace bpfnet::agent
