#include "control/observe/names.h"

#include <fmt/format.h>

#include <cctype>
#include <chrono>
#include <nlohmann/json.hpp>

#include "control/api/unix_client.h"
#include "control/compile/explain.h"
#include "maps/abi/policy.h"
#include "maps/labels.h"

namespace bpfnet::observe {
namespace {

/// The list of an answer; an empty one when it is not there.
const nlohmann::json& list_of(const nlohmann::json& answer, const char* key) {
  static const nlohmann::json kNone = nlohmann::json::array();
  const auto found = answer.find(key);
  return answer.is_object() && found != answer.end() && found->is_array() ? *found : kNone;
}

std::string text_of(const nlohmann::json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

uint32_t number_of(const nlohmann::json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number_unsigned() ? found->get<uint32_t>() : 0;
}

std::vector<std::string> texts_of(const nlohmann::json& object, const char* key) {
  std::vector<std::string> texts;
  for (const nlohmann::json& each : list_of(object, key))
    if (each.is_string()) texts.push_back(each.get<std::string>());
  return texts;
}

std::vector<PodName> pods_of(const nlohmann::json& answer) {
  std::vector<PodName> pods;
  for (const nlohmann::json& each : list_of(answer, "pods")) {
    PodName pod{text_of(each, "pod"), text_of(each, "node"), {}};
    for (const std::string& text : texts_of(each, "ips"))
      if (const auto ip = Address::parse(text)) pod.ips.push_back(*ip);
    pods.push_back(std::move(pod));
  }
  return pods;
}

/// Diffs compile twice: more than a look at what is there.
constexpr std::chrono::seconds kPostTimeout{60};
constexpr std::chrono::seconds kGetTimeout{5};

Result<nlohmann::ordered_json> json_of(const Result<api::UnixResponse>& answer, const std::string& socket,
                                       std::string_view target) {
  if (!answer) {
    if (api::agent_is_down(answer.error())) return fail("no agent answers at {}", socket);
    return fail("the agent at {} did not answer: {}", socket, answer.error().message);
  }
  auto parsed = nlohmann::ordered_json::parse(answer->body, nullptr, false);
  if (answer->status != 200) {
    const auto error = parsed.is_object() ? parsed.find("error") : parsed.end();
    const std::string why = error != parsed.end() ? text_of(nlohmann::json(*error), "message") : "";
    // Bad input is told in the agent's words alone.
    if (answer->status == 400 && !why.empty()) return fail("{}", why);
    return fail("the agent at {} answered {} with {}{}", socket, target, answer->status,
                why.empty() ? "" : ": " + why);
  }
  if (parsed.is_discarded())
    return fail("the agent at {} answered {} with something that is no JSON", socket, target);
  return parsed;
}

std::string look_up(const std::map<uint32_t, std::string>& names, uint32_t id, std::string_view kind) {
  if (id == 0) return {};
  const auto known = names.find(id);
  return known != names.end() && !known->second.empty() ? known->second : fmt::format("{} {}", kind, id);
}

}  // namespace

Result<nlohmann::ordered_json> ask_agent(const std::string& socket, std::string_view target) {
  const api::UnixClient client({.socket = socket, .timeout = kGetTimeout});
  return json_of(client.get(target), socket, target);
}

Result<nlohmann::ordered_json> tell_agent(const std::string& socket, std::string_view target,
                                          std::string_view body) {
  const api::UnixClient client({.socket = socket, .timeout = kPostTimeout});
  return json_of(client.post(target, body), socket, target);
}

std::string query_text(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '.' || c == '/';
    escaped += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return escaped;
}

Names Names::none(std::string problem) {
  Names names;
  names.problem_ = std::move(problem);
  return names;
}

Names Names::ask(const std::string& socket) {
  constexpr size_t kTargets = 5;
  nlohmann::json answers[kTargets];
  const char* targets[kTargets] = {"/v1/endpoints", "/v1/services", "/v1/policies", "/v1/identities",
                                   "/v1/nodes"};
  for (size_t i = 0; i < kTargets; ++i) {
    auto answer = ask_agent(socket, targets[i]);
    if (!answer) return none(answer.error().message);
    answers[i] = nlohmann::json(*answer);
  }
  Names names = from_answers(answers[0], answers[1], answers[2], answers[3]);
  names.take_nodes(answers[4]);
  names.socket_ = socket;
  return names;
}

Names Names::from_answers(const nlohmann::json& endpoints, const nlohmann::json& services,
                          const nlohmann::json& policies, const nlohmann::json& identities) {
  Names names;
  for (const nlohmann::json& each : list_of(endpoints, "endpoints")) {
    std::string name = text_of(each, "pod");
    if (name.empty()) name = text_of(each, "containerId").substr(0, 12);
    names.endpoints_[number_of(each, "index")] = name;
  }
  for (const nlohmann::json& each : list_of(services, "services"))
    names.services_[number_of(each, "id")] = text_of(each, "name");
  for (const nlohmann::json& each : list_of(policies, "rules"))
    names.rules_[number_of(each, "id")] = text_of(each, "policy") + " " + text_of(each, "text");
  for (const nlohmann::json& each : list_of(policies, "endpoints"))
    names.isolations_[number_of(each, "index")] = {
        {texts_of(each, "isolatedByIngress"), texts_of(each, "auditedByIngress"),
         number_of(each, "ingressSet")},
        {texts_of(each, "isolatedByEgress"), texts_of(each, "auditedByEgress"),
         number_of(each, "egressSet")}};
  for (const nlohmann::json& each : list_of(identities, "identities"))
    names.identities_[number_of(each, "id")] = text_of(each, "text");
  return names;
}

void Names::take_nodes(const nlohmann::json& nodes) {
  for (const nlohmann::json& each : list_of(nodes, "nodes"))
    nodes_[number_of(each, "index")] = text_of(each, "name");
}

std::string Names::node(uint32_t index) const {
  return look_up(nodes_, index, "node");
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

std::string Names::rule_peers(uint32_t id) const {
  const auto known = rules_.find(id);
  return known != rules_.end() ? compile::peers_of(known->second) : "";
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

const Names::Isolation* Names::isolation(uint32_t endpoint, bool ingress) const {
  const auto known = isolations_.find(endpoint);
  if (known == isolations_.end()) return nullptr;
  return ingress ? &known->second.ingress : &known->second.egress;
}

std::vector<std::string> Names::isolated_by(uint32_t endpoint, bool ingress) const {
  const Isolation* known = isolation(endpoint, ingress);
  return known ? known->policies : std::vector<std::string>{};
}

std::vector<std::string> Names::audited_by(uint32_t endpoint, bool ingress) const {
  const Isolation* known = isolation(endpoint, ingress);
  return known ? known->audited : std::vector<std::string>{};
}

std::optional<uint32_t> Names::wanted_set(uint32_t endpoint, bool ingress) const {
  const Isolation* known = isolation(endpoint, ingress);
  return known ? std::optional(known->set) : std::nullopt;
}

std::vector<PodName> Names::pods_called(std::string_view name) const {
  if (socket_.empty()) return {};
  const auto answer = ask_agent(socket_, "/v1/pods?name=" + query_text(name));
  return answer ? pods_of(nlohmann::json(*answer)) : std::vector<PodName>{};
}

std::string Names::pod_at(const Address& address) const {
  if (socket_.empty()) return {};
  const auto [known, is_new] = pods_.try_emplace(address);
  if (!is_new) return known->second;
  const auto answer = ask_agent(socket_, "/v1/pods?address=" + query_text(address.to_string()));
  if (!answer) return {};
  for (const PodName& pod : pods_of(nlohmann::json(*answer))) known->second = pod.name;
  return known->second;
}

}  // namespace bpfnet::observe
