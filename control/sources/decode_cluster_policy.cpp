// ClusterNetworkPolicy, v1alpha2 of policy.networking.k8s.io.
#include <algorithm>
#include <set>

#include "control/sources/decode_kinds.h"

namespace bpfnet::sources {
namespace {

using model::ClusterNetworkPolicy;
using model::ClusterPolicyRule;
using model::PolicyAction;
using model::PolicyPeer;
using model::PolicyPort;
using model::Protocol;

/// Rules in one direction, peers and protocols of a rule, networks of a peer (A4, A9).
constexpr size_t kMostEntries = 25;
constexpr size_t kLongestName = 100;

template <typename Use>
void each_of_few(const Field& list, Use use) {
  size_t count = 0;
  list.each([&](const Field& item) {
    ++count;
    use(item);
  });
  if (list && !list.has_items()) list.refuse("is empty, expected 1 to 25 entries");
  if (count > kMostEntries) list.refuse(fmt::format("has {} entries, expected at most 25", count));
}

/// Which of `keys` are there. What else there is, is refused beside them.
std::set<std::string_view> fields_of(const Field& map, std::initializer_list<std::string_view> keys) {
  std::set<std::string_view> found;
  for (const std::string_view key : keys)
    if (map[key]) found.insert(key);
  if (!found.empty()) know_all(map, keys);
  if (found.size() > 1)
    map.refuse(fmt::format("has {} at once, expected one of them", fmt::join(found, " and ")));
  return found;
}

PolicyPeer decode_pods(const Field& pods) {
  know_all(pods, {"namespaceSelector", "podSelector"});
  PolicyPeer peer;
  peer.namespaces = decode_selector(pods["namespaceSelector"]);
  const Field selector = pods["podSelector"];
  if (!selector) selector.refuse("missing, expected a selector; {} selects all pods");
  peer.pods = decode_selector(selector);
  return peer;
}

/// `namespaces` or `pods`, whichever is there.
PolicyPeer decode_selected(const Field& item) {
  const Field namespaces = item["namespaces"];
  const Field pods = item["pods"];
  if (pods.is_map()) return decode_pods(pods);
  PolicyPeer peer;
  peer.namespaces = decode_selector(namespaces);
  return peer;
}

std::string_view closed_effect(const ClusterPolicyRule& rule) {
  return rule.action == PolicyAction::kAccept ? "the rule accepts nothing" : "the rule denies everything";
}

void decode_domain_names(const Field& names, ClusterPolicyRule& rule) {
  if (rule.action != PolicyAction::kAccept)
    return names.refuse("is given, expected in rules that Accept only");
  rule.fails_closed = true;
  names.warn(fmt::format("is not supported, expected networks; {}", closed_effect(rule)), Effect::kNone);
}

void decode_peer(const Field& item, bool egress, ClusterPolicyRule& rule) {
  if (!item.is_map()) return;
  const auto found = egress ? fields_of(item, {"namespaces", "pods", "nodes", "networks", "domainNames"})
                            : fields_of(item, {"namespaces", "pods"});
  if (found.empty()) {  // A12
    rule.fails_closed = true;
    item.warn(fmt::format("has no field that is known, expected {}; {}",
                          egress ? "namespaces, pods, nodes or networks" : "namespaces or pods",
                          closed_effect(rule)),
              Effect::kNone);
    return;
  }
  const Field nodes = item["nodes"];
  const Field networks = item["networks"];
  if (found.contains("domainNames")) {
    decode_domain_names(item["domainNames"], rule);
  } else if (found.contains("networks")) {
    each_of_few(networks,
                [&](const Field& network) { rule.traffic.peers.emplace_back().cidr = network.cidr(); });
  } else if (found.contains("nodes")) {
    rule.traffic.peers.emplace_back().nodes = decode_selector(nodes);
  } else {
    rule.traffic.peers.push_back(decode_selected(item));
  }
}

uint16_t decode_number(const Field& number) {
  if (!number) number.refuse("missing, expected a number from 1 to 65535");
  return decode_port(number, 1);
}

void decode_destination(const Field& field, PolicyPort& port) {
  const auto found = fields_of(field, {"number", "range"});
  if (found.empty()) return field.refuse("is empty, expected number or range");
  if (found.contains("number")) {
    port.port = decode_number(field["number"]);
    return;
  }
  const Field range = field["range"];
  know_all(range, {"start", "end"});
  const Field end = range["end"];
  port.port = decode_number(range["start"]);
  port.end_port = decode_number(end);
  if (*port.end_port < *port.port)
    end.refuse(fmt::format("is {}, expected at least start, {}", *port.end_port, *port.port));
}

/// A10. Gives whether it is a named port.
bool decode_protocol_match(const Field& item, ClusterPolicyRule& rule) {
  if (!item.is_map()) return false;
  const auto found = fields_of(item, {"tcp", "udp", "sctp", "destinationNamedPort"});
  if (found.empty()) {
    item.refuse("has no field that is known, expected tcp, udp, sctp or destinationNamedPort");
    return false;
  }
  const Field name = item["destinationNamedPort"];
  if (name) {
    const std::string text = name.string().value_or("");
    if (!is_port_name(text)) name.refuse(fmt::format("is {}, expected a port name", name.shown()));
    // The name alone says which port: of any protocol.
    for (const Protocol protocol : {Protocol::kTcp, Protocol::kUdp, Protocol::kSctp})
      rule.traffic.ports.push_back({protocol, {}, {}, text});
    return true;
  }
  for (const auto& [key, protocol] :
       {std::pair{"tcp", Protocol::kTcp}, {"udp", Protocol::kUdp}, {"sctp", Protocol::kSctp}}) {
    const Field transport = item[key];
    if (!transport) continue;
    know_all(transport, {"destinationPort"});
    PolicyPort port;
    port.protocol = protocol;
    const Field destination = transport["destinationPort"];
    if (!destination) destination.refuse("missing, expected number or range");
    if (destination.is_map()) decode_destination(destination, port);
    rule.traffic.ports.push_back(std::move(port));
  }
  return false;
}

ClusterPolicyRule decode_rule(const Field& item, std::string_view peers_key) {
  ClusterPolicyRule rule;
  if (!item.is_map()) return rule;
  // A misspelt `protocols` would leave a rule that accepts every port.
  know_all(item, {"name", "action", "protocols", peers_key});
  const Field name = item["name"];
  const Field action = item["action"];
  const Field peers = item[peers_key];
  const Field protocols = item["protocols"];
  rule.name = name.string().value_or("");
  if (rule.name.size() > kLongestName)
    name.refuse(fmt::format("has {} characters, expected at most {}", rule.name.size(), kLongestName));
  if (!action) action.refuse("missing, expected Accept, Deny or Pass");
  constexpr PolicyAction kActions[] = {PolicyAction::kAccept, PolicyAction::kDeny, PolicyAction::kPass};
  rule.action = kActions[action.one_of({"Accept", "Deny", "Pass"}).value_or(1)];
  if (!peers) peers.refuse("missing, expected 1 to 25 entries");
  each_of_few(peers, [&](const Field& peer) { decode_peer(peer, peers_key == "to", rule); });
  const bool without_names = std::ranges::any_of(rule.traffic.peers, [](const PolicyPeer& peer) {
    return peer.cidr.has_value() || peer.nodes.has_value();
  });
  each_of_few(protocols, [&](const Field& protocol) {
    if (decode_protocol_match(protocol, rule) && without_names)
      protocol.refuse("is a named port beside networks or nodes, which have none, expected a number");
  });
  return rule;
}

/// A rule that cannot be read whole is closed in what is returned, for the case that there is nothing better
/// (closed_cluster_policy).
std::vector<ClusterPolicyRule> decode_cluster_rules(const Field& rules, std::string_view peers_key) {
  std::vector<ClusterPolicyRule> result;
  const auto closed = [] {
    ClusterPolicyRule rule;
    rule.fails_closed = true;
    return rule;
  };
  const size_t before = rules.refusals();
  size_t within = 0;
  rules.each([&](const Field& item) {
    const size_t so_far = rules.refusals();
    ClusterPolicyRule rule = decode_rule(item, peers_key);
    within += rules.refusals() - so_far;
    if (rules.refusals() != so_far || item.has_duplicate_keys()) rule.fails_closed = true;
    result.push_back(std::move(rule));
  });
  if (rules.refusals() - before != within) result.push_back(closed());
  if (result.size() > kMostEntries)
    rules.refuse(fmt::format("has {} entries, expected at most 25", result.size()));
  return result;
}

void decode_tier(const Field& spec, ClusterNetworkPolicy& policy) {
  const Field tier = spec["tier"];
  const Field priority = spec["priority"];
  if (!tier) tier.refuse("missing, expected Admin or Baseline");
  if (!priority) priority.refuse("missing, expected a number from 0 to 1000");
  const bool baseline = tier.one_of({"Admin", "Baseline"}).value_or(0) == 1;
  policy.tier = baseline ? model::PolicyTier::kBaseline : model::PolicyTier::kAdmin;
  policy.priority = static_cast<int>(priority.integer(0, 1000).value_or(0));
}

PolicyPeer every_pod() {
  PolicyPeer subject;
  subject.namespaces.emplace();
  return subject;
}

void decode_subject(const Field& spec, ClusterNetworkPolicy& policy) {
  policy.subject = every_pod();  // unless it can be read
  const Field subject = spec["subject"];
  if (!subject) return subject.refuse("missing, expected namespaces or pods");
  if (!subject.is_map()) return;
  const size_t before = subject.refusals();
  if (fields_of(subject, {"namespaces", "pods"}).empty())
    subject.refuse("has no field that is known, expected namespaces or pods");
  PolicyPeer selected = decode_selected(subject);
  if (subject.refusals() == before) policy.subject = std::move(selected);
}

/// Keys that stand twice in `map` itself.
std::set<std::string> duplicates_in(const Field& map) {
  std::set<std::string> seen;
  std::set<std::string> twice;
  map.each_entry([&](const std::string& key, const Field&) {
    if (!seen.insert(key).second) twice.insert(key);
  });
  return twice;
}

}  // namespace

ClusterNetworkPolicy decode_cluster_policy(const Field& root, const Metadata& metadata) {
  ClusterNetworkPolicy policy;
  policy.name = metadata.name.name;
  policy.audit = decode_audit(root);
  const Field spec = root.map("spec");
  if (!spec) spec.refuse("missing, expected tier, priority, subject and rules");
  if (!spec.is_map()) return policy;
  spec.each_entry([](const std::string& key, const Field& entry) {
    constexpr std::string_view kKnown[] = {"tier", "priority", "subject", "ingress", "egress"};
    if (std::ranges::find(kKnown, key) == std::end(kKnown))
      entry.warn("is not known and does nothing", Effect::kNone);
  });
  decode_tier(spec, policy);
  decode_subject(spec, policy);
  policy.ingress = decode_cluster_rules(spec["ingress"], "from");
  policy.egress = decode_cluster_rules(spec["egress"], "to");
  return policy;
}

std::optional<ClusterNetworkPolicy> closed_cluster_policy(const Field& root, const Metadata& metadata) {
  ClusterNetworkPolicy policy;
  policy.name = metadata.name.name;
  policy.audit = decode_audit(root);
  const Field spec = root["spec"];
  if (!spec.is_map()) return {};
  const Field subject = spec["subject"];
  const auto twice = duplicates_in(spec);
  const size_t before = root.refusals();
  decode_tier(spec, policy);
  decode_subject(spec, policy);
  bool certain = root.refusals() == before && !subject.has_duplicate_keys();
  for (const char* key : {"tier", "priority", "subject"}) certain &= !twice.contains(key);
  for (auto& [key, peers_key, rules] :
       {std::tuple{"ingress", "from", &policy.ingress}, std::tuple{"egress", "to", &policy.egress}}) {
    *rules = decode_cluster_rules(spec[key], peers_key);
    if (twice.contains(key)) rules->emplace_back().fails_closed = true;
    // Whom it is about or what goes before it is not certain: it may deny, never open.
    if (certain) continue;
    std::erase_if(*rules, [](const auto& rule) { return rule.action == PolicyAction::kAccept; });
    for (auto& rule : *rules) rule.action = PolicyAction::kDeny;
  }
  if (!certain) {
    if (twice.contains("subject") || subject.has_duplicate_keys()) policy.subject = every_pod();
    policy.tier = model::PolicyTier::kAdmin;
    policy.priority = 0;
  }
  if (policy.ingress.empty() && policy.egress.empty()) return {};
  return policy;
}

}  // namespace bpfnet::sources
