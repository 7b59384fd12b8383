#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/fd.h"
#include "tests/support/cluster/netns.h"
#include "tests/support/cluster/sockets.h"

namespace bpfnet::e2e {

/// The first two packets of an SCTP association (RFC 9260, 3.3.2 and 3.3.3), in host byte order.
struct SctpInit {
  uint16_t source_port = 0;
  uint16_t destination_port = 0;
  uint32_t tag = 0;           ///< verification tag: 0 in an INIT, the peer's initiate tag in an INIT ACK
  uint32_t initiate_tag = 0;  ///< what the peer shall send as its verification tag; never 0
  bool ack = false;
};

/// The wire form, with its checksum.
std::string to_bytes(const SctpInit& init);
/// nullopt: another chunk, cut short, or the checksum is wrong, which a receiver drops in silence.
std::optional<SctpInit> parse_sctp_init(std::span<const char> bytes);

/// Stands in for an SCTP socket, which many kernels (CI's among them) are built without: a raw socket that
/// sees every SCTP packet a namespace gets.
class SctpSocket {
 public:
  SctpSocket(const Netns& netns, Family family);
  [[nodiscard]] int fd() const { return fd_.get(); }
  void send(const SctpInit& init, const Address& to) const;
  struct Received {
    SctpInit init;
    Address from;
  };
  /// The next INIT or INIT ACK; nullopt: none is there now.
  [[nodiscard]] std::optional<Received> receive() const;

 private:
  Fd fd_;
  Family family_;
};

}  // namespace bpfnet::e2e
