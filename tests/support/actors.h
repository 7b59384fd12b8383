#pragma once

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <string_view>

#include "base/address.h"
#include "tests/support/addresses.h"

/// Who takes part in packet tests: two nodes with pods, a segment between them, a gateway, the outside.
/// Pods live in 10.0.0.0/8 and fd00::/8, nodes and outsiders in the documentation ranges.
namespace bpfnet::test {

/// A literal, as ip() and cidr() of tests/support/addresses.h.
inline Mac mac(std::string_view text) {
  auto address = Mac::parse(text);
  if (!address) throw std::invalid_argument(address.error().message);
  return *address;
}

/// Every actor's address in one family, so a test reads the same for both.
struct Actors {
  explicit Actors(Family of)
      : family(of),
        client(pick("10.1.0.10", "fd00:1::10")),
        server(pick("10.1.0.20", "fd00:1::20")),
        remote(pick("10.2.0.30", "fd00:2::30")),
        node1(pick("192.0.2.1", "2001:db8:1::1")),
        node2(pick("192.0.2.2", "2001:db8:1::2")),
        gateway(pick("192.0.2.254", "2001:db8:1::fe")),
        outside(pick("198.51.100.7", "2001:db8:2::7")),
        vip(pick("10.96.0.10", "fd00:10:96::10")),
        loopback(pick("127.0.0.1", "::1")),
        any(pick("0.0.0.0", "::")) {}

  Family family;
  Address client;  ///< a pod on node 1
  Address server;  ///< another pod on node 1
  Address remote;  ///< a pod on node 2
  Address node1;   ///< node 1's address on the shared segment, also its masquerade source
  Address node2;
  Address gateway;  ///< default route of the nodes
  Address outside;  ///< beyond the gateway
  Address vip;      ///< a ClusterIP
  Address loopback;
  Address any;  ///< 0.0.0.0 or ::

  [[nodiscard]] bool v4() const { return family == Family::kIpv4; }
  [[nodiscard]] Address pick(std::string_view v4_text, std::string_view v6_text) const {
    return ip(family == Family::kIpv4 ? v4_text : v6_text);
  }
};

inline constexpr uint16_t kClientPort = 40000;
inline constexpr uint16_t kServerPort = 8080;
inline constexpr uint16_t kServicePort = 80;
inline constexpr uint16_t kNodePort = 30080;

/// The one parametrisation over address families.
inline std::string family_name(const testing::TestParamInfo<Family>& info) {
  return info.param == Family::kIpv4 ? "v4" : "v6";
}
#define INSTANTIATE_FAMILIES(suite)                                                             \
  INSTANTIATE_TEST_SUITE_P(Families, suite,                                                     \
                           ::testing::Values(::bpfnet::Family::kIpv4, ::bpfnet::Family::kIpv6), \
                           ::bpfnet::test::family_name)

}  // namespace bpfnet::test
