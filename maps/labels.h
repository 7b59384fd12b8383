#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

// Names of numbers, from the X-macro tables of maps/abi/reasons.h and the enums of the records.
namespace bpfnet::maps {

/// One row of a table of names.
struct Label {
  uint32_t number = 0;
  std::string_view label;  ///< as CLI, metrics and JSON show it: `policy-ingress`, `from_pod`
  std::string_view text;   ///< one sentence; empty for hooks
};

const std::vector<Label>& drop_reasons();
const std::vector<Label>& hooks();
const std::vector<Label>& verdicts();
const std::vector<Label>& socket_outcomes();

/// The label, or the number as text when this build does not know it.
std::string drop_reason_label(uint32_t reason);
std::string hook_label(uint32_t hook);
std::string verdict_label(uint32_t verdict);
std::string socket_outcome_label(uint32_t outcome);
/// `host`, `pod`
std::string socket_namespace_label(uint32_t kind);
/// `tcp`, `udp`, `icmp`, `icmpv6`, `sctp`, `any` for 0, else the number.
std::string proto_label(uint8_t proto);
/// The IPPROTO_* of a label or number; nullopt: neither.
std::optional<uint8_t> proto_from_label(std::string_view label);
/// `new`, `replied`, `closed`, `closing`, `established`
std::string flow_state_label(uint32_t state);
/// `to-endpoint`, `to-host`, `to-next-hop`
std::string flow_action_label(uint32_t action);
/// `free`, `closed`, `open`
std::string endpoint_state_label(uint32_t state);
/// `pod`, `uplink`, `host`, `loopback`
std::string interface_kind_label(uint32_t kind);
/// `deny`, `allow`, `audit`
std::string policy_verdict_label(uint32_t verdict);
/// `any`, `host`, `remote-node`, `world`, `self`, else the number
std::string identity_label(uint32_t identity);

std::vector<std::string> flow_flag_labels(uint32_t flags);
std::vector<std::string> endpoint_flag_labels(uint32_t flags);
std::vector<std::string> event_flag_labels(uint32_t flags);
std::vector<std::string> address_flag_labels(uint32_t flags);
std::vector<std::string> cidr_flag_labels(uint32_t flags);
std::vector<std::string> frontend_flag_labels(uint32_t flags);

}  // namespace bpfnet::maps
