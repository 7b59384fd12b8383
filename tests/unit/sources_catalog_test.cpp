// What the Catalog keeps of objects: once, whatever happened to them, and nothing of what is over.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <map>
#include <random>

#include "control/sources/catalog.h"

namespace bpfnet::sources {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

Decoded pod(const std::string& name, const std::vector<std::string>& ips, const std::string& app = "web",
            const std::string& created = "2026-01-31T12:00:00Z") {
  std::string list;
  for (const std::string& ip : ips) list += fmt::format(R"({}{{"ip": "{}"}})", list.empty() ? "" : ",", ip);
  const ParsedText text = parse_json(fmt::format(
      R"({{"metadata": {{"namespace": "default", "name": "{}", "labels": {{"app": "{}", "tier": "back"}},
                         "creationTimestamp": "{}"}},
           "spec": {{"nodeName": "node-a", "containers": [{{"ports": [{{"name": "http", "containerPort": 80}}]}}]}},
           "status": {{"phase": "Running", "podIPs": [{}]}}}})",
      name, app, created, list));
  return std::move(decode_object(*text.documents.at(0).root, Kind::kPod).objects.at(0));
}

class TheCatalog : public testing::Test {
 protected:
  Candidate* add(Decoded decoded) { return catalog.add("kubernetes", 1, std::move(decoded)); }
  std::vector<std::string> ips(const std::string& name) const {
    std::vector<std::string> found;
    const auto held = catalog.state().pods.find({"default", name});
    if (held == catalog.state().pods.end()) return {"none"};
    for (const Address& ip : held->second.ips) found.push_back(ip.to_string());
    return found;
  }
  const model::Pod& at(const std::string& name) const { return catalog.state().pods.at({"default", name}); }
  size_t problems() const {
    std::vector<Problem> all;
    catalog.collect_problems(all);
    return all.size();
  }

  Catalog catalog;
};

TEST_F(TheCatalog, KeepsAnObjectThatCountsInTheStateAlone) {
  Candidate* a = add(pod("a", {"10.0.0.1"}));
  EXPECT_NE(a->versions, nullptr);
  catalog.settle();
  EXPECT_EQ(a->versions, nullptr);
  EXPECT_THAT(ips("a"), ElementsAre("10.0.0.1"));
  catalog.update(a, 1, pod("a", {"10.0.0.2"}));
  EXPECT_THAT(ips("a"), ElementsAre("10.0.0.1"));
  catalog.settle();
  EXPECT_EQ(a->versions, nullptr);
  EXPECT_THAT(ips("a"), ElementsAre("10.0.0.2"));
}

TEST_F(TheCatalog, GivesAnAddressOnAsSoonAsItsOwnerLeavesIt) {
  Candidate* a = add(pod("a", {"10.0.0.1", "fd00::1"}));
  catalog.settle();
  Candidate* b = add(pod("b", {"10.0.0.1"}, "web", "2026-01-31T12:00:01Z"));
  catalog.settle();
  EXPECT_THAT(ips("b"), IsEmpty());
  EXPECT_NE(b->versions, nullptr) << "what it wants is not what counts";
  EXPECT_EQ(problems(), 1u);
  catalog.update(a, 1, pod("a", {"fd00::1"}));
  catalog.settle();
  EXPECT_THAT(ips("b"), ElementsAre("10.0.0.1"));
  EXPECT_EQ(a->versions, nullptr);
  EXPECT_EQ(b->versions, nullptr);
  EXPECT_EQ(problems(), 0u);
  // Nor does an address that it had once stand in anybody's way.
  add(pod("c", {"10.0.0.1"}, "web", "2026-01-31T11:00:00Z"));
  catalog.settle();
  EXPECT_THAT(ips("c"), ElementsAre("10.0.0.1"));
  EXPECT_THAT(ips("b"), IsEmpty());
}

TEST_F(TheCatalog, ForgetsWhatWasRemovedAfterItCounted) {
  Candidate* a = add(pod("a", {"10.0.0.1"}));
  catalog.settle();
  catalog.remove(a);
  add(pod("b", {"10.0.0.1"}));
  catalog.settle();
  EXPECT_THAT(ips("a"), ElementsAre("none"));
  EXPECT_THAT(ips("b"), ElementsAre("10.0.0.1"));
  EXPECT_EQ(problems(), 0u);
}

TEST_F(TheCatalog, SharesWhatPodsHaveAlike) {
  add(pod("a", {"10.0.0.1"}));
  add(pod("b", {"10.0.0.2"}));
  add(pod("c", {"10.0.0.3"}, "other"));
  catalog.settle();
  EXPECT_EQ(&at("a").labels.get(), &at("b").labels.get());
  EXPECT_EQ(&at("a").ports.get(), &at("c").ports.get());
  EXPECT_EQ(at("a").node_name.view().data(), at("c").node_name.view().data());
  EXPECT_NE(at("a").labels, at("c").labels);
}

// Of objects of an API server age decides, so what counts is a matter of what there is, not of its history.
TEST_F(TheCatalog, HoldsAfterAnyHistoryWhatItWouldHoldAtOnce) {
  std::mt19937 random(20261127);
  const auto below = [&](size_t limit) {
    return std::uniform_int_distribution<size_t>(0, limit - 1)(random);
  };
  struct Made {
    std::vector<std::string> ips;
    std::string created;
  };
  const auto make = [&](const std::string& created) {
    Made made{{}, created};
    for (size_t i = below(4); i > 0; --i) {
      const std::string ip = fmt::format("10.0.0.{}", 1 + below(6));
      if (std::ranges::find(made.ips, ip) == made.ips.end()) made.ips.push_back(ip);
    }
    return made;
  };
  for (size_t round = 0; round < 200; ++round) {
    Catalog lived;
    std::map<std::string, std::pair<Candidate*, Made>> there;
    for (size_t step = 0; step < 40; ++step) {
      const std::string name = fmt::format("p{}", below(6));
      const auto found = there.find(name);
      if (found == there.end()) {
        const Made made = make(fmt::format("2026-01-31T12:00:{:02}Z", below(60)));
        there[name] = {lived.add("kubernetes", 1, pod(name, made.ips, "web", made.created)), made};
      } else if (below(3) == 0) {
        lived.remove(found->second.first);
        there.erase(found);
      } else {
        found->second.second = make(found->second.second.created);
        const Made& made = found->second.second;
        lived.update(found->second.first, 1, pod(name, made.ips, "web", made.created));
      }
      if (below(2) == 0) lived.settle();
    }
    lived.settle();
    Catalog fresh;
    for (const auto& [name, each] : there)
      fresh.add("kubernetes", 1, pod(name, each.second.ips, "web", each.second.created));
    fresh.settle();
    ASSERT_EQ(lived.state().pods, fresh.state().pods) << "round " << round;
    std::vector<Problem> of_lived;
    std::vector<Problem> of_fresh;
    lived.collect_problems(of_lived);
    fresh.collect_problems(of_fresh);
    ASSERT_EQ(of_lived.size(), of_fresh.size()) << "round " << round;
  }
}

}  // namespace
}  // namespace bpfnet::sources
