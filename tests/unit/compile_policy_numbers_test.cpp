#include <fmt/format.h>
#include <gtest/gtest.h>

#include "control/compile/numbers.h"
#include "control/compile/policies.h"
#include "control/compile/render.h"
#include "maps/abi/policy.h"
#include "tests/unit/compile_builders.h"

namespace bpfnet::compile {
namespace {

using test::name;

class Numbers : public testing::Test, public test::Cluster {
 protected:
  Numbers() {
    add_pod("web", "web");
    endpoints.push_back({1, name("default", "web"), state.pods.begin()->second.ips, 0, {}});
    allow_from("client");
  }
  void add_pod(const std::string& pod_name, const std::string& app) {
    auto& pod = state.pods[name("default", pod_name)];
    pod.name = name("default", pod_name);
    pod.labels = {{"app", app}};
    pod.phase = model::PodPhase::kRunning;
    pod.ips = {Address::from_ipv4({10, 0, 0, next_address++})};
  }
  void allow_from(const std::string& app) {
    auto& policy = state.policies[name("default", "policy")];
    policy.name = name("default", "policy");
    model::PolicyPeer peer;
    peer.pods = model::Selector{{{"app", model::SelectorOperator::kIn, {app}}}};
    policy.ingress = {{{peer}, {}}};
  }
  PolicyImage compile() { return compile_policy(state, node, endpoints, numbers); }

  PolicyNumbers numbers;
  uint8_t next_address = 1;
};

TEST_F(Numbers, WhatStaysKeepsItsNumberWhateverComesBeforeIt) {
  add_pod("client", "client");
  const auto before = compile();
  add_pod("a-first", "another");
  const auto after = compile();
  for (const auto& [id, text] : before.identities) EXPECT_EQ(after.identities.at(id), text);
  EXPECT_EQ(after.sets, before.sets);
  EXPECT_EQ(after.rules, before.rules);
}

TEST_F(Numbers, ANewContentIsANewSetAndTheOldNumberComesBackWithTheOldContent) {
  add_pod("client", "client");
  add_pod("other", "other");
  const auto first = compile();
  allow_from("other");
  const auto second = compile();
  EXPECT_NE(first.endpoints.at(1).ingress_set, second.endpoints.at(1).ingress_set);
  allow_from("client");
  EXPECT_EQ(render(compile()), render(first));
}

TEST_F(Numbers, RelabellingGivesAnotherIdentityAndNeverOneThatWasInUse) {
  add_pod("client", "client");
  const auto before = compile();
  state.pods[name("default", "client")].labels["app"] = "new";
  const auto after = compile();
  const auto identity = [](const PolicyImage& image) {
    return image.addresses.at({0, ip("10.0.0.2")}).identity;
  };
  EXPECT_NE(identity(before), identity(after));
  EXPECT_FALSE(before.identities.contains(identity(after)));
}

TEST_F(Numbers, ARestartWithTheKeptNumbersChangesNothing) {
  add_pod("client", "client");
  const auto before = compile();
  PolicyNumbers kept;
  kept.identities = numbers.identities;
  kept.sets = numbers.sets;
  kept.rules = numbers.rules;
  EXPECT_EQ(render(compile_policy(state, node, endpoints, kept)), render(before));
  add_pod("another", "another");
  const auto after = compile_policy(state, node, endpoints, kept);
  EXPECT_EQ(after.identities.rbegin()->first, before.identities.rbegin()->first + 1);
}

TEST_F(Numbers, TextsLongOutOfUseAreForgottenButTheirNumbersNotGivenAgain) {
  for (int i = 0; i < 6000; ++i)
    number_of(numbers.identities, numbers.next_identity, IDENTITY_FIRST, fmt::format("old {}", i));
  compile();
  EXPECT_LT(numbers.identities.size(), 100U);
  add_pod("fresh", "fresh");
  EXPECT_GE(compile().identities.rbegin()->first, IDENTITY_FIRST + 6000U);
}

TEST_F(Numbers, LabelsThatTryToLookLikeOthersDoNot) {
  add_pod("a", "x");
  state.pods[name("default", "a")].labels = {{"a", "1,b=2"}};
  add_pod("b", "x");
  state.pods[name("default", "b")].labels = {{"a", "1"}, {"b", "2"}};
  const auto image = compile();
  EXPECT_NE(image.addresses.at({0, ip("10.0.0.2")}).identity,
            image.addresses.at({0, ip("10.0.0.3")}).identity);
}

class NodeNumbers : public testing::Test {
 protected:
  std::map<std::string, uint16_t> number(std::set<std::string> names, uint32_t end = 100) {
    return number_nodes(numbers, next, end, names);
  }
  std::map<std::string, uint32_t> numbers;
  uint32_t next = 1;
};

TEST_F(NodeNumbers, ANodeKeepsItsIndexAndGetsItBack) {
  const auto first = number({"b", "c"});
  EXPECT_EQ(first, (std::map<std::string, uint16_t>{{"b", 1}, {"c", 2}}));
  EXPECT_EQ(number({"a", "c"}), (std::map<std::string, uint16_t>{{"a", 3}, {"c", 2}}));
  EXPECT_EQ(number({"b"}).at("b"), 1) << "nobody else was given it";
}

TEST_F(NodeNumbers, AnIndexIsGivenAgainOnlyAfterAllOthers) {
  number({"a", "b", "c"}, 5);  // 1, 2, 3 of 1 to 4
  EXPECT_EQ(number({"a", "b", "d"}, 5).at("d"), 4);
  EXPECT_EQ(number({"a", "b", "d", "e"}, 5).at("e"), 3) << "c's, which is gone";
  EXPECT_FALSE(numbers.contains("c"));
  const auto full = number({"a", "b", "d", "e", "f"}, 5);
  EXPECT_FALSE(full.contains("f"));
  EXPECT_EQ(full.size(), 4U);
}

// Pods' addresses and ranges say which node they are on; this node's say nothing.
TEST_F(Numbers, AddressesOfOtherNodesAndTheirPodsCarryTheNodesIndex) {
  state.nodes["here"] = {
      .name = "here", .internal_ips = {ip("192.0.2.1")}, .pod_cidrs = {cidr("10.0.0.0/24")}};
  state.nodes["b"] = {.name = "b", .internal_ips = {ip("192.0.2.2")}, .pod_cidrs = {cidr("10.0.1.0/24")}};
  node.addresses = {ip("192.0.2.1")};
  add_pod("away", "x");
  state.pods[name("default", "away")].node_name = "b";
  const auto image = compile();
  EXPECT_EQ(image.nodes, (std::map<std::string, uint16_t>{{"b", 1}}));
  EXPECT_EQ(image.addresses.at({0, ip("192.0.2.2")}).node, 1);
  EXPECT_EQ(image.addresses.at({0, ip("192.0.2.1")}).node, 0);
  EXPECT_EQ(image.addresses.at({0, ip("10.0.0.2")}).node, 1) << "what the Pod says counts before its address";
  EXPECT_EQ(image.addresses.at({0, ip("10.0.0.1")}).node, 0);
  EXPECT_EQ(image.cidrs.at({0, cidr("10.0.1.0/24")}).node, 1);
  EXPECT_EQ(image.cidrs.at({0, cidr("10.0.0.0/24")}).node, 0);
}

TEST_F(Numbers, APodOfANodeThatCameLaterIsFoundOnIt) {
  add_pod("away", "x");
  state.pods[name("default", "away")].node_name = "b";
  PolicyCompiler compiler;
  compiler.update(state, node, endpoints, {.everything = true}, numbers);
  EXPECT_EQ(compiler.image().addresses.at({0, ip("10.0.0.2")}).node, 0);
  state.nodes["b"] = {.name = "b", .internal_ips = {ip("192.0.2.2")}};
  const auto delta = compiler.update(state, node, endpoints, {.nodes = true}, numbers);
  EXPECT_EQ(compiler.image().addresses.at({0, ip("10.0.0.2")}).node, 1);
  EXPECT_TRUE(delta.addresses.contains({0, ip("10.0.0.2")}));
  state.nodes.erase("b");
  compiler.update(state, node, endpoints, {.nodes = true}, numbers);
  EXPECT_EQ(compiler.image().addresses.at({0, ip("10.0.0.2")}).node, 0);
}

}  // namespace
}  // namespace bpfnet::compile
