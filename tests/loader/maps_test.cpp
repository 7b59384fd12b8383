#include "maps/maps.h"

#include <bpf/bpf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <set>

#include "maps/convert.h"
#include "maps/libbpf_options.h"

namespace bpfnet::maps {
namespace {

using ::testing::HasSubstr;

/// A map of its own for one test; the kernel frees it with the descriptor.
template <typename M>
M make(bpf_map_type type, const char* name, uint32_t key, uint32_t value, uint32_t entries,
       uint32_t flags = 0) {
  auto opts = libbpf_options<bpf_map_create_opts>();
  opts.map_flags = flags;
  auto map = M::adopt(Fd(bpf_map_create(type, name, key, value, entries, &opts)), name);
  EXPECT_TRUE(map) << map.error().message;
  return map ? std::move(*map) : M();
}

template <typename K, typename V>
Map<K, V> make_hash(uint32_t entries) {
  return make<Map<K, V>>(BPF_MAP_TYPE_HASH, "policy", sizeof(K), sizeof(V), entries, BPF_F_NO_PREALLOC);
}

template <typename K, typename V>
Map<K, V> make_lpm(uint32_t entries) {
  return make<Map<K, V>>(BPF_MAP_TYPE_LPM_TRIE, "lpm", sizeof(K), sizeof(V), entries, BPF_F_NO_PREALLOC);
}

TEST(HashMap, HoldsWhatWasPutAndTellsWhatIsMissing) {
  const auto map = make_hash<uint32_t, uint64_t>(8);
  ASSERT_TRUE(map.put(1, 10));
  EXPECT_EQ(**map.get(1), 10U);
  EXPECT_FALSE(map.get(2)->has_value());
  EXPECT_TRUE(*map.erase(1));
  EXPECT_FALSE(*map.erase(1));
}

TEST(HashMap, FlagsTellCreationFromReplacement) {
  const auto map = make_hash<uint32_t, uint64_t>(8);
  EXPECT_EQ(map.put(1, 10, Put::kExisting).error().code, ENOENT);
  ASSERT_TRUE(map.put(1, 10, Put::kNew));
  EXPECT_EQ(map.put(1, 11, Put::kNew).error().code, EEXIST);
  EXPECT_EQ(**map.get(1), 10U);
}

TEST(HashMap, AFullMapNamesItselfTheKeyAndItsSize) {
  const auto map = make_hash<policy_key, uint32_t>(1);
  ASSERT_TRUE(map.put(make_policy_key(7, 256, IPPROTO_TCP, 79, 16), 1));
  const auto status = map.put(make_policy_key(7, 256, IPPROTO_TCP, 80, 16), 1);
  ASSERT_FALSE(status);
  EXPECT_THAT(
      status.error().message,
      HasSubstr("map policy: update {set 7, identity 256, tcp/80}: full, it has room for 1 entries: E2BIG"));
}

TEST(HashMap, ReadsMoreThanOneBatch) {
  const auto map = make_hash<uint32_t, uint64_t>(10'000);
  std::vector<uint32_t> keys;
  std::vector<uint64_t> values;
  for (uint32_t i = 0; i < 10'000; ++i) {
    keys.push_back(i);
    values.push_back(i * 3ULL);
  }
  ASSERT_TRUE(map.put_batch(keys, values));
  const auto entries = map.entries();
  ASSERT_TRUE(entries) << entries.error().message;
  std::set<uint32_t> seen;
  for (const auto& [key, value] : *entries) {
    EXPECT_EQ(value, key * 3ULL);
    seen.insert(key);
  }
  EXPECT_EQ(seen.size(), 10'000U);
}

// The resume token of a hash is 4 bytes even where keys are smaller.
TEST(HashMap, KeysSmallerThanTheBatchToken) {
  const auto map = make_hash<uint16_t, uint32_t>(5'000);
  std::vector<uint16_t> keys(5'000);
  std::vector<uint32_t> values(5'000, 1);
  for (uint16_t i = 0; i < 5'000; ++i) keys[i] = i;
  ASSERT_TRUE(map.put_batch(keys, values));
  EXPECT_EQ(map.entries()->size(), 5'000U);
}

TEST(HashMap, AnEmptyMapHasNoEntries) {
  const auto map = make_hash<uint32_t, uint64_t>(8);
  EXPECT_TRUE(map.entries()->empty());
  EXPECT_TRUE(map.clear());
}

TEST(HashMap, EraseBatchPassesOverKeysThatAreGone) {
  const auto map = make_hash<uint32_t, uint64_t>(64);
  for (const uint32_t key : {1, 3, 5, 6}) ASSERT_TRUE(map.put(key, 0));
  const std::vector<uint32_t> keys = {0, 1, 2, 3, 4, 5, 7};
  EXPECT_EQ(*map.erase_batch(keys), 3U);
  EXPECT_EQ(map.entries()->size(), 1U);
  EXPECT_EQ(*map.erase_batch({}), 0U);
}

TEST(HashMap, AFailedBatchNamesTheEntryAndKeepsThoseBefore) {
  const auto map = make_hash<uint32_t, uint64_t>(2);
  const std::vector<uint32_t> keys = {4, 5, 6};
  const std::vector<uint64_t> values = {0, 0, 0};
  const auto status = map.put_batch(keys, values);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, E2BIG);
  EXPECT_THAT(status.error().message, HasSubstr("{6}"));
  EXPECT_EQ(map.entries()->size(), 2U);
}

TEST(HashMap, ABatchOfNewKeysStopsAtOneThatIsThere) {
  const auto map = make_hash<uint32_t, uint64_t>(8);
  ASSERT_TRUE(map.put(5, 1));
  const std::vector<uint32_t> keys = {4, 5, 6};
  const std::vector<uint64_t> values = {7, 7, 7};
  const auto status = map.put_batch(keys, values, Put::kNew);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, EEXIST);
  EXPECT_THAT(status.error().message, HasSubstr("{5}"));
  EXPECT_EQ(**map.get(5), 1U);
}

TEST(HashMap, RecordsOfAnotherSizeAreRefused) {
  const auto map =
      Map<uint32_t, uint32_t>::adopt(Fd(bpf_map_create(BPF_MAP_TYPE_HASH, "wide", 4, 8, 1, nullptr)), "wide");
  ASSERT_FALSE(map);
  EXPECT_EQ(map.error().message,
            "map wide: the kernel's records are 4/8 bytes (key/value), this build's 4/4");
}

TEST(LpmMap, GivesTheLongestPrefix) {
  const auto map = make_lpm<cidr_key, cidr_info>(64);
  ASSERT_TRUE(map.put(make_cidr_key(*Cidr::parse("10.0.0.0/8")), {.identity = 1, .flags = 0}));
  ASSERT_TRUE(map.put(make_cidr_key(*Cidr::parse("10.1.0.0/16")), {.identity = 2, .flags = 0}));
  ASSERT_TRUE(map.put(make_cidr_key(*Cidr::parse("fd00::/8")), {.identity = 3, .flags = 0}));
  EXPECT_EQ((*map.get(make_cidr_lookup(*Address::parse("10.1.2.3"))))->identity, 2U);
  EXPECT_EQ((*map.get(make_cidr_lookup(*Address::parse("10.2.2.3"))))->identity, 1U);
  EXPECT_EQ((*map.get(make_cidr_lookup(*Address::parse("fd00::1"))))->identity, 3U);
  EXPECT_FALSE(map.get(make_cidr_lookup(*Address::parse("192.0.2.1")))->has_value());
  EXPECT_FALSE(map.get(make_cidr_lookup(*Address::parse("10.1.2.3"), 5))->has_value()) << "another network";
}

TEST(LpmMap, BatchesWorkAsForHashes) {
  const auto map = make_lpm<policy_key, policy_entry>(4'096);
  std::vector<policy_key> keys;
  std::vector<policy_entry> values;
  for (uint16_t port = 1; port <= 3'000; ++port) {
    keys.push_back(make_policy_key(16, 256, IPPROTO_UDP, port, 16));
    values.push_back({.rule = port, .verdict = POLICY_ALLOW, .pad = {}});
  }
  ASSERT_TRUE(map.put_batch(keys, values));
  EXPECT_EQ(map.entries()->size(), 3'000U);
  keys.push_back(make_policy_key(17, 256, IPPROTO_UDP, 1, 16));
  EXPECT_EQ(*map.erase_batch(keys), 3'000U);
  EXPECT_TRUE(map.entries()->empty());
}

TEST(Array, WritesRangesAndRefusesIndicesPastTheEnd) {
  const auto map = make<Array<uint64_t>>(BPF_MAP_TYPE_ARRAY, "slots", 4, 8, 2'000);
  ASSERT_TRUE(map.put_range(10, std::vector<uint64_t>{7, 8, 9}));
  EXPECT_EQ(*map.get(11), 8U);
  const auto values = map.values();
  ASSERT_EQ(values->size(), 2'000U);
  EXPECT_EQ((*values)[12], 9U);
  EXPECT_EQ(map.get(2'000).error().code, ENOENT);
  const auto status = map.put_range(1'999, std::vector<uint64_t>{1, 2});
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().message, HasSubstr("{2000}"));
}

TEST(PerCpuArray, SumsFieldByField) {
  const auto map = make<PerCpuArray<packet_count>>(BPF_MAP_TYPE_PERCPU_ARRAY, "counts", 4, 16, 600);
  ASSERT_TRUE(map.put(599, {.packets = 2, .bytes = 300}));
  EXPECT_EQ(map.sum(599)->packets, 2U * possible_cpus());
  const auto sums = map.sums();
  ASSERT_EQ(sums->size(), 600U);
  EXPECT_EQ((*sums)[599].bytes, 300U * possible_cpus());
  EXPECT_EQ(sums->front().packets, 0U);
  EXPECT_EQ(map.get(599)->size(), possible_cpus());
}

TEST(Queue, IsFirstInFirstOutAndSaysWhenItIsFull) {
  const auto queue = make<Queue<uint32_t>>(BPF_MAP_TYPE_QUEUE, "free", 0, 4, 2);
  ASSERT_TRUE(queue.push(5));
  ASSERT_TRUE(queue.push(6));
  EXPECT_EQ(queue.push(7).error().code, E2BIG);
  EXPECT_EQ(**queue.pop(), 5U);
  EXPECT_EQ(**queue.pop(), 6U);
  EXPECT_FALSE(queue.pop()->has_value());
}

TEST(Maps, AMissingPinSaysWhereAndWhatToDo) {
  const auto maps = Maps::open_pinned("/run/bpfnet-test-maps-none");
  ASSERT_FALSE(maps);
  EXPECT_EQ(maps.error().code, ENOENT);
  EXPECT_THAT(maps.error().message, HasSubstr("/run/bpfnet-test-maps-none/v1/maps/flows"));
}

}  // namespace
}  // namespace bpfnet::maps
