#include "control/agent/numbers.h"

#include <algorithm>
#include <charconv>
#include <string_view>
#include <utility>

#include "maps/abi/endpoint.h"

namespace bpfnet::agent {
namespace {

constexpr std::string_view kServicePrefix = "service-id/";
constexpr std::string_view kNextService = "service-id-next";

using Numbers = std::map<std::string, uint32_t>;

/// A table of the policy's numbers and its rows.
struct Table {
  std::string_view prefix;
  std::string_view next_name;
  Numbers compile::PolicyNumbers::*numbers;
  uint32_t compile::PolicyNumbers::*next;
};
constexpr Table kPolicyTables[] = {
    {"policy-identity/", "policy-identity-next", &compile::PolicyNumbers::identities,
     &compile::PolicyNumbers::next_identity},
    {"policy-set/", "policy-set-next", &compile::PolicyNumbers::sets, &compile::PolicyNumbers::next_set},
    {"policy-rule/", "policy-rule-next", &compile::PolicyNumbers::rules, &compile::PolicyNumbers::next_rule},
};
constexpr std::string_view kNodePrefix = "node-index/";
constexpr std::string_view kNextNode = "node-index-next";

/// 0: not a number.
uint32_t number(const std::string& text) {
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? value : 0;
}

}  // namespace

Result<compile::PolicyNumbers> load_policy_numbers(const ipam::Store& store) {
  compile::PolicyNumbers numbers;
  for (const Table& table : kPolicyTables) {
    auto rows = store.list(table.prefix);
    if (!rows) return pass(rows);
    auto next = store.get(table.next_name);
    if (!next) return pass(next);
    numbers.*table.next = next->has_value() ? number(**next) : 0;
    for (const auto& [text, value] : *rows) {
      const uint32_t id = number(value);
      if (id == 0) continue;  // numbered anew
      (numbers.*table.numbers).emplace_hint((numbers.*table.numbers).end(), text, id);
      numbers.*table.next = std::max(numbers.*table.next, id + 1);
    }
  }
  auto nodes = store.list(kNodePrefix);
  if (!nodes) return pass(nodes);
  auto next_node = store.get(kNextNode);
  if (!next_node) return pass(next_node);
  if (next_node->has_value()) numbers.next_node = number(**next_node);
  for (const auto& [name, value] : *nodes)
    if (const uint32_t index = number(value); index != 0 && index < NODES_MAX) numbers.nodes[name] = index;
  return numbers;
}

PolicyNumbersSaver::Extent::Extent(const compile::PolicyNumbers& numbers)
    : identities(numbers.identities.size()),
      sets(numbers.sets.size()),
      rules(numbers.rules.size()),
      next_identity(numbers.next_identity),
      next_set(numbers.next_set),
      next_rule(numbers.next_rule) {}

Status PolicyNumbersSaver::save_nodes(ipam::Store& store, const compile::PolicyNumbers& numbers) {
  if (numbers.nodes == saved_nodes_) return ok();
  std::map<std::string, std::optional<std::string>> rows;
  for (const auto& [name, index] : saved_nodes_)
    if (!numbers.nodes.contains(name)) rows[std::string(kNodePrefix) + name] = std::nullopt;
  for (const auto& [name, index] : numbers.nodes)
    rows[std::string(kNodePrefix) + name] = std::to_string(index);
  rows[std::string(kNextNode)] = std::to_string(numbers.next_node);
  BPFNET_TRY(store.put_all(rows));
  saved_nodes_ = numbers.nodes;
  return ok();
}

Status PolicyNumbersSaver::save(ipam::Store& store, const compile::PolicyNumbers& numbers) {
  BPFNET_TRY(save_nodes(store, numbers));
  const Extent now(numbers);
  if (now == saved_) return ok();
  const auto saved_of = [this](const Table& table) {
    if (table.numbers == &compile::PolicyNumbers::identities)
      return std::pair(saved_.identities, saved_.next_identity);
    if (table.numbers == &compile::PolicyNumbers::sets) return std::pair(saved_.sets, saved_.next_set);
    return std::pair(saved_.rules, saved_.next_rule);
  };
  std::map<std::string, std::optional<std::string>> rows;
  for (const Table& table : kPolicyTables) {
    const auto [count, next] = saved_of(table);
    const Numbers& all = numbers.*table.numbers;
    size_t added = 0;
    for (const auto& [text, id] : all) {
      if (id < next) continue;
      rows[std::string(table.prefix) + text] = std::to_string(id);
      ++added;
    }
    if (count + added != all.size()) {
      auto kept = store.list(table.prefix);
      if (!kept) return pass(kept);
      for (const auto& [text, id] : *kept)
        if (!all.contains(text)) rows[std::string(table.prefix) + text] = std::nullopt;
    }
    rows[std::string(table.next_name)] = std::to_string(numbers.*table.next);
  }
  BPFNET_TRY(store.put_all(rows));
  saved_ = now;
  return ok();
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

}  // namespace bpfnet::agent
