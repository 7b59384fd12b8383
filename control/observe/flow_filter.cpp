#include "control/observe/flow_filter.h"

#include <charconv>

#include "maps/convert.h"
#include "maps/labels.h"

namespace bpfnet::observe {
namespace {

using maps::from_abi;
using maps::from_network;

std::optional<uint16_t> parse_number(const std::string& text) {
  uint16_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return {};
  return number;
}

Result<std::optional<Cidr>> parse_prefix(const std::string& option, const std::optional<std::string>& text) {
  if (!text) return std::optional<Cidr>{};
  auto cidr = Cidr::parse(*text);
  if (!cidr)
    return fail("{} {}: expected an address or a prefix, such as 10.0.0.1 or fd00::/8", option, *text);
  return std::optional<Cidr>{*cidr};
}

Result<uint8_t> parse_state(const std::string& text) {
  std::string known;
  for (uint8_t state = 0; state < FLOW_STATES; ++state) {
    const std::string label = maps::flow_state_label(state);
    if (label == text) return state;
    known += (known.empty() ? "" : ", ") + label;
  }
  return fail("--state {}: expected one of {}", text, known);
}

Result<uint16_t> parse_endpoint(const std::string& text, const maps::Maps& maps, const Names& names) {
  if (const auto index = parse_number(text); index && *index != 0) return *index;
  if (const auto address = Address::parse(text)) {
    auto info = maps.addresses.get(maps::make_address_key(*address));
    if (!info) return pass(info);
    if (*info && (*info)->endpoint != 0) return (*info)->endpoint;
    return fail("--endpoint {}: no pod of this node has that address", text);
  }
  if (const auto index = names.endpoint_of(text)) return *index;
  if (!names.problem().empty())
    return fail(
        "--endpoint {}: pods are known by name to the agent alone ({}); give an endpoint's index or address",
        text, names.problem());
  return fail(
      "--endpoint {}: no such pod on this node; `bpfnetctl endpoint list` shows all, name one as "
      "NAMESPACE/NAME, by index or by address",
      text);
}

}  // namespace

bool FlowFilter::matches(const flow_key& key, const flow& original) const {
  const flow_key& reply = original.peer;
  if (source && !source->contains(from_abi(key.saddr))) return false;
  if (destination && !destination->contains(from_abi(key.daddr)) &&
      !destination->contains(from_abi(reply.saddr)))
    return false;
  if (port && from_network(key.dport) != *port && from_network(reply.sport) != *port) return false;
  if (protocol && key.proto != *protocol) return false;
  if (state && original.state != *state) return false;
  return !endpoint || original.src_endpoint == *endpoint || original.dst_endpoint == *endpoint;
}

Result<FlowFilter> parse_filter(const FlowFilterText& text, const maps::Maps& maps, const Names& names) {
  FlowFilter filter;
  auto source = parse_prefix("--src", text.source);
  if (!source) return pass(source);
  filter.source = *source;
  auto destination = parse_prefix("--dst", text.destination);
  if (!destination) return pass(destination);
  filter.destination = *destination;
  if (text.port) {
    filter.port = parse_number(*text.port);
    if (!filter.port) return fail("--port {}: expected a number from 0 to 65535", *text.port);
  }
  if (text.protocol) {
    filter.protocol = maps::proto_from_label(*text.protocol);
    if (!filter.protocol)
      return fail("--proto {}: expected tcp, udp, sctp, icmp, icmpv6 or a protocol number", *text.protocol);
  }
  if (text.state) {
    auto state = parse_state(*text.state);
    if (!state) return pass(state);
    filter.state = *state;
  }
  if (text.endpoint) {
    auto endpoint = parse_endpoint(*text.endpoint, maps, names);
    if (!endpoint) return pass(endpoint);
    filter.endpoint = *endpoint;
  }
  return filter;
}

}  // namespace bpfnet::observe
