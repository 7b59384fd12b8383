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

}  // namespace
}  // namespace bpfnet::test
