// /healthz and /livez: does the agent keep up, may the node be sent to (S54, S55).
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "control/health/proxy_health.h"
#include "tests/unit/health_client.h"

namespace bpfnet::health {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class Keeping : public testing::Test {
 protected:
  [[nodiscard]] bool healthy() { return health_.view().healthy; }

  std::shared_ptr<test::StoppedClock> clock_ = std::make_shared<test::StoppedClock>();
  bool loop_runs_ = true;
  std::function<void()> unanswered_;
  ProxyHealth health_{clock_, [this](std::function<void()> answer) {
                        loop_runs_ ? answer() : static_cast<void>(unanswered_ = std::move(answer));
                      }};
};

TEST_F(Keeping, StartingIsHealthy) {
  EXPECT_TRUE(healthy());
  clock_->advance(seconds(120));
  EXPECT_TRUE(healthy());
}

// S54, S55: nobody knows the node yet, and its datapath may be empty.
TEST_F(Keeping, BeforeTheFirstStateTheNodeIsNeitherEligibleNorReady) {
  EXPECT_FALSE(health_.view().eligible);
  EXPECT_FALSE(health_.view().ready());
  health_.applied();
  health_.set_eligible(true);
  EXPECT_TRUE(health_.view().eligible);
  EXPECT_TRUE(health_.view().ready());
}

// S60: what an earlier agent set up serves on, so load balancers may send here; pods have to wait.
TEST_F(Keeping, OverARestartTheNodeStaysEligible) {
  ProxyHealth adopted(
      clock_, [](const std::function<void()>& answer) { answer(); }, true);
  EXPECT_TRUE(adopted.view().eligible);
  EXPECT_FALSE(adopted.view().ready());
  adopted.set_eligible(false);
  EXPECT_FALSE(adopted.view().eligible);
}

TEST_F(Keeping, ReadyIsSynchronizedAndKeepingUp) {
  EXPECT_EQ(nlohmann::json::parse(readyz_body(health_.view()))["ready"], false);
  health_.applied();
  EXPECT_EQ(nlohmann::json::parse(readyz_body(health_.view()))["ready"], true);
  health_.queued();
  clock_->advance(seconds(60));
  EXPECT_FALSE(health_.view().ready());
}

TEST_F(Keeping, AChangeMayWaitForSixtySeconds) {  // S54
  health_.applied();
  health_.queued();
  clock_->advance(milliseconds(59'999));
  EXPECT_TRUE(healthy());
  clock_->advance(milliseconds(1));
  EXPECT_FALSE(healthy());
  health_.applied();
  EXPECT_TRUE(healthy());
}

TEST_F(Keeping, TheOldestChangeCounts) {  // S54
  health_.queued();
  clock_->advance(seconds(59));
  health_.queued();
  clock_->advance(seconds(1));
  EXPECT_FALSE(healthy());
}

TEST_F(Keeping, ALoopThatDoesNotAnswerIsAWaitingChange) {  // S54: it cannot even say what is queued
  loop_runs_ = false;
  EXPECT_TRUE(healthy());
  clock_->advance(seconds(60));
  EXPECT_FALSE(healthy());
  unanswered_();
  EXPECT_TRUE(healthy());
}

TEST_F(Keeping, ALoopIsAskedOnceAtATime) {
  loop_runs_ = false;
  EXPECT_TRUE(healthy());
  unanswered_ = nullptr;
  EXPECT_TRUE(healthy());
  EXPECT_FALSE(unanswered_);
}

TEST_F(Keeping, HealthzBodyHasKubeProxysFields) {  // S54
  health_.applied();
  health_.set_eligible(true);
  clock_->advance(milliseconds(1500));
  EXPECT_EQ(healthz_body(health_.view()),
            R"({"lastUpdated":"2023-11-14T22:13:21.500000Z","currentTime":"2023-11-14T22:13:21.500000Z",)"
            R"("nodeEligible":true,"healthy":true,"status":{)"
            R"("IPv4":{"lastUpdated":"2023-11-14T22:13:20.000000Z","healthy":true},)"
            R"("IPv6":{"lastUpdated":"2023-11-14T22:13:20.000000Z","healthy":true}}})");
}

TEST_F(Keeping, AnUnhealthyBodySaysSinceWhen) {  // S54
  health_.applied();
  health_.queued();
  clock_->advance(seconds(60));
  const auto body = nlohmann::json::parse(healthz_body(health_.view()));
  EXPECT_EQ(body["lastUpdated"], "2023-11-14T22:13:20.000000Z");
  EXPECT_EQ(body["healthy"], false);
  EXPECT_EQ(body["status"]["IPv6"]["healthy"], false);
}

TEST_F(Keeping, LivezIgnoresEligibility) {  // S55
  health_.set_eligible(false);
  const auto view = health_.view();
  EXPECT_TRUE(view.healthy);
  EXPECT_FALSE(view.eligible);
  EXPECT_EQ(nlohmann::json::parse(healthz_body(view))["nodeEligible"], false);
  EXPECT_FALSE(nlohmann::json::parse(livez_body(view)).contains("nodeEligible"));
}

std::map<std::string, model::Node> nodes(model::Node node) {
  return {{node.name, node}};
}

TEST(NodeEligible, ByTheNodeObject) {  // S55
  EXPECT_TRUE(node_eligible(nodes({.name = "a"}), "a"));
  EXPECT_TRUE(node_eligible(nodes({.name = "a", .taints = {"node.kubernetes.io/unreachable"}}), "a"));
  EXPECT_FALSE(node_eligible(nodes({.name = "a", .taints = {"x", "ToBeDeletedByClusterAutoscaler"}}), "a"));
  EXPECT_FALSE(node_eligible(nodes({.name = "a", .deleting = true}), "a"));
  EXPECT_FALSE(node_eligible(nodes({.name = "b"}), "a"));
}

TEST(NodeEligible, WithoutAnyNodeObjectNobodyObjects) {
  EXPECT_TRUE(node_eligible({}, "a"));
}

}  // namespace
}  // namespace bpfnet::health
