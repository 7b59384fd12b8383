// Which clients a service takes, and which backend a client comes back to.
#include <set>

#include "maps/convert.h"
#include "tests/support/fixture.h"

namespace bpfnet::test {
namespace {

class SourceRanges : public DatapathFixture {
 protected:
  void SetUp() override {
    DatapathFixture::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    node().add_service({.address = vip_,
                        .port = 80,
                        .backends = {{who().server, kServerPort}},
                        .flags = FRONTEND_LOAD_BALANCER,
                        .source_set = 5});
    // Another set's ranges are nobody else's.
    node().add_source_range(6, cidr(who().v4() ? "0.0.0.0/0" : "::/0"));
  }
  Outcome client_sends(uint8_t flags = SYN) {
    return node().run(HOOK_from_pod, "pod1", from_pod(1) / Ip{.src = who().client, .dst = vip_} / tcp(flags));
  }
  Outcome outside_sends(uint8_t flags = SYN) {
    return node().run(HOOK_from_uplink, "uplink",
                      from_wire() / Ip{.src = who().outside, .dst = vip_} / tcp(flags));
  }
  Outcome host_sends() {
    return node().run(HOOK_from_host, "bpfnet1",
                      from_stack() / Ip{.src = who().node1, .dst = vip_} / tcp(SYN));
  }
  static Packet tcp(uint8_t flags) { return Packet(Tcp{.sport = kClientPort, .dport = 80, .flags = flags}); }

  const Address vip_ = pick("203.0.113.80", "2001:db8:80::80");
};

// S39: from wherever it comes, and without a word.
TEST_P(SourceRanges, ClientsThatAreNotNamedHearNothing) {
  for (const auto& run : {outside_sends(), client_sends(), host_sends()}) {
    EXPECT_THAT(run, Drops(DROP_SOURCE_RANGE));
    EXPECT_EQ(run.flow_delta, 0);
  }
}

TEST_P(SourceRanges, ClientsOfARangeAreServed) {
  node().add_source_range(5, cidr(who().v4() ? "198.51.100.0/24" : "2001:db8:2::/64"));
  EXPECT_THAT(outside_sends(), HasVerdict(VERDICT_TO_ENDPOINT));
  EXPECT_THAT(client_sends(), Drops(DROP_SOURCE_RANGE));
  node().add_source_range(5, cidr(who().v4() ? "10.1.0.10/32" : "fd00:1::10/128"));
  EXPECT_THAT(client_sends(), HasVerdict(VERDICT_TO_ENDPOINT));
  EXPECT_THAT(host_sends(), Drops(DROP_SOURCE_RANGE));
}

// S39: before the choice of a backend, so that nobody learns that there is none.
TEST_P(SourceRanges, AreAskedBeforeTheBackends) {
  node().add_service(
      {.address = vip_, .port = 80, .backends = {}, .flags = FRONTEND_LOAD_BALANCER, .source_set = 5});
  EXPECT_THAT(outside_sends(), Drops(DROP_SOURCE_RANGE));
}

// S33, S39: a range that is taken away cuts no connection.
TEST_P(SourceRanges, EstablishedConnectionsAreNotAsked) {
  const Cidr range = cidr(who().v4() ? "198.51.100.0/24" : "2001:db8:2::/64");
  node().add_source_range(5, range);
  EXPECT_THAT(outside_sends(), HasVerdict(VERDICT_TO_ENDPOINT));
  must(node().maps().source_ranges.erase(maps::make_source_range_key(5, range)));
  EXPECT_THAT(outside_sends(ACK), HasVerdict(VERDICT_TO_ENDPOINT));
}

// S39: NodePort and externalIPs of the same service carry no set.
TEST_P(SourceRanges, OtherFrontendsOfTheServiceAreOpen) {
  node().add_service({.address = who().any,
                      .port = kNodePort,
                      .backends = {{who().server, kServerPort}},
                      .flags = FRONTEND_NODE_PORT,
                      .scope = SCOPE_ANY_LOCAL});
  const Packet syn = from_wire() / Ip{.src = who().outside, .dst = who().node1} /
                     Tcp{.sport = kClientPort, .dport = kNodePort};
  EXPECT_THAT(node().run(HOOK_from_uplink, "uplink", syn), HasVerdict(VERDICT_TO_ENDPOINT));
}

INSTANTIATE_FAMILIES(SourceRanges);

class Affinity : public DatapathFixture {
 protected:
  static constexpr uint32_t kTicks = 100;

  /// A service whose backend on port n is the n-th of the run.
  uint32_t add_web(uint16_t backends, uint8_t proto = 6) {
    std::vector<BackendSpec> specs;
    for (uint16_t port = 1; port <= backends; ++port) specs.push_back({who().server, port});
    return node().add_service({.address = who().vip,
                               .port = 80,
                               .proto = proto,
                               .backends = std::move(specs),
                               .flags = FRONTEND_CLUSTER_IP | FRONTEND_AFFINITY,
                               .id = 7,
                               .affinity_ticks = kTicks});
  }
  /// The backend port that a connection of the client comes to.
  uint16_t connect(uint16_t sport, uint16_t dport = 80) {
    return node()
        .run(HOOK_from_pod, "pod1",
             from_pod(1) / Ip{.src = who().client, .dst = who().vip} / Tcp{.sport = sport, .dport = dport})
        .packet.at<Tcp>()
        .dport;
  }
  [[nodiscard]] affinity_key record_key() const { return maps::make_affinity_key(who().client, 7); }
  affinity record() { return must(node().maps().affinities.get(record_key())).value(); }
  void write_record(uint32_t backend, uint32_t age = 0, uint32_t generation = 1) {
    affinity value{};
    value.backend = backend;
    value.generation = generation;
    value.last_used = now_ - age;
    must(node().maps().affinities.put(record_key(), value));
  }
  /// Connects once, so that the tick is known.
  void learn_now() {
    connect(1);
    now_ = record().last_used;
  }
  /// The backends of 20 connections, before each of which the record is put back.
  template <typename Before>
  std::set<uint16_t> chosen(Before before) {
    std::set<uint16_t> ports;
    for (int i = 0; i < 20; ++i) {
      before();
      ports.insert(connect(next_sport_++));
    }
    return ports;
  }
  uint32_t now_ = 0;
  uint16_t next_sport_ = 20000;
};

// S42: the client's address counts, not its port.
TEST_P(Affinity, AClientComesBackToItsBackend) {
  add_web(8);
  EXPECT_EQ(chosen([] {}).size(), 1U);
  EXPECT_EQ(must(node().maps().affinities.entries()).size(), 1U);
}

TEST_P(Affinity, EachClientHasItsOwn) {
  add_web(8);
  std::set<uint16_t> ports;
  for (int i = 1; i <= 20; ++i) {
    const Address client = ip((who().v4() ? "198.51.100." : "2001:db8:2::") + std::to_string(i));
    const auto run =
        node().run(HOOK_from_uplink, "uplink",
                   from_wire() / Ip{.src = client, .dst = who().vip} / Tcp{.sport = 1, .dport = 80});
    ports.insert(run.packet.at<Tcp>().dport);
  }
  EXPECT_GT(ports.size(), 2U);
}

// S42: whichever way the client comes; per port and protocol.
TEST_P(Affinity, IsSharedByTheFrontendsOfAServicePort) {
  add_web(8);
  auto record = must(node().maps().frontends.get(maps::make_frontend_key(who().vip, 80, 6))).value();
  const auto put = [&](const frontend_key& key) {
    record.seal = frontend_seal(&key, &record);
    must(node().maps().frontends.put(key, record));
  };
  put(maps::make_frontend_key(who().any, kNodePort, 6, SCOPE_ANY_LOCAL));
  record.service = 8;
  put(maps::make_frontend_key(who().vip, 81, 6));
  const uint16_t port = connect(1);
  const auto run = node().run(
      HOOK_from_pod, "pod1",
      from_pod(1) / Ip{.src = who().client, .dst = who().node1} / Tcp{.sport = 2, .dport = kNodePort});
  EXPECT_EQ(run.packet.at<Tcp>().dport, port);
  connect(3, 81);
  EXPECT_EQ(must(node().maps().affinities.entries()).size(), 2U);
}

// S43: a new connection refreshes, a packet does not.
TEST_P(Affinity, TimeSlidesWithNewConnections) {
  const uint32_t first = add_web(8);
  learn_now();
  write_record(first + 3, 50);
  node().run(
      HOOK_from_pod, "pod1",
      from_pod(1) / Ip{.src = who().client, .dst = who().vip} / Tcp{.sport = 1, .dport = 80, .flags = ACK});
  EXPECT_EQ(record().last_used, now_ - 50);
  EXPECT_EQ(connect(2), 4);
  EXPECT_EQ(record().last_used, now_);
}

TEST_P(Affinity, HoldsToTheLastTickAndNotLonger) {
  const uint32_t first = add_web(8);
  learn_now();
  EXPECT_EQ(chosen([&] { write_record(first + 3, kTicks); }), std::set<uint16_t>{4});
  EXPECT_GT(chosen([&] { write_record(first + 3, kTicks + 1); }).size(), 1U);
  EXPECT_EQ(record().last_used, now_);
}

// S44: the backend is gone, or another one has its id now.
TEST_P(Affinity, LosingTheBackendBalancesAnew) {
  const uint32_t first = add_web(8);
  learn_now();
  EXPECT_GT(chosen([&] { write_record(first + 100); }).size(), 1U);
  EXPECT_GE(record().backend, first);
  EXPECT_LT(record().backend, first + 8);
  EXPECT_GT(chosen([&] { write_record(first + 3, 0, 9); }).size(), 1U);
  EXPECT_EQ(record().generation, 1U);
}

TEST_P(Affinity, EveryBackendOfARunIsFound) {
  for (uint16_t count = 1; count <= 9; ++count) {
    const uint32_t first = add_web(count);
    learn_now();
    for (uint16_t i = 0; i < count; ++i) {
      write_record(first + i);
      EXPECT_EQ(connect(static_cast<uint16_t>(100 * count + i)), i + 1) << count;
    }
    must(node().maps().flows.clear());
  }
}

// S44, S45: a UDP flow whose backend went is balanced anew, and the client stays with what it got then.
TEST_P(Affinity, AMovedUdpFlowTakesTheRecordAlong) {
  const auto send = [&](uint16_t sport) {
    return node()
        .run(HOOK_from_pod, "pod1",
             from_pod(1) / Ip{.src = who().client, .dst = who().vip} / Udp{.sport = sport, .dport = 80})
        .packet.at<Udp>()
        .dport;
  };
  const uint32_t first = add_web(8, 17);
  const uint16_t before = send(5);
  must(node().maps().backend_states.put(first + before - 1, {.generation = 2}));
  const uint32_t second = add_web(4, 17);
  const uint16_t after = send(5);
  EXPECT_EQ(record().backend, second + after - 1);
  for (uint16_t sport = 6; sport < 16; ++sport) EXPECT_EQ(send(sport), after);
}

TEST_P(Affinity, WithoutTheFlagNothingIsRemembered) {
  node().add_service({.address = who().vip, .port = 80, .backends = {{who().server, 1}}});
  connect(1);
  EXPECT_EQ(must(node().maps().affinities.entries()).size(), 0U);
}

INSTANTIATE_FAMILIES(Affinity);

}  // namespace
}  // namespace bpfnet::test
