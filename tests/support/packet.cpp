#include "tests/support/packet.h"

#include <netinet/in.h>

#include <algorithm>
#include <array>

namespace bpfnet::test {
namespace {

void put8(Bytes& out, uint8_t value) {
  out.push_back(value);
}
void put16(Bytes& out, uint16_t value) {
  put8(out, static_cast<uint8_t>(value >> 8));
  put8(out, static_cast<uint8_t>(value));
}
void put32(Bytes& out, uint32_t value) {
  put16(out, static_cast<uint16_t>(value >> 16));
  put16(out, static_cast<uint16_t>(value));
}
void append(Bytes& out, const Bytes& more) {
  out.insert(out.end(), more.begin(), more.end());
}
void put_mac(Bytes& out, const Mac& mac) {
  out.insert(out.end(), mac.bytes.begin(), mac.bytes.end());
}
void put_ip4(Bytes& out, const Address& address) {
  const auto octets = address.ipv4();
  out.insert(out.end(), octets.begin(), octets.end());
}
void put_ip6(Bytes& out, const Address& address) {
  out.insert(out.end(), address.bytes().begin(), address.bytes().end());
}
void set16(Bytes& out, size_t at, uint16_t value) {
  out[at] = static_cast<uint8_t>(value >> 8);
  out[at + 1] = static_cast<uint8_t>(value);
}
Bytes padded(Bytes bytes, size_t unit, size_t head = 0) {
  while ((bytes.size() + head) % unit != 0) bytes.push_back(0);
  return bytes;
}
uint32_t sum_of(const Bytes& bytes) {
  uint32_t sum = 0;
  for (size_t i = 0; i < bytes.size(); ++i) sum += i % 2 == 0 ? uint32_t{bytes[i]} << 8 : bytes[i];
  return sum;
}

/// What a layer must know of its neighbours: the IP header before it, the bytes and the protocol after it.
struct Surroundings {
  const Layer* ip = nullptr;
  const Layer* next = nullptr;
  Bytes rest;
};

uint8_t protocol_of(const Layer* layer) {
  if (!layer) return IPPROTO_NONE;
  if (std::holds_alternative<Tcp>(*layer)) return IPPROTO_TCP;
  if (std::holds_alternative<Udp>(*layer)) return IPPROTO_UDP;
  if (std::holds_alternative<Sctp>(*layer)) return IPPROTO_SCTP;
  if (std::holds_alternative<Icmp4>(*layer)) return IPPROTO_ICMP;
  if (std::holds_alternative<Icmp6>(*layer)) return IPPROTO_ICMPV6;
  if (std::holds_alternative<Frag6>(*layer)) return IPPROTO_FRAGMENT;
  if (std::holds_alternative<Ip4>(*layer)) return IPPROTO_IPIP;
  if (std::holds_alternative<Ip6>(*layer)) return IPPROTO_IPV6;
  if (const auto* ext = std::get_if<Ext6>(layer)) return ext->kind;
  return IPPROTO_NONE;
}

uint16_t ethertype_of(const Layer* layer) {
  if (!layer) return 0;
  if (std::holds_alternative<Arp>(*layer)) return 0x0806;
  return std::holds_alternative<Ip6>(*layer) ? 0x86dd : 0x0800;
}

uint32_t pseudo_header(const Surroundings& around, uint8_t proto, size_t length) {
  Bytes header;
  if (around.ip) {
    if (const auto* v4 = std::get_if<Ip4>(around.ip)) {
      put_ip4(header, v4->src);
      put_ip4(header, v4->dst);
    } else if (const auto* v6 = std::get_if<Ip6>(around.ip)) {
      put_ip6(header, v6->src);
      put_ip6(header, v6->dst);
    }
  }
  put32(header, static_cast<uint32_t>(length));
  put32(header, proto);
  return sum_of(header);
}

/// Puts the checksum over `out` (its field at `at` is zero) and the pseudo header, or what the test asked
/// for.
void finish_checksum(Bytes& out, size_t at, uint32_t start, std::optional<uint16_t> forced,
                     bool zero_is_none) {
  uint16_t sum = internet_checksum(out, start);
  if (zero_is_none && sum == 0) sum = 0xffff;
  set16(out, at, forced.value_or(sum));
}

Bytes encode(const Eth& eth, const Surroundings& around) {
  Bytes out;
  put_mac(out, eth.dst);
  put_mac(out, eth.src);
  put16(out, eth.type.value_or(ethertype_of(around.next)));
  append(out, around.rest);
  return out;
}

Bytes encode(const Arp& arp, const Surroundings& around) {
  Bytes out;
  put16(out, 1);
  put16(out, 0x0800);
  put8(out, 6);
  put8(out, 4);
  put16(out, arp.operation);
  put_mac(out, arp.sender_mac);
  put_ip4(out, arp.sender);
  put_mac(out, arp.target_mac);
  put_ip4(out, arp.target);
  append(out, around.rest);
  return out;
}

Bytes encode(const Ip4& ip, const Surroundings& around) {
  const Bytes options = padded(ip.options, 4);
  const size_t header = 20 + options.size();
  Bytes out;
  put8(out, static_cast<uint8_t>(ip.version.value_or(4) << 4 | (ip.ihl.value_or(header / 4) & 0xf)));
  put8(out, ip.tos);
  put16(out, ip.length.value_or(static_cast<uint16_t>(header + around.rest.size())));
  put16(out, ip.id);
  put16(out, static_cast<uint16_t>((ip.df ? 0x4000 : 0) | (ip.mf ? 0x2000 : 0) | (ip.offset / 8)));
  put8(out, ip.ttl);
  put8(out, ip.proto.value_or(protocol_of(around.next)));
  put16(out, 0);
  put_ip4(out, ip.src);
  put_ip4(out, ip.dst);
  append(out, options);
  finish_checksum(out, 10, 0, ip.checksum, false);
  append(out, around.rest);
  return out;
}

Bytes encode(const Ip6& ip, const Surroundings& around) {
  Bytes out;
  put32(out, uint32_t{ip.version.value_or(6)} << 28 | uint32_t{ip.traffic_class} << 20 |
                 (ip.flow_label & 0xfffff));
  put16(out, ip.length.value_or(static_cast<uint16_t>(around.rest.size())));
  put8(out, ip.next.value_or(protocol_of(around.next)));
  put8(out, ip.hop_limit);
  put_ip6(out, ip.src);
  put_ip6(out, ip.dst);
  append(out, around.rest);
  return out;
}

Bytes encode(const Ext6& ext, const Surroundings& around) {
  const Bytes data = padded(ext.data, 8, 2);
  Bytes out;
  put8(out, ext.next.value_or(protocol_of(around.next)));
  put8(out, ext.length.value_or(static_cast<uint8_t>((data.size() + 2) / 8 - 1)));
  append(out, data);
  append(out, around.rest);
  return out;
}

Bytes encode(const Frag6& fragment, const Surroundings& around) {
  Bytes out;
  put8(out, fragment.next.value_or(protocol_of(around.next)));
  put8(out, 0);
  put16(out, static_cast<uint16_t>((fragment.offset & 0xfff8) | (fragment.more ? 1 : 0)));
  put32(out, fragment.id);
  append(out, around.rest);
  return out;
}

Bytes encode(const Tcp& tcp, const Surroundings& around) {
  const Bytes options = padded(tcp.options, 4);
  const size_t header = 20 + options.size();
  Bytes out;
  put16(out, tcp.sport);
  put16(out, tcp.dport);
  put32(out, tcp.seq);
  put32(out, tcp.ack);
  put8(out, static_cast<uint8_t>(tcp.data_offset.value_or(header / 4) << 4));
  put8(out, tcp.flags);
  put16(out, tcp.window);
  put32(out, 0);
  append(out, options);
  append(out, around.rest);
  finish_checksum(out, 16, pseudo_header(around, IPPROTO_TCP, out.size()), tcp.checksum, false);
  return out;
}

Bytes encode(const Udp& udp, const Surroundings& around) {
  Bytes out;
  put16(out, udp.sport);
  put16(out, udp.dport);
  put16(out, udp.length.value_or(static_cast<uint16_t>(8 + around.rest.size())));
  put16(out, 0);
  append(out, around.rest);
  finish_checksum(out, 6, pseudo_header(around, IPPROTO_UDP, out.size()), udp.checksum, true);
  return out;
}

Bytes encode(const Sctp& sctp, const Surroundings& around) {
  Bytes out;
  put16(out, sctp.sport);
  put16(out, sctp.dport);
  put32(out, sctp.tag);
  put32(out, 0);
  append(out, around.rest);
  const uint32_t crc = sctp.checksum.value_or(crc32c(out));
  for (size_t i = 0; i < 4; ++i) out[8 + i] = static_cast<uint8_t>(crc >> (8 * i));
  return out;
}

Bytes encode(const Vxlan& vxlan, const Surroundings& around) {
  Bytes out;
  put32(out, uint32_t{vxlan.flags} << 24);
  put32(out, vxlan.vni << 8);
  append(out, around.rest);
  return out;
}

template <typename Icmp>
Bytes encode_icmp(const Icmp& icmp, const Surroundings& around) {
  Bytes out;
  put8(out, icmp.type);
  put8(out, icmp.code);
  put16(out, 0);
  put16(out, icmp.id);
  put16(out, icmp.seq);
  append(out, around.rest);
  const uint32_t start = std::is_same_v<Icmp, Icmp6> ? pseudo_header(around, IPPROTO_ICMPV6, out.size()) : 0;
  finish_checksum(out, 2, start, icmp.checksum, false);
  return out;
}
Bytes encode(const Icmp4& icmp, const Surroundings& around) {
  return encode_icmp(icmp, around);
}
Bytes encode(const Icmp6& icmp, const Surroundings& around) {
  return encode_icmp(icmp, around);
}

Bytes encode(const Payload& payload, const Surroundings& around) {
  Bytes out = payload.bytes;
  append(out, around.rest);
  return out;
}

bool is_ip(const Layer& layer) {
  return std::holds_alternative<Ip4>(layer) || std::holds_alternative<Ip6>(layer);
}

}  // namespace

Payload Payload::of_size(size_t size) {
  Bytes bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<uint8_t>(i * 7 + 3);
  return Payload(std::move(bytes));
}

uint16_t internet_checksum(const Bytes& bytes, uint32_t start) {
  uint64_t sum = uint64_t{start} + sum_of(bytes);
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

uint32_t crc32c(const Bytes& bytes) {
  uint32_t crc = 0xffffffff;
  for (const uint8_t byte : bytes) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78U : 0U);
  }
  return ~crc;
}

bool Packet::ipv6() const {
  const auto ip = std::find_if(layers_.rbegin(), layers_.rend(), is_ip);
  return ip != layers_.rend() && std::holds_alternative<Ip6>(*ip);
}

void Packet::add(const Ip& ip) {
  if (ip.src.is_ipv4()) {
    layers_.emplace_back(Ip4{.src = ip.src, .dst = ip.dst, .ttl = ip.ttl});
  } else {
    layers_.emplace_back(Ip6{.src = ip.src, .dst = ip.dst, .hop_limit = ip.ttl});
  }
}

void Packet::add(const Echo& echo) {
  if (ipv6()) {
    layers_.emplace_back(
        Icmp6{.type = static_cast<uint8_t>(echo.reply ? 129 : 128), .id = echo.id, .seq = echo.seq});
  } else {
    layers_.emplace_back(
        Icmp4{.type = static_cast<uint8_t>(echo.reply ? 0 : 8), .id = echo.id, .seq = echo.seq});
  }
}

void Packet::add(PortUnreachable) {
  if (ipv6()) {
    layers_.emplace_back(Icmp6{.type = 1, .code = 4});
  } else {
    layers_.emplace_back(Icmp4{.type = 3, .code = 3});
  }
}

void Packet::add(TimeExceeded) {
  if (ipv6()) {
    layers_.emplace_back(Icmp6{.type = 3, .code = 0});
  } else {
    layers_.emplace_back(Icmp4{.type = 11, .code = 0});
  }
}

void Packet::add(TooBig too_big) {
  if (ipv6()) {
    layers_.emplace_back(Icmp6{.type = 2, .code = 0, .seq = too_big.mtu});
  } else {
    layers_.emplace_back(Icmp4{.type = 3, .code = 4, .seq = too_big.mtu});
  }
}

Bytes Packet::bytes() const {
  Surroundings around;
  for (size_t i = layers_.size(); i-- > 0;) {
    around.next = i + 1 < layers_.size() ? &layers_[i + 1] : nullptr;
    around.ip = nullptr;
    for (size_t j = i; j-- > 0 && !around.ip;) {
      if (is_ip(layers_[j])) around.ip = &layers_[j];
    }
    around.rest = std::visit([&](const auto& layer) { return encode(layer, around); }, layers_[i]);
  }
  return around.rest;
}

Payload quote(const Packet& packet, size_t max) {
  Bytes bytes = packet.bytes();
  if (packet.find<Eth>()) bytes.erase(bytes.begin(), bytes.begin() + 14);
  if (bytes.size() > max) bytes.resize(max);
  return Payload(std::move(bytes));
}

Packet neighbour_solicit(const Address& target, const Mac& mac) {
  Bytes body;
  put_ip6(body, target);
  if (!mac.is_zero()) {
    put16(body, 0x0101);
    put_mac(body, mac);
  }
  return Icmp6{.type = 135} / Payload(std::move(body));
}

Packet neighbour_advert(const Address& target, const Mac& mac) {
  Bytes body;
  put_ip6(body, target);
  put16(body, 0x0201);
  put_mac(body, mac);
  return Icmp6{.type = 136, .id = 0xe000} / Payload(std::move(body));
}

std::vector<Packet> fragments(const Packet& packet, uint16_t size, uint16_t id) {
  const auto ip = std::find_if(packet.layers().begin(), packet.layers().end(), is_ip);
  const auto index = static_cast<size_t>(ip - packet.layers().begin());
  Packet head;
  for (size_t i = 0; i <= index; ++i) head.add(packet.layers()[i]);
  const Bytes datagram = [&] {
    Bytes all = packet.bytes();
    all.erase(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(head.bytes().size()));
    return all;
  }();
  const uint8_t proto =
      protocol_of(index + 1 < packet.layers().size() ? &packet.layers()[index + 1] : nullptr);
  std::vector<Packet> result;
  for (size_t at = 0; at < datagram.size(); at += size) {
    const size_t end = std::min(datagram.size(), at + size);
    const bool more = end < datagram.size();
    Packet piece = head;
    if (auto* v4 = std::get_if<Ip4>(&piece.layers().back())) {
      v4->id = id;
      v4->offset = static_cast<uint16_t>(at);
      v4->mf = more;
      v4->proto = proto;
    } else {
      piece.add(Frag6{.offset = static_cast<uint16_t>(at), .more = more, .id = id, .next = proto});
    }
    piece.add(Payload(Bytes(datagram.begin() + static_cast<std::ptrdiff_t>(at),
                            datagram.begin() + static_cast<std::ptrdiff_t>(end))));
    result.push_back(std::move(piece));
  }
  return result;
}

}  // namespace bpfnet::test
