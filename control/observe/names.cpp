#include "control/observe/names.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "control/api/unix_client.h"
#include "maps/abi/policy.h"
#include "maps/labels.h"

namespace bpfnet::observe {
namespace {

using nlohmann::json;

/// The list of an answer; an empty one when it is not there.
const json& list_of(const json& answer, const char* key) {
  static const json kNone = json::array();
  const auto found = answer.find(key);
  return answer.is_object() && found != answer.end() && found->is_array() ? *found : kNone;
}

std::string text_of(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

uint32_t number_of(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number_unsigned() ? found->get<uint32_t>() : 0;
}

std::string joined(const json& object, const char* key) {
  std::string text;
  for (const json& each : list_of(object, key))
    if (each.is_string()) text += (text.empty() ? "" : ", ") + each.get<std::string>();
  return text;
}

std::string look_up(const std::map<uint32_t, std::string>& names, uint32_t id, std::string_view kind) {
  if (id == 0) return {};
  const auto known = names.find(id);
  return known != names.end() && !known->second.empty() ? known->second : fmt::format("{} {}", kind, id);
}

}  // namespace

Result<nlohmann::ordered_json> ask_agent(const std::string& socket, std::string_view target) {
  const api::UnixClient client({.socket = socket, .timeout = std::chrono::seconds(5)});
  const auto answer = client.get(target);
  if (!answer) {
    if (api::agent_is_down(answer.error())) return fail("no agent answers at {}", socket);
    return fail("the agent at {} did not answer: {}", socket, answer.error().message);
  }
  if (answer->status != 200)
    return fail("the agent at {} answered {} with {}", socket, target, answer->status);
  auto parsed = nlohmann::ordered_json::parse(answer->body, nullptr, false);
  if (parsed.is_discarded())
    return fail("the agent at {} answered {} with something that is no JSON", socket, target);
  return parsed;
}

Names Names::none(std::string problem) {
  Names names;
  names.problem_ = std::move(problem);
  return names;
}

Names Names::ask(const std::string& socket) {
  json answers[4];
  const char* targets[] = {"/v1/endpoints", "/v1/services", "/v1/policies", "/v1/identities"};
  for (size_t i = 0; i < 4; ++i) {
    auto answer = ask_agent(socket, targets[i]);
    if (!answer) return none(answer.error().message);
    answers[i] = json(*answer);
  }
  return from_answers(answers[0], answers[1], answers[2], answers[3]);
}

Names Names::from_answers(const json& endpoints, const json& services, const json& policies,
                          const json& identities) {
  Names names;
  for (const json& each : list_of(endpoints, "endpoints")) {
    std::string name = text_of(each, "pod");
    if (name.empty()) name = text_of(each, "containerId").substr(0, 12);
    names.endpoints_[number_of(each, "index")] = name;
  }
  for (const json& each : list_of(services, "services"))
    names.services_[number_of(each, "id")] = text_of(each, "name");
  for (const json& each : list_of(policies, "rules"))
    names.rules_[number_of(each, "id")] = text_of(each, "policy") + " " + text_of(each, "text");
  for (const json& each : list_of(policies, "endpoints"))
    names.isolations_[number_of(each, "index")] = {joined(each, "isolatedByIngress"),
                                                   joined(each, "isolatedByEgress")};
  for (const json& each : list_of(identities, "identities"))
    names.identities_[number_of(each, "id")] = text_of(each, "text");
  return names;
}

std::string Names::service(uint32_t id) const {
  return look_up(services_, id, "service");
}

std::string Names::endpoint(uint32_t index) const {
  return look_up(endpoints_, index, "endpoint");
}

std::string Names::rule(uint32_t id) const {
  return look_up(rules_, id, "rule");
}

std::string Names::identity(uint32_t id) const {
  if (id < IDENTITY_FIRST) return maps::identity_label(id);
  return look_up(identities_, id, "identity");
}

std::optional<uint16_t> Names::endpoint_of(std::string_view pod) const {
  std::optional<uint16_t> found;
  for (const auto& [index, name] : endpoints_) {
    if (name == pod) return static_cast<uint16_t>(index);
    if (name.substr(name.find('/') + 1) != pod) continue;
    if (found) return std::nullopt;  // the same name in two namespaces
    found = static_cast<uint16_t>(index);
  }
  return found;
}

std::string Names::isolated_by(uint32_t endpoint, bool ingress) const {
  const auto known = isolations_.find(endpoint);
  if (known == isolations_.end()) return {};
  return ingress ? known->second.ingress : known->second.egress;
}

}  // namespace bpfnet::observe
