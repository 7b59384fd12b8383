#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <string_view>
#include <unordered_map>

#include "control/observe/table.h"
#include "control/observe/views.h"
#include "maps/convert.h"
#include "maps/labels.h"

namespace bpfnet::observe {
namespace {

using maps::from_abi;
using maps::from_network;

struct Socket {
  std::string address;
  uint16_t port;
  [[nodiscard]] std::string text() const { return socket_text(address, port); }
};

Socket socket_of(const addr& address, uint16_t wire_port) {
  return {from_abi(address).to_string(), from_network(wire_port)};
}

/// What turns ticks into seconds.
struct Clock {
  uint32_t now = 0;
  uint64_t tick_ns = 0;
  [[nodiscard]] uint64_t seconds_since(uint32_t tick) const {
    // A program may have stamped an entry in the tick after the one the expiry last wrote.
    return tick > now ? 0 : uint64_t{now - tick} * tick_ns / 1'000'000'000;
  }
};

Result<Clock> read_clock(const maps::Maps& maps) {
  auto table = maps.flow_table_state.get(0);
  if (!table) return pass(table);
  auto config = maps.node_config.get(0);
  if (!config) return pass(config);
  return Clock{table->tick, config->tick_ns};
}

std::string_view bytes_of(const flow_key& key) {
  return {reinterpret_cast<const char*>(&key), sizeof(key)};
}

/// Both directions of a connection.
struct Pair {
  flow_key key;
  flow original;
  const flow* reply = nullptr;  ///< missing: removed while the table was read
};

nlohmann::ordered_json to_json(const Pair& pair, const Names& names, const Clock& clock) {
  const flow& entry = pair.original;
  const Socket client = socket_of(pair.key.saddr, pair.key.sport);
  const Socket destination = socket_of(pair.key.daddr, pair.key.dport);
  const Socket backend = socket_of(entry.peer.saddr, entry.peer.sport);
  const Socket seen_as = socket_of(entry.peer.daddr, entry.peer.dport);
  nlohmann::ordered_json json;
  json["protocol"] = maps::proto_label(pair.key.proto);
  json["state"] = maps::flow_state_label(entry.state);
  json["client"] = client.address;
  json["client_port"] = client.port;
  json["destination"] = destination.address;
  json["destination_port"] = destination.port;
  json["backend"] = backend.address;
  json["backend_port"] = backend.port;
  json["seen_as"] = seen_as.address;
  json["seen_as_port"] = seen_as.port;
  json["net"] = pair.key.net;
  json["flags"] = maps::flow_flag_labels(entry.flags);
  json["action"] = maps::flow_action_label(entry.action);
  json["to_node"] = entry.out_node;
  json["to_node_name"] = names.node(entry.out_node);
  json["from_node"] = entry.in_node;
  json["from_node_name"] = names.node(entry.in_node);
  json["service"] = entry.service;
  json["service_name"] = names.service(entry.service);
  json["source_endpoint"] = entry.src_endpoint;
  json["source_endpoint_name"] = names.endpoint(entry.src_endpoint);
  json["destination_endpoint"] = entry.dst_endpoint;
  json["destination_endpoint_name"] = names.endpoint(entry.dst_endpoint);
  json["rule"] = entry.rule;
  json["rule_text"] = names.rule(entry.rule);
  json["packets"] = entry.packets;
  json["bytes"] = entry.bytes;
  json["reply_packets"] = pair.reply ? pair.reply->packets : 0;
  json["reply_bytes"] = pair.reply ? pair.reply->bytes : 0;
  json["age_seconds"] = clock.seconds_since(entry.created);
  const uint32_t last = std::max(entry.last_seen, pair.reply ? pair.reply->last_seen : 0);
  json["idle_seconds"] = clock.seconds_since(last);
  return json;
}

/// Where that column stands, in tables that have it.
constexpr std::ptrdiff_t kByColumn = 6;

bool by_overlay(const flow& entry) {
  return entry.in_node != 0 || entry.out_node != 0;
}

/// The other node of a connection that goes by tunnels; of one that goes through here from node to node,
/// both.
std::string overlay_text(const flow& entry, const nlohmann::ordered_json& json) {
  const std::string from = json.at("from_node_name");
  const std::string to = json.at("to_node_name");
  if (entry.in_node != 0 && entry.out_node != 0) return fmt::format("overlay {} > {}", from, to);
  return by_overlay(entry) ? "overlay " + (entry.out_node != 0 ? to : from) : "";
}

std::vector<std::string> to_row(const Pair& pair, const nlohmann::ordered_json& json) {
  const flow& entry = pair.original;
  const std::string backend = socket_of(entry.peer.saddr, entry.peer.sport).text();
  const std::string destination = socket_of(pair.key.daddr, pair.key.dport).text();
  const std::string client = socket_of(pair.key.saddr, pair.key.sport).text();
  const std::string seen_as = socket_of(entry.peer.daddr, entry.peer.dport).text();
  const auto text = [&](const char* key) { return json.at(key).get<std::string>(); };
  return {text("protocol"),
          text("state"),
          client,
          destination,
          (entry.flags & FLOW_SERVICE) != 0 ? backend : "",
          (entry.flags & FLOW_MASQUERADED) != 0 ? seen_as : "",
          text("service_name"),
          text("source_endpoint_name"),
          text("destination_endpoint_name"),
          fmt::format("{}/{}", json.at("packets").get<uint64_t>(), json.at("reply_packets").get<uint64_t>()),
          age_text(json.at("idle_seconds").get<uint64_t>())};
}

}  // namespace

Result<View> flows_view(const maps::Maps& maps, const Names& names, const FlowFilter& filter) {
  auto clock = read_clock(maps);
  if (!clock) return pass(clock);
  auto entries = maps.flows.entries();
  if (!entries) return pass(entries);

  std::unordered_map<std::string_view, const flow*> by_key;
  by_key.reserve(entries->size());
  for (const auto& [key, entry] : *entries) by_key.emplace(bytes_of(key), &entry);
  std::vector<Pair> pairs;
  for (const auto& [key, entry] : *entries) {
    if ((entry.flags & FLOW_IS_REPLY) != 0 || !filter.matches(key, entry)) continue;
    const auto reply = by_key.find(bytes_of(entry.peer));
    pairs.push_back({key, entry, reply == by_key.end() ? nullptr : reply->second});
  }
  std::ranges::sort(
      pairs, [](const Pair& a, const Pair& b) { return std::memcmp(&a.key, &b.key, sizeof(a.key)) < 0; });

  View view;
  view.json = nlohmann::ordered_json::array();
  std::vector<std::string> header = {"PROTO",   "STATE",    "CLIENT", "DESTINATION", "BACKEND", "SEEN AS",
                                     "SERVICE", "FROM POD", "TO POD", "PACKETS",     "IDLE"};
  const bool overlay = std::ranges::any_of(pairs, [](const Pair& pair) { return by_overlay(pair.original); });
  if (overlay) header.insert(header.begin() + kByColumn, "BY");
  Table table(header);
  for (const Pair& pair : pairs) {
    auto json = to_json(pair, names, *clock);
    auto row = to_row(pair, json);
    if (overlay) row.insert(row.begin() + kByColumn, overlay_text(pair.original, json));
    table.add(std::move(row));
    view.json.push_back(std::move(json));
  }
  view.text = table.text();
  return view;
}

}  // namespace bpfnet::observe
