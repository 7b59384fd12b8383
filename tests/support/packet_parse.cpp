#include <netinet/in.h>

#include <algorithm>

#include "tests/support/packet.h"

namespace bpfnet::test {
namespace {

/// Reads wire bytes front to back; nothing is consumed that is not there.
class Reader {
 public:
  explicit Reader(const Bytes& bytes) : bytes_(bytes) {}

  [[nodiscard]] size_t left() const { return bytes_.size() - at_; }
  [[nodiscard]] uint8_t peek(size_t offset) const { return bytes_[at_ + offset]; }
  [[nodiscard]] uint16_t peek16(size_t offset) const {
    return static_cast<uint16_t>(peek(offset) << 8 | peek(offset + 1));
  }
  [[nodiscard]] uint32_t peek32(size_t offset) const {
    return uint32_t{peek16(offset)} << 16 | peek16(offset + 2);
  }
  [[nodiscard]] Mac mac(size_t offset) const {
    Mac mac;
    for (size_t i = 0; i < 6; ++i) mac.bytes[i] = peek(offset + i);
    return mac;
  }
  [[nodiscard]] Address ip4(size_t offset) const {
    return Address::from_ipv4({peek(offset), peek(offset + 1), peek(offset + 2), peek(offset + 3)});
  }
  [[nodiscard]] Address ip6(size_t offset) const {
    std::array<uint8_t, 16> bytes{};
    for (size_t i = 0; i < 16; ++i) bytes[i] = peek(offset + i);
    return Address(bytes);
  }
  [[nodiscard]] Bytes range(size_t offset, size_t size) const {
    const auto begin = bytes_.begin() + static_cast<std::ptrdiff_t>(at_ + offset);
    return Bytes(begin, begin + static_cast<std::ptrdiff_t>(size));
  }
  void skip(size_t size) { at_ += size; }

 private:
  const Bytes& bytes_;
  size_t at_ = 0;
};

/// What comes next in the packet; kNothing ends the walk and leaves the rest as a Payload.
constexpr int kNothing = -1;
constexpr int kIp4 = 256;
constexpr int kIp6 = 257;
constexpr int kArp = 258;
constexpr int kVxlan = 259;
constexpr int kEthernet = 260;
constexpr uint16_t kVxlanPort = 4789;

int after_ethernet(uint16_t type) {
  switch (type) {
    case 0x0800:
      return kIp4;
    case 0x86dd:
      return kIp6;
    case 0x0806:
      return kArp;
    default:
      return kNothing;
  }
}

int parse_ip4(Reader& in, Packet& packet) {
  if (in.left() < 20) return kNothing;
  const size_t header = (in.peek(0) & 0xf) * size_t{4};
  if (header < 20 || in.left() < header) return kNothing;
  Ip4 ip{.src = in.ip4(12), .dst = in.ip4(16)};
  const uint16_t fragment = in.peek16(6);
  // Bit 15 of the fragment word is reserved; a layer cannot express it.
  if ((fragment & 0x8000) != 0) return kNothing;
  ip.version = in.peek(0) >> 4;
  ip.ihl = static_cast<uint8_t>(header / 4);
  ip.tos = in.peek(1);
  ip.length = in.peek16(2);
  ip.id = in.peek16(4);
  ip.df = (fragment & 0x4000) != 0;
  ip.mf = (fragment & 0x2000) != 0;
  ip.offset = static_cast<uint16_t>((fragment & 0x1fff) * 8);
  ip.ttl = in.peek(8);
  ip.proto = in.peek(9);
  ip.checksum = in.peek16(10);
  ip.options = in.range(20, header - 20);
  packet.add(ip);
  in.skip(header);
  return ip.offset != 0 ? kNothing : *ip.proto;
}

int parse_ip6(Reader& in, Packet& packet) {
  if (in.left() < 40) return kNothing;
  Ip6 ip{.src = in.ip6(8), .dst = in.ip6(24), .hop_limit = in.peek(7)};
  ip.version = in.peek(0) >> 4;
  ip.traffic_class = static_cast<uint8_t>(in.peek16(0) >> 4);
  ip.flow_label = in.peek32(0) & 0xfffff;
  ip.length = in.peek16(4);
  ip.next = in.peek(6);
  packet.add(ip);
  in.skip(40);
  return *ip.next;
}

int parse_extension(Reader& in, Packet& packet, uint8_t kind) {
  if (in.left() < 8) return kNothing;
  const size_t size = (in.peek(1) + size_t{1}) * 8;
  if (in.left() < size) return kNothing;
  packet.add(Ext6{.kind = kind, .data = in.range(2, size - 2), .next = in.peek(0), .length = in.peek(1)});
  const int next = in.peek(0);
  in.skip(size);
  return next;
}

int parse_fragment(Reader& in, Packet& packet) {
  if (in.left() < 8 || in.peek(1) != 0 || (in.peek(3) & 6) != 0) return kNothing;
  const Frag6 fragment{.offset = static_cast<uint16_t>(in.peek16(2) & 0xfff8),
                       .more = (in.peek(3) & 1) != 0,
                       .id = in.peek32(4),
                       .next = in.peek(0)};
  packet.add(fragment);
  in.skip(8);
  return fragment.offset != 0 ? kNothing : *fragment.next;
}

int parse_tcp(Reader& in, Packet& packet) {
  if (in.left() < 20) return kNothing;
  const size_t header = (in.peek(12) >> 4) * size_t{4};
  // Reserved bits and the urgent pointer cannot be expressed by the layer.
  if (header < 20 || in.left() < header || (in.peek(12) & 0xf) != 0 || in.peek16(18) != 0) return kNothing;
  packet.add(Tcp{.sport = in.peek16(0),
                 .dport = in.peek16(2),
                 .flags = in.peek(13),
                 .seq = in.peek32(4),
                 .ack = in.peek32(8),
                 .window = in.peek16(14),
                 .options = in.range(20, header - 20),
                 .data_offset = static_cast<uint8_t>(header / 4),
                 .checksum = in.peek16(16)});
  in.skip(header);
  return kNothing;
}

int parse_udp(Reader& in, Packet& packet) {
  if (in.left() < 8) return kNothing;
  packet.add(
      Udp{.sport = in.peek16(0), .dport = in.peek16(2), .length = in.peek16(4), .checksum = in.peek16(6)});
  const bool tunnel = in.peek16(2) == kVxlanPort;
  in.skip(8);
  return tunnel ? kVxlan : kNothing;
}

int parse_ethernet(Reader& in, Packet& packet) {
  if (in.left() < 14) return kNothing;
  const uint16_t type = in.peek16(12);
  packet.add(Eth{.dst = in.mac(0), .src = in.mac(6), .type = type});
  in.skip(14);
  return after_ethernet(type);
}

int parse_vxlan(Reader& in, Packet& packet) {
  // Reserved bits cannot be expressed by the layer.
  if (in.left() < 8 || (in.peek32(0) & 0xffffff) != 0 || in.peek(7) != 0) return kNothing;
  packet.add(Vxlan{.vni = in.peek32(4) >> 8, .flags = in.peek(0)});
  in.skip(8);
  return kEthernet;
}

int parse_sctp(Reader& in, Packet& packet) {
  if (in.left() < 12) return kNothing;
  const uint32_t crc =
      in.peek(8) | uint32_t{in.peek(9)} << 8 | uint32_t{in.peek(10)} << 16 | uint32_t{in.peek(11)} << 24;
  packet.add(Sctp{.sport = in.peek16(0), .dport = in.peek16(2), .tag = in.peek32(4), .checksum = crc});
  in.skip(12);
  return kNothing;
}

template <typename Icmp>
int parse_icmp(Reader& in, Packet& packet) {
  if (in.left() < 8) return kNothing;
  const Icmp icmp{.type = in.peek(0),
                  .code = in.peek(1),
                  .id = in.peek16(4),
                  .seq = in.peek16(6),
                  .checksum = in.peek16(2)};
  packet.add(icmp);
  in.skip(8);
  if constexpr (std::is_same_v<Icmp, Icmp4>) {
    return icmp.type == 3 || icmp.type == 11 || icmp.type == 12 ? kIp4 : kNothing;
  }
  return icmp.type >= 1 && icmp.type <= 4 ? kIp6 : kNothing;
}

int parse_arp(Reader& in, Packet& packet) {
  if (in.left() < 28 || in.peek32(0) != 0x00010800 || in.peek16(4) != 0x0604) return kNothing;
  packet.add(Arp{.operation = in.peek16(6),
                 .sender_mac = in.mac(8),
                 .sender = in.ip4(14),
                 .target_mac = in.mac(18),
                 .target = in.ip4(24)});
  in.skip(28);
  return kNothing;
}

int parse_layer(int kind, Reader& in, Packet& packet) {
  switch (kind) {
    case kIp4:
      return parse_ip4(in, packet);
    case kIp6:
      return parse_ip6(in, packet);
    case kArp:
      return parse_arp(in, packet);
    case kVxlan:
      return parse_vxlan(in, packet);
    case kEthernet:
      return parse_ethernet(in, packet);
    case IPPROTO_HOPOPTS:
    case IPPROTO_ROUTING:
    case IPPROTO_DSTOPTS:
      return packet.find<Ip6>() ? parse_extension(in, packet, static_cast<uint8_t>(kind)) : kNothing;
    case IPPROTO_FRAGMENT:
      return packet.find<Ip6>() ? parse_fragment(in, packet) : kNothing;
    case IPPROTO_TCP:
      return parse_tcp(in, packet);
    case IPPROTO_UDP:
      return parse_udp(in, packet);
    case IPPROTO_SCTP:
      return parse_sctp(in, packet);
    case IPPROTO_ICMP:
      return parse_icmp<Icmp4>(in, packet);
    case IPPROTO_ICMPV6:
      return parse_icmp<Icmp6>(in, packet);
    default:
      return kNothing;
  }
}

template <typename T>
void drop_if_true(Packet& packet, const Bytes& wire, std::optional<T>& field) {
  const auto given = std::exchange(field, std::nullopt);
  if (packet.bytes() != wire) field = given;
}

/// Clears every override that says what would be computed anyway.
void normalise(Packet& packet, const Bytes& wire) {
  for (auto& layer : packet.layers()) {
    if (auto* eth = std::get_if<Eth>(&layer)) {
      drop_if_true(packet, wire, eth->type);
    } else if (auto* ip4 = std::get_if<Ip4>(&layer)) {
      drop_if_true(packet, wire, ip4->proto);
      drop_if_true(packet, wire, ip4->version);
      drop_if_true(packet, wire, ip4->ihl);
      drop_if_true(packet, wire, ip4->length);
      drop_if_true(packet, wire, ip4->checksum);
    } else if (auto* ip6 = std::get_if<Ip6>(&layer)) {
      drop_if_true(packet, wire, ip6->next);
      drop_if_true(packet, wire, ip6->version);
      drop_if_true(packet, wire, ip6->length);
    } else if (auto* ext = std::get_if<Ext6>(&layer)) {
      drop_if_true(packet, wire, ext->next);
      drop_if_true(packet, wire, ext->length);
    } else if (auto* fragment = std::get_if<Frag6>(&layer)) {
      drop_if_true(packet, wire, fragment->next);
    } else if (auto* tcp = std::get_if<Tcp>(&layer)) {
      drop_if_true(packet, wire, tcp->data_offset);
      drop_if_true(packet, wire, tcp->checksum);
    } else if (auto* udp = std::get_if<Udp>(&layer)) {
      drop_if_true(packet, wire, udp->length);
      drop_if_true(packet, wire, udp->checksum);
    } else if (auto* sctp = std::get_if<Sctp>(&layer)) {
      drop_if_true(packet, wire, sctp->checksum);
    } else if (auto* icmp4 = std::get_if<Icmp4>(&layer)) {
      drop_if_true(packet, wire, icmp4->checksum);
    } else if (auto* icmp6 = std::get_if<Icmp6>(&layer)) {
      drop_if_true(packet, wire, icmp6->checksum);
    }
  }
}

}  // namespace

Packet Packet::parse(const Bytes& bytes, bool l3) {
  Packet packet;
  Reader in(bytes);
  int kind = kNothing;
  if (!l3) {
    kind = kEthernet;
  } else if (l3 && in.left() > 0) {
    kind = in.peek(0) >> 4 == 6 ? kIp6 : kIp4;
  }
  while (kind != kNothing) kind = parse_layer(kind, in, packet);
  if (in.left() > 0) packet.add(Payload(in.range(0, in.left())));
  normalise(packet, bytes);
  return packet;
}

}  // namespace bpfnet::test
