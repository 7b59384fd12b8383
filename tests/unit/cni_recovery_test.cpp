// What a new agent makes of what the last one left: after a restart, a lost device, a DEL in between, a kill
// at every step of ADD.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <csignal>
#include <thread>

#include "loader/netlink.h"
#include "tests/unit/cni_fixture.h"

namespace bpfnet::cni::test {
namespace {

using nlohmann::json;

class RecoveryTest : public NodeTest {};

TEST_F(RecoveryTest, ARestartKeepsWhatIsReady) {
  const Pod pod;
  const json result = added("c1", pod);
  restart_agent();
  const auto recovered = manager_->recover().value();
  ASSERT_EQ(recovered.size(), 1U);
  EXPECT_EQ(recovered[0].record.key.container_id, "c1");
  EXPECT_EQ(code_of(plugin("CHECK", "c1", pod.path(), {{"prevResult", result}})), 0);
}

TEST_F(RecoveryTest, ARestartForgetsEndpointsWhoseDeviceIsGone) {
  std::optional<Pod> pod(std::in_place);
  added("c1", *pod);
  pod.reset();
  // The kernel takes a dead netns apart in its own time; the device's end is the event.
  auto netlink = loader::Netlink::open().value();
  while (netlink.link(host_ifname({"c1", "eth0"})).value()) std::this_thread::yield();
  restart_agent();
  EXPECT_TRUE(manager_->recover()->empty());
  EXPECT_EQ(leftovers(), "");
}

TEST_F(RecoveryTest, AVanishedDeviceFreesItsEndpoint) {
  const Pod pod;
  added("c1", pod);
  const std::string device = host_ifname({"c1", "eth0"});
  EXPECT_FALSE(manager_->device_vanished(device).value()) << "it is still there";
  ASSERT_TRUE(loader::Netlink::open()->delete_link(device));
  EXPECT_TRUE(manager_->device_vanished(device).value());
  EXPECT_EQ(leftovers(), "");
}

// C11: the agent is down, the runtime deletes, the next agent finishes.
TEST_F(RecoveryTest, ADelWithoutAgentIsFinishedByTheNextOne) {
  const Pod pod;
  added("c1", pod);
  stop_agent();
  EXPECT_EQ(code_of(plugin("DEL", "c1", pod.path())), 0);
  EXPECT_EQ(devices(pod.netns()), "") << "the pod is cut off at once";
  EXPECT_EQ(code_of(plugin("ADD", "c2", pod.path())), 11);
  EXPECT_EQ(code_of(plugin("STATUS", "", "")), 50);
  restart_agent();
  EXPECT_NE(leftovers(), "");
  EXPECT_TRUE(manager_->recover()->empty());
  EXPECT_EQ(leftovers(), "");
}

TEST_F(RecoveryTest, AnAddAfterADelWithoutAgentWinsOverThePendingDelete) {
  const Pod pod;
  added("c1", pod);
  stop_agent();
  ASSERT_EQ(code_of(plugin("DEL", "c1", pod.path())), 0);
  restart_agent();
  const json result = added("c1", pod);
  manager_->finish_pending_deletes();
  EXPECT_EQ(code_of(plugin("CHECK", "c1", pod.path(), {{"prevResult", result}})), 0);
}

enum class Then { kDel, kRecover, kRecoverAndDel, kAddAgain };

struct KillCase {
  AddStep step;
  Then then;
};

class KilledAgentTest : public NodeTest, public ::testing::WithParamInterface<KillCase> {};

TEST_P(KilledAgentTest, LeavesNothing) {
  const Pod pod;
  stop_agent();
  const pid_t child = fork();
  if (child == 0) {
    restart_agent();
    datapath_->on_step = [](const AttachmentKey&, AddStep step) {
      if (step == GetParam().step) kill(getpid(), SIGKILL);
    };
    (void)plugin("ADD", "c1", pod.path());
    _exit(1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status)) << "the child was not killed";

  restart_agent();
  const bool was_ready = GetParam().step == AddStep::kReady;
  switch (GetParam().then) {
    case Then::kRecover:
      EXPECT_EQ(manager_->recover()->size(), was_ready ? 1U : 0U);
      ASSERT_EQ(code_of(was_ready ? plugin("DEL", "c1", "") : PluginOutcome{}), 0);
      break;
    case Then::kRecoverAndDel:
      ASSERT_TRUE(manager_->recover());
      [[fallthrough]];
    case Then::kDel:
      ASSERT_EQ(code_of(plugin("DEL", "c1", pod.path())), 0);
      break;
    case Then::kAddAgain:
      ASSERT_TRUE(manager_->recover());
      if (!was_ready) added("c1", pod);
      ASSERT_EQ(code_of(plugin("DEL", "c1", pod.path())), 0);
      break;
  }
  EXPECT_EQ(leftovers(), "");
  EXPECT_EQ(devices(pod.netns()), "");
}

std::vector<KillCase> every_step() {
  std::vector<KillCase> cases;
  for (int step = 0; step <= static_cast<int>(AddStep::kReady); ++step) {
    for (const Then then : {Then::kDel, Then::kRecover, Then::kRecoverAndDel, Then::kAddAgain}) {
      cases.push_back({static_cast<AddStep>(step), then});
    }
  }
  return cases;
}

std::string case_name(const ::testing::TestParamInfo<KillCase>& info) {
  static const char* const names[] = {"ThenDel", "ThenRecover", "ThenRecoverAndDel", "ThenAddAgain"};
  return fmt::format("{}{}", to_string(info.param.step), names[static_cast<size_t>(info.param.then)]);
}

INSTANTIATE_TEST_SUITE_P(AtEveryStep, KilledAgentTest, ::testing::ValuesIn(every_step()), case_name);

}  // namespace
}  // namespace bpfnet::cni::test
