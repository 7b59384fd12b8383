#include <fmt/format.h>

#include <random>

#include "tests/unit/apply_service_fixture.h"

namespace bpfnet::apply {
namespace {

using compile::Backend;
using compile::Frontend;
using compile::FrontendAddress;
using compile::ServiceImage;
using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

TEST_F(Services, RunIsWrittenBeforeTheFrontendNamesIt) {
  EXPECT_THAT(publish({.frontends = {{vip(80), web({kA, kB})}}}), IsEmpty());
  EXPECT_LT(maps_.last("backend_slots put"), maps_.first("frontends put"));
  EXPECT_LT(maps_.last("backend_states put"), maps_.first("backend_slots put"));
  EXPECT_EQ(backends(vip(80)), (std::vector{kA, kB}));
}

TEST_F(Services, ChangeIsOneFrontendUpdateAndNoReaderSeesAMix) {
  (void)publish({.frontends = {{vip(80), web({kA, kB})}}});
  maps_.before_write = [this](const std::string&) {
    const auto seen = backends(vip(80));
    EXPECT_TRUE(seen == (std::vector{kA, kB}) || seen == (std::vector{kA, kB, kC}));
  };
  (void)publish({.frontends = {{vip(80), web({kA, kB, kC})}}});
  EXPECT_EQ(maps_.count("frontends put"), 1U);
  EXPECT_EQ(maps_.count("frontends erase"), 0U);
  EXPECT_EQ(backends(vip(80)), (std::vector{kA, kB, kC}));
}

TEST_F(Services, OldRunIsReusedOnlyAfterItsGrace) {
  maps_.capacity["backend_slots"] = 3;
  start();
  (void)publish({.frontends = {{vip(80), web({kA, kB})}}});
  const ServiceImage next{.frontends = {{vip(80), web({kB, kC})}}};
  const Problems refused = publish(next);
  ASSERT_EQ(refused.size(), 1U);
  EXPECT_THAT(refused[0].message, HasSubstr("map backend_slots"));
  EXPECT_THAT(refused[0].message, HasSubstr("E2BIG"));
  EXPECT_EQ(backends(vip(80)), (std::vector{kA, kB}));

  (void)publish({.frontends = {{vip(80), web({kC})}}});  // one slot fits
  EXPECT_FALSE(publisher_->reclaim(now_ + milliseconds(99)));
  EXPECT_TRUE(publisher_->reclaim(now_ + milliseconds(100)));
  EXPECT_THAT(publish(next), IsEmpty());
  EXPECT_THAT(backends(vip(80)), UnorderedElementsAre(kB, kC));
}

// A slot is written in place: no program may be able to look at it meanwhile. Whatever a frontend names, or
// has named within the grace, stays as it was when it was named.
TEST_F(Services, SlotsThatAProgramMayReadAreNeverWritten) {
  struct Named {
    backend_slot slot;
    Clock::time_point last;
  };
  std::map<uint32_t, Named> named;
  const auto look = [&] {
    for (const auto& [key, value] : maps_.frontends)
      for (uint32_t i = value.first; i < value.first + value.count; ++i) {
        const auto known = named.find(i);
        if (known != named.end() && known->second.last + milliseconds(100) > now_) {
          EXPECT_TRUE(same_bytes(known->second.slot, maps_.backend_slots.at(i))) << i;
        }
        named[i] = {maps_.backend_slots.at(i), now_};
      }
    for (const auto& [i, each] : named)
      if (each.last + milliseconds(100) > now_) {
        EXPECT_TRUE(same_bytes(each.slot, maps_.backend_slots.at(i))) << i;
      }
  };
  maps_.capacity["backend_slots"] = 12;
  start();
  maps_.before_write = [&](const std::string&) { look(); };
  std::minstd_rand random(1);
  const std::vector<std::vector<Backend>> choices = {{kA}, {kB}, {kA, kB}, {kB, kC}, {kA, kB, kC}, {}};
  int reclaimed = 0;
  for (int round = 0; round < 500; ++round) {
    ServiceImage image;
    for (const uint16_t port : {80, 81, 82})
      image.frontends[vip(port)] =
          web(choices[random() % choices.size()], fmt::format("default/web:{}", port).c_str());
    (void)publish(image);
    look();
    now_ += milliseconds(random() % 60);
    reclaimed += publisher_->reclaim(now_) ? 1 : 0;
  }
  EXPECT_GT(reclaimed, 50) << "slots were used again";
}

// A publish of thousands of services takes longer than the grace.
TEST_F(Services, GraceBeginsWhenTheFrontendIsSwitched) {
  (void)publish({.frontends = {{vip(80), web({kA})}}});
  Clock::time_point switched{};
  maps_.before_write = [&](const std::string& map) {
    now_ += milliseconds(500);
    if (map == "frontends") switched = now_;
  };
  const Clock::time_point begin = now_;
  (void)publish({.frontends = {{vip(80), web({kB})}}});
  EXPECT_GT(switched, begin + milliseconds(100));
  EXPECT_EQ(publisher_->deadline(), switched + milliseconds(100));
}

TEST_F(Services, FullFrontendMapRefusesOneAndKeepsTheRest) {
  maps_.capacity["frontends"] = 1;
  (void)publish({.frontends = {{vip(80), web({kA})}}});
  ServiceImage image{.frontends = {{vip(80), web({kB})}, {vip(81), web({kA}, "default/other:http")}}};
  const Problems problems = publish(image);
  ASSERT_EQ(problems.size(), 1U);
  EXPECT_EQ(problems[0].object, "default/other:http");
  EXPECT_THAT(problems[0].message, HasSubstr("map frontends: update {10.96.0.1:81 tcp}: E2BIG"));
  EXPECT_EQ(backends(vip(80)), std::vector{kB});
  // The next publish tries again: there is room once the other is gone.
  image.frontends.erase(vip(80));
  EXPECT_THAT(publish(image), IsEmpty());
  EXPECT_EQ(backends(vip(81)), std::vector{kA});
}

TEST_F(Services, UnchangedResyncWritesNothing) {
  const ServiceImage image{.frontends = {{vip(80), web({kA, kB})}, {vip(80, IPPROTO_UDP), web({kA})}}};
  (void)publish(image);
  EXPECT_THAT(publish(image), IsEmpty());
  EXPECT_THAT(maps_.log, IsEmpty());
}

TEST_F(Services, OnlyTheFrontendsToldOfAreLookedAt) {
  ServiceImage image{.frontends = {{vip(80), web({kA})}, {vip(81), web({kA}, "default/other:http")}}};
  (void)publish(image);
  image.frontends[vip(80)] = web({kB});
  image.frontends[vip(81)] = web({kB}, "default/other:http");
  EXPECT_THAT(publish_changed(image, {vip(80)}), IsEmpty());
  EXPECT_EQ(backends(vip(80)), std::vector{kB});
  EXPECT_EQ(backends(vip(81)), std::vector{kA});
  image.frontends.erase(vip(80));
  EXPECT_THAT(publish_changed(image, {vip(80), vip(81)}), IsEmpty());
  EXPECT_EQ(maps_.frontends.size(), 1U);
  EXPECT_EQ(backends(vip(81)), std::vector{kB});
}

TEST_F(Services, RestartAdoptsAndWritesNothing) {
  const ServiceImage image{.frontends = {{vip(80), web({kA, kB})}, {vip(81), web({}, "default/empty:http")}}};
  (void)publish(image);
  start();
  EXPECT_THAT(publish(image), IsEmpty());
  EXPECT_THAT(maps_.log, IsEmpty());
  // What was adopted is not handed out again.
  (void)publish({.frontends = {{vip(80), web({kA, kB})}, {vip(82), web({kC}, "default/new:http")}}});
  EXPECT_EQ(backends(vip(80)), (std::vector{kA, kB}));
  EXPECT_EQ(backends(vip(82)), std::vector{kC});
}

TEST_F(Services, RestartWithoutNumbersGivesNoIdTwice) {
  (void)publish({.frontends = {{vip(80), web({kA})}}});
  const uint32_t id = numbers_.ids.at("default/web:http/tcp");
  start();
  numbers_ = {};
  numbers_.next = publisher_->highest_service() + 1;
  (void)publish({.frontends = {{vip(80), web({kA})}}});
  EXPECT_GT(numbers_.ids.at("default/web:http/tcp"), id);
  EXPECT_EQ(backends(vip(80)), std::vector{kA});
}

TEST_F(Services, FrontendsOfOneServiceShareARun) {
  const FrontendAddress node_port{
      .ip = ip("0.0.0.0"), .port = 30080, .proto = IPPROTO_TCP, .scope = SCOPE_ANY_LOCAL};
  (void)publish({.frontends = {{vip(80), web({kA, kB})}, {node_port, web({kA, kB})}}});
  EXPECT_EQ(maps_.count("backend_slots put"), 2U);
  (void)publish({.frontends = {{vip(80), web({kA, kB})}}});
  EXPECT_EQ(publisher_->slots().used(), 2U);
  EXPECT_EQ(backends(vip(80)), (std::vector{kA, kB}));
}

class UdpServices : public Services {
 protected:
  static constexpr const char* kService = "default/dns:dns";
  static ServingBackends serving(std::set<Backend> backends) { return {{"default/dns:dns/udp", backends}}; }
  ServiceImage image(std::vector<Backend> backends) const {
    return {.frontends = {{vip(53, IPPROTO_UDP), web(std::move(backends), kService)}}};
  }
};

TEST_F(UdpServices, BackendThatServesNoMoreHasItsGenerationRaised) {  // S45
  (void)publish(image({kA, kB}), serving({kA, kB}));
  const backend_slot gone = slot(vip(53, IPPROTO_UDP), 0);
  (void)publish(image({kB}), serving({kB}));
  EXPECT_GT(generation(gone.backend), gone.generation);
  EXPECT_GT(maps_.first("backend_states put"), maps_.first("frontends put"));  // somewhere to go comes first
}

TEST_F(UdpServices, TerminatingBackendKeepsItsFlowsWhileItServes) {  // S46
  (void)publish(image({kA, kB}), serving({kA, kB}));
  const backend_slot gone = slot(vip(53, IPPROTO_UDP), 0);
  (void)publish(image({kB}), serving({kA, kB}));
  EXPECT_EQ(generation(gone.backend), gone.generation);
  (void)publish(image({kB}), serving({kB}));
  EXPECT_GT(generation(gone.backend), gone.generation);
}

TEST_F(UdpServices, TerminatingBackendIsFoundByItsFlowsAfterARestart) {  // S46
  (void)publish(image({kA, kB}), serving({kA, kB}));
  const backend_slot draining = slot(vip(53, IPPROTO_UDP), 0);
  (void)publish(image({kB}), serving({kA, kB}));
  flow original{};
  original.flags = FLOW_SERVICE;
  original.service = value(vip(53, IPPROTO_UDP)).service;
  original.backend = draining.backend;
  original.backend_generation = draining.generation;
  original.peer = maps::make_flow_key(kA.ip, kA.port, ip("10.0.9.9"), 4000, IPPROTO_UDP);
  maps_.flows[maps::make_flow_key(ip("10.0.9.9"), 4000, ip("10.96.0.1"), 53, IPPROTO_UDP)] = original;

  start();
  (void)publish(image({kB}), serving({kA, kB}));
  EXPECT_THAT(maps_.log, IsEmpty());
  EXPECT_EQ(generation(draining.backend), draining.generation);
  (void)publish(image({kB}), serving({kB}));
  EXPECT_GT(generation(draining.backend), draining.generation);
}

TEST_F(UdpServices, ServiceWithoutBackendsIsLeftAloneUntilOneComes) {  // S46, S47
  (void)publish(image({kA}), serving({kA}));
  const backend_slot gone = slot(vip(53, IPPROTO_UDP), 0);
  (void)publish(image({}), serving({}));
  EXPECT_EQ(generation(gone.backend), gone.generation);
  (void)publish(image({kB}), serving({kB}));
  EXPECT_GT(generation(gone.backend), gone.generation);
}

// A flow cannot move to a backend of the other family.
TEST_F(UdpServices, FamilyWithoutBackendsIsLeftAlone) {  // S46
  const FrontendAddress vip6{.ip = ip("fd00:10:96::1"), .port = 53, .proto = IPPROTO_UDP};
  const Backend a6{.ip = ip("fd00::a"), .port = 8080};
  ServiceImage dual = image({kA});
  dual.frontends[vip6] = web({a6}, kService);
  (void)publish(dual, serving({kA, a6}));
  const backend_slot gone = slot(vip6, 0);
  dual.frontends[vip6] = web({}, kService);
  (void)publish(dual, serving({kA}));
  EXPECT_EQ(generation(gone.backend), gone.generation);
}

TEST_F(UdpServices, BackendThatComesBackIsOfTheNextGeneration) {
  (void)publish(image({kA, kB}), serving({kA, kB}));
  const backend_slot before = slot(vip(53, IPPROTO_UDP), 0);
  (void)publish(image({kB}), serving({kB}));
  (void)publish(image({kA, kB}), serving({kA, kB}));
  const backend_slot after = slot(vip(53, IPPROTO_UDP), 0);
  EXPECT_TRUE(after.backend != before.backend || after.generation > before.generation);
  EXPECT_EQ(generation(after.backend), after.generation);
}

TEST_F(UdpServices, DeletedServiceIsLeftAlone) {  // S46
  (void)publish(image({kA}), serving({kA}));
  const backend_slot gone = slot(vip(53, IPPROTO_UDP), 0);
  (void)publish({}, {});
  EXPECT_EQ(generation(gone.backend), gone.generation);
}

TEST_F(UdpServices, PublishedPortEndsWithItsPod) {  // C21
  Frontend port = web({kA}, "hostport:default/dns");
  port.flags = FRONTEND_HOST_PORT;
  (void)publish({.frontends = {{vip(53, IPPROTO_UDP), port}}});
  const backend_slot gone = slot(vip(53, IPPROTO_UDP), 0);
  (void)publish({});
  EXPECT_GT(generation(gone.backend), gone.generation);
}

TEST(SlotAllocator, MergesNeighboursAndRefusesWhatIsTaken) {
  SlotAllocator slots(10);
  EXPECT_EQ(slots.take(4), 0U);
  EXPECT_EQ(slots.take(4), 4U);
  EXPECT_EQ(slots.take(4), std::nullopt);
  slots.release(0, 4);
  slots.release(4, 4);
  EXPECT_EQ(slots.take(10), 0U);
  slots.release(0, 10);
  EXPECT_TRUE(slots.reserve(3, 3));
  EXPECT_FALSE(slots.reserve(5, 2));
  EXPECT_FALSE(slots.reserve(8, 3));
  EXPECT_EQ(slots.take(4), 6U);
  EXPECT_EQ(slots.used(), 7U);
}

// S3, S45: a slice that is labelled headless serves nobody any more, and the UDP flows of its endpoints move.
TEST(ServingIndex, AHeadlessSliceServesNobody) {
  model::ClusterState state;
  model::EndpointSlice slice;
  slice.name = {"default", "dns-1"};
  slice.service = "dns";
  slice.ports = {{.name = "dns", .protocol = model::Protocol::kUdp, .port = 8080}};
  std::vector<model::SliceEndpoint> endpoints(1);
  endpoints[0].ip = kA.ip;
  slice.endpoints = std::move(endpoints);
  state.slices[slice.name] = slice;
  ServingIndex index;
  EXPECT_THAT(index.update(state), testing::ElementsAre("default/dns:dns/udp"));
  EXPECT_THAT(index.backends().at("default/dns:dns/udp"), testing::ElementsAre(kA));

  state.slices[slice.name].labels["service.kubernetes.io/headless"] = "";
  EXPECT_THAT(index.update(state, {slice.name}), testing::ElementsAre("default/dns:dns/udp"));
  EXPECT_THAT(index.backends(), IsEmpty());
}

// S7: ports of one name and two protocols are two.
TEST(ServingIndex, EachProtocolHasItsOwn) {
  model::ClusterState state;
  model::EndpointSlice slice;
  slice.name = {"default", "dns-1"};
  slice.service = "dns";
  slice.ports = {{.name = "dns", .protocol = model::Protocol::kUdp, .port = 53},
                 {.name = "dns", .protocol = model::Protocol::kTcp, .port = 54}};
  std::vector<model::SliceEndpoint> endpoints(1);
  endpoints[0].ip = kA.ip;
  slice.endpoints = std::move(endpoints);
  state.slices[slice.name] = slice;
  ServingIndex index;
  index.update(state);
  EXPECT_THAT(index.backends().at("default/dns:dns/udp"), testing::ElementsAre(compile::Backend{kA.ip, 53}));
  EXPECT_THAT(index.backends().at("default/dns:dns/tcp"), testing::ElementsAre(compile::Backend{kA.ip, 54}));
}

}  // namespace
}  // namespace bpfnet::apply
