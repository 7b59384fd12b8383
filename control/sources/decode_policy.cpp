#include <algorithm>

#include "control/sources/decode_kinds.h"

namespace bpfnet::sources {
namespace {

using model::NetworkPolicy;
using model::PolicyPeer;
using model::PolicyPort;
using model::PolicyRule;
using model::Selector;
using model::SelectorOperator;

void know_spec(const Field& spec) {
  know_all(spec, {"podSelector", "policyTypes", "ingress", "egress"});
}

}  // namespace

// A misspelt `from` would leave a rule that allows everybody: within a policy every field must be known.
void know_all(const Field& field, std::initializer_list<std::string_view> known) {
  if (!field.is_map()) return;
  field.each_entry([&](const std::string& key, const Field& entry) {
    if (std::ranges::find(known, key) != known.end()) return;
    entry.refuse(fmt::format("is not known here, expected {}", fmt::join(known, ", ")));
  });
}

bool is_port_name(std::string_view name) {
  return is_dns_label(name) && name.size() <= 15 &&
         std::ranges::any_of(name, [](char c) { return c >= 'a' && c <= 'z'; });
}

bool decode_audit(const Field& root) {
  const Field metadata = root["metadata"];
  const Field annotations = metadata["annotations"];
  const Field mode = annotations["policy.bpfnet.io/mode"];
  if (metadata.has_duplicate_keys()) return false;
  return mode.lenient().one_of({"enforce", "audit"}) == 1;
}

Selector decode_selector(const Field& field) {
  Selector selector;
  know_all(field, {"matchLabels", "matchExpressions"});
  const Field labels = field["matchLabels"];
  for (const auto& [key, value] : decode_labels(labels)) {
    selector.requirements.push_back({key, SelectorOperator::kIn, {value}});
  }
  const Field expressions = field["matchExpressions"];
  expressions.each_map([&](const Field& item) {
    know_all(item, {"key", "operator", "values"});
    const Field key = item["key"];
    const Field op = item["operator"];
    const Field values = item["values"];
    model::SelectorRequirement requirement;
    requirement.key = key.string().value_or("");
    if (!is_label_key(requirement.key)) key.refuse(fmt::format("is {}, expected a label key", key.shown()));
    if (!op) op.refuse("missing, expected In, NotIn, Exists or DoesNotExist");
    constexpr SelectorOperator kOperators[] = {SelectorOperator::kIn, SelectorOperator::kNotIn,
                                               SelectorOperator::kExists, SelectorOperator::kDoesNotExist};
    requirement.op = kOperators[op.one_of({"In", "NotIn", "Exists", "DoesNotExist"}).value_or(0)];
    values.each([&](const Field& value) {
      const auto text = value.string();
      if (text && !is_label_value(*text)) {
        return value.refuse(fmt::format("is {}, expected a label value", value.shown()));
      }
      requirement.values.insert(text.value_or(""));
    });
    const bool takes_values =
        requirement.op == SelectorOperator::kIn || requirement.op == SelectorOperator::kNotIn;
    if (op && takes_values == requirement.values.empty()) {
      values.refuse(fmt::format("is {}, expected {} values with operator {}",
                                requirement.values.empty() ? "empty" : "given", takes_values ? "some" : "no",
                                op.shown()));
    }
    selector.requirements.push_back(std::move(requirement));
  });
  return selector;
}

namespace {

void decode_ip_block(const Field& block, PolicyPeer& peer) {
  know_all(block, {"cidr", "except"});
  const Field cidr = block["cidr"];
  if (!cidr) cidr.refuse("missing, expected a CIDR such as 10.0.0.0/8 or fd00::/8");
  peer.cidr = cidr.cidr();
  const Field except = block["except"];
  except.each([&](const Field& item) {
    const auto hole = item.cidr();
    if (!hole || !peer.cidr) return;
    if (!peer.cidr->contains(*hole) || *hole == *peer.cidr) {
      return item.refuse(
          fmt::format("is {}, expected a part of {}", hole->to_string(), peer.cidr->to_string()));
    }
    peer.except.push_back(*hole);
  });
}

PolicyPeer decode_peer(const Field& item) {
  know_all(item, {"podSelector", "namespaceSelector", "ipBlock"});
  PolicyPeer peer;
  const Field pods = item["podSelector"];
  const Field namespaces = item["namespaceSelector"];
  const Field block = item["ipBlock"];
  if (pods) peer.pods = decode_selector(pods);
  if (namespaces) peer.namespaces = decode_selector(namespaces);
  if (block) decode_ip_block(block, peer);
  if (block && (pods || namespaces)) block.refuse("stands beside a selector, expected alone");
  if (!block && !pods && !namespaces)
    item.refuse("is empty, expected podSelector, namespaceSelector or ipBlock");
  return peer;
}

PolicyPort decode_policy_port(const Field& item) {
  know_all(item, {"protocol", "port", "endPort"});
  PolicyPort port;
  port.protocol = decode_protocol(item["protocol"]);
  const Field number = item["port"];
  const Field end = item["endPort"];
  if (number.is_integer()) {
    port.port = static_cast<uint16_t>(number.integer(1, 65535).value_or(0));
  } else if (const auto name = number.string()) {
    port.name = *name;
    if (!is_port_name(*name))
      number.refuse(fmt::format("is {}, expected a number from 1 to 65535 or a port name", number.shown()));
  }
  if (const auto value = end.integer(1, 65535)) {
    port.end_port = static_cast<uint16_t>(*value);
    if (!port.port) {
      end.refuse("is given without a number in port, expected both");
    } else if (*port.end_port < *port.port) {
      end.refuse(fmt::format("is {}, expected at least port, {}", *port.end_port, *port.port));
    }
  }
  return port;
}

std::vector<PolicyRule> decode_rules(const Field& rules, std::string_view peers_key) {
  std::vector<PolicyRule> result;
  rules.each_map([&](const Field& item) {
    know_all(item, {"ports", peers_key});
    PolicyRule rule;
    const Field peers = item[peers_key];
    const Field ports = item["ports"];
    peers.each_map([&](const Field& peer) { rule.peers.push_back(decode_peer(peer)); });
    ports.each_map([&](const Field& port) { rule.ports.push_back(decode_policy_port(port)); });
    result.push_back(std::move(rule));
  });
  return result;
}

void decode_types(const Field& spec, NetworkPolicy& policy) {
  const Field types = spec["policyTypes"];
  const Field egress = spec["egress"];
  bool ingress_named = false;
  bool egress_named = false;
  types.each([&](const Field& item) {
    const auto type = item.one_of({"Ingress", "Egress"});
    ingress_named |= type == 0;
    egress_named |= type == 1;
  });
  if (ingress_named || egress_named) {
    policy.isolates_ingress = ingress_named;
    policy.isolates_egress = egress_named;
  } else {  // P2: an empty list counts as none
    policy.isolates_ingress = true;
    policy.isolates_egress = egress.has_items();
  }
}

}  // namespace

NetworkPolicy decode_policy(const Field& root, const Metadata& metadata) {
  NetworkPolicy policy;
  policy.name = metadata.name;
  policy.audit = decode_audit(root);
  const Field spec = root["spec"];
  know_spec(spec);
  policy.pods = decode_selector(spec["podSelector"]);
  decode_types(spec, policy);
  policy.ingress = decode_rules(spec["ingress"], "from");
  policy.egress = decode_rules(spec["egress"], "to");
  return policy;
}

NetworkPolicy closed_policy(const Field& root, const Metadata& metadata) {
  NetworkPolicy policy;
  policy.name = metadata.name;
  policy.audit = decode_audit(root);
  policy.isolates_ingress = policy.isolates_egress = true;
  const Field spec = root["spec"];
  if (spec.has_duplicate_keys()) return policy;
  const size_t before = root.refusals();
  Selector pods = decode_selector(spec["podSelector"]);
  if (root.refusals() == before) policy.pods = std::move(pods);
  NetworkPolicy types;
  const size_t after_selector = root.refusals();
  know_spec(spec);
  decode_types(spec, types);
  if (spec && root.refusals() == after_selector) {
    policy.isolates_ingress = types.isolates_ingress;
    policy.isolates_egress = types.isolates_egress;
  }
  return policy;
}

}  // namespace bpfnet::sources
