// Cutting what a server sends into objects, wherever it was split.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control/kubernetes/json_cutter.h"

namespace bpfnet::kubernetes {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::string_view kFrames =
    "{\"type\":\"ADDED\",\"object\":{\"a\":\"}{\\\"[\\\\\"}}\n{\"b\":[1,{\"c\":\"\\u007d\"}]}{\"d\":{}}\r\n "
    "\n{}";

template <typename Cutter>
std::vector<std::string> cut(std::string_view text, size_t size, Cutter& cutter) {
  std::vector<std::string> all;
  for (; !text.empty(); text.remove_prefix(std::min(size, text.size())))
    EXPECT_TRUE(cutter.feed(text.substr(0, size),
                            [&](std::string_view each) { return all.emplace_back(each), true; }));
  return all;
}

// K3
TEST(FrameCutter, FindsTheSameEventsHoweverTheyAreSplit) {
  FrameCutter whole;
  const auto expected = cut(kFrames, kFrames.size(), whole);
  EXPECT_THAT(expected, ElementsAre("{\"type\":\"ADDED\",\"object\":{\"a\":\"}{\\\"[\\\\\"}}",
                                    "{\"b\":[1,{\"c\":\"\\u007d\"}]}", "{\"d\":{}}", "{}"));
  for (size_t size = 1; size < kFrames.size(); ++size) {
    FrameCutter cutter;
    EXPECT_EQ(cut(kFrames, size, cutter), expected) << "split every " << size << " bytes";
    EXPECT_FALSE(cutter.partial());
  }
}

TEST(FrameCutter, KnowsThatOneIsHalf) {
  FrameCutter cutter;
  EXPECT_THAT(cut(R"({"a":1}{"b":)", 100, cutter), ElementsAre(R"({"a":1})"));
  EXPECT_TRUE(cutter.partial());
}

TEST(FrameCutter, RefusesWhatIsNoObject) {
  for (const auto* text : {"<html>", "null", "\"a\"", "{}]", "}"}) {
    FrameCutter cutter;
    const Status fed = cutter.feed(text, [](std::string_view) { return true; });
    ASSERT_FALSE(fed) << text;
    EXPECT_THAT(fed.error().message, HasSubstr("no JSON"));
  }
  FrameCutter cutter;
  const std::string endless = "{\"a\":\"" + std::string(kLargestObject, 'x');
  EXPECT_FALSE(cutter.feed(endless, [](std::string_view) { return true; }));
}

TEST(ListCutter, TakesItemsOneByOneAndKeepsTheRest) {
  constexpr std::string_view kList =
      R"({"kind":"PodList","metadata":{"resourceVersion":"12","items":["no"],"continue":"a]}"},"items":[{"a":[{}]}, {"b":"]"}],"x":1})";
  for (size_t size = 1; size <= kList.size(); ++size) {
    ListCutter cutter;
    EXPECT_THAT(cut(kList, size, cutter), ElementsAre(R"({"a":[{}]})", R"({"b":"]"})")) << size;
    EXPECT_EQ(
        cutter.rest(),
        R"({"kind":"PodList","metadata":{"resourceVersion":"12","items":["no"],"continue":"a]}"},"items":[],"x":1})");
  }
}

TEST(ListCutter, EmptyAndMissingItems) {
  for (const auto* text :
       {R"({"metadata":{},"items":[]})", R"({"metadata":{},"items":null})", R"({"metadata":{}})"}) {
    ListCutter cutter;
    EXPECT_THAT(cut(text, 1, cutter), ElementsAre());
    EXPECT_EQ(cutter.rest(), text);
  }
  ListCutter half;
  cut(R"({"metadata":{},"items":[{"a":1})", 1, half);
  EXPECT_EQ(half.rest(), "");
  ListCutter garbage;
  EXPECT_FALSE(garbage.feed("nonsense", [](std::string_view) { return true; }));
}

TEST(Member, IsFoundInWhatParsersRefuse) {
  EXPECT_EQ(member(R"({"a":1,"b":{"a":2},"c":[{"c":3}] , "d" : "x,}" })", "d"), R"("x,}")");
  EXPECT_EQ(member(R"({"a":1,"b":{"a":2}})", "b"), R"({"a":2})");
  EXPECT_EQ(member(R"({"b":{"a":2},"a":"b"})", "a"), R"("b")");
  EXPECT_EQ(member(R"({"x":"a","a":99999999999999999999999})", "a"), "99999999999999999999999");
  EXPECT_EQ(member(R"({"x":"a"})", "a"), "");
  EXPECT_EQ(member(R"({"a":1)", "a"), "") << "it might go on";
  EXPECT_EQ(member("", "a"), "");
  EXPECT_EQ(member("[1]", "a"), "");
}

}  // namespace
}  // namespace bpfnet::kubernetes
