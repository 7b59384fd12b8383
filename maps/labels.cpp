#include "maps/labels.h"

#include <netinet/in.h>

#include <charconv>
#include <initializer_list>

#include "maps/abi/endpoint.h"
#include "maps/abi/event.h"
#include "maps/abi/flow.h"
#include "maps/abi/policy.h"
#include "maps/abi/reasons.h"
#include "maps/abi/service.h"
#include "maps/abi/socket.h"

namespace bpfnet::maps {
namespace {

using Names = std::initializer_list<std::pair<uint32_t, std::string_view>>;

std::string name_of(const Names& names, uint32_t number) {
  for (const auto& [known, name] : names)
    if (known == number) return std::string(name);
  return std::to_string(number);
}

std::string label_of(const std::vector<Label>& labels, uint32_t number) {
  for (const Label& label : labels)
    if (label.number == number) return std::string(label.label);
  return std::to_string(number);
}

std::vector<std::string> bits_of(const Names& names, uint32_t flags) {
  std::vector<std::string> result;
  for (const auto& [bit, name] : names) {
    if ((flags & bit) == 0) continue;
    result.emplace_back(name);
    flags &= ~bit;
  }
  if (flags != 0) result.push_back(std::to_string(flags));
  return result;
}

const Names kProtocols = {{0, "any"},
                          {IPPROTO_TCP, "tcp"},
                          {IPPROTO_UDP, "udp"},
                          {IPPROTO_ICMP, "icmp"},
                          {IPPROTO_ICMPV6, "icmpv6"},
                          {IPPROTO_SCTP, "sctp"}};

}  // namespace

const std::vector<Label>& drop_reasons() {
#define X(number, name, label, text) Label{number, label, text},
  static const std::vector<Label> kTable = {DROP_REASONS(X)};
#undef X
  return kTable;
}

const std::vector<Label>& hooks() {
#define X(number, name) Label{number, #name, {}},
  static const std::vector<Label> kTable = {HOOKS(X)};
#undef X
  return kTable;
}

const std::vector<Label>& verdicts() {
#define X(number, name, label, text) Label{number, label, text},
  static const std::vector<Label> kTable = {VERDICTS(X)};
#undef X
  return kTable;
}

const std::vector<Label>& socket_outcomes() {
#define X(number, name, label, text) Label{number, label, text},
  static const std::vector<Label> kTable = {SOCKET_OUTCOMES(X)};
#undef X
  return kTable;
}

std::string drop_reason_label(uint32_t reason) {
  return label_of(drop_reasons(), reason);
}
std::string hook_label(uint32_t hook) {
  return label_of(hooks(), hook);
}
std::string verdict_label(uint32_t verdict) {
  return label_of(verdicts(), verdict);
}
std::string socket_outcome_label(uint32_t outcome) {
  return label_of(socket_outcomes(), outcome);
}
std::string socket_namespace_label(uint32_t kind) {
  return name_of({{SOCKET_HOST, "host"}, {SOCKET_POD, "pod"}}, kind);
}

std::string proto_label(uint8_t proto) {
  return name_of(kProtocols, proto);
}

std::optional<uint8_t> proto_from_label(std::string_view label) {
  for (const auto& [number, name] : kProtocols)
    if (name == label) return static_cast<uint8_t>(number);
  uint8_t number = 0;
  const auto [end, error] = std::from_chars(label.data(), label.data() + label.size(), number);
  if (error != std::errc{} || end != label.data() + label.size()) return std::nullopt;
  return number;
}

std::string flow_state_label(uint32_t state) {
  return name_of({{FLOW_NEW, "new"},
                  {FLOW_REPLIED, "replied"},
                  {FLOW_CLOSED, "closed"},
                  {FLOW_CLOSING, "closing"},
                  {FLOW_ESTABLISHED, "established"}},
                 state);
}

std::string flow_action_label(uint32_t action) {
  return name_of({{FLOW_TO_ENDPOINT, "to-endpoint"},
                  {FLOW_TO_HOST, "to-host"},
                  {FLOW_TO_NEXT_HOP, "to-next-hop"},
                  {FLOW_TO_NODE, "to-node"}},
                 action);
}

std::string endpoint_state_label(uint32_t state) {
  return name_of({{ENDPOINT_FREE, "free"}, {ENDPOINT_CLOSED, "closed"}, {ENDPOINT_OPEN, "open"}}, state);
}

std::string interface_kind_label(uint32_t kind) {
  return name_of({{INTERFACE_POD, "pod"},
                  {INTERFACE_UPLINK, "uplink"},
                  {INTERFACE_HOST, "host"},
                  {INTERFACE_LOOPBACK, "loopback"},
                  {INTERFACE_OVERLAY, "overlay"}},
                 kind);
}

std::string policy_verdict_label(uint32_t verdict) {
  return name_of({{POLICY_DENY, "deny"}, {POLICY_ALLOW, "allow"}, {POLICY_AUDIT, "audit"}}, verdict);
}

std::string identity_label(uint32_t identity) {
  return name_of({{IDENTITY_ANY, "any"},
                  {IDENTITY_HOST, "host"},
                  {IDENTITY_REMOTE_NODE, "remote-node"},
                  {IDENTITY_WORLD, "world"},
                  {IDENTITY_SELF, "self"},
                  {IDENTITY_SELF6, "self-ipv6"}},
                 identity);
}

std::vector<std::string> flow_flag_labels(uint32_t flags) {
  return bits_of({{FLOW_IS_REPLY, "reply"},
                  {FLOW_FIN_SEEN, "fin-seen"},
                  {FLOW_TRANSLATED, "translated"},
                  {FLOW_MASQUERADED, "masqueraded"},
                  {FLOW_SERVICE, "service"},
                  {FLOW_HAIRPIN, "hairpin"},
                  {FLOW_AUDITED, "audited"},
                  {FLOW_PICKED_UP, "picked-up"}},
                 flags);
}

std::vector<std::string> endpoint_flag_labels(uint32_t flags) {
  return bits_of(
      {{ENDPOINT_REJECTS, "rejects"}, {ENDPOINT_AUDITED, "audited"}, {ENDPOINT_UNSETTLED, "unsettled"}},
      flags);
}

std::vector<std::string> event_flag_labels(uint32_t flags) {
  return bits_of({{EVENT_AUDITED, "audited"}, {EVENT_REVERSED, "reversed"}}, flags);
}

std::vector<std::string> address_flag_labels(uint32_t flags) {
  return bits_of({{ADDRESS_POD, "pod"},
                  {ADDRESS_LOCAL_POD, "local-pod"},
                  {ADDRESS_LOCAL_NODE, "local-node"},
                  {ADDRESS_REMOTE_NODE, "remote-node"},
                  {ADDRESS_NODE_PORT, "node-port"}},
                 flags);
}

std::vector<std::string> cidr_flag_labels(uint32_t flags) {
  return bits_of({{CIDR_CLUSTER, "cluster"}, {CIDR_SERVICE, "service"}}, flags);
}

std::vector<std::string> frontend_flag_labels(uint32_t flags) {
  return bits_of({{FRONTEND_CLUSTER_IP, "cluster-ip"},
                  {FRONTEND_NODE_PORT, "node-port"},
                  {FRONTEND_LOAD_BALANCER, "load-balancer"},
                  {FRONTEND_EXTERNAL_IP, "external-ip"},
                  {FRONTEND_HOST_PORT, "host-port"},
                  {FRONTEND_AFFINITY, "affinity"},
                  {FRONTEND_DROP_EMPTY, "drop-empty"},
                  {FRONTEND_DROP_EMPTY_EXT, "drop-empty-external"},
                  {FRONTEND_PORT_RANGE, "port-range"}},
                 flags);
}

}  // namespace bpfnet::maps
