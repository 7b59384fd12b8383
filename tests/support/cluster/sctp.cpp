#include "tests/support/cluster/sctp.h"

#include <netinet/in.h>

#include <stdexcept>
#include <utility>

#include "tests/support/packet.h"

namespace bpfnet::e2e {
namespace {

constexpr size_t kChecksum = 8;    ///< offset of the checksum in the common header
constexpr size_t kChunk = 12;      ///< of the chunk
constexpr size_t kSize = 12 + 20;  ///< common header and an INIT without parameters
constexpr uint8_t kInit = 1;
constexpr uint8_t kInitAck = 2;

void put(test::Bytes& out, uint32_t value, size_t bytes) {
  while (bytes-- > 0) out.push_back(static_cast<uint8_t>(value >> 8 * bytes));
}

uint32_t get(const test::Bytes& in, size_t at, size_t bytes) {
  uint32_t value = 0;
  for (size_t i = 0; i < bytes; i++) value = value << 8U | in[at + i];
  return value;
}

}  // namespace

std::string to_bytes(const SctpInit& init) {
  test::Bytes out;
  put(out, init.source_port, 2);
  put(out, init.destination_port, 2);
  put(out, init.tag, 4);
  put(out, 0, 4);
  put(out, init.ack ? kInitAck : kInit, 1);
  put(out, 0, 1);
  put(out, kSize - kChunk, 2);
  put(out, init.initiate_tag, 4);
  put(out, 65536, 4);  // advertised receiver window
  put(out, 1, 2);      // outbound streams
  put(out, 1, 2);      // inbound streams
  put(out, 1, 4);      // initial TSN
  const uint32_t crc = test::crc32c(out);
  for (size_t i = 0; i < 4; i++) out[kChecksum + i] = static_cast<uint8_t>(crc >> 8 * i);
  return {out.begin(), out.end()};
}

std::optional<SctpInit> parse_sctp_init(std::span<const char> bytes) {
  test::Bytes in(bytes.begin(), bytes.end());
  if (in.size() < kSize || (in[kChunk] != kInit && in[kChunk] != kInitAck)) return std::nullopt;
  uint32_t crc = 0;
  for (size_t i = 0; i < 4; i++) crc |= static_cast<uint32_t>(std::exchange(in[kChecksum + i], 0)) << 8 * i;
  if (crc != test::crc32c(in)) return std::nullopt;
  return SctpInit{.source_port = static_cast<uint16_t>(get(in, 0, 2)),
                  .destination_port = static_cast<uint16_t>(get(in, 2, 2)),
                  .tag = get(in, 4, 4),
                  .initiate_tag = get(in, kChunk + 4, 4),
                  .ack = in[kChunk] == kInitAck};
}

SctpSocket::SctpSocket(const Netns& netns, Family family)
    : fd_(netns.in([family] {
        return Fd(::socket(family == Family::kIpv4 ? AF_INET : AF_INET6,
                           SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_SCTP));
      })),
      family_(family) {
  if (!fd_) throw std::runtime_error("raw SCTP socket in " + netns.name());
}

void SctpSocket::send(const SctpInit& init, const Address& to) const {
  sockaddr_storage name{};
  const socklen_t length = to_sockaddr({to, 0}, name);
  const std::string bytes = to_bytes(init);
  // What cannot be sent is an answer that does not come.
  (void)::sendto(fd(), bytes.data(), bytes.size(), 0, reinterpret_cast<sockaddr*>(&name), length);
}

std::optional<SctpSocket::Received> SctpSocket::receive() const {
  while (true) {
    char buffer[2048];
    sockaddr_storage name{};
    socklen_t length = sizeof(name);
    const ssize_t n =
        ::recvfrom(fd(), buffer, sizeof(buffer), 0, reinterpret_cast<sockaddr*>(&name), &length);
    if (n < 0) return std::nullopt;
    std::span<const char> packet(buffer, static_cast<size_t>(n));
    if (family_ == Family::kIpv4)  // its raw sockets show the IP header
      packet = packet.subspan(std::min(packet.size(), static_cast<size_t>(buffer[0] & 0xf) * 4));
    if (const auto init = parse_sctp_init(packet)) return Received{*init, from_sockaddr(name).address};
  }
}

}  // namespace bpfnet::e2e
