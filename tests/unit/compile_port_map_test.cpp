#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <random>
#include <set>

#include "control/compile/port_map.h"
#include "maps/abi/policy.h"

namespace bpfnet::compile {
namespace {

using model::Protocol;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;
using testing::SizeIs;

constexpr PolicyVerdict kNone{0, POLICY_DENY};
constexpr PolicyVerdict kAllowed{1, POLICY_ALLOW};
constexpr PolicyVerdict kDenied{2, POLICY_DENY};

PortSpan tcp(uint16_t first, uint16_t last) {
  return span_of(Protocol::kTcp, first, last);
}

PolicyVerdict verdict_at(const PortMap& map, uint32_t point) {
  return std::ranges::lower_bound(map.stretches, point, {}, &PortMap::Stretch::last)->verdict;
}

/// As the kernel's trie finds it.
PolicyVerdict lookup(const PrefixVerdicts& prefixes, const PortMap& otherwise, uint32_t point) {
  constexpr uint8_t kProtocols[] = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP, IPPROTO_ICMP};
  const uint8_t proto = kProtocols[point / kPortsOfProtocol];
  const auto port = static_cast<uint16_t>(point % kPortsOfProtocol);
  int longest = -1;
  PolicyVerdict found = verdict_at(otherwise, point);
  for (const auto& [prefix, verdict] : prefixes) {
    const int length = prefix.proto == 0 ? 0 : 1 + prefix.bits;
    const bool holds =
        prefix.proto == 0 ||
        (prefix.proto == proto && (prefix.bits == 0 || (port ^ prefix.port) >> (16 - prefix.bits) == 0));
    if (!holds || length <= longest) continue;
    longest = length;
    found = verdict;
  }
  return found;
}

TEST(PortRanges, SplitIntoTheFewestPrefixes) {
  EXPECT_THAT(split_range(6, 80, 80), ElementsAre(PortPrefix{6, 80, 16}));
  EXPECT_THAT(split_range(6, 8000, 8081),
              ElementsAre(PortPrefix{6, 8000, 10}, PortPrefix{6, 8064, 12}, PortPrefix{6, 8080, 15}));
  EXPECT_THAT(split_range(6, 0, 65535), ElementsAre(PortPrefix{6, 0, 0}));
  EXPECT_THAT(split_range(6, 65535, 65535), ElementsAre(PortPrefix{6, 65535, 16}));
  for (const auto& [first, last] : {std::pair{1, 65535}, {1, 65534}, {1023, 1025}, {7, 50000}}) {
    std::vector<int> hits(65536);
    for (const auto& prefix : split_range(6, static_cast<uint16_t>(first), static_cast<uint16_t>(last)))
      for (int port = prefix.port; port < prefix.port + (1 << (16 - prefix.bits)); ++port)
        ++hits[static_cast<size_t>(port)];
    for (int port = 0; port < 65536; ++port)
      ASSERT_EQ(hits[static_cast<size_t>(port)], port >= first && port <= last ? 1 : 0) << port;
  }
}

/// Only ports of TCP are allowed.
PortMap allowing(const PortSpans& spans) {
  PortMapBuilder builder;
  builder.decide(spans, kAllowed);
  return std::move(builder).finish(kNone);
}

TEST(PortMap, TheFirstRuleThatDecidesAPointHasIt) {
  PortMapBuilder builder;
  builder.decide({tcp(80, 89)}, kAllowed);
  builder.decide({tcp(0, 100)}, kDenied);
  builder.decide(whole_line(), kAllowed);
  EXPECT_FALSE(builder.anything_open());
  const PortMap map = std::move(builder).finish(kNone);
  EXPECT_THAT(map.stretches,
              ElementsAre(PortMap::Stretch{79, kDenied}, PortMap::Stretch{89, kAllowed},
                          PortMap::Stretch{100, kDenied}, PortMap::Stretch{kLineEnd, kAllowed}));
}

TEST(PortMap, A5_PassSkipsTheRestOfItsTierAndNoMore) {
  PortMapBuilder builder;
  builder.pass({tcp(80, 80)});
  builder.decide({tcp(80, 81)}, kDenied);
  builder.end_tier();
  builder.decide({tcp(80, 81)}, kAllowed);
  const PortMap map = std::move(builder).finish(kNone);
  EXPECT_EQ(verdict_at(map, 80), kAllowed);
  EXPECT_EQ(verdict_at(map, 81), kDenied);
}

TEST(PortMap, WhatOnlyAPolicyInAuditModeDeniesIsAudited) {
  PortMapBuilder builder;
  builder.decide({tcp(80, 80)}, kDenied);
  const PortMap in_force = std::move(builder).finish(kAllowed);
  const PortMap map = audited(in_force, uniform({7, POLICY_DENY}));
  EXPECT_EQ(verdict_at(map, 80), kDenied);
  EXPECT_EQ(verdict_at(map, 81), (PolicyVerdict{7, POLICY_AUDIT}));
  EXPECT_EQ(audited(in_force, uniform(kAllowed)), in_force);
}

TEST(PortMap, P7_ARangeIsFewPrefixes) {
  const auto prefixes = [](const PortSpans& spans) { return to_prefixes(allowing(spans), uniform(kNone)); };
  EXPECT_THAT(prefixes({tcp(80, 80)}), ElementsAre(Pair(PortPrefix{6, 80, 16}, kAllowed)));
  EXPECT_THAT(prefixes({tcp(8000, 8081)}),
              ElementsAre(Pair(PortPrefix{6, 8000, 10}, kAllowed), Pair(PortPrefix{6, 8064, 12}, kAllowed),
                          Pair(PortPrefix{6, 8080, 15}, kAllowed)));
  EXPECT_THAT(prefixes({tcp(0, 65535)}), ElementsAre(Pair(PortPrefix{6, 0, 0}, kAllowed)));
  // All but one: the one is an exception of its protocol.
  EXPECT_THAT(prefixes({tcp(0, 79), tcp(81, 65535)}),
              ElementsAre(Pair(PortPrefix{6, 0, 0}, kAllowed), Pair(PortPrefix{6, 80, 16}, kNone)));
}

TEST(PortMap, NoPrefixIsSpentOnWhatIsSaidOtherwise) {
  const PortMap everyone = allowing({tcp(80, 80)});
  EXPECT_THAT(to_prefixes(everyone, everyone), IsEmpty());
  EXPECT_THAT(to_prefixes(allowing({tcp(80, 80), tcp(90, 90)}), everyone),
              ElementsAre(Pair(PortPrefix{6, 90, 16}, kAllowed)));
  EXPECT_THAT(to_prefixes(uniform(kDenied), everyone), ElementsAre(Pair(PortPrefix{0, 0, 0}, kDenied)));
}

class RandomLine {
 public:
  explicit RandomLine(uint64_t seed) : random_(seed) {}
  PortSpans spans() {
    PortSpans spans;
    for (size_t n = 1 + random_() % 3; n > 0; --n) {
      if (random_() % 8 == 0) return whole_line();
      const auto protocol = std::array{Protocol::kTcp, Protocol::kUdp, Protocol::kSctp}[random_() % 3];
      const auto first = static_cast<uint16_t>(random_() % 4 == 0 ? 0 : random_());
      const auto wide = static_cast<uint16_t>(random_() % 3 == 0 ? 0 : random_());
      spans.push_back(span_of(protocol, first, static_cast<uint16_t>(std::min(65535, first + wide))));
    }
    return merged(spans);
  }
  PolicyVerdict verdict() {
    return random_() % 2 ? PolicyVerdict{static_cast<uint32_t>(1 + random_() % 3), POLICY_ALLOW}
                         : PolicyVerdict{static_cast<uint32_t>(random_() % 3), POLICY_DENY};
  }
  PortMap map() {
    PortMapBuilder builder;
    for (size_t n = random_() % 6; n > 0; --n) {
      if (random_() % 4 == 0) builder.pass(spans());
      if (random_() % 4 == 0) builder.end_tier();
      builder.decide(spans(), verdict());
    }
    return std::move(builder).finish(verdict());
  }

 private:
  std::mt19937_64 random_;
};

/// The first points of the largest aligned blocks in which neither map changes: nothing can differ within
/// one.
std::set<uint32_t> blocks(const PortMap& a, const PortMap& b) {
  std::set<uint32_t> bounds = {0, kPortsOfProtocol, 2 * kPortsOfProtocol, kLineEnd};
  for (const auto* map : {&a, &b})
    for (const auto& stretch : map->stretches)
      if (stretch.last < kLineEnd) bounds.insert(stretch.last + 1);
  std::set<uint32_t> firsts = {kLineEnd};
  for (auto bound = bounds.begin(); std::next(bound) != bounds.end(); ++bound) {
    for (uint32_t first = *bound; first < *std::next(bound);) {
      firsts.insert(first);
      uint32_t size = kPortsOfProtocol;
      while (first % size != 0 || first + size > *std::next(bound)) size /= 2;
      first += size;
    }
  }
  return firsts;
}

TEST(PortMap, ThePrefixesOfAnyMapGiveItsVerdictEverywhereAndEachIsNeeded) {
  for (uint64_t seed = 0; seed < 400; ++seed) {
    RandomLine line(seed);
    const PortMap map = line.map();
    const PortMap otherwise = line.map();
    const PrefixVerdicts prefixes = to_prefixes(map, otherwise);
    const std::set<uint32_t> points = blocks(map, otherwise);
    for (const uint32_t point : points)
      ASSERT_EQ(lookup(prefixes, otherwise, point), verdict_at(map, point))
          << "seed " << seed << ", point " << point;
    for (size_t i = 0; i < prefixes.size(); ++i) {
      PrefixVerdicts without = prefixes;
      without.erase(without.begin() + static_cast<ptrdiff_t>(i));
      EXPECT_TRUE(std::ranges::any_of(
          points,
          [&](uint32_t point) { return !(lookup(without, otherwise, point) == verdict_at(map, point)); }))
          << "seed " << seed << ", prefix " << i << " of " << prefixes.size();
    }
  }
}

TEST(PortMap, TheStricterVerdictOfEachPoint) {
  const auto map = [](uint32_t first, uint32_t last, uint8_t verdict, uint32_t rule) {
    PortMapBuilder builder;
    builder.decide({{first, last}}, {rule, verdict});
    return std::move(builder).finish({0, POLICY_ALLOW});
  };
  const PortMap denied = map(10, 20, POLICY_DENY, 1);
  const PortMap audited = map(15, 30, POLICY_AUDIT, 2);
  const PortMap both{{{9, {0, POLICY_ALLOW}},
                      {20, {1, POLICY_DENY}},
                      {30, {2, POLICY_AUDIT}},
                      {kLineEnd, {0, POLICY_ALLOW}}}};
  EXPECT_EQ(strictest(denied, audited), both);
  EXPECT_EQ(strictest(audited, denied), both);
  EXPECT_EQ(strictest(denied, uniform({0, POLICY_ALLOW})), denied);
}

}  // namespace
}  // namespace bpfnet::compile
