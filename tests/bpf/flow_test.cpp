// The life of a flow: TCP states, idle times, room-making, quota.
#include <sys/epoll.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "maps/convert.h"
#include "tests/support/fixture.h"

namespace bpfnet::test {
namespace {

class Flow : public DatapathFixture {
 protected:
  /// One segment from the client to the server, or back.
  Outcome there(uint8_t flags, uint16_t port = kClientPort) { return there_on(node(), flags, port); }
  Outcome there_on(Node& at, uint8_t flags, uint16_t port) {
    return at.run(HOOK_from_pod, "pod1",
                  from_pod(1) / Ip{.src = who().client, .dst = who().server} /
                      Tcp{.sport = port, .dport = 80, .flags = flags});
  }
  Outcome back(uint8_t flags) { return back_on(node(), flags, kClientPort); }
  Outcome back_on(Node& at, uint8_t flags, uint16_t port) {
    return at.run(HOOK_from_pod, "pod2",
                  from_pod(2) / Ip{.src = who().server, .dst = who().client} /
                      Tcp{.sport = 80, .dport = port, .flags = flags});
  }
  [[nodiscard]] flow_key tuple(uint16_t port = kClientPort) const {
    return key(who().client, port, who().server, 80, 6);
  }
  [[nodiscard]] int state() { return state_of(node(), tuple()); }
  /// The state of a pair, which must be the same in both entries; -1: there is none.
  static int state_of(Node& at, const flow_key& tuple) {
    const auto original = at.find_flow(tuple);
    if (!original) return -1;
    const auto reply = at.find_flow(original->peer);
    EXPECT_TRUE(reply) << "a pair is made and removed as one";
    EXPECT_EQ(reply->state, original->state);
    return original->state;
  }
  void establish_on(Node& at, uint16_t port) {
    there_on(at, SYN, port);
    back_on(at, SYN | ACK, port);
    there_on(at, ACK, port);
    ASSERT_EQ(state_of(at, tuple(port)), FLOW_ESTABLISHED);
  }
  static datapath_config small_table(uint32_t max_flows) {
    auto config = default_config();
    config.max_flows = max_flows;
    return config;
  }
};

TEST_P(Flow, TcpHandshake) {
  there(SYN);
  EXPECT_EQ(state(), FLOW_NEW);
  back(SYN | ACK);
  EXPECT_EQ(state(), FLOW_REPLIED);
  there(ACK);
  EXPECT_EQ(state(), FLOW_ESTABLISHED);
}

TEST_P(Flow, TcpCloseByFinFromBothSides) {
  establish_on(node(), kClientPort);
  there(FIN | ACK);
  EXPECT_EQ(state(), FLOW_CLOSING);
  back(ACK);
  EXPECT_EQ(state(), FLOW_CLOSING);
  back(FIN | ACK);
  EXPECT_EQ(state(), FLOW_CLOSED);
}

TEST_P(Flow, TcpReset) {
  establish_on(node(), kClientPort);
  EXPECT_THAT(back(RST), HasVerdict(VERDICT_TO_ENDPOINT));
  EXPECT_EQ(state(), FLOW_CLOSED);
}

TEST_P(Flow, TwoFinsFromOneSideDoNotClose) {
  establish_on(node(), kClientPort);
  there(FIN | ACK);
  there(FIN | ACK);
  EXPECT_EQ(state(), FLOW_CLOSING);
}

TEST_P(Flow, SynOnAClosedPairBeginsAnew) {
  establish_on(node(), kClientPort);
  back(RST);
  EXPECT_THAT(there(SYN), HasVerdict(VERDICT_TO_ENDPOINT));
  EXPECT_EQ(state(), FLOW_NEW);
  EXPECT_EQ(node().flows().size(), 2U);
}

TEST_P(Flow, ScrambledSegmentsNeverPromoteAHalfOpenFlow) {
  there(SYN);
  there(ACK);
  EXPECT_EQ(state(), FLOW_NEW);
  there(SYN);
  EXPECT_EQ(state(), FLOW_NEW);
}

TEST_P(Flow, UdpIsEstablishedByItsReply) {
  const Packet query =
      from_pod(1) / Ip{.src = who().client, .dst = who().server} / Udp{.sport = 5, .dport = 53};
  const Packet reply =
      from_pod(2) / Ip{.src = who().server, .dst = who().client} / Udp{.sport = 53, .dport = 5};
  node().run(HOOK_from_pod, "pod1", query);
  EXPECT_EQ(state_of(node(), key(who().client, 5, who().server, 53, 17)), FLOW_NEW);
  node().run(HOOK_from_pod, "pod2", reply);
  EXPECT_EQ(state_of(node(), key(who().client, 5, who().server, 53, 17)), FLOW_ESTABLISHED);
}

TEST_P(Flow, CountsItsPacketsAndBytes) {
  establish_on(node(), kClientPort);
  const auto flow = node().find_flow(tuple()).value();
  EXPECT_EQ(flow.packets, 2U);
  EXPECT_EQ(flow.bytes, 2 * (who().v4() ? 40U : 60U));
}

TEST_P(Flow, TheTableKnowsItsPairs) {
  there(SYN, 1);
  there(SYN, 2);
  EXPECT_EQ(node().table().live, 2U);
  EXPECT_EQ(must(node().maps().endpoint_usages.get(1)).flows, 2U);
}

TEST_P(Flow, QuotaOfAPod) {
  auto config = default_config();
  config.endpoint_flow_quota = 2;
  auto& limited = pooled_node(1, config);
  there_on(limited, SYN, 1);
  there_on(limited, SYN, 2);
  EXPECT_THAT(there_on(limited, SYN, 3), Drops(DROP_FLOW_QUOTA));
  EXPECT_THAT(there_on(limited, SYN, 2), HasVerdict(VERDICT_TO_ENDPOINT));
  EXPECT_THAT(back_on(limited, SYN, 9), HasVerdict(VERDICT_TO_ENDPOINT)) << "another pod has its own";
}

TEST_P(Flow, HalfOpenFlowsMakeRoom) {
  auto& small = pooled_node(1, small_table(8));
  for (uint16_t port = 1; port <= 4; ++port) establish_on(small, port);
  for (uint16_t port = 100; port < 140; ++port) {
    EXPECT_THAT(there_on(small, SYN, port), HasVerdict(VERDICT_TO_ENDPOINT)) << port;
  }
  for (uint16_t port = 1; port <= 4; ++port)
    EXPECT_EQ(state_of(small, tuple(port)), FLOW_ESTABLISHED) << port;
  EXPECT_EQ(small.flows().size(), 16U);
  EXPECT_GE(small.table().evicted, 36U);
}

TEST_P(Flow, EstablishedTcpIsNeverEvicted) {
  auto& small = pooled_node(1, small_table(4));
  for (uint16_t port = 1; port <= 4; ++port) establish_on(small, port);
  const auto refused = there_on(small, SYN, 99);
  EXPECT_THAT(refused, Drops(DROP_FLOW_TABLE_FULL));
  EXPECT_EQ(refused.flow_delta, 0);
}

TEST_P(Flow, ClosingGoesBeforeNothingElseIsLeft) {
  auto& small = pooled_node(1, small_table(4));
  for (uint16_t port = 1; port <= 4; ++port) establish_on(small, port);
  there_on(small, FIN | ACK, 2);
  EXPECT_THAT(there_on(small, SYN, 99), HasVerdict(VERDICT_TO_ENDPOINT));
  EXPECT_EQ(state_of(small, tuple(2)), -1);
}

TEST_P(Flow, HalfOpenGoesBeforeClosing) {
  auto& small = pooled_node(1, small_table(4));
  for (uint16_t port = 1; port <= 3; ++port) establish_on(small, port);
  there_on(small, FIN | ACK, 1);
  there_on(small, SYN, 50);
  EXPECT_THAT(there_on(small, SYN, 99), HasVerdict(VERDICT_TO_ENDPOINT));
  EXPECT_EQ(state_of(small, tuple(50)), -1);
  EXPECT_EQ(state_of(small, tuple(1)), FLOW_CLOSING);
}

// A pair is made whole or not at all, also when the hash table itself has no room.
TEST_P(Flow, AHashTableWithoutRoomLeavesNothingBehind) {
  auto& small = pooled_node(1, small_table(4));
  flow filler{};
  for (uint16_t i = 0; i < 7; ++i)
    must(small.maps().flows.put(key(who().gateway, i, who().outside, i, 17), filler));
  const auto refused = there_on(small, SYN, 1);
  EXPECT_THAT(refused, Drops(DROP_FLOW_TABLE_FULL));
  EXPECT_EQ(refused.flow_delta, 0);
  EXPECT_EQ(small.table().live, 0U);
  EXPECT_EQ(must(small.maps().endpoint_usages.get(1)).flows, 0U);
}

INSTANTIATE_FAMILIES(Flow);

/// Runs with the kernel's timer: a tick of four jiffies, so idle times are milliseconds.
class Expiry : public DatapathFixture {
 protected:
  void SetUp() override {
    DatapathFixture::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    auto config = default_config();
    config.tick_shift = 2;
    config.tick_ns = 16'000'000;
    config.timeout_udp_new = 2;
    config.timeout_tcp_new = 2;
    config.timeout_tcp_established = 1U << 20;
    config.timeout_tcp_closing = 1U << 19;
    config.timeout_tcp_closed = 2;
    own_ = must(Node::create(1, config));
    own_->start_expiry();
  }
  /// Waits until the kernel's expiry has run `runs` more times.
  void wait_for_runs(uint64_t runs) {
    const uint64_t target = own_->table().gc_runs + runs;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (own_->table().gc_runs < target && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::yield();
    }
    ASSERT_GE(own_->table().gc_runs, target) << "the timer does not run";
  }
  void segment(uint32_t pod, uint8_t flags) {
    const bool there = pod == 1;
    own_->run(HOOK_from_pod, there ? "pod1" : "pod2",
              from_pod(pod) /
                  Ip{.src = there ? who().client : who().server, .dst = there ? who().server : who().client} /
                  Tcp{.sport = static_cast<uint16_t>(there ? 9 : 80),
                      .dport = static_cast<uint16_t>(there ? 80 : 9),
                      .flags = flags});
  }
  void establish() {
    segment(1, SYN);
    segment(2, SYN | ACK);
    segment(1, ACK);
  }
  std::unique_ptr<Node> own_;
};

TEST_P(Expiry, IdlePairsAreRemovedByTheKernel) {
  own_->run(HOOK_from_pod, "pod1",
            from_pod(1) / Ip{.src = who().client, .dst = who().server} / Udp{.sport = 5, .dport = 53});
  EXPECT_EQ(own_->flows().size(), 2U);
  wait_for_runs(4);
  EXPECT_EQ(own_->flows().size(), 0U);
  EXPECT_EQ(own_->table().live, 0U);
  EXPECT_EQ(own_->table().expired, 1U);
  EXPECT_EQ(must(own_->maps().endpoint_usages.get(1)).flows, 0U);
}

// S48: established, and half closed, each for a time of its own.
TEST_P(Expiry, EstablishedTcpStays) {
  establish();
  wait_for_runs(4);
  EXPECT_EQ(own_->flows().size(), 2U);
  EXPECT_EQ(own_->table().expired, 0U);
}

TEST_P(Expiry, HalfClosedTcpStaysUntilTheOtherSideCloses) {
  establish();
  segment(1, FIN | ACK);
  wait_for_runs(4);
  EXPECT_EQ(own_->flows().size(), 2U);
  segment(2, FIN | ACK);
  wait_for_runs(4);
  EXPECT_EQ(own_->flows().size(), 0U);
}

TEST_P(Expiry, ExpiredSlotsAreUsedAgain) {
  const auto probe = [&](uint16_t port) {
    own_->run(HOOK_from_pod, "pod1",
              from_pod(1) / Ip{.src = who().client, .dst = who().server} / Udp{.sport = port, .dport = 53});
  };
  probe(1);
  wait_for_runs(4);
  probe(2);
  EXPECT_EQ(own_->table().high_water, 1U);
}

INSTANTIATE_FAMILIES(Expiry);

}  // namespace
}  // namespace bpfnet::test
