// The half of PolicyCompiler that is about endpoints and their sets.
#include <fmt/format.h>

#include <algorithm>

#include "control/compile/numbers.h"
#include "control/compile/policies.h"
#include "control/compile/policy_update.h"
#include "maps/abi/endpoint.h"
#include "maps/abi/policy.h"

namespace bpfnet::compile {
namespace {

/// Whether the set has anything to say of one of the identities that `born` matches.
bool concerns(const Applicable& applicable, Direction direction, PeerMatcher& born) {
  return std::ranges::any_of(applicable.rules, [&](const AppliedRule& rule) {
    const auto& [peers, ports] = *rule.traffic;
    if (peers.empty()) return direction == Direction::kEgress && names_ports(ports);
    return std::ranges::any_of(
        peers, [&](const model::PolicyPeer& peer) { return !born.match(peer, rule.policy.ns).empty(); });
  });
}

std::string self_text(const char* name, const PrefixVerdicts& prefixes) {
  std::string text;
  for (const auto& [prefix, verdict] : prefixes)
    text += fmt::format(" {} {}/{}/{}={}/{}", name, prefix.proto, prefix.port, prefix.bits, verdict.verdict,
                        verdict.rule);
  return text;
}

/// What the datapath does with whom the policy denies: the pod says it, or its namespace, or the node.
uint8_t endpoint_flags(const LocalEndpoint& endpoint, const model::ClusterState& state,
                       const NodeView& node) {
  const model::Pod* pod = pod_of(endpoint, state, node);
  const auto ns = state.namespaces.find(endpoint.pod.ns);
  const auto of_namespace = ns == state.namespaces.end() ? std::nullopt : ns->second.denied;
  const auto of_pod = pod ? pod->denied : std::nullopt;
  const model::Denied denied = of_pod.value_or(of_namespace.value_or(node.denied));
  return static_cast<uint8_t>((denied == model::Denied::kReject ? ENDPOINT_REJECTS : 0) |
                              (node.policy_audit ? ENDPOINT_AUDITED : 0));
}

}  // namespace

/// All identities are known from here on: a set that is built now is complete.
void PolicyCompiler::derive_endpoints(Update& update) {
  SetBuilder sets(identities_.all(), update.numbers, image_.rules);
  PolicyOrder order(update.state);
  for (const auto& [index, endpoint] : endpoints_)
    if (const auto known = endpoint_sets_.find(index);
        known != endpoint_sets_.end() && known->second.self != own_identities(endpoint))
      update.subjects.insert(index);
  std::map<uint16_t, EndpointSets> left;
  for (const uint16_t index : update.subjects) {
    // Left last, so that a set which stays in use does not go in between.
    if (const auto known = endpoint_sets_.find(index); known != endpoint_sets_.end()) {
      left[index] = std::move(known->second);
      endpoint_sets_.erase(known);
    }
    image_.endpoints.erase(index);
    if (const auto endpoint = endpoints_.find(index); endpoint != endpoints_.end())
      derive_endpoint(update, endpoint->second, order, sets);
  }
  for (const auto& [index, keys] : left) {
    leave_set(update, keys.ingress);
    leave_set(update, keys.egress);
  }
  // What was there grows before more is there.
  const auto& [born, dead] = update.turnover;
  const std::set<std::string> fresh(update.fresh.begin(), update.fresh.end());
  if (!born.empty() || !dead.empty()) {
    SetBuilder of_born(born, update.numbers, image_.rules);
    PeerMatcher matcher(born);
    for (auto& [key, set] : sets_)
      if (!fresh.contains(key)) grow_set(update, key, set, of_born, matcher);
  }
  for (const std::string& key : update.fresh) {
    const auto set = sets_.find(key);
    if (set == sets_.end()) continue;
    const model::Pod* pod = set->second.pod ? &*set->second.pod : nullptr;
    build_set(update, key, set->second, sets.build(set->second.applicable, pod, set->second.direction));
  }
  settle_endpoints(update);
}

void PolicyCompiler::derive_endpoint(Update& update, const LocalEndpoint& endpoint, PolicyOrder& order,
                                     SetBuilder& sets) {
  EndpointPolicy& policy = image_.endpoints[endpoint.index];
  EndpointSets& keys = endpoint_sets_[endpoint.index];
  keys.self = own_identities(endpoint);
  if (endpoint.pod.name.empty()) return;  // no pod: policies are not about it
  const model::Pod* pod = pod_of(endpoint, update.state, update.node);
  if (pod && pod->finished()) return;               // P21
  namespace_labels(update.state, endpoint.pod.ns);  // asked for: a change of them is one of its policies
  const auto ingress = order.applicable(endpoint.pod.ns, pod, Direction::kIngress);
  const auto egress = order.applicable(endpoint.pod.ns, pod, Direction::kEgress);
  for (const AppliedRule& rule : ingress.rules)
    policy.ingress_rules.push_back(sets.rule_id(rule, Direction::kIngress));
  for (const AppliedRule& rule : egress.rules)
    policy.egress_rules.push_back(sets.rule_id(rule, Direction::kEgress));
  keys.ingress = take_set(update, ingress, pod, keys.self, Direction::kIngress, sets);
  keys.egress = take_set(update, egress, pod, keys.self, Direction::kEgress, sets);
  policy.isolated_by_ingress = ingress.isolated_by;
  policy.isolated_by_egress = egress.isolated_by;
  policy.audited_by_ingress = ingress.audited_by;
  policy.audited_by_egress = egress.audited_by;
}

std::string PolicyCompiler::take_set(Update& update, const Applicable& applicable, const model::Pod* pod,
                                     const OwnIdentities& self, Direction direction, SetBuilder& sets) {
  if (applicable.empty()) return {};
  SetKey key = sets.key(applicable, pod, direction);
  const auto about = [&](const std::vector<uint32_t>& own) {
    std::vector<Identity> identities;
    for (const uint32_t id : own) identities.push_back(identities_.at(id));
    return sets.about_itself(applicable, pod, identities, direction);
  };
  PrefixVerdicts of_itself = about(self.ip4.empty() ? self.ip6 : self.ip4);
  PrefixVerdicts of_itself6 = about(self.ip6.empty() ? self.ip4 : self.ip6);
  key.text += self_text("self", of_itself);
  key.text += self_text("self6", of_itself6);
  const auto [known, is_new] = sets_.try_emplace(key.text);
  SetInUse& set = known->second;
  ++set.users;
  // Objects that were replaced have left their places.
  set.applicable = applicable;
  set.numbers.clear();
  for (const AppliedRule& rule : applicable.rules) set.numbers.push_back(sets.rule_id(rule, direction));
  set.direction = direction;
  set.pod.reset();
  if (pod) set.pod.emplace().ports = pod->ports;
  set.of_itself = std::move(of_itself);
  set.of_itself6 = std::move(of_itself6);
  if (is_new) {
    update.fresh.push_back(key.text);
    set.rules = std::move(key.rules);
    for (const uint32_t rule : set.rules) ++rules_[rule];
  }
  return known->first;
}

void PolicyCompiler::leave_set(Update& update, const std::string& key) {
  const auto set = sets_.find(key);
  if (set == sets_.end() || --set->second.users > 0) return;
  for (const uint32_t rule : set->second.rules) {
    if (const auto users = rules_.find(rule); --users->second == 0) {
      rules_.erase(users);
      image_.rules.erase(rule);
    }
  }
  if (image_.sets.erase(set->second.id) != 0) update.delta.sets[set->second.id].clear();
  sets_.erase(set);
}

/// A set without entries has no number: it denies all.
void PolicyCompiler::build_set(Update& update, const std::string& key, SetInUse& set, PolicySet contents) {
  for (const auto& [self, prefixes] :
       {std::pair(uint32_t{IDENTITY_SELF}, &set.of_itself), {uint32_t{IDENTITY_SELF6}, &set.of_itself6}})
    for (const auto& [prefix, verdict] : *prefixes)
      contents.entries[{self, prefix.proto, prefix.port, prefix.bits}] = verdict;
  if (contents.entries.empty()) return;
  set.id = number_of(update.numbers.sets, update.numbers.next_set, POLICY_SET_FIRST, key);
  image_.sets.insert_or_assign(set.id, std::move(contents));
  update.delta.sets[set.id].clear();
}

void PolicyCompiler::grow_set(Update& update, const std::string& key, SetInUse& set, SetBuilder& of_born,
                              PeerMatcher& born) {
  const model::Pod* pod = set.pod ? &*set.pod : nullptr;
  PolicySet added;
  if (concerns(set.applicable, set.direction, born)) {
    for (size_t i = 0; i < set.numbers.size(); ++i) of_born.know(set.applicable.rules[i], set.numbers[i]);
    added = of_born.build(set.applicable, pod, set.direction);
  }
  const auto held = set.id == 0 ? image_.sets.end() : image_.sets.find(set.id);
  if (held == image_.sets.end()) return build_set(update, key, set, std::move(added));

  auto& entries = held->second.entries;
  std::set<uint32_t> changed;
  for (const uint32_t identity : update.turnover.dead) {
    const auto first = entries.lower_bound({identity, 0, 0, 0});
    auto last = first;
    while (last != entries.end() && last->first.identity == identity) ++last;
    if (first == last) continue;
    entries.erase(first, last);
    changed.insert(identity);
  }
  // Entries of IDENTITY_ANY are built each time, and are there.
  for (const auto& entry : added.entries)
    if (entries.insert(entry).second) changed.insert(entry.first.identity);
  if (changed.empty()) return;
  auto& told = update.delta.sets[set.id];
  told.insert(changed.begin(), changed.end());
  if (!entries.empty()) return;
  image_.sets.erase(held);
  told.clear();
}

uint32_t PolicyCompiler::set_number(const std::string& key) const {
  if (key.empty()) return POLICY_SET_ALLOW_ALL;
  const uint32_t id = sets_.at(key).id;
  return image_.sets.contains(id) ? id : static_cast<uint32_t>(POLICY_SET_DENY_ALL);
}

/// Which set an endpoint has depends on whether the set has any entry, its identity on its addresses.
void PolicyCompiler::settle_endpoints(const Update& update) {
  for (auto& [index, policy] : image_.endpoints) {
    const LocalEndpoint& endpoint = endpoints_.at(index);
    const EndpointSets& keys = endpoint_sets_.at(index);
    policy.ingress_set = set_number(keys.ingress);
    policy.egress_set = set_number(keys.egress);
    policy.flags = endpoint_flags(endpoint, update.state, update.node);
    policy.identity = keys.self.shown != 0 ? keys.self.shown : uint32_t{IDENTITY_WORLD};
  }
}

PolicyCompiler::OwnIdentities PolicyCompiler::own_identities(const LocalEndpoint& endpoint) const {
  OwnIdentities own;
  for (const Address& ip : endpoint.ips) {
    const auto entry = image_.addresses.find({endpoint.net, ip});
    if (entry == image_.addresses.end() || entry->second.endpoint != endpoint.index) continue;
    const uint32_t identity = entry->second.identity;
    if (own.shown == 0) own.shown = identity;
    auto& of_family = ip.is_ipv4() ? own.ip4 : own.ip6;
    if (std::ranges::find(of_family, identity) == of_family.end()) of_family.push_back(identity);
  }
  return own;
}

}  // namespace bpfnet::compile
