#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "control/ipam/allocator.h"
#include "tests/support/addresses.h"

namespace bpfnet::ipam {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Kind = AllocationError::Kind;

class AllocatorTest : public ::testing::Test {
 protected:
  AllocatorTest() : directory_(std::filesystem::temp_directory_path() / fmt::format("bn-ipam-{}", getpid())) {
    std::filesystem::create_directories(directory_);
    store_.emplace(Store::open(directory_ / "state.db").value());
    allocator_.emplace(*store_);
  }
  ~AllocatorTest() override {
    store_.reset();
    std::filesystem::remove_all(directory_);
  }

  AllocationResult<std::vector<Address>> take(const std::string& container, std::vector<Address> ips = {},
                                              std::vector<RangeSet> ranges = {}) {
    return allocator_->allocate({{container, "eth0"}, "net", std::move(ips), std::move(ranges)});
  }

  std::filesystem::path directory_;
  std::optional<Store> store_;
  std::optional<Allocator> allocator_;
};

TEST_F(AllocatorTest, GivesOneAddressOfEachFamily) {
  allocator_->set_pools({cidr("fd00::/64"), cidr("10.0.0.0/24")});
  EXPECT_THAT(take("a").value(), ElementsAre(ip("10.0.0.1"), ip("fd00::1")));
  EXPECT_THAT(take("b").value(), ElementsAre(ip("10.0.0.2"), ip("fd00::2")));
}

TEST_F(AllocatorTest, SaysWhenNoPoolIsKnownYet) {
  const auto result = take("a");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, Kind::kNoPool);
  EXPECT_THAT(result.error().message, HasSubstr("--pod-cidr"));
  allocator_->set_pools({cidr("10.0.0.0/24")});
  EXPECT_TRUE(take("a"));
}

TEST_F(AllocatorTest, AFreedAddressIsLastInLine) {
  allocator_->set_pools({cidr("10.0.0.0/29")});
  ASSERT_THAT(take("a").value(), ElementsAre(ip("10.0.0.1")));
  ASSERT_TRUE(allocator_->release({"a", "eth0"}));
  for (const char* expected : {"10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.1"}) {
    EXPECT_THAT(take(expected).value(), ElementsAre(ip(expected)));
  }
}

TEST_F(AllocatorTest, NeverGivesNetworkBroadcastOrReserved) {
  allocator_->set_pools({cidr("10.0.0.0/29")}, {ip("10.0.0.3")});
  std::set<Address> given;
  for (int i = 0; i < 5; ++i) given.insert(take(fmt::format("c{}", i)).value().front());
  EXPECT_EQ(given, (std::set<Address>{ip("10.0.0.1"), ip("10.0.0.2"), ip("10.0.0.4"), ip("10.0.0.5"),
                                      ip("10.0.0.6")}));
  EXPECT_FALSE(take("one-more"));
  EXPECT_EQ(take("r", {ip("10.0.0.3")}).error().kind, Kind::kInvalid);
}

TEST_F(AllocatorTest, SmallestPrefixesAreUsedWhole) {
  allocator_->set_pools({cidr("10.0.0.4/31"), cidr("fd00::9/128")});
  EXPECT_THAT(take("a").value(), ElementsAre(ip("10.0.0.4"), ip("fd00::9")));
  EXPECT_EQ(take("b").error().kind, Kind::kExhausted);
}

TEST_F(AllocatorTest, ExhaustionNamesPoolAndCountAndLeavesNothing) {
  allocator_->set_pools({cidr("10.0.0.0/24"), cidr("fd00::/126")});
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(take(fmt::format("c{}", i)));
  const auto result = take("late");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, Kind::kExhausted);
  EXPECT_THAT(result.error().message, HasSubstr("fd00::/126 is exhausted: 3 of 3"));
  EXPECT_THAT(store_->leases_of({"late", "eth0"}).value(), ElementsAre());
  EXPECT_EQ(allocator_->available().error().kind, Kind::kExhausted);
  ASSERT_TRUE(allocator_->release({"c1", "eth0"}));
  EXPECT_TRUE(allocator_->available());
  EXPECT_TRUE(take("late"));
}

TEST_F(AllocatorTest, TheSecondPoolOfAFamilyFollowsTheFirst) {
  allocator_->set_pools({cidr("10.0.0.0/30"), cidr("10.9.0.0/30")});
  EXPECT_THAT(take("a").value(), ElementsAre(ip("10.0.0.1")));
  EXPECT_THAT(take("b").value(), ElementsAre(ip("10.0.0.2")));
  EXPECT_THAT(take("c").value(), ElementsAre(ip("10.9.0.1")));
}

TEST_F(AllocatorTest, GivesTheWantedAddressAndTheOtherFamilyByItself) {
  allocator_->set_pools({cidr("10.0.0.0/24"), cidr("fd00::/64")});
  EXPECT_THAT(take("a", {ip("10.0.0.77")}).value(), ElementsAre(ip("10.0.0.77"), ip("fd00::1")));
  EXPECT_THAT(take("b", {ip("fd00::b"), ip("10.0.0.7")}).value(), ElementsAre(ip("10.0.0.7"), ip("fd00::b")));
}

TEST_F(AllocatorTest, RefusesAWantedAddressOfAnotherNamingIt) {
  allocator_->set_pools({cidr("10.0.0.0/24")});
  ASSERT_TRUE(take("first", {ip("10.0.0.7")}));
  const auto result = take("second", {ip("10.0.0.7")});
  EXPECT_EQ(result.error().kind, Kind::kInvalid);
  EXPECT_THAT(result.error().message, HasSubstr("leased to first/eth0"));
}

TEST_F(AllocatorTest, RefusesAWantedAddressOutsideEveryPool) {
  allocator_->set_pools({cidr("10.0.0.0/24")});
  const auto result = take("a", {ip("10.0.1.7")});
  EXPECT_EQ(result.error().kind, Kind::kInvalid);
  EXPECT_THAT(result.error().message, HasSubstr("10.0.1.7 fits none of the ranges 10.0.0.0/24"));
  EXPECT_THAT(store_->leases().value(), ElementsAre());
}

TEST_F(AllocatorTest, RangesReplaceThePools) {
  allocator_->set_pools({cidr("10.0.0.0/24")});
  const AddressRange narrow{ip("192.0.2.10"), ip("192.0.2.11"), {ip("192.0.2.10")}, "192.0.2.10-192.0.2.11"};
  EXPECT_THAT(take("a", {}, {{narrow}}).value(), ElementsAre(ip("192.0.2.11")));
  EXPECT_THAT(take("b", {}, {{narrow}}).error().message,
              HasSubstr("192.0.2.10-192.0.2.11 is exhausted: 1 of 1"));
}

TEST_F(AllocatorTest, PoolsMayChangeWhileLeasesLive) {
  allocator_->set_pools({cidr("10.0.0.0/24")});
  ASSERT_TRUE(take("a"));
  allocator_->set_pools({cidr("10.1.0.0/24")});
  EXPECT_THAT(take("b").value(), ElementsAre(ip("10.1.0.1")));
  EXPECT_THAT(store_->leases_of({"a", "eth0"}).value(), ElementsAre(ip("10.0.0.1")));
}

// C12
TEST_F(AllocatorTest, ALateReleaseFreesOnlyItsOwnLeases) {
  allocator_->set_pools({cidr("10.0.0.0/31")});
  ASSERT_TRUE(take("a", {ip("10.0.0.0")}));
  ASSERT_TRUE(allocator_->release({"a", "eth0"}));
  ASSERT_TRUE(take("b", {ip("10.0.0.0")}));
  ASSERT_TRUE(allocator_->release({"a", "eth0"}));
  EXPECT_THAT(store_->leases_of({"b", "eth0"}).value(), ElementsAre(ip("10.0.0.0")));
}

TEST_F(AllocatorTest, TellsUsageOfEveryPool) {
  allocator_->set_pools({cidr("10.0.0.0/24"), cidr("fd00::/48")});
  ASSERT_TRUE(take("a"));
  const auto usage = allocator_->usage().value();
  ASSERT_EQ(usage.size(), 2U);
  EXPECT_EQ(usage[0].total, 254U);
  EXPECT_EQ(usage[0].used, 1U);
  EXPECT_EQ(usage[1].total, UINT64_MAX);
  EXPECT_EQ(usage[1].used, 1U);
}

TEST_F(AllocatorTest, TheTopOfTheAddressSpaceIsNoTrap) {
  allocator_->set_pools({cidr("255.255.255.252/30")});
  EXPECT_THAT(take("a").value(), ElementsAre(ip("255.255.255.253")));
  EXPECT_THAT(take("b").value(), ElementsAre(ip("255.255.255.254")));
  EXPECT_FALSE(take("c"));
}

}  // namespace
}  // namespace bpfnet::ipam
