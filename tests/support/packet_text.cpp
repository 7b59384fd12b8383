#include <fmt/format.h>

#include <algorithm>
#include <ostream>

#include "tests/support/packet.h"

namespace bpfnet::test {
namespace {

/// A layer as people read it: a name, then fields in order.
struct Text {
  std::string name;
  std::vector<std::pair<std::string, std::string>> fields;

  void add(std::string field, std::string value) { fields.emplace_back(std::move(field), std::move(value)); }
  void add(std::string field, uint64_t value) { add(std::move(field), std::to_string(value)); }
  /// A field that is normally computed: shown only where the packet has another value.
  template <typename T>
  void add_lie(const std::string& field, const std::optional<T>& value) {
    if (value) add(field, fmt::format("{:#x}(WRONG)", *value));
  }
};

std::string flags_text(uint8_t flags) {
  static constexpr const char* kNames[] = {"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"};
  std::string text;
  for (int bit = 0; bit < 8; ++bit) {
    if ((flags >> bit & 1) != 0) text += (text.empty() ? "" : "|") + std::string(kNames[bit]);
  }
  return text.empty() ? "none" : text;
}

std::string hex(const Bytes& bytes) {
  std::string text;
  for (size_t i = 0; i < std::min<size_t>(bytes.size(), 24); ++i) text += fmt::format("{:02x}", bytes[i]);
  return text + (bytes.size() > 24 ? "..." : "");
}

Text describe_layer(const Eth& eth) {
  Text text{"eth", {}};
  text.add("dst", eth.dst.to_string());
  text.add("src", eth.src.to_string());
  if (eth.type) text.add("type", fmt::format("{:#06x}", *eth.type));
  return text;
}
Text describe_layer(const Arp& arp) {
  Text text{"arp", {}};
  text.add("operation", arp.operation);
  text.add("sender", fmt::format("{}@{}", arp.sender.to_string(), arp.sender_mac.to_string()));
  text.add("target", fmt::format("{}@{}", arp.target.to_string(), arp.target_mac.to_string()));
  return text;
}
Text describe_layer(const Ip4& ip) {
  Text text{"ip4", {}};
  text.add("src", ip.src.to_string());
  text.add("dst", ip.dst.to_string());
  text.add("ttl", ip.ttl);
  if (ip.tos != 0) text.add("tos", ip.tos);
  if (ip.id != 0) text.add("id", ip.id);
  if (ip.df) text.add("df", 1);
  if (ip.mf) text.add("mf", 1);
  if (ip.offset != 0) text.add("offset", ip.offset);
  if (!ip.options.empty()) text.add("options", hex(ip.options));
  if (ip.proto) text.add("proto", *ip.proto);
  text.add_lie("version", ip.version);
  text.add_lie("ihl", ip.ihl);
  text.add_lie("length", ip.length);
  text.add_lie("checksum", ip.checksum);
  return text;
}
Text describe_layer(const Ip6& ip) {
  Text text{"ip6", {}};
  text.add("src", ip.src.to_string());
  text.add("dst", ip.dst.to_string());
  text.add("hop_limit", ip.hop_limit);
  if (ip.traffic_class != 0) text.add("traffic_class", ip.traffic_class);
  if (ip.flow_label != 0) text.add("flow_label", ip.flow_label);
  if (ip.next) text.add("next", *ip.next);
  text.add_lie("version", ip.version);
  text.add_lie("length", ip.length);
  return text;
}
Text describe_layer(const Ext6& ext) {
  Text text{"ext6", {}};
  text.add("kind", ext.kind);
  text.add("data", hex(ext.data));
  if (ext.next) text.add("next", *ext.next);
  text.add_lie("length", ext.length);
  return text;
}
Text describe_layer(const Frag6& fragment) {
  Text text{"frag6", {}};
  text.add("offset", fragment.offset);
  text.add("more", fragment.more ? 1 : 0);
  text.add("id", fragment.id);
  if (fragment.next) text.add("next", *fragment.next);
  return text;
}
Text describe_layer(const Tcp& tcp) {
  Text text{"tcp", {}};
  text.add("sport", tcp.sport);
  text.add("dport", tcp.dport);
  text.add("flags", flags_text(tcp.flags));
  text.add("seq", tcp.seq);
  text.add("ack", tcp.ack);
  text.add("window", tcp.window);
  if (!tcp.options.empty()) text.add("options", hex(tcp.options));
  text.add_lie("data_offset", tcp.data_offset);
  text.add_lie("checksum", tcp.checksum);
  return text;
}
Text describe_layer(const Udp& udp) {
  Text text{"udp", {}};
  text.add("sport", udp.sport);
  text.add("dport", udp.dport);
  text.add_lie("length", udp.length);
  text.add_lie("checksum", udp.checksum);
  return text;
}
Text describe_layer(const Sctp& sctp) {
  Text text{"sctp", {}};
  text.add("sport", sctp.sport);
  text.add("dport", sctp.dport);
  text.add("tag", sctp.tag);
  text.add_lie("checksum", sctp.checksum);
  return text;
}
Text describe_layer(const Vxlan& vxlan) {
  Text text{"vxlan", {}};
  text.add("vni", vxlan.vni);
  text.add("flags", vxlan.flags);
  return text;
}
template <typename Icmp>
Text describe_icmp(const char* name, const Icmp& icmp) {
  Text text{name, {}};
  text.add("type", icmp.type);
  text.add("code", icmp.code);
  text.add("id", icmp.id);
  text.add("seq", icmp.seq);
  text.add_lie("checksum", icmp.checksum);
  return text;
}
Text describe_layer(const Icmp4& icmp) {
  return describe_icmp("icmp4", icmp);
}
Text describe_layer(const Icmp6& icmp) {
  return describe_icmp("icmp6", icmp);
}
Text describe_layer(const Payload& payload) {
  Text text{"payload", {}};
  text.add("size", payload.bytes.size());
  text.add("bytes", hex(payload.bytes));
  return text;
}

Text to_text(const Layer& layer) {
  return std::visit([](const auto& value) { return describe_layer(value); }, layer);
}

std::string one_line(const Text& text) {
  std::string line = text.name;
  for (const auto& [field, value] : text.fields) line += fmt::format(" {}={}", field, value);
  return line;
}

std::string find_field(const Text& text, const std::string& field) {
  const auto found = std::find_if(text.fields.begin(), text.fields.end(),
                                  [&](const auto& entry) { return entry.first == field; });
  return found == text.fields.end() ? "-" : found->second;
}

std::string diff_fields(const Text& want, const Text& got) {
  std::string out;
  for (const auto& [field, value] : want.fields) {
    const std::string other = find_field(got, field);
    if (other != value) out += fmt::format("  {}.{}: want {}, got {}\n", want.name, field, value, other);
  }
  for (const auto& [field, value] : got.fields) {
    if (find_field(want, field) == "-")
      out += fmt::format("  {}.{}: want -, got {}\n", want.name, field, value);
  }
  return out;
}

}  // namespace

std::string Packet::describe() const {
  std::string out;
  for (const auto& layer : layers_) out += "  " + one_line(to_text(layer)) + "\n";
  return out;
}

std::string diff(const Packet& want, const Packet& got) {
  const Bytes want_bytes = want.bytes();
  const Bytes got_bytes = got.bytes();
  if (want_bytes == got_bytes) return {};
  const bool l3 = want.find<Eth>() == nullptr;
  const Packet left = Packet::parse(want_bytes, l3);
  const Packet right = Packet::parse(got_bytes, l3);
  std::string out;
  const size_t count = std::max(left.layers().size(), right.layers().size());
  for (size_t i = 0; i < count; ++i) {
    const Text a = i < left.layers().size() ? to_text(left.layers()[i]) : Text{"nothing", {}};
    const Text b = i < right.layers().size() ? to_text(right.layers()[i]) : Text{"nothing", {}};
    out += a.name == b.name ? diff_fields(a, b)
                            : fmt::format("  want {}\n  got  {}\n", one_line(a), one_line(b));
  }
  if (out.empty()) {
    const auto at = std::mismatch(want_bytes.begin(), want_bytes.end(), got_bytes.begin(), got_bytes.end());
    out = fmt::format("  bytes differ at {}\n", at.first - want_bytes.begin());
  }
  return out;
}

void PrintTo(const Packet& packet, std::ostream* out) {
  *out << "\n" << packet.describe();
}

}  // namespace bpfnet::test
