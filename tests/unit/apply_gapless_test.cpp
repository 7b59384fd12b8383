// Random rows of updates, judged as a packet would be judged before each single write: by the old policy or
// by the new one, and by nothing in between.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include "control/apply/publisher.h"
#include "maps/convert.h"
#include "tests/unit/apply_memory_maps.h"
#include "tests/unit/compile_mutation.h"

namespace bpfnet::apply {
namespace {

using compile::test::ClusterGenerator;
using compile::test::Mutation;
using compile::test::RandomCluster;

/// What the maps say, by the datapath's rules.
class Judge {
 public:
  explicit Judge(const MemoryMaps& maps) : maps_(maps) {}

  /// May a connection to (egress) or from (ingress) `peer` begin?
  [[nodiscard]] bool allows(uint16_t index, bool ingress, const Address& peer, uint8_t proto,
                            uint16_t port) const {
    const auto record = maps_.endpoints.find(index);
    if (record == maps_.endpoints.end() || record->second.state != ENDPOINT_OPEN) return false;
    const uint32_t set = ingress ? record->second.ingress_set : record->second.egress_set;
    if (set == POLICY_SET_ALLOW_ALL) return true;
    const policy_entry* entry = find(set, identity(peer), proto, port);
    if (!entry) entry = find(set, IDENTITY_ANY, proto, port);
    return entry && entry->verdict != POLICY_DENY;
  }

 private:
  [[nodiscard]] uint32_t identity(const Address& address) const {
    const auto exact = maps_.addresses.find(maps::make_address_key(address));
    if (exact != maps_.addresses.end()) return exact->second.identity;
    for (int length = address.bits(); length >= 0; --length)
      if (const auto found = maps_.cidrs.find(maps::make_cidr_key(Cidr(address, length)));
          found != maps_.cidrs.end())
        return found->second.identity;
    return IDENTITY_WORLD;
  }
  [[nodiscard]] const policy_entry* find(uint32_t set, uint32_t identity, uint8_t proto,
                                         uint16_t port) const {
    for (int bits = 16; bits >= 0; --bits) {
      const auto masked = static_cast<uint16_t>(bits == 0 ? 0 : port & (0xffff << (16 - bits)));
      const auto key = maps::make_policy_key(set, identity, proto, masked, static_cast<uint8_t>(bits));
      if (const auto found = maps_.policies.find(key); found != maps_.policies.end()) return &found->second;
    }
    const auto all = maps_.policies.find(maps::make_policy_key(set, identity, 0, 0, 0));
    return all == maps_.policies.end() ? nullptr : &all->second;
  }
  const MemoryMaps& maps_;
};

struct Question {
  uint16_t endpoint = 0;
  bool ingress = false;
  Address peer;
  uint8_t proto = 0;
  uint16_t port = 0;
};

/// A cluster, its compiler and its maps.
class Row {
 public:
  explicit Row(uint64_t seed) : generator_(seed), cluster_(generator_.make()) {
    maps_.capacity = {{"policies", 100000}, {"addresses", 1000}, {"cidrs", 1000}};
    publisher_ = std::make_unique<Publisher>(maps_.writer(), ServicePublisher::Options{});
    EXPECT_TRUE(publisher_->adopt());
    compiler_.update(cluster_.state, cluster_.node, cluster_.endpoints, {.everything = true}, numbers_);
    publish(nullptr);
    for (const Address& address : cluster_.addresses) peers_.push_back(address);
  }

  /// Gives the number of writes that were judged.
  size_t step(uint64_t seed) {
    const auto facts_before = facts_;
    const auto changes = Mutation(cluster_, generator_, seed).apply();
    const auto delta = compiler_.update(cluster_.state, cluster_.node, cluster_.endpoints, changes, numbers_);
    const auto questions = ask(facts_before);
    const auto before = answers(questions);
    std::vector<std::vector<bool>> between;
    std::vector<std::string> writes;
    maps_.before_write = [&](const std::string& map) {
      between.push_back(answers(questions));
      writes.push_back(map);
    };
    publish(&delta);
    maps_.before_write = nullptr;
    const auto after = answers(questions);
    for (size_t i = 0; i < between.size(); ++i)
      for (size_t q = 0; q < questions.size(); ++q)
        if (between[i][q] != before[q] && between[i][q] != after[q]) {
          const Question& each = questions[q];
          ADD_FAILURE() << "before write " << i << " of " << between.size() << ", to " << writes[i] << ": "
                        << (each.ingress ? "ingress" : "egress") << " of endpoint " << each.endpoint
                        << ", peer " << each.peer.to_string() << ", protocol " << int{each.proto} << ", port "
                        << each.port << " is neither the old verdict nor the new one";
          return between.size();
        }
    // Clearing up changes no verdict.
    now_ += std::chrono::seconds(1);
    maps_.before_write = [&](const std::string&) { EXPECT_EQ(answers(questions), after); };
    (void)publisher_->reclaim(now_);
    maps_.before_write = nullptr;
    EXPECT_EQ(answers(questions), after);
    return between.size();
  }

  /// A publisher that begins with what the maps hold and knows no history writes nothing.
  void restart() {
    publisher_ = std::make_unique<Publisher>(maps_.writer(), ServicePublisher::Options{});
    ASSERT_TRUE(publisher_->adopt());
    maps_.log.clear();
    publish(nullptr);
    EXPECT_EQ(maps_.log, std::vector<std::string>());
  }
  [[nodiscard]] const MemoryMaps& maps() const { return maps_; }

 private:
  void publish(const compile::PolicyDelta* delta) {
    facts_.clear();
    for (const auto& endpoint : cluster_.endpoints) {
      EndpointFacts& fact = facts_[endpoint.index];
      fact = {.name = endpoint.pod.to_string(), .ifindex = 10U + endpoint.index, .mtu = 1500};
      for (const Address& ip : endpoint.ips) (ip.is_ipv4() ? fact.ip4 : fact.ip6) = ip;
    }
    const compile::ServiceImage no_services;
    const ServiceNumbers no_numbers;
    const std::map<uint32_t, interface> no_devices;
    EXPECT_TRUE(publisher_
                    ->publish({.services = {.image = no_services, .numbers = no_numbers, .serving = {}},
                               .policy = compiler_.image(),
                               .endpoints = facts_,
                               .interfaces = no_devices,
                               .changes = delta},
                              now_)
                    .empty());
  }
  /// About endpoints that are the same pod before and after.
  std::vector<Question> ask(const std::map<uint16_t, EndpointFacts>& facts_before) {
    std::vector<Question> questions;
    for (const auto& endpoint : cluster_.endpoints) {
      const auto was = facts_before.find(endpoint.index);
      if (was == facts_before.end() || was->second.name != endpoint.pod.to_string()) continue;
      if (!std::ranges::all_of(endpoint.ips, [&](const Address& ip) {
            return (ip.is_ipv4() ? was->second.ip4 : was->second.ip6) == ip;
          }))
        continue;
      for (const Address& peer : peers_)
        for (const bool ingress : {false, true})
          questions.push_back(
              {endpoint.index, ingress, peer,
               generator_.one_of(std::vector<uint8_t>{IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP}),
               generator_.one_of(cluster_.ports)});
    }
    return questions;
  }
  [[nodiscard]] std::vector<bool> answers(const std::vector<Question>& questions) const {
    std::vector<bool> all;
    const Judge judge(maps_);
    for (const Question& q : questions)
      all.push_back(judge.allows(q.endpoint, q.ingress, q.peer, q.proto, q.port));
    return all;
  }

  ClusterGenerator generator_;
  RandomCluster cluster_;
  std::vector<Address> peers_;
  compile::PolicyCompiler compiler_;
  compile::PolicyNumbers numbers_;
  MemoryMaps maps_;
  std::unique_ptr<Publisher> publisher_;
  std::map<uint16_t, EndpointFacts> facts_;
  Clock::time_point now_{};
};

TEST(Gapless, P17_P18_P19_EveryWriteLeavesTheOldVerdictOrTheNewOne) {
  constexpr uint64_t kRows = 10;
  constexpr uint64_t kSteps = 20;
  size_t writes = 0;
  for (uint64_t row = 0; row < kRows && !testing::Test::HasFailure(); ++row) {
    Row cluster(row);
    for (uint64_t i = 0; i < kSteps && !testing::Test::HasFailure(); ++i) {
      SCOPED_TRACE(fmt::format("row {}, step {}", row, i));
      writes += cluster.step(row * kSteps + i + 3);
    }
    cluster.restart();
  }
  EXPECT_GT(writes, kRows * kSteps * 5) << "something was written, and looked at";
}

}  // namespace
}  // namespace bpfnet::apply
