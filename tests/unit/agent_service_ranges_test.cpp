// Which ranges of cluster IPs hold where nobody named any (S32).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control/agent/service_ranges.h"
#include "tests/support/addresses.h"

namespace bpfnet::agent {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

class ServiceRangesTest : public testing::Test {
 protected:
  bool put(const std::string& name, std::vector<Address> ips) {
    model::Service service;
    service.name = {"default", name};
    service.cluster_ips = std::move(ips);
    state.services[service.name] = service;
    return ranges.update(state, {service.name});
  }
  model::ClusterState state;
  ServiceRanges ranges{{cidr("10.96.0.0/12"), cidr("fd00:10:96::/112")}, true};
};

TEST_F(ServiceRangesTest, S32_AGuessHoldsOnceAServiceHasAnAddressInIt) {
  EXPECT_THAT(ranges.cidrs(), IsEmpty());
  EXPECT_FALSE(put("elsewhere", {ip("172.20.0.1"), ip("fd12::1")}));
  EXPECT_THAT(ranges.cidrs(), IsEmpty());
  EXPECT_TRUE(put("kubernetes", {ip("10.96.0.1")}));
  EXPECT_THAT(ranges.cidrs(), ElementsAre(cidr("10.96.0.0/12")));
  EXPECT_FALSE(put("another", {ip("10.97.0.1")}));
  EXPECT_TRUE(put("dual", {ip("10.96.0.2"), ip("fd00:10:96::2")}));
  EXPECT_THAT(ranges.cidrs(), UnorderedElementsAre(cidr("10.96.0.0/12"), cidr("fd00:10:96::/112")));
}

TEST_F(ServiceRangesTest, S32_ServiceCidrsSayBetter) {
  put("kubernetes", {ip("10.96.0.1")});
  state.service_cidrs["kubernetes"].cidrs = {cidr("10.96.0.0/16")};
  EXPECT_TRUE(ranges.update(state, {}));
  EXPECT_THAT(ranges.cidrs(), IsEmpty());
  state.service_cidrs.clear();
  EXPECT_TRUE(ranges.update(state, {}));
  EXPECT_THAT(ranges.cidrs(), ElementsAre(cidr("10.96.0.0/12")));
}

TEST(ServiceRanges, S32_WhatSomebodyNamedHoldsWhateverThereIs) {
  model::ClusterState state;
  ServiceRanges ranges({cidr("10.43.0.0/16")}, false);
  state.service_cidrs["kubernetes"].cidrs = {cidr("10.96.0.0/16")};
  EXPECT_FALSE(ranges.update(state, {}));
  EXPECT_THAT(ranges.cidrs(), ElementsAre(cidr("10.43.0.0/16")));
}

}  // namespace
}  // namespace bpfnet::agent
