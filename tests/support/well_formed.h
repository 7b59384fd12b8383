#pragma once

#include <optional>

#include "tests/support/packet.h"

namespace bpfnet::test {

/// What a careful reader says of a packet's headers; written from the RFCs, shares nothing with the programs.
struct WellFormed {
  Address src;
  Address dst;
  uint8_t proto = 0;  ///< of the transport header, behind all IPv6 extension headers
  bool later_fragment = false;
  size_t l4 = 0;   ///< offset of the transport header in the frame
  size_t end = 0;  ///< of the IP packet in the frame; padding follows
};

/// nullopt: a header is cut off, contradicts the packet, or is none that bpfnet tracks.
std::optional<WellFormed> well_formed(const Bytes& frame);

/// true when the transport checksum (and that of the IPv4 header) is right, or the packet has none.
bool checksums_right(const Bytes& frame, const WellFormed& headers);

}  // namespace bpfnet::test
