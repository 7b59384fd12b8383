#include "control/compile/policy_sets.h"

#include <fmt/format.h>

#include <algorithm>

#include "control/compile/numbers.h"
#include "maps/abi/policy.h"

namespace bpfnet::compile {
namespace {

using model::NetworkPolicy;
using model::PolicyPort;
using model::PolicyRule;

uint16_t masked(uint16_t port, int bits) {
  return bits == 0 ? 0 : static_cast<uint16_t>(port & (0xffff << (16 - bits)));
}

/// `lengths`: bit n is set when some entry has n port bits; most sets have one or two lengths to look for.
bool is_covered(const PolicySet& set, uint32_t lengths, const PolicyEntry& entry) {
  for (const uint32_t identity : {entry.identity, static_cast<uint32_t>(IDENTITY_ANY)}) {
    const bool same_identity = identity == entry.identity;
    if (entry.proto == 0) {
      if (!same_identity && set.entries.contains({identity, 0, 0, 0})) return true;
      continue;
    }
    if (set.entries.contains({identity, 0, 0, 0})) return true;
    const int longest = same_identity ? entry.port_bits - 1 : entry.port_bits;
    for (int bits = 0; bits <= longest; ++bits)
      if ((lengths >> bits & 1) != 0 &&
          set.entries.contains({identity, entry.proto, masked(entry.port, bits), static_cast<uint8_t>(bits)}))
        return true;
  }
  return false;
}

}  // namespace

void remove_subsumed(PolicySet& set) {
  // Covering is transitive, so testing against the whole set is right while entries go.
  uint32_t lengths = 0;
  for (const auto& [entry, verdict] : set.entries) lengths |= 1U << entry.port_bits;
  std::vector<PolicyEntry> covered;
  for (const auto& [entry, verdict] : set.entries)
    if (is_covered(set, lengths, entry)) covered.push_back(entry);
  for (const PolicyEntry& entry : covered) set.entries.erase(entry);
}

SetKey SetBuilder::key(const Applicable& applicable, const model::Pod* pod, Direction direction) {
  SetKey key{std::string(to_string(direction)), {}};
  bool named_ports = false;
  for (const NetworkPolicy* policy : applicable.policies) {
    const auto& rules = rules_of(*policy, direction);
    for (size_t i = 0; i < rules.size(); ++i) {
      const uint32_t id = rule_id(*policy, i, direction);
      key.text += fmt::format(" {}", id);
      key.rules.insert(id);
      named_ports |=
          std::ranges::any_of(rules[i].ports, [](const PolicyPort& each) { return !each.name.empty(); });
    }
  }
  if (named_ports && pod && direction == Direction::kIngress) {
    for (const auto& port : pod->ports)
      key.text += fmt::format(" {}/{}={}", escape(port.name), model::to_string(port.protocol), port.port);
  }
  return key;
}

PolicySet SetBuilder::build(const Applicable& applicable, const model::Pod* pod, Direction direction) {
  PolicySet set;
  for (const NetworkPolicy* policy : applicable.policies)
    for (size_t i = 0; i < rules_of(*policy, direction).size(); ++i)
      add_rule(set, *policy, i, pod, direction);
  remove_subsumed(set);
  return set;
}

void SetBuilder::add_rule(PolicySet& set, const NetworkPolicy& policy, size_t index, const model::Pod* pod,
                          Direction direction) {
  const PolicyRule& rule = rules_of(policy, direction)[index];
  const uint32_t id = rule_id(policy, index, direction);
  const auto allow = [&](uint32_t identity, const std::vector<PortPrefix>& prefixes) {
    for (const PortPrefix& prefix : prefixes)
      set.entries.try_emplace({identity, prefix.proto, prefix.port, prefix.bits},
                              PolicyVerdict{id, POLICY_ALLOW});
  };

  // Ports that do not depend on the peer.
  std::vector<PortPrefix> ports;
  std::vector<const PolicyPort*> named_of_peer;
  if (rule.ports.empty()) ports.push_back({0, 0, 0});
  for (const PolicyPort& port : rule.ports) {
    if (!port.name.empty() && direction == Direction::kEgress) {
      named_of_peer.push_back(&port);
      continue;
    }
    auto prefixes = port.name.empty() ? prefixes_of(port) : std::vector<PortPrefix>{};
    if (!port.name.empty() && pod) prefixes = resolve(port, pod->ports);
    ports.insert(ports.end(), prefixes.begin(), prefixes.end());
  }

  if (rule.peers.empty()) allow(IDENTITY_ANY, ports);
  for (const auto& peer : rule.peers)
    for (const size_t each : matcher_.match(peer, policy.name.ns)) allow(identities_[each].id, ports);

  // P6: a named port of an egress rule is that of each destination pod, and of pods alone: never of an
  // ipBlock.
  for (const PolicyPort* port : named_of_peer) {
    if (rule.peers.empty())
      for (const Identity& identity : identities_) allow(identity.id, resolve(*port, identity.ports));
    for (const auto& peer : rule.peers) {
      if (peer.cidr) continue;
      for (const size_t each : matcher_.match(peer, policy.name.ns))
        allow(identities_[each].id, resolve(*port, identities_[each].ports));
    }
  }
}

uint32_t SetBuilder::rule_id(const NetworkPolicy& policy, size_t index, Direction direction) {
  const PolicyRule& rule = rules_of(policy, direction)[index];
  const auto [known, is_new] = rule_ids_.try_emplace(&rule, 0);
  if (is_new) {
    RuleInfo info{policy.name.to_string(), to_text(rule, direction, index)};
    known->second = number_of(numbers_.rules, numbers_.next_rule, 1, info.policy + " " + info.text);
    rules_[known->second] = std::move(info);
  }
  return known->second;
}

}  // namespace bpfnet::compile
