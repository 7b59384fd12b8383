#include "control/agent/local_api.h"

#include <nlohmann/json.hpp>

#include "control/agent/policy_api.h"
#include "control/agent/source_api.h"
#include "control/agent/views.h"
#include "control/cni/handlers.h"

namespace bpfnet::agent {

void register_routes(api::Server& server, Agent& agent) {
  using View = nlohmann::ordered_json (*)(const Snapshot&);
  const auto show = [&server, &agent](const char* path, View view, bool images = true) {
    server.get(path, [&agent, view, images](const api::Request&) {
      const auto snapshot = agent.snapshot(images);
      if (!snapshot) return api::Answer::error(503, 503, "the agent is ending");
      return api::Answer::json(view(*snapshot));
    });
  };
  show("/v1/status", status_view, false);
  show("/v1/endpoints", endpoints_view, false);
  show("/v1/nodes", nodes_view, false);
  show("/v1/services", services_view);
  show("/v1/policies", policies_view);
  show("/v1/identities", identities_view);
  show("/v1/problems", problems_view);
  register_policy_routes(server, agent);
  register_source_routes(server, agent);
  server.post("/v1/resync", [&agent](const api::Request&) {
    const auto repairs = agent.resync();
    if (!repairs) return api::Answer::error(503, 503, "the agent is ending");
    return api::Answer::json(nlohmann::ordered_json{{"repairs", *repairs}});
  });

  const auto serve_cni = [&agent](const char* call) {
    return [&agent, call](const api::Request& request) {
      cni::ApiReply reply = cni::serve(agent.manager(), call, request.body, request.parameter("ipam"));
      return api::Answer{.status = reply.http_status, .body = std::move(reply.body)};
    };
  };
  for (const char* call : {"add", "del", "check", "gc"})
    server.post(std::string("/v1/cni/") + call, serve_cni(call));
  server.get("/v1/cni/status", serve_cni("status"));
}

}  // namespace bpfnet::agent
