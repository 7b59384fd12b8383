#include <gtest/gtest.h>

#include "control/model/objects.h"

namespace bpfnet::model {
namespace {

Selector select(std::string key, SelectorOperator op, std::set<std::string> values = {}) {
  return Selector{{{std::move(key), op, std::move(values)}}};
}

const Labels kWeb{{"app", "web"}, {"tier", ""}};

TEST(Selector, EmptySelectsEverything) {
  EXPECT_TRUE(Selector{}.matches({}));
  EXPECT_TRUE(Selector{}.matches(kWeb));
}

TEST(Selector, InNeedsTheKeyAndOneOfTheValues) {
  EXPECT_TRUE(select("app", SelectorOperator::kIn, {"db", "web"}).matches(kWeb));
  EXPECT_FALSE(select("app", SelectorOperator::kIn, {"db"}).matches(kWeb));
  EXPECT_FALSE(select("app", SelectorOperator::kIn, {"web"}).matches({}));
}

TEST(Selector, NotInMatchesObjectsWithoutTheKey) {  // P9
  EXPECT_TRUE(select("app", SelectorOperator::kNotIn, {"web"}).matches({}));
  EXPECT_TRUE(select("app", SelectorOperator::kNotIn, {"db"}).matches(kWeb));
  EXPECT_FALSE(select("app", SelectorOperator::kNotIn, {"web"}).matches(kWeb));
}

TEST(Selector, ExistsCountsEmptyValues) {
  EXPECT_TRUE(select("tier", SelectorOperator::kExists).matches(kWeb));
  EXPECT_FALSE(select("tier", SelectorOperator::kDoesNotExist).matches(kWeb));
  EXPECT_FALSE(select("zone", SelectorOperator::kExists).matches(kWeb));
  EXPECT_TRUE(select("zone", SelectorOperator::kDoesNotExist).matches(kWeb));  // P9
}

TEST(Selector, RequirementsAreJoinedByAnd) {
  Selector both = select("app", SelectorOperator::kIn, {"web"});
  both.requirements.push_back({"zone", SelectorOperator::kExists, {}});
  EXPECT_FALSE(both.matches(kWeb));
  EXPECT_TRUE(both.matches({{"app", "web"}, {"zone", "a"}}));
}

TEST(Node, AddressPrefersInternalThenExternalOfTheFamily) {  // S65
  Node node;
  node.internal_ips = {*Address::parse("10.0.0.1"), *Address::parse("10.0.0.2")};
  node.external_ips = {*Address::parse("203.0.113.1"), *Address::parse("2001:db8::1")};
  EXPECT_EQ(node.address(Family::kIpv4)->to_string(), "10.0.0.1");
  EXPECT_EQ(node.address(Family::kIpv6)->to_string(), "2001:db8::1");
  EXPECT_FALSE(Node{}.address(Family::kIpv4));
}

TEST(Protocol, HasTheNamesOfKubernetes) {
  EXPECT_EQ(to_string(Protocol::kTcp), "TCP");
  EXPECT_EQ(to_string(Protocol::kUdp), "UDP");
  EXPECT_EQ(to_string(Protocol::kSctp), "SCTP");
}

}  // namespace
}  // namespace bpfnet::model
