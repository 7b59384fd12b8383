// Hostile input: mutated packets through every hook. Nothing malformed is delivered, nothing delivered is
// made malformed, and every packet ends in exactly one verdict.
//
// BPFNET_FUZZ_ROUNDS and BPFNET_FUZZ_SEED change the number of packets and the seed (CI: 20000, 1).
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>

#include <cstdlib>
#include <random>

#include "tests/support/fixture.h"
#include "tests/support/well_formed.h"

namespace bpfnet::test {
namespace {

uint64_t from_environment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

class Hostile : public DatapathFixture {
 protected:
  void SetUp() override {
    DatapathFixture::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    prepare();
    for (const Address& dst : {who().server, who().remote, who().outside, who().vip, who().node1}) {
      add_seeds(dst);
    }
  }

  void prepare() {
    node().reset();
    node().add_service(
        {.address = who().vip, .port = 80, .backends = {{who().server, 8080}, {who().remote, 8080}}});
    node().add_service({.address = who().vip, .port = 53, .proto = 17, .backends = {{who().server, 53}}});
    node().add_service({.address = who().vip, .port = 80, .proto = 132, .backends = {{who().server, 3868}}});
  }

  void add_seeds(const Address& dst) {
    Packet head(from_pod(1));
    head.add(Ip{.src = who().client, .dst = dst});
    const Packet inner =
        Ip{.src = dst, .dst = who().client} / Udp{.sport = 80, .dport = 9} / Payload("inner");
    for (const Packet& rest :
         {Tcp{.sport = 9, .dport = 80} / Payload("data"),
          Tcp{.sport = 9, .dport = 80, .flags = ACK} / Payload("x"),
          Udp{.sport = 9, .dport = 53} / Payload("query"), Packet(Sctp{.sport = 9, .dport = 80})}) {
      seeds_.push_back((head / rest).bytes());
    }
    seeds_.push_back((head / Echo{.id = 9}).bytes());
    seeds_.push_back((head / PortUnreachable{} / inner).bytes());
    seeds_.push_back((head / TooBig{1400} / inner).bytes());
    for (const Packet& piece :
         fragments(head / Udp{.sport = 9, .dport = 53} / Payload::of_size(200), 128, 7)) {
      seeds_.push_back(piece.bytes());
    }
    if (who().v4()) {
      seeds_.push_back(
          (from_pod(1) / Ip4{.src = who().client, .dst = dst, .options = {7, 7, 4, 0, 0, 0, 0, 1}} / Tcp{})
              .bytes());
      seeds_.push_back(
          (from_pod(1) / Arp{.sender_mac = Node::pod_mac(1), .sender = who().client, .target = dst}).bytes());
    } else {
      const Ext6 options{.kind = 60, .data = {1, 4, 0, 0, 0, 0}};
      seeds_.push_back(
          (head / Ext6{.kind = 0} / options / Ext6{.kind = 43} / Udp{.sport = 9, .dport = 53}).bytes());
      seeds_.push_back(
          (head / options / options / options / options / options / options / options / options / Tcp{})
              .bytes());
      seeds_.push_back((head / neighbour_solicit(dst, Node::pod_mac(1))).bytes());
    }
  }

  /// One to four changes: bits, bytes, lies in the places where lengths stand, cuts, padding.
  Bytes mutated() {
    Bytes bytes = seeds_[random_() % seeds_.size()];
    for (uint64_t changes = random_() % 5; changes > 0; --changes) {
      const size_t headers = std::min<size_t>(bytes.size(), 14 + 60);
      switch (random_() % 6) {
        case 0:
          bytes[random_() % bytes.size()] ^= static_cast<uint8_t>(1U << random_() % 8);
          break;
        case 1:
          bytes[12 + random_() % (headers - 12)] = static_cast<uint8_t>(random_());
          break;
        case 2:
          bytes[12 + random_() % (headers - 12)] = random_() % 2 == 0 ? 0 : 0xff;
          break;
        case 3:
          bytes.resize(std::max<size_t>(14, random_() % bytes.size()));
          break;
        case 4:
          bytes.resize(bytes.size() + random_() % 64);
          break;
        default:  // a length field: IPv4 ihl and total, IPv6 payload, what follows the header
          bytes[std::min(bytes.size() - 1, std::array<size_t, 6>{14, 16, 17, 18, 19, 34}[random_() % 6])] =
              static_cast<uint8_t>(random_());
      }
    }
    return bytes;
  }

  void check(enum hook hook, const char* device, const Bytes& bytes) {
    const auto run = node().try_run(hook, device, bytes, {.light = true});
    if (!run) return;  // the kernel itself refuses so short a packet
    const std::string wrong = hook == HOOK_xdp_uplink ? judge_xdp(*run, bytes) : judge_tc(hook, *run, bytes);
    if (wrong.empty()) return;
    ADD_FAILURE() << wrong << "\nhook " << hook << " was given\n"
                  << Packet::parse(bytes).describe() << "and made of it\n"
                  << testing::PrintToString(*run);
  }

  /// What is wrong with what a program did; empty when nothing is.
  static std::string judge_xdp(const Outcome& run, const Bytes& bytes) {
    if (run.code == XDP_ABORTED) return "XDP_ABORTED";
    const bool sent_on = run.code != XDP_PASS && run.code != XDP_DROP;
    return sent_on && !well_formed(bytes) ? "a malformed packet was sent on" : "";
  }

  std::string judge_tc(enum hook hook, const Outcome& run, const Bytes& bytes) {
    if (!run.event) return "no event: not every packet ends in finish()";
    const auto before = well_formed(bytes);
    const int verdict = run.verdict();
    if (verdict == VERDICT_DROP && run.code != TC_ACT_SHOT && run.code != TC_ACT_REDIRECT)
      return "a drop goes on";
    if (hook == HOOK_from_pod && verdict == VERDICT_PASS && before &&
        !is_neighbour_discovery(bytes, *before)) {
      return "a pod's packet went to the stack by itself";
    }
    if (verdict != VERDICT_TO_ENDPOINT && verdict != VERDICT_TO_HOST && verdict != VERDICT_TO_NEXT_HOP)
      return {};
    ++delivered_;
    if (!before) return "a malformed packet was delivered";
    if (hook == HOOK_from_pod && before->src != who().client) return "a spoofed packet was delivered";
    const auto after = well_formed(run.bytes);
    if (!after) return "the packet was broken on the way";
    if (checksums_right(bytes, *before) && !checksums_right(run.bytes, *after))
      return "a checksum was broken";
    return {};
  }

  static bool is_neighbour_discovery(const Bytes& bytes, const WellFormed& headers) {
    return headers.proto == IPPROTO_ICMPV6 && bytes[headers.l4] >= 133 && bytes[headers.l4] <= 137;
  }

  std::vector<Bytes> seeds_;
  std::mt19937_64 random_{from_environment("BPFNET_FUZZ_SEED", 1)};
  uint64_t delivered_ = 0;
};

TEST_P(Hostile, MutatedPacketsThroughEveryHook) {
  const uint64_t rounds = from_environment("BPFNET_FUZZ_ROUNDS", 20000);
  for (uint64_t round = 0; round < rounds && !HasFailure(); ++round) {
    if (round % 1000 == 999) prepare();
    const Bytes bytes = mutated();
    check(HOOK_from_pod, "pod1", bytes);
    switch (round % 5) {
      case 0:
        check(HOOK_from_uplink, "uplink", bytes);
        break;
      case 1:
        check(HOOK_to_uplink, "uplink", bytes);
        break;
      case 2:
        check(HOOK_from_host, "bpfnet1", bytes);
        break;
      case 3:
        check(HOOK_to_pod, "pod2", bytes);
        break;
      default:
        check(HOOK_xdp_uplink, "uplink", bytes);
    }
  }
  EXPECT_GT(delivered_, rounds / 50) << "the seeds are too tame or too wild to say anything";
}

TEST_P(Hostile, EveryTruncationOfEverySeed) {
  for (const Bytes& seed : seeds_) {
    for (size_t size = 14; size < seed.size() && !HasFailure(); ++size) {
      check(HOOK_from_pod, "pod1", Bytes(seed.begin(), seed.begin() + static_cast<std::ptrdiff_t>(size)));
      check(HOOK_from_uplink, "uplink",
            Bytes(seed.begin(), seed.begin() + static_cast<std::ptrdiff_t>(size)));
    }
  }
}

INSTANTIATE_FAMILIES(Hostile);

}  // namespace
}  // namespace bpfnet::test
