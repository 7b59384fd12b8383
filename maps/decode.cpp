#include "maps/decode.h"

#include <nlohmann/json.hpp>

#include "maps/abi/reasons.h"
#include "maps/convert.h"
#include "maps/key_text.h"
#include "maps/labels.h"

namespace bpfnet::maps {
namespace {

uint64_t num(uint64_t value) {
  return value;
}
uint64_t port(uint16_t wire) {
  return from_network(wire);
}
std::string text(const addr& address) {
  const Address value = from_abi(address);
  return value == Address() ? std::string() : value.to_string();
}
std::string text(const mac& address) {
  const Mac value = from_abi(address);
  return value.is_zero() ? std::string() : value.to_string();
}
/// `10.0.0.1:80`, `[fd00::1]:80`
std::string socket_text(const addr& address, uint16_t wire_port) {
  const Address value = from_abi(address);
  return value.is_ipv4() ? fmt::format("{}:{}", value.to_string(), from_network(wire_port))
                         : fmt::format("[{}]:{}", value.to_string(), from_network(wire_port));
}
std::string net_text(uint16_t net) {
  return net == 0 ? std::string() : fmt::format(" net {}", net);
}
/// `80`, `80-95`, `*`
std::string port_range(const PolicyKeyFields& key) {
  if (key.proto == 0 || key.port_bits == 0) return "*";
  const unsigned last = key.port | ((1U << (16 - key.port_bits)) - 1);
  return last == key.port ? std::to_string(key.port) : fmt::format("{}-{}", key.port, last);
}
std::string port_block(const frontend_range_key& key) {
  return port_range({.proto = key.proto,
                     .port = from_network(key.port),
                     .port_bits = static_cast<uint8_t>(key.prefixlen - FRONTEND_RANGE_BITS)});
}

}  // namespace

std::string key_text(const flow_key& key) {
  return fmt::format("{} > {} {}{}", socket_text(key.saddr, key.sport), socket_text(key.daddr, key.dport),
                     proto_label(key.proto), net_text(key.net));
}

std::string key_text(const address_key& key) {
  return from_abi(key.addr).to_string() + net_text(key.net);
}

std::string key_text(const cidr_key& key) {
  return from_abi(key).to_string() + net_text(key.net);
}

std::string key_text(const frontend_key& key) {
  if (key.scope != SCOPE_ANY_LOCAL)
    return fmt::format("{} {}{}", socket_text(key.addr, key.port), proto_label(key.proto), net_text(key.net));
  return fmt::format("any-local-ipv{}:{} {}{}", from_abi(key.addr).is_ipv4() ? 4 : 6, from_network(key.port),
                     proto_label(key.proto), net_text(key.net));
}

std::string key_text(const frontend_range_key& key) {
  const std::string address =
      key.scope == SCOPE_ANY_LOCAL
          ? fmt::format("any-local-ipv{}", from_abi(key.addr).is_ipv4() ? 4 : 6)
          : (from_abi(key.addr).is_ipv4() ? from_abi(key.addr).to_string()
                                          : "[" + from_abi(key.addr).to_string() + "]");
  return fmt::format("{}:{} {}{}", address, port_block(key), proto_label(key.proto), net_text(key.net));
}

std::string key_text(const source_range_key& key) {
  return fmt::format("set {}, {}", key.set, from_abi(key).to_string());
}

std::string key_text(const affinity_key& key) {
  return fmt::format("{}, service {}{}", from_abi(key.client).to_string(), key.service, net_text(key.net));
}

std::string key_text(const policy_key& key) {
  const PolicyKeyFields fields = from_abi(key);
  const std::string range = port_range(fields);
  return fmt::format("set {}, identity {}, {}{}", fields.set, identity_label(fields.identity),
                     proto_label(fields.proto), range == "*" ? std::string() : "/" + range);
}

Fields decode(uint32_t index) {
  return {{"index", num(index)}};
}

Fields decode(uint64_t cookie) {
  return {{"namespace_cookie", num(cookie)}};
}

Fields decode(const flow_key& key) {
  return {{"protocol", proto_label(key.proto)},  {"source", text(key.saddr)},
          {"source_port", port(key.sport)},      {"destination", text(key.daddr)},
          {"destination_port", port(key.dport)}, {"net", num(key.net)}};
}

Fields decode(const flow& value) {
  return {{"state", flow_state_label(value.state)},
          {"direction", std::string((value.flags & FLOW_IS_REPLY) != 0 ? "reply" : "original")},
          {"peer_source", text(value.peer.saddr)},
          {"peer_source_port", port(value.peer.sport)},
          {"peer_destination", text(value.peer.daddr)},
          {"peer_destination_port", port(value.peer.dport)},
          {"action", flow_action_label(value.action)},
          {"flags", flow_flag_labels(value.flags)},
          {"in_ifindex", num(value.in_ifindex)},
          {"out_ifindex", num(value.out_ifindex)},
          {"in_node", num(value.in_node)},
          {"out_node", num(value.out_node)},
          {"source_mac", text(value.smac)},
          {"destination_mac", text(value.dmac)},
          {"mtu", num(value.mtu)},
          {"source_endpoint", num(value.src_endpoint)},
          {"destination_endpoint", num(value.dst_endpoint)},
          {"source_epoch", num(value.src_epoch)},
          {"destination_epoch", num(value.dst_epoch)},
          {"service", num(value.service)},
          {"backend", num(value.backend)},
          {"backend_generation", num(value.backend_generation)},
          {"rule", num(value.rule)},
          {"slot", num(value.slot)},
          {"created", num(value.created)},
          {"last_seen", num(value.last_seen)},
          {"packets", num(value.packets)},
          {"bytes", num(value.bytes)}};
}

Fields decode(const flow_slot& value) {
  Fields fields = {{"used", value.used != 0}, {"owner", num(value.owner)}};
  for (Field& field : decode(value.key)) fields.push_back(std::move(field));
  return fields;
}

Fields decode(const flow_table& value) {
  return {{"live", num(value.live)},           {"high_water", num(value.high_water)},
          {"gc_cursor", num(value.gc_cursor)}, {"evict_hand", num(value.evict_hand)},
          {"tick", num(value.tick)},           {"expired", num(value.expired)},
          {"evicted", num(value.evicted)},     {"gc_runs", num(value.gc_runs)}};
}

Fields decode(const endpoint& value) {
  return {{"state", endpoint_state_label(value.state)},
          {"ipv4", text(value.ip4)},
          {"ipv6", text(value.ip6)},
          {"ifindex", num(value.ifindex)},
          {"identity", num(value.identity)},
          {"ingress_set", num(value.ingress_set)},
          {"egress_set", num(value.egress_set)},
          {"epoch", num(value.epoch)},
          {"mac", text(value.mac)},
          {"host_mac", text(value.host_mac)},
          {"flags", endpoint_flag_labels(value.flags)},
          {"net", num(value.net)},
          {"mtu", num(value.mtu)}};
}

Fields decode(const endpoint_usage& value) {
  return {{"flows", num(value.flows)}};
}

Fields decode(const address_key& key) {
  return {{"address", from_abi(key.addr).to_string()}, {"net", num(key.net)}};
}

Fields decode(const address_info& value) {
  return {{"identity", num(value.identity)},
          {"endpoint", num(value.endpoint)},
          {"flags", address_flag_labels(value.flags)},
          {"node", num(value.node)}};
}

Fields decode(const cidr_key& key) {
  return {{"cidr", from_abi(key).to_string()}, {"net", num(key.net)}};
}

Fields decode(const cidr_info& value) {
  return {
      {"identity", num(value.identity)}, {"flags", cidr_flag_labels(value.flags)}, {"node", num(value.node)}};
}

Fields decode(const node& value) {
  return {{"address", text(value.addr)}, {"source", text(value.source)}, {"mtu", num(value.mtu)}};
}

Fields decode(const interface& value) {
  return {{"kind", interface_kind_label(value.kind)},
          {"endpoint", num(value.endpoint)},
          {"ipv4", text(value.ip4)},
          {"ipv6", text(value.ip6)},
          {"mac", text(value.mac)},
          {"mtu", num(value.mtu)}};
}

Fields decode(const frontend_key& key) {
  return {{"address", from_abi(key.addr).to_string()},
          {"port", port(key.port)},
          {"protocol", proto_label(key.proto)},
          {"scope", std::string(key.scope == SCOPE_ANY_LOCAL ? "any-local" : "address")},
          {"net", num(key.net)}};
}

Fields decode(const frontend& value) {
  return {{"service", num(value.service)},
          {"first", num(value.first)},
          {"count", num(value.count)},
          {"external_first", num(value.ext_first)},
          {"external_count", num(value.ext_count)},
          {"affinity_ticks", num(value.affinity_ticks)},
          {"flags", frontend_flag_labels(value.flags)},
          {"source_set", num(value.source_set)},
          {"range_first", num(value.range_first)}};
}

Fields decode(const frontend_range_key& key) {
  return {{"address", from_abi(key.addr).to_string()},
          {"ports", port_block(key)},
          {"protocol", proto_label(key.proto)},
          {"scope", std::string(key.scope == SCOPE_ANY_LOCAL ? "any-local" : "address")},
          {"net", num(key.net)}};
}

Fields decode(const source_range_key& key) {
  return {{"set", num(key.set)}, {"range", from_abi(key).to_string()}};
}

Fields decode(const source_range& value) {
  return {{"allowed", num(value.allowed)}};
}

Fields decode(const affinity_key& key) {
  return {{"client", text(key.client)}, {"service", num(key.service)}, {"net", num(key.net)}};
}

Fields decode(const affinity& value) {
  return {{"backend", num(value.backend)},
          {"generation", num(value.generation)},
          {"last_used_tick", num(value.last_used)}};
}

Fields decode(const backend_slot& value) {
  return {{"address", text(value.addr)},
          {"port", port(value.port)},
          {"backend", num(value.backend)},
          {"generation", num(value.generation)}};
}

Fields decode(const backend_state& value) {
  return {{"generation", num(value.generation)}};
}

Fields decode(const policy_key& key) {
  const PolicyKeyFields fields = from_abi(key);
  return {{"set", num(fields.set)},
          {"identity", identity_label(fields.identity)},
          {"protocol", proto_label(fields.proto)},
          {"ports", port_range(fields)}};
}

Fields decode(const policy_entry& value) {
  return {{"verdict", policy_verdict_label(value.verdict)}, {"rule", num(value.rule)}};
}

Fields decode(const socket_namespace& value) {
  return {{"kind", socket_namespace_label(value.kind)},
          {"endpoint", num(value.endpoint)},
          {"net", num(value.net)}};
}

Fields decode(const socket_count& value) {
  return {{"calls", num(value.calls)}};
}

Fields decode(const packet_count& value) {
  return {{"packets", num(value.packets)}, {"bytes", num(value.bytes)}};
}

Fields decode(const packet_event& value) {
  Fields fields = {{"time_ns", num(value.time_ns)},
                   {"hook", hook_label(value.hook)},
                   {"verdict", verdict_label(value.verdict)},
                   {"reason", drop_reason_label(value.reason)},
                   {"flags", event_flag_labels(value.flags)}};
  for (Field& field : decode(value.key)) fields.push_back(std::move(field));
  const Fields rest = {{"backend", text(value.backend)},
                       {"backend_port", port(value.backend_port)},
                       {"tcp_flags", num(value.tcp_flags)},
                       {"source_endpoint", num(value.src_endpoint)},
                       {"destination_endpoint", num(value.dst_endpoint)},
                       {"source_identity", num(value.src_identity)},
                       {"destination_identity", num(value.dst_identity)},
                       {"rule", num(value.rule)},
                       {"service", num(value.service)},
                       {"in_ifindex", num(value.in_ifindex)},
                       {"out_ifindex", num(value.out_ifindex)},
                       {"length", num(value.length)}};
  fields.insert(fields.end(), rest.begin(), rest.end());
  return fields;
}

Fields decode(const datapath_config& value) {
  return {{"layout_version", num(value.layout_version)},
          {"tick_shift", num(value.tick_shift)},
          {"tick_ns", num(value.tick_ns)},
          {"max_flows", num(value.max_flows)},
          {"endpoint_flow_quota", num(value.endpoint_flow_quota)},
          {"timeout_tcp_new", num(value.timeout_tcp_new)},
          {"timeout_tcp_established", num(value.timeout_tcp_established)},
          {"timeout_tcp_closing", num(value.timeout_tcp_closing)},
          {"timeout_tcp_closed", num(value.timeout_tcp_closed)},
          {"timeout_udp_new", num(value.timeout_udp_new)},
          {"timeout_udp_established", num(value.timeout_udp_established)},
          {"timeout_icmp", num(value.timeout_icmp)},
          {"masquerade_ports", fmt::format("{}-{}", value.masquerade_port_first, value.masquerade_port_last)},
          {"mark", fmt::format("{:#x}/{:#x}", value.mark, value.mark_mask)},
          {"host_ifindex", num(value.host_ifindex)},
          {"router_ifindex", num(value.router_ifindex)},
          {"host_mac", text(value.host_mac)},
          {"masquerade", value.masquerade != 0},
          {"trace", value.trace != 0},
          {"primary_uplink", num(value.primary_uplink)},
          {"event_rate", num(value.event_rate)},
          {"defrag_ifindex", num(value.defrag_ifindex)}};
}

std::string to_text(const FieldValue& value) {
  struct Visitor {
    std::string operator()(uint64_t number) const { return std::to_string(number); }
    std::string operator()(bool truth) const { return truth ? "yes" : "no"; }
    std::string operator()(const std::string& string) const { return string.empty() ? "-" : string; }
    std::string operator()(const std::vector<std::string>& list) const {
      return list.empty() ? "-" : fmt::format("{}", fmt::join(list, ","));
    }
  };
  return std::visit(Visitor{}, value);
}

std::string to_text(const Fields& fields) {
  std::string result;
  for (const Field& field : fields)
    result += fmt::format("{}{}={}", result.empty() ? "" : " ", field.name, to_text(field.value));
  return result;
}

nlohmann::ordered_json to_json(const FieldValue& value) {
  return std::visit([](const auto& held) { return nlohmann::ordered_json(held); }, value);
}

nlohmann::ordered_json to_json(const Fields& fields) {
  nlohmann::ordered_json object = nlohmann::ordered_json::object();
  for (const Field& field : fields) object[field.name] = to_json(field.value);
  return object;
}

}  // namespace bpfnet::maps
