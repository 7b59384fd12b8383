// The model by itself: it must be right before it may judge.
#include "tests/model/model.h"

#include <gtest/gtest.h>
#include <netinet/in.h>

#include "tests/support/actors.h"

namespace bpfnet::model_node {
namespace {

using test::Actors;

class ModelTest : public testing::TestWithParam<Family> {
 protected:
  ModelTest() {
    model_.state.pods[1] = {.addresses = {who_.client}, .identity = 1001};
    model_.state.pods[2] = {.addresses = {who_.server}, .identity = 1002};
    model_.state.own_addresses = {who_.node1};
    model_.state.node_address = {{GetParam(), who_.node1}};
    model_.state.first_port = 30000;
    model_.state.last_port = 60000;
  }
  Decision from_client(const Tuple& tuple, uint8_t flags = 2, Choices choices = {}) {
    return model_.step({.hook = HOOK_from_pod, .pod = 1, .tuple = tuple, .tcp_flags = flags}, choices);
  }
  const Actors who_{GetParam()};
  Model model_;
};

TEST_P(ModelTest, PodToPodKeepsTheTuple) {
  const Tuple tuple{who_.client, 1, who_.server, 80, IPPROTO_TCP};
  const auto decision = from_client(tuple);
  EXPECT_EQ(decision.verdict, VERDICT_TO_ENDPOINT);
  EXPECT_EQ(decision.out, tuple);
  EXPECT_EQ(model_.flows().size(), 2U);
}

TEST_P(ModelTest, MasqueradePortMustBeFree) {
  const Tuple out{who_.node1, 30000, who_.outside, 53, IPPROTO_UDP};
  EXPECT_EQ(from_client({who_.client, 1, who_.outside, 53, IPPROTO_UDP}, 0, {.out = out}).complaint, "");
  EXPECT_NE(from_client({who_.client, 2, who_.outside, 53, IPPROTO_UDP}, 0, {.out = out}).complaint, "");
}

TEST_P(ModelTest, DenyIsTheDefaultOfASet) {
  model_.state.pods[2].ingress_set = 7;
  EXPECT_EQ(from_client({who_.client, 1, who_.server, 80, IPPROTO_TCP}).reason, DROP_POLICY_INGRESS);
  model_.state.sets[7] = {{.identity = 1001, .proto = IPPROTO_TCP, .port = 80, .bits = 16}};
  EXPECT_EQ(from_client({who_.client, 1, who_.server, 80, IPPROTO_TCP}).verdict, VERDICT_TO_ENDPOINT);
}

TEST_P(ModelTest, ARuleDeniesAuditsAndIsNamed) {
  model_.state.pods[2].ingress_set = 7;
  model_.state.pods[2].rejects = true;
  auto& rule = model_.state.sets[7].emplace_back(Rule{.identity = 1001, .verdict = POLICY_DENY, .id = 70});
  const auto denied = from_client({who_.client, 1, who_.server, 80, IPPROTO_TCP});
  EXPECT_EQ(denied.reason, DROP_POLICY_INGRESS);
  EXPECT_EQ(denied.rule, 70U);
  EXPECT_TRUE(denied.told);
  rule.verdict = POLICY_AUDIT;
  const auto audited = from_client({who_.client, 1, who_.server, 80, IPPROTO_TCP});
  EXPECT_EQ(audited.verdict, VERDICT_TO_ENDPOINT);
  EXPECT_TRUE(audited.audited);
  EXPECT_EQ(audited.rule, 70U);
}

// P20: audit is a policy's, not that of a pod without one.
TEST_P(ModelTest, AClosedPodIsNotAudited) {
  model_.state.pods[2].audited = true;
  model_.state.pods[2].open = false;
  EXPECT_EQ(from_client({who_.client, 1, who_.server, 80, IPPROTO_TCP}).reason, DROP_ENDPOINT_CLOSED);
}

TEST_P(ModelTest, ForeignAddressIsSpoofed) {
  EXPECT_EQ(from_client({who_.server, 1, who_.outside, 80, IPPROTO_TCP}).reason, DROP_SPOOFED);
}

INSTANTIATE_FAMILIES(ModelTest);

}  // namespace
}  // namespace bpfnet::model_node
