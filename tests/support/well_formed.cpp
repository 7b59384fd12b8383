#include "tests/support/well_formed.h"

#include <netinet/in.h>

#include <algorithm>
#include <utility>

namespace bpfnet::test {
namespace {

uint16_t get16(const Bytes& bytes, size_t at) {
  return static_cast<uint16_t>(bytes[at] << 8 | bytes[at + 1]);
}

Address address6(const Bytes& frame, size_t at) {
  std::array<uint8_t, 16> bytes{};
  std::copy_n(frame.begin() + static_cast<std::ptrdiff_t>(at), 16, bytes.begin());
  return Address(bytes);
}

bool transport_fits(const Bytes& frame, const WellFormed& headers, bool first_fragment) {
  const size_t room = headers.end - headers.l4;
  switch (headers.proto) {
    case IPPROTO_TCP: {
      if (room < 20) return false;
      const size_t offset = (frame[headers.l4 + 12] >> 4) * size_t{4};
      return offset >= 20 && offset <= room;
    }
    case IPPROTO_UDP: {
      if (room < 8) return false;
      const size_t length = get16(frame, headers.l4 + 4);
      return length >= 8 && (first_fragment || length <= room);
    }
    case IPPROTO_SCTP:
      return room >= 12;
    case IPPROTO_ICMP:
    case IPPROTO_ICMPV6:
      return room >= 8;
    default:
      return false;
  }
}

std::optional<WellFormed> well_formed_ip4(const Bytes& frame) {
  constexpr size_t kIp = 14;
  if (frame.size() < kIp + 20 || frame[kIp] >> 4 != 4) return {};
  const size_t header = (frame[kIp] & 0xf) * size_t{4};
  const size_t total = get16(frame, kIp + 2);
  if (header < 20 || total < header || kIp + total > frame.size()) return {};
  WellFormed result{.src = Address::from_ipv4({frame[26], frame[27], frame[28], frame[29]}),
                    .dst = Address::from_ipv4({frame[30], frame[31], frame[32], frame[33]}),
                    .proto = frame[kIp + 9],
                    .l4 = kIp + header,
                    .end = kIp + total};
  const uint16_t fragment = get16(frame, kIp + 6);
  result.later_fragment = (fragment & 0x1fff) != 0;
  if (result.proto == IPPROTO_ICMPV6) return {};
  if (!result.later_fragment && !transport_fits(frame, result, (fragment & 0x2000) != 0)) return {};
  return result;
}

std::optional<WellFormed> well_formed_ip6(const Bytes& frame) {
  constexpr size_t kIp = 14;
  if (frame.size() < kIp + 40 || frame[kIp] >> 4 != 6) return {};
  WellFormed result{.src = address6(frame, kIp + 8),
                    .dst = address6(frame, kIp + 24),
                    .proto = frame[kIp + 6],
                    .l4 = kIp + 40,
                    .end = kIp + 40 + get16(frame, kIp + 4)};
  if (result.end > frame.size() || result.src.is_ipv4() || result.dst.is_ipv4()) return {};
  bool first_fragment = false;
  while (result.proto == IPPROTO_HOPOPTS || result.proto == IPPROTO_ROUTING ||
         result.proto == IPPROTO_DSTOPTS || result.proto == IPPROTO_FRAGMENT) {
    if (result.l4 + 8 > result.end) return {};
    const bool fragment = result.proto == IPPROTO_FRAGMENT;
    const size_t size = fragment ? 8 : (frame[result.l4 + 1] + 1U) * 8;
    if (fragment) {
      result.later_fragment = (get16(frame, result.l4 + 2) & 0xfff8) != 0;
      first_fragment = (get16(frame, result.l4 + 2) & 1) != 0;
    }
    result.proto = frame[result.l4];
    result.l4 += size;
    if (result.l4 > result.end) return {};
    if (fragment && result.later_fragment) return result;
  }
  if (result.proto == IPPROTO_ICMP || !transport_fits(frame, result, first_fragment)) return {};
  return result;
}

/// RFC 9260 6.8: over the packet with a checksum of zero; a zero on the wire is left to the device.
bool sctp_checksum_right(Bytes packet) {
  constexpr size_t kField = 8;
  uint32_t stored = 0;
  for (size_t i = 0; i < 4; ++i)
    stored |= static_cast<uint32_t>(std::exchange(packet[kField + i], 0)) << 8 * i;
  return stored == 0 || stored == crc32c(packet);
}

}  // namespace

std::optional<WellFormed> well_formed(const Bytes& frame) {
  if (frame.size() < 14) return {};
  if (get16(frame, 12) == 0x0800) return well_formed_ip4(frame);
  if (get16(frame, 12) == 0x86dd) return well_formed_ip6(frame);
  return {};
}

bool checksums_right(const Bytes& frame, const WellFormed& headers) {
  const bool v4 = get16(frame, 12) == 0x0800;
  if (v4) {
    const auto begin = frame.begin() + 14;
    if (internet_checksum(Bytes(begin, begin + static_cast<std::ptrdiff_t>(headers.l4 - 14))) != 0)
      return false;
  }
  if (headers.later_fragment) return true;
  Bytes segment(frame.begin() + static_cast<std::ptrdiff_t>(headers.l4),
                frame.begin() + static_cast<std::ptrdiff_t>(headers.end));
  if (headers.proto == IPPROTO_SCTP) return sctp_checksum_right(std::move(segment));
  if (headers.proto == IPPROTO_UDP && v4 && get16(segment, 6) == 0) return true;
  if (headers.proto == IPPROTO_UDP) segment.resize(std::min<size_t>(segment.size(), get16(segment, 4)));
  const auto size = static_cast<uint32_t>(segment.size());
  if (segment.size() % 2 != 0) segment.push_back(0);
  if (headers.proto != IPPROTO_ICMP) {
    const size_t addresses = v4 ? 26 : 22;
    segment.insert(segment.end(), frame.begin() + static_cast<std::ptrdiff_t>(addresses),
                   frame.begin() + static_cast<std::ptrdiff_t>(addresses + (v4 ? 8 : 32)));
    return internet_checksum(segment, size + headers.proto) == 0;
  }
  return internet_checksum(segment) == 0;
}

}  // namespace bpfnet::test
