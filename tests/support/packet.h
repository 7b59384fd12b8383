#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/address.h"

/// The packet DSL: `Eth{} / Ip{.src = client, .dst = server} / Tcp{.dport = 80} / Payload{"hello"}`.
///
/// Lengths, checksums, Ethernet types and next-protocol fields are computed from what follows; where a field
/// is an optional, a value given there is sent as it is, so a packet can lie. Numbers are in host order.
namespace bpfnet::test {

using Bytes = std::vector<uint8_t>;

struct Eth {
  Mac dst;
  Mac src;
  std::optional<uint16_t> type;
};

/// A layer whose bytes are given; also how data is written: Payload{"text"} or Payload::of_size(1000).
struct Payload {
  Bytes bytes;
  Payload() = default;
  explicit Payload(Bytes data) : bytes(std::move(data)) {}
  explicit Payload(std::string_view text) : bytes(text.begin(), text.end()) {}
  static Payload of_size(size_t size);
};

struct Arp {
  uint16_t operation = 1;  ///< 1 request, 2 reply
  Mac sender_mac;
  Address sender;
  Mac target_mac;
  Address target;
};

struct Ip4 {
  Address src;
  Address dst;
  uint8_t ttl = 64;
  uint8_t tos = 0;
  uint16_t id = 0;
  bool df = false;
  bool mf = false;
  uint16_t offset = 0;  ///< of a fragment, in bytes, a multiple of 8
  Bytes options = {};   ///< padded to a multiple of 4
  std::optional<uint8_t> proto = {};
  std::optional<uint8_t> version = {};
  std::optional<uint8_t> ihl = {};  ///< in 4-byte words
  std::optional<uint16_t> length = {};
  std::optional<uint16_t> checksum = {};
};

struct Ip6 {
  Address src;
  Address dst;
  uint8_t hop_limit = 64;
  uint8_t traffic_class = 0;
  uint32_t flow_label = 0;
  std::optional<uint8_t> next = {};
  std::optional<uint8_t> version = {};
  std::optional<uint16_t> length = {};
};

/// Becomes Ip4 or Ip6 by the family of its addresses.
struct Ip {
  Address src;
  Address dst;
  uint8_t ttl = 64;
};

/// Hop-by-hop, destination options or routing header: next header, length in 8-byte units, `data` padded.
struct Ext6 {
  uint8_t kind = 0;  ///< 0 hop-by-hop, 43 routing, 60 destination options
  Bytes data = {};
  std::optional<uint8_t> next = {};
  std::optional<uint8_t> length = {};  ///< in 8-byte units, the first not counted
};

struct Frag6 {
  uint16_t offset = 0;  ///< in bytes, a multiple of 8
  bool more = false;
  uint32_t id = 0;
  std::optional<uint8_t> next = {};
};

enum TcpFlags : uint8_t { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16 };

struct Tcp {
  uint16_t sport = 0;
  uint16_t dport = 0;
  uint8_t flags = SYN;
  uint32_t seq = 0;
  uint32_t ack = 0;
  uint16_t window = 65535;
  Bytes options = {};                       ///< padded to a multiple of 4
  std::optional<uint8_t> data_offset = {};  ///< in 4-byte words
  std::optional<uint16_t> checksum = {};
};

struct Udp {
  uint16_t sport = 0;
  uint16_t dport = 0;
  std::optional<uint16_t> length = {};
  std::optional<uint16_t> checksum = {};
};

struct Sctp {
  uint16_t sport = 0;
  uint16_t dport = 0;
  uint32_t tag = 0;
  std::optional<uint32_t> checksum = {};  ///< CRC32c, as it stands in the packet read little-endian
};

/// RFC 7348: followed by the Ethernet frame inside.
struct Vxlan {
  uint32_t vni = 0;
  uint8_t flags = 8;  ///< 8: the VNI is valid
};

/// The eight bytes every ICMP message begins with; `id` and `seq` are bytes 4-5 and 6-7 whatever they mean.
struct Icmp4 {
  uint8_t type = 0;
  uint8_t code = 0;
  uint16_t id = 0;
  uint16_t seq = 0;
  std::optional<uint16_t> checksum = {};
};
struct Icmp6 {
  uint8_t type = 0;
  uint8_t code = 0;
  uint16_t id = 0;
  uint16_t seq = 0;
  std::optional<uint16_t> checksum = {};
};

// Become Icmp4 or Icmp6 by the IP header before them. Errors are followed by the packet inside: see quote().
struct Echo {
  uint16_t id = 0;
  uint16_t seq = 1;
  bool reply = false;
};
struct PortUnreachable {};
struct TimeExceeded {};
struct TooBig {
  uint16_t mtu = 0;
};

using Layer = std::variant<Eth, Arp, Ip4, Ip6, Ext6, Frag6, Tcp, Udp, Sctp, Vxlan, Icmp4, Icmp6, Payload>;

class Packet {
 public:
  Packet() = default;
  template <typename L>
  explicit Packet(L layer) {
    add(std::move(layer));
  }

  /// Reads wire bytes that begin with an Ethernet header, or an IP header when `l3`. Never fails: what cannot
  /// be read is a Payload. parse(b).bytes() == b for every b; overrides are set only where the packet lies.
  static Packet parse(const Bytes& bytes, bool l3 = false);

  void add(Layer layer) { layers_.push_back(std::move(layer)); }
  void add(const Ip& ip);
  void add(const Echo& echo);
  void add(PortUnreachable);
  void add(TimeExceeded);
  void add(TooBig);
  void add(const Packet& rest) { layers_.insert(layers_.end(), rest.layers_.begin(), rest.layers_.end()); }

  [[nodiscard]] Bytes bytes() const;
  [[nodiscard]] const std::vector<Layer>& layers() const { return layers_; }
  [[nodiscard]] std::vector<Layer>& layers() { return layers_; }

  /// The nth layer of a type, null if there is none.
  template <typename L>
  [[nodiscard]] const L* find(int nth = 0) const {
    for (const auto& layer : layers_) {
      if (const auto* found = std::get_if<L>(&layer); found && nth-- == 0) return found;
    }
    return nullptr;
  }
  /// As find(), but a missing layer is an exception: the test ends with its name.
  template <typename L>
  [[nodiscard]] const L& at(int nth = 0) const {
    if (const auto* found = find<L>(nth)) return *found;
    throw std::out_of_range("no such layer in\n" + describe());
  }
  template <typename L>
  [[nodiscard]] L& get(int nth = 0) {
    return const_cast<L&>(std::as_const(*this).at<L>(nth));
  }

  /// One line a layer, decoded; wrong checksums and lengths are named.
  [[nodiscard]] std::string describe() const;

  bool operator==(const Packet& other) const { return bytes() == other.bytes(); }

 private:
  [[nodiscard]] bool ipv6() const;
  std::vector<Layer> layers_;
};

template <typename T>
concept PacketPart = requires(Packet p, T t) {
  p.add(t);
};

template <PacketPart A, PacketPart B>
Packet operator/(const A& outer, const B& inner) {
  Packet packet;
  packet.add(outer);
  packet.add(inner);
  return packet;
}
template <PacketPart B>
Packet operator/(Packet packet, const B& inner) {
  packet.add(inner);
  return packet;
}

/// The packet without its Ethernet header, cut to `max` bytes: what an ICMP error carries inside.
Payload quote(const Packet& packet, size_t max = 128);
/// ICMPv6 neighbour solicitation (RFC 4861 4.3); a zero `mac` leaves out the source link-layer option.
Packet neighbour_solicit(const Address& target, const Mac& mac);
/// The answer of a router: flags R, S and O set.
Packet neighbour_advert(const Address& target, const Mac& mac);
/// The fragments of a whole packet, each with at most `size` bytes (a multiple of 8) of the datagram.
std::vector<Packet> fragments(const Packet& packet, uint16_t size, uint16_t id);

/// What differs, decoded, one line a field; empty when the bytes are the same. Both begin with the same
/// layer.
std::string diff(const Packet& want, const Packet& got);
void PrintTo(const Packet& packet, std::ostream* out);

/// RFC 1071 sum of `bytes` folded and inverted; `start` is added unfolded.
uint16_t internet_checksum(const Bytes& bytes, uint32_t start = 0);
uint32_t crc32c(const Bytes& bytes);

}  // namespace bpfnet::test
