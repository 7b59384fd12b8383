// SCTP: ports are translated like any others, and the CRC32c, which covers them, follows.
#include "tests/support/fixture.h"

namespace bpfnet::test {
namespace {

class SctpPorts : public DatapathFixture {
 protected:
  void add_service(uint16_t backend_port) {
    node().add_service(
        {.address = who().vip, .port = 9, .proto = 132, .backends = {{who().server, backend_port}}});
  }
  [[nodiscard]] Packet header(const Address& src, const Address& dst, uint8_t ttl = 64) const {
    Packet packet;
    packet.add(Ip{.src = src, .dst = dst, .ttl = ttl});
    return packet;
  }
  [[nodiscard]] Packet to_service() const { return from_pod(1) / header(who().client, who().vip); }
  Outcome client_sends(const Packet& packet) { return node().run(HOOK_from_pod, "pod1", packet); }
};

// The DSL's own CRC32c, bit by bit over the whole packet, says what is right.
TEST_P(SctpPorts, ServiceWithAnotherPortAndBack) {
  add_service(3868);
  const Payload data("diameter, 21 bytes...");
  EXPECT_THAT(client_sends(to_service() / Sctp{.sport = 4, .dport = 9, .tag = 0x01020304} / data),
              Sends(VERDICT_TO_ENDPOINT, header(who().client, who().server, 63) /
                                             Sctp{.sport = 4, .dport = 3868, .tag = 0x01020304} / data));
  const Packet answer = from_pod(2) / header(who().server, who().client) /
                        Sctp{.sport = 3868, .dport = 4, .tag = 0x0a0b0c0d} / Payload("init-ack");
  EXPECT_THAT(
      node().run(HOOK_from_pod, "pod2", answer),
      Sends(VERDICT_TO_ENDPOINT, header(who().vip, who().client, 63) /
                                     Sctp{.sport = 9, .dport = 4, .tag = 0x0a0b0c0d} / Payload("init-ack")));
}

TEST_P(SctpPorts, TheSumIsRightForEveryLength) {
  add_service(65535);
  for (const size_t size : {0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 31, 63, 100, 255, 256, 511, 1000, 1023, 1400}) {
    const auto data = Payload::of_size(size);
    EXPECT_THAT(client_sends(to_service() / Sctp{.sport = 4, .dport = 9} / data),
                Sends(VERDICT_TO_ENDPOINT,
                      header(who().client, who().server, 63) / Sctp{.sport = 4, .dport = 65535} / data))
        << size;
  }
}

TEST_P(SctpPorts, ThePortThatStaysLeavesTheSum) {
  add_service(9);
  EXPECT_THAT(client_sends(to_service() / Sctp{.sport = 4, .dport = 9, .checksum = 0x1234}),
              Sends(VERDICT_TO_ENDPOINT, header(who().client, who().server, 63) /
                                             Sctp{.sport = 4, .dport = 9, .checksum = 0x1234}));
}

// The device finishes a sum that the stack left to it; a zero must stay one.
TEST_P(SctpPorts, AnUnfinishedSumStaysUnfinished) {
  add_service(10);
  EXPECT_THAT(client_sends(to_service() / Sctp{.sport = 4, .dport = 9, .checksum = 0} / Payload("x")),
              Sends(VERDICT_TO_ENDPOINT, header(who().client, who().server, 63) /
                                             Sctp{.sport = 4, .dport = 10, .checksum = 0} / Payload("x")));
}

// What was damaged on its way is not made good by us.
TEST_P(SctpPorts, AWrongSumStaysWrong) {
  add_service(10);
  const uint32_t right = client_sends(to_service() / Sctp{.sport = 4, .dport = 9}).bytes.size() != 0
                             ? crc32c((Packet(Sctp{.sport = 4, .dport = 9, .checksum = 0})).bytes())
                             : 0;
  const auto run = client_sends(to_service() / Sctp{.sport = 4, .dport = 9, .checksum = right ^ 1});
  ASSERT_TRUE(run.packet.at<Sctp>().checksum);
  EXPECT_EQ(*run.packet.at<Sctp>().checksum,
            crc32c((Packet(Sctp{.sport = 4, .dport = 10, .checksum = 0})).bytes()) ^ 1);
}

// Short frames are padded on the wire; the padding is no part of the sum.
TEST_P(SctpPorts, PaddingBehindThePacketIsNotSummed) {
  add_service(10);
  Bytes frame = (to_service() / Sctp{.sport = 4, .dport = 9} / Payload("abcd")).bytes();
  const size_t length = frame.size();
  frame.resize(length + 10, 0xee);
  auto run = must(node().try_run(HOOK_from_pod, "pod1", frame));
  run.bytes.resize(length);
  EXPECT_THAT(Packet::parse(run.bytes), IsPacket(header(who().client, who().server, 63) /
                                                 Sctp{.sport = 4, .dport = 10} / Payload("abcd")));
}

TEST_P(SctpPorts, BehindExtensionHeaders) {
  if (who().v4()) GTEST_SKIP() << "IPv6 only";
  add_service(10);
  const Ext6 options{.kind = 60, .data = Bytes{1, 4, 0, 0, 0, 0}};
  EXPECT_THAT(client_sends(to_service() / options / Sctp{.sport = 4, .dport = 9} / Payload("abcd")),
              Sends(VERDICT_TO_ENDPOINT, header(who().client, who().server, 63) / options /
                                             Sctp{.sport = 4, .dport = 10} / Payload("abcd")));
}

TEST_P(SctpPorts, AFragmentWhosePortWouldChangeIsDropped) {
  add_service(10);
  const auto pieces = fragments(to_service() / Sctp{.sport = 4, .dport = 9} / Payload::of_size(1000), 800, 7);
  EXPECT_THAT(client_sends(pieces.at(0)), Drops(DROP_SCTP_PORT));
}

// S28: like TCP and UDP, with the port of a random free one.
TEST_P(SctpPorts, MasqueradedWithAFreePortAndBack) {
  const auto send = [&](uint32_t pod, const Address& src) {
    return node().run(
        HOOK_from_pod, "pod" + std::to_string(pod),
        from_pod(pod) / header(src, who().outside) / Sctp{.sport = 5, .dport = 6} / Payload("hi"));
  };
  const auto first = send(1, who().client);
  const auto second = send(2, who().server);
  const uint16_t port = first.packet.at<Sctp>().sport;
  EXPECT_NE(port, second.packet.at<Sctp>().sport);
  EXPECT_GE(port, node().config().masquerade_port_first);
  EXPECT_THAT(first, Sends(VERDICT_TO_NEXT_HOP, header(who().node1, who().outside, 63) /
                                                    Sctp{.sport = port, .dport = 6} / Payload("hi")));
  const Packet answer = from_wire() / header(who().outside, who().node1) / Sctp{.sport = 6, .dport = port};
  EXPECT_THAT(
      node().run(HOOK_from_uplink, "uplink", answer),
      Sends(VERDICT_TO_ENDPOINT, header(who().outside, who().client, 63) / Sctp{.sport = 6, .dport = 5}));
}

// S30.
TEST_P(SctpPorts, WithoutBackendsIsUnreachable) {
  node().add_service({.address = who().vip, .port = 9, .proto = 132, .backends = {}});
  const auto run = client_sends(to_service() / Sctp{.sport = 4, .dport = 9} / Payload("init"));
  EXPECT_EQ(run.reason(), DROP_NO_BACKEND);
  EXPECT_THAT(run, IsIcmp(who().v4() ? 3 : 1, who().v4() ? 3 : 4));
}

INSTANTIATE_FAMILIES(SctpPorts);

}  // namespace
}  // namespace bpfnet::test
