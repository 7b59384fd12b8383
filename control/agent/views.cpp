#include "control/agent/views.h"

#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "maps/labels.h"

namespace bpfnet::agent {
namespace {

using nlohmann::ordered_json;

ordered_json texts(const std::vector<Address>& addresses) {
  ordered_json list = ordered_json::array();
  for (const Address& address : addresses) list.push_back(address.to_string());
  return list;
}

ordered_json texts(const std::vector<Cidr>& cidrs) {
  ordered_json list = ordered_json::array();
  for (const Cidr& cidr : cidrs) list.push_back(cidr.to_string());
  return list;
}

std::string protocol_text(uint8_t proto) {
  switch (proto) {
    case 0:
      return "any";
    case IPPROTO_TCP:
      return "tcp";
    case IPPROTO_UDP:
      return "udp";
    case IPPROTO_SCTP:
      return "sctp";
    default:
      return std::to_string(proto);
  }
}

ordered_json backends_view(const std::vector<compile::Backend>& backends) {
  ordered_json list = ordered_json::array();
  for (const compile::Backend& backend : backends)
    list.push_back({{"ip", backend.ip.to_string()}, {"port", backend.port}});
  return list;
}

ordered_json frontend_view(const compile::FrontendAddress& address, const compile::Frontend& frontend) {
  return {{"ip", address.ip.to_string()},
          {"port", address.port},
          {"portEnd", address.port + (1U << (16 - address.port_bits)) - 1},
          {"scope", address.scope == SCOPE_ANY_LOCAL ? "any-local" : "address"},
          {"flags", frontend.flags},
          {"affinitySeconds", frontend.affinity_seconds},
          {"sourceRanges", texts(frontend.source_ranges)},
          {"internal", backends_view(frontend.internal)},
          {"external", backends_view(frontend.external)}};
}

/// One line for people: what is not as it should be, kind by kind.
std::string source_state(const std::vector<sources::KindStatus>& kinds) {
  std::string text;
  for (const sources::KindStatus& kind : kinds)
    if (!kind.current) text += fmt::format("{}{}: {}", text.empty() ? "" : ", ", kind.kind, kind.state);
  return text.empty() ? "current" : text;
}

ordered_json source_kinds_view(const std::vector<sources::KindStatus>& kinds) {
  ordered_json view = ordered_json::object();
  for (const sources::KindStatus& kind : kinds)
    view[kind.kind] = {{"state", kind.state},      {"synced", kind.synced}, {"current", kind.current},
                       {"objects", kind.objects},  {"events", kind.events}, {"relists", kind.relists},
                       {"failures", kind.failures}};
  return view;
}

const char* state_text(uint8_t state) {
  return state == ENDPOINT_OPEN ? "open" : state == ENDPOINT_CLOSED ? "closed" : "free";
}

}  // namespace

ordered_json status_view(const Snapshot& s) {
  ordered_json maps = ordered_json::object();
  for (const auto& map : s.map_counts)
    maps[map.name] = {
        {"puts", map.counts.puts}, {"erases", map.counts.erases}, {"failures", map.counts.failures}};
  ordered_json addresses = ordered_json::array();
  for (const auto& address : {s.addresses.ip4, s.addresses.ip6})
    if (address) addresses.push_back(address->to_string());
  return {{"ready", s.ready},
          {"node", s.node_name},
          {"version", s.version},
          {"generation", s.generation},
          {"adopted", s.adopted},
          {"map_writes", s.writes},
          {"syncs", s.syncs},
          {"last_read_us", s.last_read_us},
          {"first_sync_us", s.first_sync_us},
          {"last_sync_us", s.last_sync_us},
          {"last_sync_writes", s.last_sync_writes},
          {"resyncs", s.resyncs},
          {"resync_repairs", s.resync_repairs},
          {"uptime_seconds", s.uptime_seconds},
          {"problems", s.source_problems.size() + s.apply_problems.size() + s.node_problems.size() +
                           s.health_problems.size() + s.service_warnings + s.policy_warnings},
          {"node_addresses", addresses},
          {"uplinks", s.uplinks},
          {"fragments", s.fragments},
          {"sockets", s.sockets},
          {"pod_cidrs", texts(s.pod_cidrs)},
          {"endpoints", s.endpoints.size()},
          {"frontends", s.frontends},
          {"policy_sets", s.policy_sets},
          {"identities", s.identities},
          {"backend_slots", {{"used", s.slots_used}, {"capacity", s.slots_capacity}}},
          {"source", s.source},
          {"source_state", source_state(s.source_kinds)},
          {"source_kinds", source_kinds_view(s.source_kinds)},
          {"state_dir", s.state_dir},
          {"bpffs", s.bpffs},
          {"maps", maps}};
}

ordered_json endpoints_view(const Snapshot& s) {
  ordered_json list = ordered_json::array();
  for (const auto& [index, live] : s.endpoints) {
    const ipam::EndpointRecord& record = live.record;
    ordered_json entry = {{"index", index},
                          {"pod", record.pod.name.empty() ? "" : record.pod.to_string()},
                          {"containerId", record.key.container_id},
                          {"ifname", record.key.ifname},
                          {"network", record.network},
                          {"netns", record.netns},
                          {"hostIfname", record.host_ifname},
                          {"hostIfindex", live.host_ifindex},
                          {"mac", record.mac.to_string()},
                          {"mtu", record.mtu},
                          {"ips", texts(record.ips)}};
    ordered_json ports = ordered_json::array();
    for (const ipam::HostPort& port : record.host_ports)
      ports.push_back({{"hostPort", port.host_port},
                       {"hostPortEnd", port.last()},
                       {"containerPort", port.container_port},
                       {"protocol", model::to_string(port.protocol)},
                       {"hostIp", port.host_ip ? port.host_ip->to_string() : ""}});
    entry["hostPorts"] = ports;
    if (auto known = s.records.find(index); known != s.records.end()) {
      entry["state"] = state_text(known->second.state);
      entry["identity"] = known->second.identity;
      entry["ingressSet"] = known->second.ingress_set;
      entry["egressSet"] = known->second.egress_set;
      entry["epoch"] = known->second.epoch;
    }
    list.push_back(std::move(entry));
  }
  return {{"endpoints", list}};
}

ordered_json services_view(const Snapshot& s) {
  std::map<std::string, ordered_json> by_service;  // key -> entry
  for (const auto& [address, frontend] : s.services->frontends) {
    if (address.is_marker()) continue;  // nothing a client could connect to
    const std::string key = apply::service_key(address, frontend);
    ordered_json& entry = by_service[key];
    if (entry.is_null()) {
      auto id = s.service_numbers->ids.find(key);
      entry = {{"id", id == s.service_numbers->ids.end() ? 0 : id->second},
               {"name", frontend.service},
               {"protocol", protocol_text(address.proto)},
               {"frontends", ordered_json::array()}};
    }
    entry["frontends"].push_back(frontend_view(address, frontend));
  }
  ordered_json list = ordered_json::array();
  for (auto& [key, entry] : by_service) list.push_back(std::move(entry));
  return {{"services", list}};
}

ordered_json policies_view(const Snapshot& s) {
  const compile::PolicyImage& image = *s.policy;
  ordered_json endpoints = ordered_json::array();
  for (const auto& [index, policy] : image.endpoints)
    endpoints.push_back({{"index", index},
                         {"identity", policy.identity},
                         {"ingressSet", policy.ingress_set},
                         {"egressSet", policy.egress_set},
                         {"isolatedByIngress", policy.isolated_by_ingress},
                         {"isolatedByEgress", policy.isolated_by_egress}});
  ordered_json sets = ordered_json::array();
  for (const auto& [id, set] : image.sets) {
    ordered_json entries = ordered_json::array();
    for (const auto& [entry, verdict] : set.entries)
      entries.push_back({{"identity", entry.identity},
                         {"protocol", protocol_text(entry.proto)},
                         {"port", entry.port},
                         {"portBits", entry.port_bits},
                         {"verdict", maps::policy_verdict_label(verdict.verdict)},
                         {"rule", verdict.rule}});
    sets.push_back({{"id", id}, {"entries", entries}});
  }
  ordered_json rules = ordered_json::array();
  for (const auto& [id, rule] : image.rules)
    rules.push_back({{"id", id}, {"policy", rule.policy}, {"text", rule.text}});
  return {{"endpoints", endpoints}, {"sets", sets}, {"rules", rules}};
}

ordered_json identities_view(const Snapshot& s) {
  ordered_json list = ordered_json::array();
  for (const auto& [id, text] : s.policy->identities) list.push_back({{"id", id}, {"text", text}});
  return {{"identities", list}};
}

ordered_json problems_view(const Snapshot& s) {
  ordered_json list = ordered_json::array();
  for (const sources::Problem& problem : s.source_problems)
    list.push_back({{"from", "source"},
                    {"source", problem.origin.source},
                    {"line", problem.origin.line},
                    {"object", problem.object},
                    {"field", problem.field},
                    {"text", problem.to_string()}});
  const auto add_warnings = [&list](const std::vector<compile::Warning>& warnings, const char* from) {
    for (const compile::Warning& warning : warnings)
      list.push_back({{"from", from},
                      {"source", warning.origin.source},
                      {"line", warning.origin.line},
                      {"text", warning.text}});
  };
  add_warnings(s.services->warnings, "services");
  add_warnings(s.policy->warnings, "policy");
  for (const apply::Problem& problem : s.apply_problems)
    list.push_back({{"from", "maps"}, {"object", problem.object}, {"text", problem.message}});
  for (const std::string& problem : s.node_problems) list.push_back({{"from", "node"}, {"text", problem}});
  for (const health::Problem& problem : s.health_problems)
    list.push_back(
        {{"from", "health"}, {"reason", problem.reason}, {"object", problem.object}, {"text", problem.text}});
  return {{"problems", list}};
}

}  // namespace bpfnet::agent
