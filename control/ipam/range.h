#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/address.h"

namespace bpfnet::ipam {

/// A span of addresses of one family that leases may come from.
struct AddressRange {
  Address first;
  Address last;
  std::vector<Address> reserved;  ///< never leased: gateways, the node's own
  std::string name;               ///< as the user wrote it: `10.0.0.0/24`; also the key of its rotation

  /// Every usable address of a prefix: network and broadcast address left out, for IPv6 the subnet-router
  /// anycast address; prefixes with one or two addresses are used whole.
  static AddressRange of(const Cidr& cidr);
  [[nodiscard]] Family family() const { return first.family(); }
  [[nodiscard]] bool contains(const Address& address) const;
  /// How many addresses can be leased, 2^64-1 if more.
  [[nodiscard]] uint64_t size() const;
};

/// Ranges that stand for one another: a lease takes one address from one of them.
using RangeSet = std::vector<AddressRange>;

}  // namespace bpfnet::ipam
