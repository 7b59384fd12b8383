#include "control/ipam/range.h"

#include <algorithm>
#include <limits>

namespace bpfnet::ipam {
namespace {

Address last_of(const Cidr& cidr) {
  auto bytes = cidr.address().bytes();
  for (int bit = cidr.length128(); bit < 128; ++bit) {
    bytes[static_cast<size_t>(bit / 8)] |= static_cast<uint8_t>(0x80 >> (bit % 8));
  }
  return Address(bytes);
}

Address before(const Address& address) {
  auto bytes = address.bytes();
  for (size_t i = bytes.size(); i-- > 0;) {
    if (bytes[i]-- != 0) break;
  }
  return Address(bytes);
}

uint64_t distance(const Address& first, const Address& last) {
  uint64_t high = 0;
  uint64_t low = 0;
  uint64_t borrow = 0;
  for (size_t i = 16; i-- > 0;) {
    const uint64_t difference = uint64_t{last.bytes()[i]} - first.bytes()[i] - borrow;
    borrow = difference >> 63;
    (i < 8 ? high : low) |= (difference & 0xff) << (8 * ((15 - i) % 8));
  }
  return high != 0 ? std::numeric_limits<uint64_t>::max() : low;
}

}  // namespace

AddressRange AddressRange::of(const Cidr& cidr) {
  AddressRange range{cidr.address(), last_of(cidr), {}, cidr.to_string()};
  const int host_bits = cidr.address().bits() - cidr.length();
  if (host_bits >= 2) {
    range.first = *range.first.plus(1);
    if (cidr.address().is_ipv4()) range.last = before(range.last);
  }
  return range;
}

bool AddressRange::contains(const Address& address) const {
  return address.family() == family() && first <= address && address <= last;
}

uint64_t AddressRange::size() const {
  const uint64_t steps = distance(first, last);
  if (steps == std::numeric_limits<uint64_t>::max()) return steps;
  const auto kept =
      std::count_if(reserved.begin(), reserved.end(), [this](const Address& a) { return contains(a); });
  return steps + 1 - static_cast<uint64_t>(kept);
}

}  // namespace bpfnet::ipam
