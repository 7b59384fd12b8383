#pragma once

#include <arpa/inet.h>

#include <cstdint>

#include "base/address.h"
#include "maps/abi/endpoint.h"
#include "maps/abi/flow.h"
#include "maps/abi/policy.h"
#include "maps/abi/service.h"

// Between the values of the control plane (Address, Mac, host byte order) and ABI records.
namespace bpfnet::maps {

addr to_abi(const Address& address);
mac to_abi(const Mac& address);
Address from_abi(const addr& address);
Mac from_abi(const mac& address);

/// Ports: host order in the control plane, network order in records.
inline uint16_t to_network(uint16_t port) {
  return htons(port);
}
inline uint16_t from_network(uint16_t port) {
  return ntohs(port);
}

address_key make_address_key(const Address& address, uint16_t net = 0);

/// `net` counts as the first 32 bits (with its padding), so a prefix never spans networks.
cidr_key make_cidr_key(const Cidr& cidr, uint16_t net = 0);
/// The key that looks an address up: full length.
cidr_key make_cidr_lookup(const Address& address, uint16_t net = 0);
Cidr from_abi(const cidr_key& key);

/// `port` in host byte order, `proto` an IPPROTO_*. With SCOPE_ANY_LOCAL `address` is 0.0.0.0 or ::.
frontend_key make_frontend_key(const Address& address, uint16_t port, uint8_t proto,
                               uint8_t scope = SCOPE_ADDRESS, uint16_t net = 0);

/// A block of ports, see frontend_range_key. Bits of `port` beyond `port_bits` are cleared.
frontend_range_key make_frontend_range_key(const Address& address, uint16_t port, uint8_t port_bits,
                                           uint8_t proto, uint8_t scope = SCOPE_ADDRESS, uint16_t net = 0);

source_range_key make_source_range_key(uint32_t set, const Cidr& range);
Cidr from_abi(const source_range_key& key);

affinity_key make_affinity_key(const Address& client, uint32_t service, uint16_t net = 0);

/// `port_bits` leading bits of `port` (host byte order) are significant; proto 0: any protocol, then port and
/// bits are ignored. Insignificant bits are cleared.
policy_key make_policy_key(uint32_t set, uint32_t identity, uint8_t proto, uint16_t port, uint8_t port_bits);

/// A policy key in host byte order.
struct PolicyKeyFields {
  uint32_t set = 0;
  uint32_t identity = 0;
  uint8_t proto = 0;
  uint16_t port = 0;
  uint8_t port_bits = 0;
};
PolicyKeyFields from_abi(const policy_key& key);

flow_key make_flow_key(const Address& source, uint16_t source_port, const Address& destination,
                       uint16_t destination_port, uint8_t proto, uint16_t net = 0);

}  // namespace bpfnet::maps
