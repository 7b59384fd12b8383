#include "tests/support/packet.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/actors.h"

namespace bpfnet::test {
namespace {

using ::testing::HasSubstr;

Bytes from_hex(std::string_view text) {
  Bytes bytes;
  for (size_t i = 0; i + 1 < text.size(); i += 2) {
    bytes.push_back(static_cast<uint8_t>(std::stoi(std::string(text.substr(i, 2)), nullptr, 16)));
  }
  return bytes;
}

const Mac kMacA{{2, 0, 0, 0, 0, 1}};
const Mac kMacB{{2, 0, 0, 0, 0, 2}};

// The IPv4 header of the worked example in RFC 1071's common illustration: checksum b861.
TEST(PacketDsl, Ip4HeaderChecksumOfAKnownPacket) {
  const Packet packet = Ip4{.src = ip("192.168.0.1"), .dst = ip("192.168.0.199"), .df = true, .proto = 17} /
                        Payload::of_size(95);
  Bytes header = packet.bytes();
  header.resize(20);
  EXPECT_EQ(header, from_hex("45000073000040004011b861c0a80001c0a800c7"));
}

TEST(PacketDsl, InternetChecksumOfRfc1071Example) {
  EXPECT_EQ(internet_checksum(from_hex("0001f203f4f5f6f7")), static_cast<uint16_t>(~0xddf2));
}

// Check value of CRC32c for "123456789" (RFC 3720, appendix B.4 uses the same polynomial).
TEST(PacketDsl, Crc32cCheckValue) {
  EXPECT_EQ(crc32c(Payload("123456789").bytes), 0xe3069283U);
}

TEST(PacketDsl, SumOverPseudoHeaderAndSegmentIsZero) {
  const Packet packet =
      Ip4{.src = ip("10.1.0.1"), .dst = ip("10.1.0.2")} / Udp{.sport = 9, .dport = 53} / Payload("odd");
  Bytes check = from_hex("0a0100010a0100020011000b");
  const Bytes wire = packet.bytes();
  check.insert(check.end(), wire.begin() + 20, wire.end());
  EXPECT_EQ(internet_checksum(check), 0);
}

TEST(PacketDsl, TunnelsHaveAFrameInside) {
  const Packet inside = Eth{} / Ip4{.src = ip("10.0.0.1"), .dst = ip("10.0.0.2")} / Tcp{.dport = 80};
  const Packet outside = Eth{} / Ip4{.src = ip("192.0.2.1"), .dst = ip("192.0.2.2")} /
                         Udp{.sport = 50000, .dport = 4789} / Vxlan{.vni = 0x123456} / inside;
  const Bytes bytes = outside.bytes();
  EXPECT_EQ(bytes.size(), 50 + inside.bytes().size());
  EXPECT_EQ(Bytes(bytes.begin() + 42, bytes.begin() + 50), (Bytes{8, 0, 0, 0, 0x12, 0x34, 0x56, 0}));
  const Packet read = Packet::parse(bytes);
  EXPECT_EQ(read.at<Vxlan>().vni, 0x123456U);
  EXPECT_EQ(read.at<Ip4>(1).dst, ip("10.0.0.2"));
  EXPECT_EQ(read.bytes(), bytes);
}

TEST(PacketDsl, OverridesAreSentAsTheyAre) {
  const Packet packet = Ip4{.src = ip("10.1.0.1"), .dst = ip("10.1.0.2"), .ihl = 15, .length = 7} /
                        Tcp{.data_offset = 3, .checksum = 0xdead};
  const Bytes wire = packet.bytes();
  EXPECT_EQ(wire[0], 0x4f);
  EXPECT_EQ(wire[3], 7);
  EXPECT_EQ(wire[20 + 12], 0x30);
  EXPECT_EQ(wire[20 + 16], 0xde);
}

TEST(PacketDsl, ExtensionHeadersChainTheirTypes) {
  const Packet packet = Ip6{.src = ip("fd00::1"), .dst = ip("fd00::2")} / Ext6{.kind = 0} / Ext6{.kind = 60} /
                        Frag6{.more = true, .id = 7} / Udp{.sport = 1, .dport = 2};
  const Bytes wire = packet.bytes();
  EXPECT_EQ(wire[6], 0);
  EXPECT_EQ(wire[40], 60);
  EXPECT_EQ(wire[48], 44);
  EXPECT_EQ(wire[56], 17);
}

TEST(PacketDsl, DiffNamesTheFieldAndTheWrongChecksum) {
  const Packet want = Eth{} / Ip4{.src = ip("10.1.0.1"), .dst = ip("10.1.0.2")} / Tcp{.dport = 80};
  Packet got = want;
  got.get<Tcp>().checksum = 0x1234;
  got.get<Ip4>().ttl = 63;
  EXPECT_THAT(diff(want, got), HasSubstr("ip4.ttl: want 64, got 63"));
  EXPECT_THAT(diff(want, got), HasSubstr("tcp.checksum: want -, got 0x1234(WRONG)"));
  EXPECT_EQ(diff(want, want), "");
}

TEST(PacketDsl, FragmentsCarryTheDatagramInOrder) {
  const Packet whole =
      Ip4{.src = ip("10.1.0.1"), .dst = ip("10.1.0.2")} / Udp{.dport = 53} / Payload::of_size(100);
  const auto pieces = fragments(whole, 64, 7);
  ASSERT_EQ(pieces.size(), 2U);
  EXPECT_TRUE(pieces[0].at<Ip4>().mf);
  EXPECT_EQ(pieces[1].at<Ip4>().offset, 64);
  EXPECT_EQ(pieces[1].at<Payload>().bytes.size(), 44U);
}

class RoundTrip : public testing::TestWithParam<Packet> {};

TEST_P(RoundTrip, ParsedBytesAreTheSameAndNothingIsOverridden) {
  const Packet& packet = GetParam();
  const Packet parsed = Packet::parse(packet.bytes());
  EXPECT_EQ(parsed.bytes(), packet.bytes());
  EXPECT_THAT(parsed.describe(), ::testing::Not(HasSubstr("WRONG")));
  EXPECT_EQ(parsed.layers().size(), packet.layers().size()) << parsed.describe();
}

Packet v4(uint8_t ttl = 64) {
  return Eth{.dst = kMacB, .src = kMacA} / Ip4{.src = ip("10.1.0.1"), .dst = ip("10.1.0.2"), .ttl = ttl};
}
Packet v6(uint8_t ttl = 64) {
  return Eth{.dst = kMacB, .src = kMacA} / Ip{.src = ip("fd00::1"), .dst = ip("fd00::2"), .ttl = ttl};
}

INSTANTIATE_TEST_SUITE_P(
    EveryLayer, RoundTrip,
    testing::Values(
        v4() / Tcp{.sport = 1, .dport = 80} / Payload("hello"), v6() / Tcp{.options = {2, 4, 5, 180}},
        v4() / Udp{.sport = 1, .dport = 53} / Payload("x"), v6() / Udp{} / Payload("abc"),
        v4() / Sctp{.sport = 1, .dport = 2} / Payload("data"), v4() / Echo{.id = 7},
        v6() / Echo{.id = 7, .reply = true} / Payload("ping"),
        v4() / PortUnreachable{} / Ip4{.src = ip("10.1.0.2"), .dst = ip("10.1.0.1")} / Udp{.dport = 9},
        v6() / TooBig{1400} / Ip{.src = ip("fd00::2"), .dst = ip("fd00::1")} / Tcp{},
        v4() / TimeExceeded{} / Ip4{.src = ip("10.1.0.2"), .dst = ip("10.1.0.1")} / Tcp{},
        v6() / Ext6{.kind = 0, .data = {1, 4, 0, 0, 0, 0}} / Tcp{},
        Eth{} / Arp{.sender = ip("10.1.0.1"), .target = ip("169.254.1.1")},
        v6(255) / neighbour_solicit(ip("fe80::1"), kMacA),
        Eth{} / Ip4{.src = ip("10.1.0.1"), .dst = ip("10.1.0.2"), .options = {1, 1, 1, 0}} / Udp{}));

class ParseAnything : public testing::TestWithParam<size_t> {};

TEST_P(ParseAnything, KeepsTheBytesOfATruncatedPacket) {
  Bytes wire = (v6() / TooBig{1400} / Ip{.src = ip("fd00::2"), .dst = ip("fd00::1")} / Tcp{}).bytes();
  wire.resize(std::min(wire.size(), GetParam()));
  EXPECT_EQ(Packet::parse(wire).bytes(), wire);
}

INSTANTIATE_TEST_SUITE_P(EveryLength, ParseAnything, testing::Range<size_t>(0, 122, 3));

}  // namespace
}  // namespace bpfnet::test
