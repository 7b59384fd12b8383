#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/address.h"
#include "base/fd.h"
#include "base/result.h"

namespace bpfnet::health {

/// Where a TCP listener stands.
struct ListenAddress {
  Address ip;                  ///< unspecified (0.0.0.0 or ::): every address of its family
  uint16_t port = 0;           ///< host byte order; 0: any free one
  bool both_families = false;  ///< every address of both families; `ip` is not looked at

  /// `192.0.2.1:10249`, `[::1]:10249`; `:10256`, `0.0.0.0:10256` and `[::]:10256` mean every address of both
  /// families, as kube-proxy reads them. The error says what is expected.
  static Result<ListenAddress> parse(std::string_view text);
  [[nodiscard]] std::string to_string() const;
  auto operator<=>(const ListenAddress&) const = default;
};

/// A bound, listening, non-blocking socket in the calling thread's network namespace. A host without IPv6
/// listens on IPv4 where both families were asked for. The error's code is the errno.
Result<Fd> open_listener(const ListenAddress& where);

/// Where node ports are served, by family (S35): `own` addresses within `cidrs` of the family, every address
/// of a family that has none. Port 0 in all of them.
std::vector<ListenAddress> node_port_addresses(const std::vector<Cidr>& cidrs,
                                               const std::vector<Address>& own);

}  // namespace bpfnet::health
