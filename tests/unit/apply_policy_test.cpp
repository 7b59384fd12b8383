#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include "tests/unit/apply_policy_fixture.h"

namespace bpfnet::apply {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

template <typename Key, typename Value>
bool same_records(const Records<Key, Value>& a, const Records<Key, Value>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return same_bytes(x.first, y.first) && same_bytes(x.second, y.second);
  });
}

TEST_F(Policies, NewPodIsClosedUntilEverythingElseIsInPlace) {  // P20
  maps_.before_write = [this](const std::string&) {
    auto web = maps_.endpoints.find(kWeb);
    if (web == maps_.endpoints.end()) return;
    EXPECT_EQ(web->second.state, ENDPOINT_CLOSED);
    EXPECT_EQ(web->second.ingress_set, POLICY_SET_DENY_ALL);
  };
  EXPECT_THAT(publish(image_of(16, kClientOld)), IsEmpty());
  EXPECT_LT(maps_.first("endpoints put"), maps_.first("interfaces put"));
  EXPECT_EQ(maps_.last("endpoints put"), maps_.log.size() - 1);
  EXPECT_EQ(record().state, ENDPOINT_OPEN);
  EXPECT_TRUE(client_allowed());
}

TEST_F(Policies, UnchangedResyncAndRestartWriteNothing) {
  const auto image = image_of(16, kClientOld);
  (void)publish(image);
  EXPECT_THAT(publish(image), IsEmpty());
  EXPECT_THAT(maps_.log, IsEmpty());
  start();
  EXPECT_THAT(publish(image), IsEmpty());
  EXPECT_THAT(maps_.log, IsEmpty());
}

// P20: an element of an array is written in place. Whoever reads the epoch, then half-written sets, must be
// asked again.
TEST_F(Policies, AnEpochIsWrittenAfterTheSetsItStandsFor) {
  (void)publish(image_of(16, kClientOld));
  endpoint seen = record();
  int moves = 0;
  int epochs = 0;
  const auto look = [&] {
    const bool moved = record().ingress_set != seen.ingress_set || record().egress_set != seen.egress_set;
    const bool raised = record().epoch != seen.epoch;
    EXPECT_FALSE(moved && raised);
    moves += moved ? 1 : 0;
    epochs += raised ? 1 : 0;
    seen = record();
  };
  maps_.before_write = [&](const std::string&) { look(); };
  for (const uint32_t set : {17, 0, 18}) {
    auto next = image_of(set == 0 ? 17 : set, kClientOld);
    if (set == 0) next.endpoints[kWeb].ingress_set = POLICY_SET_ALLOW_ALL;
    (void)publish(next);
    look();
  }
  EXPECT_EQ(moves, 3);
  EXPECT_EQ(epochs, 3);
}

TEST_F(Policies, NewSetIsWholeBeforeTheEndpointMovesAndOldOneGoesAfterItsGrace) {
  (void)publish(image_of(16, kClientOld));
  const uint32_t epoch = record().epoch;
  auto next = image_of(17, kClientOld);
  next.sets[17]
      .entries[PolicyEntry{.identity = kClientOld, .proto = IPPROTO_UDP, .port = 53, .port_bits = 16}] = {
      8, POLICY_ALLOW};
  maps_.before_write = [this](const std::string&) { EXPECT_TRUE(client_allowed()); };
  EXPECT_THAT(publish(next), IsEmpty());
  EXPECT_LT(maps_.last("policies put"), maps_.first("endpoints put"));
  EXPECT_EQ(maps_.count("policies erase"), 0U);
  EXPECT_EQ(record().ingress_set, 17U);
  EXPECT_GT(record().epoch, epoch);
  EXPECT_FALSE(publisher_->reclaim(now_ + std::chrono::milliseconds(99)));
  EXPECT_TRUE(publisher_->reclaim(now_ + std::chrono::milliseconds(100)));
  EXPECT_EQ(maps_.policies.size(), 2U);
}

TEST_F(Policies, RelabelledPeerThatStaysAllowedIsNeverDenied) {
  (void)publish(image_of(16, kClientOld));
  const uint32_t epoch = record().epoch;
  maps_.before_write = [this](const std::string&) { EXPECT_TRUE(client_allowed()); };
  EXPECT_THAT(publish(image_of(17, kClientNew)), IsEmpty());
  EXPECT_TRUE(client_allowed());
  EXPECT_EQ(record().ingress_set, 17U);
  EXPECT_GT(record().epoch, epoch);
  (void)publisher_->reclaim(now_ + std::chrono::seconds(1));
  EXPECT_EQ(maps_.policies.size(), 1U);  // neither the old set nor the one in between
}

TEST_F(Policies, NewPeerIsInTheSetBeforeItHasAnAddress) {
  (void)publish(image_of(16, kClientOld, false));
  (void)publish(image_of(17, kClientNew));
  EXPECT_LT(maps_.first("policies put"), maps_.first("addresses put"));
  EXPECT_LT(maps_.first("endpoints put"), maps_.first("addresses put"));
}

TEST_F(Policies, IdentityChangeRaisesTheEpochOfIsolatedEndpoints) {
  (void)publish(image_of(16, kClientOld));
  const uint32_t epoch = record().epoch;
  auto next = image_of(16, kClientOld);
  next.addresses[{0, kClientIp}].identity = IDENTITY_WORLD;
  (void)publish(next);
  EXPECT_GT(record().epoch, epoch);
  EXPECT_FALSE(client_allowed());
}

// P13: the own node's connections were let in whoever may come; the next owner of its address inherits none
// of them, be it known or a stranger. No set names either.
TEST_F(Policies, AnAddressThatLeavesTheNodeRaisesTheEpochOfIsolatedEndpoints) {
  const Address vip = ip("192.0.2.50");
  const auto with_vip = [&](uint16_t flags) {
    auto image = image_of(16, kClientOld);
    if (flags != 0) image.addresses[{0, vip}] = {.identity = IDENTITY_HOST, .flags = flags};
    return image;
  };
  (void)publish(with_vip(0));
  const uint32_t epoch = record().epoch;
  (void)publish(with_vip(ADDRESS_LOCAL_NODE));
  EXPECT_EQ(record().epoch, epoch) << "what was denied has no connections";
  (void)publish(with_vip(ADDRESS_REMOTE_NODE));
  EXPECT_EQ(record().epoch, epoch + 1);
  (void)publish(with_vip(ADDRESS_LOCAL_NODE | ADDRESS_NODE_PORT));
  start();  // also over a restart
  (void)publish(with_vip(0));
  EXPECT_EQ(record().epoch, epoch + 2);
  // Who lets everybody in need not be asked again.
  const auto open = [&](uint16_t flags) {
    auto image = with_vip(flags);
    image.endpoints[kWeb].ingress_set = POLICY_SET_ALLOW_ALL;
    return image;
  };
  (void)publish(open(ADDRESS_LOCAL_NODE));
  const uint32_t opened = record().epoch;
  (void)publish(open(0));
  EXPECT_EQ(record().epoch, opened);
}

// P17: what audit mode let through is judged again when it ends, also over a restart in between; its
// beginning and the answer to the denied change no verdict of a live connection.
TEST_F(Policies, TheEndOfAuditModeRaisesTheEpoch) {
  auto image = image_of(16, kClientOld);
  (void)publish(image);
  const uint32_t epoch = record().epoch;
  image.endpoints[kWeb].flags = ENDPOINT_AUDITED | ENDPOINT_REJECTS;
  (void)publish(image);
  EXPECT_EQ(record().flags, ENDPOINT_AUDITED | ENDPOINT_REJECTS);
  EXPECT_EQ(record().epoch, epoch);
  start();
  image.endpoints[kWeb].flags = ENDPOINT_REJECTS;
  (void)publish(image);
  EXPECT_EQ(record().flags, ENDPOINT_REJECTS);
  EXPECT_EQ(record().epoch, epoch + 1);
}

/// An agent that is killed before a write.
struct Killed {};

/// Publishes `before`, then `after` by an agent that is killed before each of its writes in turn, and by the
/// one that follows.
class KilledAgent : public Policies {
 protected:
  void expect_raised(const PolicyImage& before, const PolicyImage& after) {
    (void)publish(before);
    const uint32_t epoch = record().epoch;
    const MemoryMaps start_point = maps_;
    bool killed = true;
    size_t kills = 0;
    for (; killed; ++kills) {
      restore(start_point);
      killed = publish_killed(after, kills);
      maps_.before_write = nullptr;
      start();
      EXPECT_THAT(publish(after), IsEmpty());
      EXPECT_GT(record().epoch, epoch) << "killed before write " << kills;
      EXPECT_EQ(record().ingress_set, after.endpoints.at(kWeb).ingress_set);
      start();
      EXPECT_THAT(publish(after), IsEmpty());
      EXPECT_THAT(maps_.log, IsEmpty()) << "killed before write " << kills << ", two starts later";
    }
    EXPECT_GT(kills, 3U) << "there are writes to be killed between";
  }

 private:
  void restore(const MemoryMaps& as_it_was) {
    maps_ = as_it_was;
    start();
  }
  bool publish_killed(const PolicyImage& image, size_t writes) {
    maps_.before_write = [left = writes](const std::string&) mutable {
      if (left-- == 0) throw Killed();
    };
    try {
      (void)publish(image);
      return false;
    } catch (const Killed&) {
      return true;
    }
  }
};

// P13: the address is nobody's any more, so nothing tells the next agent that flows were exempt by it.
TEST_F(KilledAgent, AfterAnAddressHasLeftTheNode) {
  auto before = image_of(16, kClientOld);
  before.addresses[{0, ip("192.0.2.50")}] = {.identity = IDENTITY_HOST, .flags = ADDRESS_LOCAL_NODE};
  expect_raised(before, image_of(16, kClientOld));
}

TEST_F(KilledAgent, AfterAPeerHasAnotherIdentity) {
  auto after = image_of(16, kClientOld);
  after.addresses[{0, kClientIp}].identity = IDENTITY_WORLD;
  expect_raised(image_of(16, kClientOld), after);
}

// Sets are written before the epoch that stands for them.
TEST_F(KilledAgent, BetweenASetAndItsEpoch) {
  expect_raised(image_of(16, kClientOld), image_of(17, kClientOld));
  auto open = image_of(16, kClientOld);
  open.endpoints[kWeb].ingress_set = POLICY_SET_ALLOW_ALL;
  expect_raised(open, image_of(16, kClientOld));
}

TEST_F(KilledAgent, AtTheEndOfAuditMode) {  // P17
  auto audited = image_of(16, kClientOld);
  audited.endpoints[kWeb].flags = ENDPOINT_AUDITED;
  expect_raised(audited, image_of(16, kClientOld));
}

// A record that cannot be written has no epoch that was raised: the next publish raises it.
TEST_F(Policies, AFailedRecordIsJudgedAgainByTheNextPublish) {
  (void)publish(image_of(16, kClientOld));
  const uint32_t epoch = record().epoch;
  auto next = image_of(16, kClientOld);
  next.addresses[{0, kClientIp}].identity = IDENTITY_WORLD;
  maps_.refuse = [this](const std::string& map) {
    return map == "endpoints" && maps_.count("addresses put") != 0;
  };
  EXPECT_FALSE(publish(next).empty());
  EXPECT_EQ(record().epoch, epoch);
  maps_.refuse = nullptr;
  EXPECT_THAT(publish(next), IsEmpty());
  EXPECT_GT(record().epoch, epoch);
  EXPECT_THAT(publish(next), IsEmpty());
  EXPECT_THAT(maps_.log, IsEmpty());
}

// What restricts nobody has no flows to judge: the mark costs nothing where there is no policy.
TEST_F(Policies, WithoutPolicyAnAddressIsOneWrite) {
  auto image = image_of(16, kClientOld, false);
  image.endpoints[kWeb].ingress_set = POLICY_SET_ALLOW_ALL;
  (void)publish(image);
  image.addresses[{0, kClientIp}] = AddressEntry{.identity = kClientOld, .flags = ADDRESS_POD};
  EXPECT_THAT(publish(image), IsEmpty());
  EXPECT_THAT(maps_.log, testing::ElementsAre("addresses put"));
}

TEST_F(Policies, MapsServeOnceTheyWereWritten) {
  EXPECT_FALSE(publisher_->has_served());
  (void)publish(image_of(16, kClientOld));
  start();
  EXPECT_TRUE(publisher_->has_served());
}

// P20: whom a closed pod's policy would deny is nobody's to tell.
TEST_F(Policies, AClosedPodHasNoFlags) {
  maps_.before_write = [this](const std::string&) {
    auto web = maps_.endpoints.find(kWeb);
    if (web != maps_.endpoints.end()) {
      EXPECT_EQ(web->second.flags, 0);
    }
  };
  auto image = image_of(16, kClientOld);
  image.endpoints[kWeb].flags = ENDPOINT_AUDITED;
  (void)publish(image);
  EXPECT_EQ(record().flags, ENDPOINT_AUDITED);
}

TEST_F(Policies, NumberOfAGonePodIsClosedForItsNextOwner) {
  (void)publish(image_of(16, kClientOld));
  const uint32_t epoch = record().epoch;
  facts_.clear();
  devices_.clear();
  (void)publish({});
  EXPECT_EQ(record().state, ENDPOINT_FREE);
  EXPECT_GT(record().epoch, epoch);
  EXPECT_THAT(maps_.interfaces, IsEmpty());
  EXPECT_THAT(maps_.addresses, IsEmpty());
  const uint32_t freed = record().epoch;
  start();
  facts_[kWeb] = {.name = "default/other", .ifindex = 12, .ip4 = kClientIp};
  auto image = image_of(16, kClientOld);
  (void)publish(image);
  EXPECT_GT(record().epoch, freed);
}

TEST_F(Policies, VerifyNamesWhatIsMissing) {
  (void)publish(image_of(16, kClientOld));
  EXPECT_TRUE(publisher_->verify_endpoint(kWeb, kWebDevice, {kWebIp}, 0));
  maps_.addresses.erase(maps::make_address_key(kWebIp));
  const auto verdict = publisher_->verify_endpoint(kWeb, kWebDevice, {kWebIp}, 0);
  ASSERT_FALSE(verdict);
  EXPECT_THAT(verdict.error().message, HasSubstr("map addresses: 10.0.0.1"));
}

/// S61: whatever strangers wrote, deleted or added is as it was after a resync, and counted.
TEST_F(Policies, ResyncRepairsWhatStrangersChanged) {
  const PolicyImage image = image_of(100, kClientOld);
  const compile::FrontendAddress vip{.ip = ip("10.96.0.1"), .port = 80, .proto = IPPROTO_TCP};
  const std::vector<compile::Backend> backends = {{kWebIp, 8080}, {kClientIp, 8080}};
  compile::ServiceImage services;
  services.frontends[vip] = {.service = "default/web", .internal = backends, .external = backends};
  ServiceNumbers numbers;
  numbers.assign(services);
  const Wanted wanted{.services = {.image = services, .numbers = numbers, .serving = {}},
                      .policy = image,
                      .endpoints = facts_,
                      .interfaces = devices_};
  ASSERT_THAT(publisher_->publish(wanted, now_), IsEmpty());
  const MemoryMaps as_written = maps_;

  Problems problems;
  EXPECT_EQ(publisher_->resync(wanted, now_, problems), 0U);

  maps_.frontends.clear();
  maps_.backend_slots.begin()->second.port = 1;
  maps_.policies.clear();
  maps_.addresses.begin()->second.identity = 9;
  maps_.addresses[maps::make_address_key(ip("10.0.0.99"))] = {};
  maps_.interfaces.clear();
  // The set of web names neither identity that an address lost: its flows are not judged again.
  EXPECT_EQ(publisher_->resync(wanted, now_, problems), 6U);
  EXPECT_THAT(problems, IsEmpty());
  EXPECT_TRUE(same_records(maps_.frontends, as_written.frontends));
  EXPECT_TRUE(same_records(maps_.backend_slots, as_written.backend_slots));
  EXPECT_TRUE(same_records(maps_.policies, as_written.policies));
  EXPECT_TRUE(same_records(maps_.addresses, as_written.addresses));
  EXPECT_TRUE(same_records(maps_.interfaces, as_written.interfaces));
  EXPECT_EQ(publisher_->resync(wanted, now_, problems), 0U);
}

}  // namespace
}  // namespace bpfnet::apply
