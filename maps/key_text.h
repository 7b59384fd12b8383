#pragma once

#include <cstdint>
#include <cstring>
#include <string>

#include "maps/abi/endpoint.h"
#include "maps/abi/flow.h"
#include "maps/abi/policy.h"
#include "maps/abi/service.h"

namespace bpfnet::maps {

/// `10.0.0.1:4000 > 10.96.0.1:80 tcp`, `[fd00::1]:7 > ...`; ` net 5` follows when it is not 0.
std::string key_text(const flow_key& key);
/// `10.0.0.1`, ` net 5` follows when it is not 0.
std::string key_text(const address_key& key);
/// `10.0.0.0/8`
std::string key_text(const cidr_key& key);
/// `10.96.0.1:80 tcp`, `any-local-ipv4:30080 udp`
std::string key_text(const frontend_key& key);
/// `10.0.0.1:8000-8191 tcp`, `any-local-ipv4:8000-8191 udp`
std::string key_text(const frontend_range_key& key);
/// `set 3, 192.0.2.0/24`
std::string key_text(const source_range_key& key);
/// `192.0.2.7, service 12`
std::string key_text(const affinity_key& key);
/// `set 7, identity 256, tcp/80`, `tcp/80-95` for a prefix of ports, `tcp` or `any` without one
std::string key_text(const policy_key& key);
inline std::string key_text(uint32_t key) {
  return std::to_string(key);
}

/// The cookie of a network namespace.
inline std::string key_text(uint64_t key) {
  return std::to_string(key);
}

/// `0a 00 1f`
std::string hex_text(const void* bytes, size_t size);

/// Keys outside the contract (tests, tools).
template <typename K>
std::string key_text(const K& key) {
  return hex_text(&key, sizeof(key));
}

}  // namespace bpfnet::maps
