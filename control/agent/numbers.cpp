#include "control/agent/numbers.h"

#include <charconv>
#include <nlohmann/json.hpp>
#include <string_view>
#include <tuple>

namespace bpfnet::agent {
namespace {

constexpr const char* kPolicyBlob = "policy-numbers";
constexpr std::string_view kServicePrefix = "service-id/";
constexpr std::string_view kNextService = "service-id-next";

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

/// 0: not a number.
uint32_t number(const std::string& text) {
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? value : 0;
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
  auto rows = store.list(kServicePrefix);
  if (!rows) return pass(rows);
  auto next = store.get(kNextService);
  if (!next) return pass(next);
  apply::ServiceNumbers numbers;
  numbers.next = std::max<uint32_t>(1, next->has_value() ? number(**next) : 1);
  for (const auto& [key, text] : *rows) {
    const uint32_t id = number(text);
    if (id == 0) continue;  // numbered anew
    numbers.ids.emplace_hint(numbers.ids.end(), key, id);
    numbers.next = std::max(numbers.next, id + 1);
  }
  return numbers;
}

Status save_service_numbers(ipam::Store& store, const std::map<std::string, std::optional<uint32_t>>& changes,
                            uint32_t next) {
  std::map<std::string, std::optional<std::string>> rows;
  for (const auto& [key, id] : changes)
    rows[std::string(kServicePrefix) + key] = id ? std::optional(std::to_string(*id)) : std::nullopt;
  rows[std::string(kNextService)] = std::to_string(next);
  return store.put_all(rows);
}

bool same_numbers(const compile::PolicyNumbers& a, const compile::PolicyNumbers& b) {
  return std::tie(a.next_identity, a.next_set, a.next_rule) ==
             std::tie(b.next_identity, b.next_set, b.next_rule) &&
         a.identities.size() == b.identities.size() && a.sets.size() == b.sets.size() &&
         a.rules.size() == b.rules.size();
}

}  // namespace bpfnet::agent
