// Maps without room: what does not fit is refused before anything changes, told, and tried again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/apply_policy_fixture.h"

namespace bpfnet::apply {
namespace {

using testing::Contains;
using testing::Field;
using testing::HasSubstr;
using testing::IsEmpty;

class PolicyRoom : public Policies {};

TEST_F(PolicyRoom, SetThatDoesNotFitIsTakenBackAndTheOldOneStays) {
  (void)publish(image_of(16, kClientOld));
  maps_.capacity["policies"] = 2;
  auto next = image_of(17, kClientOld);
  for (uint16_t port = 81; port < 90; ++port)
    next.sets[17]
        .entries[PolicyEntry{.identity = kClientOld, .proto = IPPROTO_TCP, .port = port, .port_bits = 16}] = {
        8, POLICY_ALLOW};
  const Problems problems = publish(next);
  EXPECT_THAT(problems, Contains(Field(&Problem::message, HasSubstr("E2BIG"))));
  EXPECT_THAT(problems, Contains(Field(&Problem::object, "endpoint default/web")));
  EXPECT_EQ(record().ingress_set, 16U);
  EXPECT_EQ(maps_.policies.size(), 1U);
  EXPECT_TRUE(client_allowed());
}

TEST_F(PolicyRoom, NewPodWhoseSetDoesNotFitStaysClosedInThatDirection) {
  maps_.capacity["policies"] = 0;
  EXPECT_FALSE(publish(image_of(16, kClientOld)).empty());
  EXPECT_EQ(record().ingress_set, POLICY_SET_CLOSED) << "not even itself by a service (A11)";
  EXPECT_EQ(record().egress_set, POLICY_SET_ALLOW_ALL);
  // A cluster policy isolates nobody, but it is one that does not fit, and is named.
  auto image = image_of(16, kClientOld);
  image.rules[7] = {.policy = "guard", .text = "ingress[0]: ...", .tier = "Admin 1"};
  image.endpoints[kWeb].ingress_rules = {7};
  EXPECT_THAT(publish(image), Contains(Field(&Problem::message,
                                             testing::AllOf(HasSubstr("policies guard are not enforced"),
                                                            HasSubstr("nothing passes in that direction")))));
  maps_.capacity["policies"] = 1;
  EXPECT_THAT(publish(image), IsEmpty());
  EXPECT_EQ(record().ingress_set, 16U);
}

/// Issue 4: what does not fit is refused before the switch, and the way out is told.
TEST_F(PolicyRoom, RefusedSetIsNotEvenBegunAndThePolicyTheMapAndTheFlagAreNamed) {
  (void)publish(image_of(16, kClientOld));
  maps_.capacity["policies"] = 1;
  auto next = image_of(17, kClientOld);
  next.endpoints[kWeb].isolated_by_ingress = {"default/web-in"};
  const Problems problems = publish(next);
  EXPECT_EQ(maps_.count("policies put"), 0U);
  EXPECT_EQ(record().ingress_set, 16U);
  EXPECT_THAT(problems,
              Contains(Field(&Problem::message,
                             testing::AllOf(HasSubstr("default/web-in"), HasSubstr("map policies"),
                                            HasSubstr("1 of 1"), HasSubstr("--max-policy-entries")))));
  EXPECT_TRUE(publisher_->policy_waits());
  maps_.capacity["policies"] = 2;
  EXPECT_THAT(publish(next), IsEmpty());
  EXPECT_EQ(record().ingress_set, 17U);
  EXPECT_FALSE(publisher_->policy_waits());
}

TEST_F(PolicyRoom, RelabelledPeerWhomASetInUseHasNoRoomForStaysWhatItWas) {
  (void)publish(image_of(16, kClientOld));
  maps_.capacity["policies"] = 1;
  const auto next = image_of(16, kClientNew);
  EXPECT_THAT(publish(next), Contains(Field(&Problem::message, HasSubstr("--max-policy-entries"))));
  EXPECT_EQ(maps_.addresses.at(maps::make_address_key(kClientIp)).identity, kClientOld);
  EXPECT_TRUE(client_allowed());
  (void)publisher_->reclaim(now_ + std::chrono::seconds(1));
  EXPECT_TRUE(client_allowed()) << "what an address still has is not cleared away";
  maps_.capacity["policies"] = 2;
  EXPECT_THAT(publish(next), IsEmpty());
  EXPECT_EQ(maps_.addresses.at(maps::make_address_key(kClientIp)).identity, kClientNew);
  EXPECT_TRUE(client_allowed());
}

TEST_F(PolicyRoom, AddressesOfThisNodesPodsGetRoomFirst) {
  maps_.capacity["addresses"] = 1;
  const Problems problems = publish(image_of(16, kClientOld));
  EXPECT_TRUE(maps_.addresses.contains(maps::make_address_key(kWebIp)));
  EXPECT_FALSE(client_allowed());
  EXPECT_THAT(problems, Contains(Field(&Problem::message, testing::AllOf(HasSubstr(kClientIp.to_string()),
                                                                         HasSubstr("--max-addresses")))));
  maps_.capacity["addresses"] = 2;
  EXPECT_THAT(publish(image_of(16, kClientOld)), IsEmpty());
  EXPECT_TRUE(client_allowed());
}

TEST_F(PolicyRoom, NoPodMovesToANewSetWhilePrefixesOfPoliciesDoNotFit) {
  (void)publish(image_of(16, kClientOld));
  auto next = image_of(17, kClientOld);
  next.cidrs[{0, Cidr(kClientIp, 8)}] = {.identity = 300};
  maps_.capacity["cidrs"] = 0;
  EXPECT_THAT(publish(next), Contains(Field(&Problem::message, HasSubstr("--max-cidrs"))));
  EXPECT_EQ(record().ingress_set, 16U);
  maps_.capacity["cidrs"] = 1;
  EXPECT_THAT(publish(next), IsEmpty());
  EXPECT_EQ(record().ingress_set, 17U);
}

}  // namespace
}  // namespace bpfnet::apply
