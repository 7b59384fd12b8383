#include "tests/support/policy/manifests.h"

#include <nlohmann/json.hpp>
#include <set>

namespace bpfnet::test {
namespace {

using nlohmann::ordered_json;

ordered_json json_of(const model::Selector& selector) {
  ordered_json expressions = ordered_json::array();
  for (const auto& each : selector.requirements) {
    constexpr const char* kOperators[] = {"In", "NotIn", "Exists", "DoesNotExist"};
    ordered_json json = {{"key", each.key}, {"operator", kOperators[static_cast<size_t>(each.op)]}};
    if (!each.values.empty()) json["values"] = each.values;
    expressions.push_back(std::move(json));
  }
  if (expressions.empty()) return ordered_json::object();
  return {{"matchExpressions", expressions}};
}

ordered_json json_of(const model::PolicyPeer& peer) {
  ordered_json json = ordered_json::object();
  if (peer.cidr) {
    json["ipBlock"]["cidr"] = peer.cidr->to_string();
    for (const Cidr& each : peer.except) json["ipBlock"]["except"].push_back(each.to_string());
  }
  if (peer.pods) json["podSelector"] = json_of(*peer.pods);
  if (peer.namespaces) json["namespaceSelector"] = json_of(*peer.namespaces);
  return json;
}

ordered_json json_of(const model::PolicyPort& port) {
  ordered_json json = {{"protocol", std::string(model::to_string(port.protocol))}};
  if (port.port) json["port"] = *port.port;
  if (!port.name.empty()) json["port"] = port.name;
  if (port.end_port) json["endPort"] = *port.end_port;
  return json;
}

ordered_json json_of(const std::vector<model::PolicyRule>& rules, const char* peers_key) {
  ordered_json list = ordered_json::array();
  for (const auto& rule : rules) {
    ordered_json json = ordered_json::object();
    for (const auto& peer : rule.peers) json[peers_key].push_back(json_of(peer));
    for (const auto& port : rule.ports) json["ports"].push_back(json_of(port));
    list.push_back(std::move(json));
  }
  return list;
}

/// A peer or subject of a cluster policy.
ordered_json cluster_json_of(const model::PolicyPeer& peer) {
  if (peer.cidr) return {{"networks", {peer.cidr->to_string()}}};
  if (peer.nodes) return {{"nodes", json_of(*peer.nodes)}};
  if (!peer.pods) return {{"namespaces", json_of(*peer.namespaces)}};
  return {{"pods", {{"namespaceSelector", json_of(*peer.namespaces)}, {"podSelector", json_of(*peer.pods)}}}};
}

ordered_json protocols_of(const std::vector<model::PolicyPort>& ports) {
  ordered_json list = ordered_json::array();
  std::set<std::string> named;
  for (const auto& port : ports) {
    if (!port.name.empty()) {  // one of each protocol in the model, one in the manifest
      if (named.insert(port.name).second) list.push_back({{"destinationNamedPort", port.name}});
      continue;
    }
    const ordered_json number =
        port.end_port ? ordered_json{{"range", {{"start", *port.port}, {"end", *port.end_port}}}}
                      : ordered_json{{"number", *port.port}};
    const char* protocol = port.protocol == model::Protocol::kTcp   ? "tcp"
                           : port.protocol == model::Protocol::kUdp ? "udp"
                                                                    : "sctp";
    list.push_back({{protocol, {{"destinationPort", number}}}});
  }
  return list;
}

ordered_json json_of(const std::vector<model::ClusterPolicyRule>& rules, const char* peers_key) {
  ordered_json list = ordered_json::array();
  for (const auto& rule : rules) {
    ordered_json json = {{"action", std::string(model::to_string(rule.action))}};
    if (!rule.name.empty()) json["name"] = rule.name;
    for (const auto& peer : rule.traffic.peers) json[peers_key].push_back(cluster_json_of(peer));
    if (rule.fails_closed) json[peers_key].push_back(ordered_json::object());
    if (!rule.traffic.ports.empty()) json["protocols"] = protocols_of(rule.traffic.ports);
    list.push_back(std::move(json));
  }
  return list;
}

ordered_json metadata_of(const model::ObjectName& name, bool audit) {
  ordered_json json = {{"name", name.name}};
  if (!name.ns.empty()) json["namespace"] = name.ns;
  if (audit) json["annotations"]["policy.bpfnet.io/mode"] = "audit";
  return json;
}

}  // namespace

std::string manifest_of(const model::NetworkPolicy& policy) {
  ordered_json types = ordered_json::array();
  if (policy.isolates_ingress) types.push_back("Ingress");
  if (policy.isolates_egress) types.push_back("Egress");
  return ordered_json{{"apiVersion", "networking.k8s.io/v1"},
                      {"kind", "NetworkPolicy"},
                      {"metadata", metadata_of(policy.name, policy.audit)},
                      {"spec",
                       {{"podSelector", json_of(policy.pods)},
                        {"policyTypes", types},
                        {"ingress", json_of(policy.ingress, "from")},
                        {"egress", json_of(policy.egress, "to")}}}}
      .dump(1);
}

std::string manifest_of(const model::ClusterNetworkPolicy& policy) {
  return ordered_json{{"apiVersion", "policy.networking.k8s.io/v1alpha2"},
                      {"kind", "ClusterNetworkPolicy"},
                      {"metadata", metadata_of({"", policy.name}, policy.audit)},
                      {"spec",
                       {{"tier", std::string(model::to_string(policy.tier))},
                        {"priority", policy.priority},
                        {"subject", cluster_json_of(policy.subject)},
                        {"ingress", json_of(policy.ingress, "from")},
                        {"egress", json_of(policy.egress, "to")}}}}
      .dump(1);
}

}  // namespace bpfnet::test
