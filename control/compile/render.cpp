#include "control/compile/render.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <iterator>
#include <utility>

#include "maps/abi/endpoint.h"
#include "maps/abi/policy.h"
#include "maps/abi/service.h"

namespace bpfnet::compile {
namespace {

using FlagName = std::pair<uint32_t, const char*>;

std::string flags_text(uint32_t flags, std::initializer_list<FlagName> names) {
  std::string text;
  for (const auto& [flag, name] : names)
    if (flags & flag) text += std::string(text.empty() ? "" : ",") + name;
  return text.empty() ? "-" : text;
}

std::string frontend_flags_text(uint32_t flags) {
  return flags_text(flags, {{FRONTEND_CLUSTER_IP, "cluster-ip"},
                            {FRONTEND_NODE_PORT, "node-port"},
                            {FRONTEND_LOAD_BALANCER, "load-balancer"},
                            {FRONTEND_EXTERNAL_IP, "external-ip"},
                            {FRONTEND_HOST_PORT, "host-port"},
                            {FRONTEND_AFFINITY, "affinity"},
                            {FRONTEND_DROP_EMPTY, "drop-empty"},
                            {FRONTEND_DROP_EMPTY_EXT, "drop-empty-ext"},
                            {FRONTEND_PORT_RANGE, "port-range"}});
}

std::string address_flags_text(uint32_t flags) {
  return flags_text(flags, {{ADDRESS_POD, "pod"},
                            {ADDRESS_LOCAL_POD, "local-pod"},
                            {ADDRESS_LOCAL_NODE, "local-node"},
                            {ADDRESS_REMOTE_NODE, "remote-node"},
                            {ADDRESS_NODE_PORT, "node-port"}});
}

std::string proto_text(uint8_t proto) {
  return proto == 0 ? "any" : std::string(model::to_string(static_cast<model::Protocol>(proto)));
}

std::string socket_text(const Address& ip, uint16_t port) {
  return ip.is_ipv4() ? fmt::format("{}:{}", ip.to_string(), port)
                      : fmt::format("[{}]:{}", ip.to_string(), port);
}

/// `10.0.0.1:80`, `10.0.0.1:8000-8007`.
std::string socket_text(const FrontendAddress& address) {
  std::string text = socket_text(address.ip, address.port);
  if (address.port_bits < 16) text += fmt::format("-{}", address.port + (1U << (16 - address.port_bits)) - 1);
  return text;
}

std::string backends_text(const std::vector<Backend>& backends) {
  if (backends.empty()) return "none";
  std::vector<std::string> texts;
  for (const Backend& each : backends) texts.push_back(socket_text(each.ip, each.port));
  return fmt::format("{}", fmt::join(texts, " "));
}

std::string entry_text(const PolicyEntry& entry) {
  const std::string who = entry.identity == IDENTITY_ANY     ? "any identity"
                          : entry.identity == IDENTITY_SELF  ? "itself by a service"
                          : entry.identity == IDENTITY_SELF6 ? "itself by a service, IPv6"
                                                             : fmt::format("identity {}", entry.identity);
  if (entry.proto == 0) return who + ", any port";
  if (entry.port_bits == 0) return fmt::format("{}, {}", who, proto_text(entry.proto));
  const uint32_t last = entry.port + (1U << (16 - entry.port_bits)) - 1;
  if (last == entry.port) return fmt::format("{}, {} {}", who, proto_text(entry.proto), entry.port);
  return fmt::format("{}, {} {}-{}", who, proto_text(entry.proto), entry.port, last);
}

const char* verdict_text(uint8_t verdict) {
  if (verdict == POLICY_AUDIT) return "audit";
  return verdict == POLICY_ALLOW ? "allow" : "deny";
}

void append_warnings(std::string& text, const std::vector<Warning>& warnings) {
  for (const Warning& each : warnings) {
    const std::string where =
        each.origin.source.empty() ? "" : fmt::format("{}:{}: ", each.origin.source, each.origin.line);
    text += fmt::format("warning {}{}\n", where, each.text);
  }
}

std::string net_text(uint16_t net) {
  return net == 0 ? "" : fmt::format(" net {}", net);
}

}  // namespace

std::string render(const ServiceImage& image) {
  std::string text;
  const auto out = std::back_inserter(text);
  for (const auto& [address, frontend] : image.frontends) {
    if (address.is_marker()) {
      fmt::format_to(out, "live {}{} {} {}\n", address.ip.to_string(), net_text(address.net),
                     frontend.service, frontend_flags_text(frontend.flags));
      continue;
    }
    fmt::format_to(out, "frontend {}{}{} {} {}\n", address.scope == SCOPE_ANY_LOCAL ? "any-local " : "",
                   socket_text(address) + "/" + proto_text(address.proto), net_text(address.net),
                   frontend.service, frontend_flags_text(frontend.flags));
    if (frontend.flags & FRONTEND_PORT_RANGE)
      fmt::format_to(out, "  range begins at {}\n", frontend.range_first);
    if (frontend.flags & FRONTEND_AFFINITY)
      fmt::format_to(out, "  affinity {} s\n", frontend.affinity_seconds);
    for (const Cidr& range : frontend.source_ranges) fmt::format_to(out, "  source {}\n", range.to_string());
    if (frontend.internal == frontend.external) {
      fmt::format_to(out, "  backends {}\n", backends_text(frontend.internal));
    } else {
      fmt::format_to(out, "  internal {}\n  external {}\n", backends_text(frontend.internal),
                     backends_text(frontend.external));
    }
  }
  for (const auto& [service, check] : image.health_checks)
    fmt::format_to(out, "health-check {} {} local-ready {}\n", check.port, service.to_string(),
                   check.local_ready);
  append_warnings(text, image.warnings);
  return text;
}

std::string render(const PolicyImage& image) {
  std::string text;
  const auto out = std::back_inserter(text);
  for (const auto& [id, name] : image.identities) fmt::format_to(out, "identity {} {}\n", id, name);
  for (const auto& [key, entry] : image.addresses) {
    fmt::format_to(out, "address {}{} identity {} {}", key.second.to_string(), net_text(key.first),
                   entry.identity, address_flags_text(entry.flags));
    text += entry.endpoint ? fmt::format(" endpoint {}", entry.endpoint) : "";
    text += entry.node ? fmt::format(" node {}\n", entry.node) : "\n";
  }
  for (const auto& [key, entry] : image.cidrs)
    fmt::format_to(out, "cidr {}{} identity {} {}{}\n", key.second.to_string(), net_text(key.first),
                   entry.identity,
                   flags_text(entry.flags, {{CIDR_CLUSTER, "cluster"}, {CIDR_SERVICE, "service"}}),
                   entry.node ? fmt::format(" node {}", entry.node) : "");
  for (const auto& [id, set] : image.sets) {
    fmt::format_to(out, "set {}\n", id);
    for (const auto& [entry, verdict] : set.entries)
      fmt::format_to(out, "  {}: {} rule {}\n", entry_text(entry), verdict_text(verdict.verdict),
                     verdict.rule);
  }
  for (const auto& [id, rule] : image.rules)
    fmt::format_to(out, "rule {} {} ({}) {}\n", id, rule.policy, rule.tier, rule.text);
  const auto set_text = [](uint32_t set) {
    if (set == POLICY_SET_ALLOW_ALL) return std::string("allow-all");
    return set == POLICY_SET_DENY_ALL ? std::string("deny-all") : fmt::format("set {}", set);
  };
  for (const auto& [index, endpoint] : image.endpoints) {
    fmt::format_to(out, "endpoint {} identity {} ingress {} [{}] egress {} [{}]{}{}\n", index,
                   endpoint.identity, set_text(endpoint.ingress_set),
                   fmt::join(endpoint.isolated_by_ingress, " "), set_text(endpoint.egress_set),
                   fmt::join(endpoint.isolated_by_egress, " "),
                   (endpoint.flags & ENDPOINT_REJECTS) != 0 ? " rejects" : "",
                   (endpoint.flags & ENDPOINT_AUDITED) != 0 ? " audited" : "");
    const auto order_text = [&](const char* direction, const std::vector<uint32_t>& rules,
                                const std::vector<std::string>& audited) {
      if (!rules.empty()) fmt::format_to(out, "  {} rules {}\n", direction, fmt::join(rules, " "));
      if (!audited.empty()) fmt::format_to(out, "  {} audited by [{}]\n", direction, fmt::join(audited, " "));
    };
    order_text("ingress", endpoint.ingress_rules, endpoint.audited_by_ingress);
    order_text("egress", endpoint.egress_rules, endpoint.audited_by_egress);
  }
  append_warnings(text, image.warnings);
  return text;
}

}  // namespace bpfnet::compile
