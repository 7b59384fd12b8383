#include "maps/convert.h"

#include <algorithm>
#include <cstring>

namespace bpfnet::maps {
namespace {

/// Bits of a cidr_key before the address: net and its padding.
constexpr uint32_t kCidrNetBits = 32;

}  // namespace

addr to_abi(const Address& address) {
  addr result{};
  std::memcpy(&result, address.bytes().data(), sizeof(result));
  return result;
}

mac to_abi(const Mac& address) {
  mac result{};
  std::memcpy(&result, address.bytes.data(), sizeof(result));
  return result;
}

Address from_abi(const addr& address) {
  std::array<uint8_t, 16> bytes;
  std::memcpy(bytes.data(), &address, bytes.size());
  return Address(bytes);
}

Mac from_abi(const mac& address) {
  Mac result;
  std::memcpy(result.bytes.data(), &address, sizeof(address));
  return result;
}

address_key make_address_key(const Address& address, uint16_t net) {
  return {.addr = to_abi(address), .net = net, .pad = 0};
}

cidr_key make_cidr_key(const Cidr& cidr, uint16_t net) {
  return {.prefixlen = kCidrNetBits + static_cast<uint32_t>(cidr.length128()),
          .net = net,
          .pad = 0,
          .addr = to_abi(cidr.address())};
}

cidr_key make_cidr_lookup(const Address& address, uint16_t net) {
  return {.prefixlen = kCidrNetBits + 128, .net = net, .pad = 0, .addr = to_abi(address)};
}

Cidr from_abi(const cidr_key& key) {
  const Address address = from_abi(key.addr);
  const int length128 = static_cast<int>(key.prefixlen) - static_cast<int>(kCidrNetBits);
  return Cidr(address, std::max(0, address.is_ipv4() ? length128 - 96 : length128));
}

frontend_key make_frontend_key(const Address& address, uint16_t port, uint8_t proto, uint8_t scope,
                               uint16_t net) {
  return {.addr = to_abi(address),
          .port = to_network(port),
          .proto = proto,
          .scope = scope,
          .net = net,
          .pad = 0};
}

frontend_range_key make_frontend_range_key(const Address& address, uint16_t port, uint8_t port_bits,
                                           uint8_t proto, uint8_t scope, uint16_t net) {
  const unsigned bits = std::min<unsigned>(port_bits, 16);
  const unsigned mask = bits == 0 ? 0 : 0xffffU << (16 - bits);
  return {.prefixlen = FRONTEND_RANGE_BITS + bits,
          .addr = to_abi(address),
          .proto = proto,
          .scope = scope,
          .net = net,
          .port = to_network(static_cast<uint16_t>(port & mask)),
          .pad = 0};
}

source_range_key make_source_range_key(uint32_t set, const Cidr& range) {
  return {.prefixlen = kCidrNetBits + static_cast<uint32_t>(range.length128()),
          .set = set,
          .addr = to_abi(range.address())};
}

Cidr from_abi(const source_range_key& key) {
  const Address address = from_abi(key.addr);
  const int length128 = static_cast<int>(key.prefixlen) - static_cast<int>(kCidrNetBits);
  return Cidr(address, std::max(0, address.is_ipv4() ? length128 - 96 : length128));
}

affinity_key make_affinity_key(const Address& client, uint32_t service, uint16_t net) {
  return {.client = to_abi(client), .service = service, .net = net, .pad = 0};
}

policy_key make_policy_key(uint32_t set, uint32_t identity, uint8_t proto, uint16_t port, uint8_t port_bits) {
  policy_key key{.prefixlen = POLICY_PREFIX_IDENTITY, .set = htonl(set), .identity = htonl(identity)};
  if (proto == 0) return key;
  const unsigned bits = std::min<unsigned>(port_bits, 16);
  key.prefixlen = POLICY_PREFIX_PROTO + bits;
  key.proto = proto;
  key.port = to_network(static_cast<uint16_t>(bits == 0 ? 0 : port & (0xffffU << (16 - bits))));
  return key;
}

PolicyKeyFields from_abi(const policy_key& key) {
  PolicyKeyFields fields{.set = ntohl(key.set), .identity = ntohl(key.identity)};
  if (key.prefixlen < POLICY_PREFIX_PROTO) return fields;
  fields.proto = key.proto;
  fields.port = from_network(key.port);
  fields.port_bits = static_cast<uint8_t>(key.prefixlen - POLICY_PREFIX_PROTO);
  return fields;
}

flow_key make_flow_key(const Address& source, uint16_t source_port, const Address& destination,
                       uint16_t destination_port, uint8_t proto, uint16_t net) {
  return {.saddr = to_abi(source),
          .daddr = to_abi(destination),
          .sport = to_network(source_port),
          .dport = to_network(destination_port),
          .proto = proto,
          .pad = 0,
          .net = net};
}

}  // namespace bpfnet::maps
