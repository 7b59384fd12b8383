// The parse stage, seen through from_pod: what is read, what is refused and under which name.
#include <arpa/inet.h>

#include "tests/support/fixture.h"

namespace bpfnet::test {
namespace {

class Parse : public DatapathFixture {
 protected:
  Outcome from_client(const Packet& rest) { return node().run(HOOK_from_pod, "pod1", from_pod(1) / rest); }
  [[nodiscard]] Packet to_server() const { return Packet(Ip4{.src = who().client, .dst = who().server}); }
  [[nodiscard]] Packet headers() const {
    Packet packet;
    packet.add(Ip{.src = who().client, .dst = who().server});
    return packet;
  }
  /// The packet cut to `size` bytes.
  Result<Outcome> cut(const Packet& packet, size_t size) {
    Bytes bytes = packet.bytes();
    bytes.resize(size);
    return node().try_run(HOOK_from_pod, "pod1", bytes);
  }
};

TEST_P(Parse, TupleOfTcpUdpAndEcho) {
  const auto tcp = from_client(headers() / Tcp{.sport = 1, .dport = 2}).event.value().key;
  EXPECT_EQ(maps::key_text(tcp), maps::key_text(key(who().client, 1, who().server, 2, 6)));
  const auto udp = from_client(headers() / Udp{.sport = 1, .dport = 2}).event.value().key;
  EXPECT_EQ(maps::key_text(udp), maps::key_text(key(who().client, 1, who().server, 2, 17)));
  const auto echo = from_client(headers() / Echo{.id = 7}).event.value().key;
  EXPECT_EQ(maps::key_text(echo), maps::key_text(key(who().client, 7, who().server, 0, icmp())));
}

TEST_P(Parse, ReadsBehindOptionsAndExtensionHeaders) {
  const Packet udp = Packet(Udp{.sport = 1, .dport = 2}) / Payload("x");
  const Packet v4 = Ip4{.src = who().client, .dst = who().server, .options = {1, 1, 1, 0}} / udp;
  const Packet v6 = Ip6{.src = who().client, .dst = who().server} /
                    Ext6{.kind = 0, .data = {1, 4, 0, 0, 0, 0}} /
                    Ext6{.kind = 60, .data = {1, 4, 0, 0, 0, 0}} / udp;
  const auto run = from_client(who().v4() ? v4 : v6);
  EXPECT_THAT(run, HasVerdict(VERDICT_TO_ENDPOINT));
  EXPECT_EQ(run.event.value().key.dport, htons(2));
}

TEST_P(Parse, TruncatedTransportHeader) {
  const Packet packet = from_pod(1) / headers() / Tcp{};
  const auto run = cut(packet, packet.bytes().size() - 4);
  ASSERT_TRUE(run);
  EXPECT_THAT(*run, Drops(DROP_TRUNCATED));
}

TEST_P(Parse, TruncatedNetworkHeader) {
  const auto run = cut(from_pod(1) / headers() / Tcp{}, 14 + 12);
  if (!run) GTEST_SKIP() << "this kernel refuses to run such a packet: " << run.error().message;
  EXPECT_THAT(*run, Drops(DROP_TRUNCATED));
}

TEST_P(Parse, LengthBeyondThePacket) {
  Packet packet = headers() / Udp{.dport = 53};
  if (who().v4()) packet.get<Ip4>().length = 1000;
  if (!who().v4()) packet.get<Ip6>().length = 1000;
  EXPECT_THAT(from_client(packet), HasVerdict(VERDICT_DROP));
}

TEST_P(Parse, BadHeaderLengthOfTheTransport) {
  EXPECT_THAT(from_client(headers() / Tcp{.data_offset = 4}), Drops(DROP_BAD_HEADER));
  EXPECT_THAT(from_client(headers() / Udp{.length = 7}), Drops(DROP_BAD_HEADER));
}

TEST_P(Parse, BadVersion) {
  Packet packet = headers() / Udp{};
  if (who().v4()) packet.get<Ip4>().version = 5;
  if (!who().v4()) packet.get<Ip6>().version = 4;
  EXPECT_THAT(from_client(packet), Drops(DROP_BAD_HEADER));
}

TEST_P(Parse, MappedAddressOnTheWireIsNotAnIPv4Packet) {
  if (who().v4()) GTEST_SKIP() << "IPv6 only";
  Bytes bytes = (from_pod(1) / headers() / Udp{}).bytes();
  const auto mapped = ip("10.1.0.20").bytes();
  std::copy(mapped.begin(), mapped.end(), bytes.begin() + 14 + 24);
  EXPECT_THAT(must(node().try_run(HOOK_from_pod, "pod1", bytes)), Drops(DROP_BAD_HEADER));
}

TEST_P(Parse, UnknownEthernetType) {
  Eth eth = from_pod(1);
  eth.type = 0x88cc;
  EXPECT_THAT(node().run(HOOK_from_pod, "pod1", eth / Payload::of_size(60)), Drops(DROP_UNKNOWN_L3));
}

TEST_P(Parse, UnknownTransport) {
  Packet packet = headers() / Payload::of_size(40);
  if (who().v4()) packet.get<Ip4>().proto = 47;
  if (!who().v4()) packet.get<Ip6>().next = 47;
  EXPECT_THAT(from_client(packet), Drops(DROP_UNKNOWN_L4));
}

TEST_P(Parse, MulticastIsNotRouted) {
  const Packet packet =
      Packet(Ip{.src = who().client, .dst = pick("224.0.1.5", "ff0e::5")}) / Udp{.dport = 5353};
  EXPECT_THAT(from_client(packet), Drops(DROP_MULTICAST));
}

TEST_P(Parse, LaterFragmentFollowsItsFirst) {
  const Packet whole = headers() / Udp{.sport = 5, .dport = 53} / Payload::of_size(2000);
  const auto pieces = fragments(from_pod(1) / whole, 1400, 77);
  ASSERT_EQ(pieces.size(), 2U);
  EXPECT_THAT(node().run(HOOK_from_pod, "pod1", pieces[0]), HasVerdict(VERDICT_TO_ENDPOINT));
  const auto second = node().run(HOOK_from_pod, "pod1", pieces[1]);
  EXPECT_THAT(second, HasVerdict(VERDICT_TO_ENDPOINT));
  EXPECT_EQ(second.event.value().key.dport, htons(53));
}

TEST_P(Parse, LaterFragmentAlone) {
  const Packet whole = headers() / Udp{.sport = 5, .dport = 53} / Payload::of_size(2000);
  const auto pieces = fragments(from_pod(1) / whole, 1400, 78);
  EXPECT_THAT(node().run(HOOK_from_pod, "pod1", pieces.at(1)), Drops(DROP_FRAGMENT_UNKNOWN));
}

TEST_P(Parse, FragmentsOfAnotherDatagramAreNotMixed) {
  const Packet whole = headers() / Udp{.sport = 5, .dport = 53} / Payload::of_size(2000);
  node().run(HOOK_from_pod, "pod1", fragments(from_pod(1) / whole, 1400, 79).at(0));
  EXPECT_THAT(node().run(HOOK_from_pod, "pod1", fragments(from_pod(1) / whole, 1400, 80).at(1)),
              Drops(DROP_FRAGMENT_UNKNOWN));
}

TEST_P(Parse, ServiceFragmentsKeepTheirBackend) {
  node().add_service({.address = who().vip, .port = 53, .proto = 17, .backends = {{who().server, 5353}}});
  const Packet whole = Packet(Ip{.src = who().client, .dst = who().vip}) / Udp{.sport = 5, .dport = 53} /
                       Payload::of_size(2000);
  for (const auto& piece : fragments(from_pod(1) / whole, 1400, 81)) {
    const auto run = node().run(HOOK_from_pod, "pod1", piece);
    EXPECT_THAT(run, HasVerdict(VERDICT_TO_ENDPOINT));
    EXPECT_TRUE(run.packet.find<Ip4>() ? run.packet.at<Ip4>().dst == who().server
                                       : run.packet.at<Ip6>().dst == who().server);
  }
}

INSTANTIATE_FAMILIES(Parse);

}  // namespace
}  // namespace bpfnet::test
