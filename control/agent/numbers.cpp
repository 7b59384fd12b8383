#include "control/agent/numbers.h"

#include <nlohmann/json.hpp>
#include <tuple>

namespace bpfnet::agent {
namespace {

constexpr const char* kPolicyBlob = "policy-numbers";
constexpr const char* kServiceBlob = "service-numbers";

Result<nlohmann::json> load(const ipam::Store& store, const char* name) {
  auto blob = store.get(name);
  if (!blob) return pass(blob);
  if (!*blob) return nlohmann::json::object();
  auto json = nlohmann::json::parse(**blob, nullptr, false);
  if (!json.is_object()) return fail("state database: blob {} is no JSON object", name);
  return json;
}

/// A member of the wrong type counts as missing: numbers are then given anew, above those in the maps.
template <typename T>
T member(const nlohmann::json& json, const char* name) {
  try {
    return json.value(name, T{});
  } catch (const nlohmann::json::exception&) {
    return T{};
  }
}

using Numbers = std::map<std::string, uint32_t>;

}  // namespace

Result<compile::PolicyNumbers> load_policy_numbers(const ipam::Store& store) {
  auto json = load(store, kPolicyBlob);
  if (!json) return pass(json);
  return compile::PolicyNumbers{.identities = member<Numbers>(*json, "identities"),
                                .sets = member<Numbers>(*json, "sets"),
                                .rules = member<Numbers>(*json, "rules"),
                                .next_identity = member<uint32_t>(*json, "next_identity"),
                                .next_set = member<uint32_t>(*json, "next_set"),
                                .next_rule = member<uint32_t>(*json, "next_rule")};
}

Status save_policy_numbers(ipam::Store& store, const compile::PolicyNumbers& numbers) {
  const nlohmann::json json = {{"identities", numbers.identities}, {"sets", numbers.sets},
                               {"rules", numbers.rules},           {"next_identity", numbers.next_identity},
                               {"next_set", numbers.next_set},     {"next_rule", numbers.next_rule}};
  return store.put(kPolicyBlob, json.dump());
}

Result<apply::ServiceNumbers> load_service_numbers(const ipam::Store& store) {
  auto json = load(store, kServiceBlob);
  if (!json) return pass(json);
  apply::ServiceNumbers numbers;
  numbers.ids = member<Numbers>(*json, "ids");
  numbers.next = std::max<uint32_t>(1, member<uint32_t>(*json, "next"));
  return numbers;
}

Status save_service_numbers(ipam::Store& store, const apply::ServiceNumbers& numbers) {
  const nlohmann::json json = {{"ids", numbers.ids}, {"next", numbers.next}};
  return store.put(kServiceBlob, json.dump());
}

bool same_numbers(const compile::PolicyNumbers& a, const compile::PolicyNumbers& b) {
  return std::tie(a.next_identity, a.next_set, a.next_rule) ==
             std::tie(b.next_identity, b.next_set, b.next_rule) &&
         a.identities.size() == b.identities.size() && a.sets.size() == b.sets.size() &&
         a.rules.size() == b.rules.size();
}

}  // namespace bpfnet::agent
