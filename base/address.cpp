#include "base/address.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <random>

namespace bpfnet {
namespace {

constexpr std::array<uint8_t, 12> kMappedPrefix = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

std::optional<int> parse_int(std::string_view text, int low, int high) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < low || value > high) return {};
  return value;
}

// inet_pton refuses leading zeros; kube-proxy's parsers read them as decimal (S11).
std::optional<Address> parse_sloppy_ipv4(std::string_view text) {
  std::array<uint8_t, 4> octets{};
  for (size_t i = 0; i < octets.size(); ++i) {
    const size_t end = i < 3 ? text.find('.') : text.size();
    if (end == std::string_view::npos) return {};
    const auto octet = parse_int(text.substr(0, end), 0, 255);
    if (!octet) return {};
    octets[i] = static_cast<uint8_t>(*octet);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return Address::from_ipv4(octets);
}

bool has_prefix(const std::array<uint8_t, 16>& bytes, const std::array<uint8_t, 16>& prefix, int bits) {
  const int whole = bits / 8;
  if (std::memcmp(bytes.data(), prefix.data(), static_cast<size_t>(whole)) != 0) return false;
  const int rest = bits % 8;
  if (rest == 0) return true;
  const auto index = static_cast<size_t>(whole);
  const auto mask = static_cast<uint8_t>(0xff << (8 - rest));
  return (bytes[index] & mask) == (prefix[index] & mask);
}

}  // namespace

Result<Address> Address::parse(std::string_view text, bool sloppy) {
  // inet_pton would stop at a NUL and take what stands before it.
  if (text.find('\0') != std::string_view::npos) return fail("an IP address holds a NUL byte");
  const std::string copy(text);
  std::array<uint8_t, 4> octets{};
  if (inet_pton(AF_INET, copy.c_str(), octets.data()) == 1) return from_ipv4(octets);
  std::array<uint8_t, 16> bytes{};
  if (inet_pton(AF_INET6, copy.c_str(), bytes.data()) == 1) return Address(bytes);
  if (sloppy) {
    if (const auto address = parse_sloppy_ipv4(text)) return *address;
  }
  return fail("'{}' is not an IP address", text);
}

Address Address::from_ipv4(const std::array<uint8_t, 4>& octets) {
  std::array<uint8_t, 16> bytes{};
  std::copy(kMappedPrefix.begin(), kMappedPrefix.end(), bytes.begin());
  std::copy(octets.begin(), octets.end(), bytes.begin() + 12);
  return Address(bytes);
}

bool Address::is_ipv4() const {
  return std::equal(kMappedPrefix.begin(), kMappedPrefix.end(), bytes_.begin());
}

bool Address::is_unspecified() const {
  if (is_ipv4()) return ipv4() == std::array<uint8_t, 4>{};
  return bytes_ == std::array<uint8_t, 16>{};
}

bool Address::is_loopback() const {
  if (is_ipv4()) return bytes_[12] == 127;
  std::array<uint8_t, 16> one{};
  one[15] = 1;
  return bytes_ == one;
}

bool Address::is_link_local() const {
  if (is_ipv4()) return bytes_[12] == 169 && bytes_[13] == 254;
  return bytes_[0] == 0xfe && (bytes_[1] & 0xc0) == 0x80;
}

bool Address::is_multicast() const {
  return is_ipv4() ? (bytes_[12] & 0xf0) == 0xe0 : bytes_[0] == 0xff;
}

std::array<uint8_t, 4> Address::ipv4() const {
  return {bytes_[12], bytes_[13], bytes_[14], bytes_[15]};
}

std::string Address::to_string() const {
  char text[INET6_ADDRSTRLEN] = {};
  if (is_ipv4()) {
    inet_ntop(AF_INET, bytes_.data() + 12, text, sizeof(text));
  } else {
    inet_ntop(AF_INET6, bytes_.data(), text, sizeof(text));
  }
  return text;
}

std::optional<Address> Address::plus(uint64_t steps) const {
  Address result = *this;
  const size_t first = is_ipv4() ? 12 : 0;
  uint64_t carry = steps;
  for (size_t i = 16; i-- > first && carry != 0;) {
    const uint64_t sum = result.bytes_[i] + (carry & 0xff);
    result.bytes_[i] = static_cast<uint8_t>(sum);
    carry = (carry >> 8) + (sum >> 8);
  }
  if (carry != 0) return {};
  return result;
}

Cidr::Cidr(const Address& address, int length) : length_(std::clamp(length, 0, address.bits())) {
  auto bytes = address.bytes();
  const int keep = address.is_ipv4() ? length_ + 96 : length_;
  for (int i = 0; i < 16; ++i) {
    const int bits = std::clamp(keep - i * 8, 0, 8);
    bytes[static_cast<size_t>(i)] &= static_cast<uint8_t>(0xff << (8 - bits));
  }
  address_ = Address(bytes);
}

Result<Cidr> Cidr::parse(std::string_view text, bool sloppy) {
  const size_t slash = text.find('/');
  const auto address = Address::parse(text.substr(0, slash), sloppy);
  if (!address) return fail("'{}' is not a CIDR such as 10.0.0.0/8", text);
  if (slash == std::string_view::npos) return Cidr(*address, address->bits());
  std::string_view digits = text.substr(slash + 1);
  while (sloppy && digits.size() > 1 && digits.front() == '0') digits.remove_prefix(1);
  const auto length = parse_int(digits, 0, address->bits());
  if (!length) return fail("'{}': the prefix length must be 0-{}", text, address->bits());
  return Cidr(*address, *length);
}

bool Cidr::contains(const Address& address) const {
  return address.family() == family() && has_prefix(address.bytes(), address_.bytes(), length128());
}

bool Cidr::contains(const Cidr& other) const {
  return other.length() >= length() && contains(other.address());
}

std::string Cidr::to_string() const {
  return fmt::format("{}/{}", address_.to_string(), length_);
}

Result<Mac> Mac::parse(std::string_view text) {
  Mac mac;
  for (size_t i = 0; i < 6; ++i) {
    const size_t at = i * 3;
    unsigned value = 0;
    if (text.size() != 17 || (i < 5 && text[at + 2] != ':')) return fail("'{}' is not a MAC address", text);
    const auto [end, error] = std::from_chars(text.data() + at, text.data() + at + 2, value, 16);
    if (error != std::errc{} || end != text.data() + at + 2) return fail("'{}' is not a MAC address", text);
    mac.bytes[i] = static_cast<uint8_t>(value);
  }
  return mac;
}

Mac Mac::random() {
  std::random_device device;
  Mac mac;
  for (auto& byte : mac.bytes) byte = static_cast<uint8_t>(device());
  mac.bytes[0] = static_cast<uint8_t>((mac.bytes[0] & 0xfe) | 0x02);
  return mac;
}

std::string Mac::to_string() const {
  return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", bytes[0], bytes[1], bytes[2], bytes[3],
                     bytes[4], bytes[5]);
}

}  // namespace bpfnet
