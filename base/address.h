#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace bpfnet {

enum class Family : uint8_t { kIpv4 = 4, kIpv6 = 6 };

/// An IP address of either family in 16 bytes, network byte order; IPv4 is v4-mapped (::ffff:a.b.c.d).
/// The default value is ::, the unspecified address.
class Address {
 public:
  constexpr Address() = default;
  explicit constexpr Address(const std::array<uint8_t, 16>& bytes) : bytes_(bytes) {}

  /// Parses `10.0.0.1` or `fd00::1`. With `sloppy`, leading zeros in IPv4 octets are read as decimal (S11).
  static Result<Address> parse(std::string_view text, bool sloppy = false);
  /// The v4-mapped form of four octets in network byte order.
  static Address from_ipv4(const std::array<uint8_t, 4>& octets);
  /// 0.0.0.0 or ::
  static Address unspecified(Family family) { return family == Family::kIpv4 ? from_ipv4({}) : Address(); }

  [[nodiscard]] Family family() const { return is_ipv4() ? Family::kIpv4 : Family::kIpv6; }
  [[nodiscard]] bool is_ipv4() const;
  [[nodiscard]] bool is_ipv6() const { return !is_ipv4(); }
  [[nodiscard]] bool is_unspecified() const;
  [[nodiscard]] bool is_loopback() const;
  [[nodiscard]] bool is_link_local() const;
  [[nodiscard]] bool is_multicast() const;
  [[nodiscard]] const std::array<uint8_t, 16>& bytes() const { return bytes_; }
  /// The four octets of an IPv4 address; only when is_ipv4().
  [[nodiscard]] std::array<uint8_t, 4> ipv4() const;
  /// 32 or 128.
  [[nodiscard]] int bits() const { return is_ipv4() ? 32 : 128; }
  /// `10.0.0.1`, `fd00::1` (RFC 5952).
  [[nodiscard]] std::string to_string() const;
  /// The address `steps` above this one, within its family; nullopt past the end.
  [[nodiscard]] std::optional<Address> plus(uint64_t steps) const;

  auto operator<=>(const Address&) const = default;

 private:
  std::array<uint8_t, 16> bytes_{};
};

/// A prefix of either family; host bits are zero. `length` counts within the family (0-32 or 0-128).
class Cidr {
 public:
  Cidr() = default;
  /// Host bits of `address` are cleared; `length` is clamped to the family's bits.
  Cidr(const Address& address, int length);

  /// Parses `10.0.0.0/8`; a plain address is a full-length prefix.
  static Result<Cidr> parse(std::string_view text, bool sloppy = false);

  [[nodiscard]] const Address& address() const { return address_; }
  [[nodiscard]] int length() const { return length_; }
  /// The length counted over 16 bytes: IPv4 lengths plus 96.
  [[nodiscard]] int length128() const { return address_.is_ipv4() ? length_ + 96 : length_; }
  [[nodiscard]] Family family() const { return address_.family(); }
  [[nodiscard]] bool contains(const Address& address) const;
  [[nodiscard]] bool contains(const Cidr& other) const;
  [[nodiscard]] std::string to_string() const;

  auto operator<=>(const Cidr&) const = default;

 private:
  Address address_;
  int length_ = 0;
};

/// An Ethernet address.
struct Mac {
  std::array<uint8_t, 6> bytes{};

  /// Parses `02:00:00:00:00:01`.
  static Result<Mac> parse(std::string_view text);
  /// A random locally administered unicast address.
  static Mac random();
  [[nodiscard]] bool is_zero() const { return *this == Mac{}; }
  [[nodiscard]] std::string to_string() const;

  auto operator<=>(const Mac&) const = default;
};

}  // namespace bpfnet

template <>
struct std::hash<bpfnet::Address> {
  size_t operator()(const bpfnet::Address& address) const noexcept {
    return std::hash<std::string_view>{}(
        {reinterpret_cast<const char*>(address.bytes().data()), address.bytes().size()});
  }
};
