// What frontends are beside an address with backends: ranges of ports, sets of sources, affinity, marks.
#include "tests/unit/apply_service_fixture.h"

namespace bpfnet::apply {
namespace {

using compile::Frontend;
using compile::FrontendAddress;
using compile::ServiceImage;
using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Frontend affine(const std::vector<compile::Backend>& backends) {
  Frontend frontend = web(backends);
  frontend.flags |= FRONTEND_AFFINITY;
  frontend.affinity_seconds = 60;
  return frontend;
}

Frontend restricted(std::vector<Cidr> ranges, const char* name = "default/web:http") {
  Frontend frontend = web({kA}, name);
  frontend.source_ranges = std::move(ranges);
  return frontend;
}

class Affinity : public Services {
 protected:
  void remember(const char* client, uint32_t service) {
    maps_.affinities[maps::make_affinity_key(ip(client), service)] = {.backend = 1, .generation = 1};
  }
};

TEST_F(Services, SlotsStandInTheOrderOfBackendIds) {
  (void)publish({.frontends = {{vip(80), web({kC})}}});
  (void)publish({.frontends = {{vip(80), web({kA, kB, kC})}}});
  const uint32_t count = value(vip(80)).count;
  ASSERT_EQ(count, 3U);
  for (uint32_t i = 1; i < count; ++i) EXPECT_LT(slot(vip(80), i - 1).backend, slot(vip(80), i).backend);
  EXPECT_THAT(backends(vip(80)), ElementsAre(kC, kA, kB));
}

TEST_F(Services, PortRangeIsAFewEntriesOfItsOwnMap) {
  const FrontendAddress block{
      .ip = ip("192.0.2.1"), .port = 30000, .proto = IPPROTO_TCP, .port_bits = 12};  // 30000..30015
  Frontend range = web({kA}, "hostport:default/web");
  range.flags = FRONTEND_HOST_PORT | FRONTEND_PORT_RANGE;
  range.range_first = 29990;
  const ServiceImage image{.frontends = {{block, range}}};
  EXPECT_THAT(publish(image), IsEmpty());
  EXPECT_THAT(maps_.frontends, IsEmpty());
  const auto key = maps::make_frontend_range_key(block.ip, 30000, 12, IPPROTO_TCP);
  ASSERT_TRUE(maps_.frontend_ranges.contains(key));
  EXPECT_EQ(maps_.frontend_ranges.at(key).range_first, 29990);
  EXPECT_EQ(maps_.frontend_ranges.at(key).flags, FRONTEND_HOST_PORT | FRONTEND_PORT_RANGE);

  start();  // adopted
  EXPECT_THAT(publish(image), IsEmpty());
  EXPECT_THAT(maps_.log, IsEmpty());
  (void)publish({});
  EXPECT_THAT(maps_.frontend_ranges, IsEmpty());
}

TEST_F(Services, MarkOfALiveAddressIsAFrontendWithoutBackends) {  // S32
  const FrontendAddress mark{.ip = ip("10.96.0.1")};
  Frontend live{.service = "default/web", .flags = FRONTEND_CLUSTER_IP};
  (void)publish({.frontends = {{mark, live}, {vip(80), web({kA})}}});
  EXPECT_EQ(value(mark).count, 0U);
  EXPECT_EQ(value(mark).flags, FRONTEND_CLUSTER_IP);
  EXPECT_EQ(publisher_->slots().used(), 1U);
}

TEST_F(Services, SourceRangesAreASetWrittenBeforeItsFrontend) {  // S39
  const Cidr office = cidr("198.51.100.0/24");
  (void)publish({.frontends = {{vip(80), restricted({office})}}});
  EXPECT_LT(maps_.last("source_ranges put"), maps_.first("frontends put"));
  const uint32_t set = value(vip(80)).source_set;
  EXPECT_NE(set, 0U);
  EXPECT_EQ(maps_.source_ranges.at(maps::make_source_range_key(set, office)).allowed, 1U);
}

TEST_F(Services, EqualSourceRangesAreOneSet) {
  const std::vector<Cidr> ranges{cidr("198.51.100.0/24"), cidr("203.0.113.0/24")};
  (void)publish(
      {.frontends = {{vip(80), restricted(ranges)}, {vip(81), restricted(ranges, "default/other:http")}}});
  EXPECT_EQ(value(vip(80)).source_set, value(vip(81)).source_set);
  EXPECT_EQ(maps_.source_ranges.size(), 2U);
}

TEST_F(Services, ChangedSourceRangesAreANewSetAndTheOldOneGoesAfterTheGrace) {
  (void)publish({.frontends = {{vip(80), restricted({cidr("198.51.100.0/24")})}}});
  const uint32_t before = value(vip(80)).source_set;
  maps_.before_write = [&](const std::string& map) {
    if (map != "frontends") return;
    EXPECT_EQ(maps_.source_ranges.size(), 2U);  // both, at the switch
  };
  (void)publish({.frontends = {{vip(80), restricted({cidr("203.0.113.0/24")})}}});
  maps_.before_write = nullptr;
  EXPECT_NE(value(vip(80)).source_set, before);
  EXPECT_EQ(publisher_->deadline(), now_ + milliseconds(100));
  EXPECT_FALSE(publisher_->reclaim(now_ + milliseconds(99)));
  EXPECT_TRUE(publisher_->reclaim(now_ + milliseconds(100)));
  EXPECT_EQ(maps_.source_ranges.size(), 1U);
  EXPECT_EQ(publisher_->source_sets(), 1U);
}

TEST_F(Services, SourceRangesAreAdoptedAndAnUnusedSetIsRemoved) {
  const ServiceImage image{.frontends = {{vip(80), restricted({cidr("198.51.100.0/24")})}}};
  (void)publish(image);
  maps_.source_ranges[maps::make_source_range_key(77, cidr("10.0.0.0/8"))] = {.allowed = 1};  // cut off
  start();
  EXPECT_THAT(publish(image), IsEmpty());
  EXPECT_THAT(maps_.log, IsEmpty());
  publisher_->reclaim(now_ + milliseconds(1));
  EXPECT_EQ(maps_.source_ranges.size(), 1U);
  // Numbers that the map held are not given again at once.
  (void)publish({.frontends = {{vip(80), restricted({cidr("203.0.113.0/24")})}}});
  EXPECT_EQ(value(vip(80)).source_set, 78U);
}

TEST_F(Services, SourceRangesThatDoNotFitCloseTheAddress) {
  maps_.capacity["source_ranges"] = 1;
  (void)publish({.frontends = {{vip(80), web({kA})}}});  // open to everybody
  const ServiceImage image{
      .frontends = {{vip(80), restricted({cidr("198.51.100.0/24"), cidr("203.0.113.0/24")})}}};
  const Problems problems = publish(image);
  ASSERT_EQ(problems.size(), 1U);
  EXPECT_THAT(problems[0].message, HasSubstr("map source_ranges"));
  EXPECT_THAT(problems[0].message, HasSubstr("closed to every source"));
  EXPECT_EQ(value(vip(80)).source_set, SourceSets::kNobody);
  EXPECT_THAT(maps_.source_ranges, IsEmpty());
  maps_.capacity["source_ranges"] = 2;
  EXPECT_THAT(publish(image), IsEmpty());
  EXPECT_NE(value(vip(80)).source_set, SourceSets::kNobody);
}

TEST_F(Affinity, RecordsGoWhenItIsSwitchedOff) {  // S44: None<->ClientIP is live
  (void)publish({.frontends = {{vip(80), affine({kA, kB})}}});
  const uint32_t service = numbers_.ids.at("default/web:http/tcp");
  EXPECT_EQ(value(vip(80)).affinity_ticks, 60U);
  remember("10.0.1.1", service);
  remember("10.0.1.1", service + 1);
  (void)publish({.frontends = {{vip(80), web({kA, kB})}}});
  // Programs that read the frontend before may still write one.
  EXPECT_EQ(publisher_->deadline(), now_ + milliseconds(100));
  publisher_->reclaim(now_ + milliseconds(100));
  ASSERT_EQ(maps_.affinities.size(), 1U);
  EXPECT_EQ(maps_.affinities.begin()->first.service, service + 1);
  EXPECT_EQ(publisher_->deadline(), std::nullopt);
}

TEST_F(Affinity, SwitchedOffAndOnBeginsAfresh) {
  (void)publish({.frontends = {{vip(80), affine({kA})}}});
  remember("10.0.1.1", numbers_.ids.at("default/web:http/tcp"));
  (void)publish({.frontends = {{vip(80), web({kA})}}});
  EXPECT_EQ(maps_.affinities.size(), 1U);
  (void)publish({.frontends = {{vip(80), affine({kA})}}});
  EXPECT_THAT(maps_.affinities, IsEmpty());
  EXPECT_LT(maps_.last("affinities erase"), maps_.first("frontends put"));
}

TEST_F(Affinity, OneFrontendOfAServiceGoingLeavesTheRecords) {  // S42: shared by all its frontends
  (void)publish({.frontends = {{vip(80), affine({kA})}, {vip(8080), affine({kA})}}});
  remember("10.0.1.1", numbers_.ids.at("default/web:http/tcp"));
  (void)publish({.frontends = {{vip(80), affine({kA})}}});
  publisher_->reclaim(now_ + milliseconds(200));
  EXPECT_EQ(maps_.affinities.size(), 1U);
}

// S44: hints or a traffic policy may leave out for a while what goes on serving; its clients come back to it.
TEST_F(Affinity, ABackendThatIsLeftOutWhileItServesKeepsItsRecords) {
  const ServingBackends serving = {{"default/web:http/tcp", {kA, kB}}};
  (void)publish({.frontends = {{vip(80), affine({kA, kB})}}}, serving);
  const backend_slot before = slot(vip(80), 0);
  ASSERT_EQ(maps::from_abi(before.addr), kA.ip);
  (void)publish({.frontends = {{vip(80), affine({kB})}}}, serving);
  (void)publish({.frontends = {{vip(80), affine({kA, kB})}}}, serving);
  EXPECT_EQ(slot(vip(80), 0).backend, before.backend);
  EXPECT_EQ(slot(vip(80), 0).generation, before.generation);
  // Lost and back, it is another one.
  (void)publish({.frontends = {{vip(80), affine({kB})}}}, {{"default/web:http/tcp", {kB}}});
  (void)publish({.frontends = {{vip(80), affine({kA, kB})}}}, serving);
  const backend_slot after =
      maps::from_abi(slot(vip(80), 0).addr) == kA.ip ? slot(vip(80), 0) : slot(vip(80), 1);
  ASSERT_EQ(maps::from_abi(after.addr), kA.ip);
  EXPECT_NE(std::pair(after.backend, after.generation), std::pair(before.backend, before.generation));
}

TEST_F(Affinity, RecordsSurviveARestartUnlessTheirServiceIsGone) {  // S44
  const ServiceImage image{.frontends = {{vip(80), affine({kA})}}};
  (void)publish(image);
  const uint32_t service = numbers_.ids.at("default/web:http/tcp");
  remember("10.0.1.1", service);
  remember("10.0.1.2", service + 7);
  start();
  (void)publish(image);
  EXPECT_THAT(maps_.log, IsEmpty());
  publisher_->reclaim(now_ + milliseconds(1));
  ASSERT_EQ(maps_.affinities.size(), 1U);
  EXPECT_EQ(maps_.affinities.begin()->first.service, service);
}

TEST_F(Affinity, DeletedServiceLosesItsRecords) {
  (void)publish({.frontends = {{vip(80), affine({kA})}}});
  remember("10.0.1.1", numbers_.ids.at("default/web:http/tcp"));
  (void)publish({});
  publisher_->reclaim(now_ + milliseconds(100));
  EXPECT_THAT(maps_.affinities, IsEmpty());
}

}  // namespace
}  // namespace bpfnet::apply
