// What the agent decides without a kernel to act on, and its loop.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/rtnetlink.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <sstream>
#include <thread>

#include "control/agent/event_loop.h"
#include "control/agent/node_links.h"
#include "control/agent/options.h"
#include "control/agent/overlay.h"
#include "control/agent/quiet_time.h"
#include "control/agent/routes.h"
#include "control/agent/worker.h"
#include "maps/convert.h"
#include "tests/support/addresses.h"

namespace bpfnet::agent {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

/// lo, eth0 (2) on 192.0.2.0/24 and fd00:2::/64, eth1 (3) on 198.51.100.0/24.
NodeLinks two_uplinks() {
  NodeLinks links;
  links.links = {
      {.ifindex = 1, .name = "lo"}, {.ifindex = 2, .name = "eth0"}, {.ifindex = 3, .name = "eth1"}};
  const auto add = [&links](int ifindex, const char* address, int length, uint8_t scope = RT_SCOPE_UNIVERSE) {
    links.addresses.push_back(
        {.ifindex = ifindex, .address = ip(address), .prefix_length = length, .scope = scope});
  };
  add(1, "127.0.0.1", 8, RT_SCOPE_HOST);
  add(2, "192.0.2.1", 24);
  add(2, "fe80::1", 64, RT_SCOPE_LINK);
  add(2, "fd00:2::1", 64);
  add(3, "198.51.100.1", 24);
  return links;
}

TEST(QuietTime, ABurstIsLookedAtOnceAndARestlessOneStill) {
  const QuietTime::Clock::time_point start;
  QuietTime quiet(milliseconds(2), milliseconds(50));
  EXPECT_EQ(quiet.event(start), start + milliseconds(2));
  EXPECT_EQ(quiet.event(start + milliseconds(1)), start + milliseconds(3)) << "pushed back";
  for (int i = 2; i < 100; ++i) {
    const auto due = quiet.event(start + milliseconds(i));
    EXPECT_EQ(due, start + milliseconds(std::min(i + 2, 50))) << i;
  }
  quiet.looked();
  const auto later = start + milliseconds(100);
  EXPECT_EQ(quiet.event(later), later + milliseconds(2)) << "a burst of its own";
}

TEST(Uplinks, NamedOnesMustExist) {
  const auto links = two_uplinks();
  EXPECT_THAT(choose_uplinks({"eth1", "eth0"}, links, {}, nullptr).value(), ElementsAre(3, 2));
  const auto missing = choose_uplinks({"eth7"}, links, {}, nullptr);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().message,
            "uplink eth7: no such device in this network namespace (there are: lo, eth0, eth1)");
}

TEST(Uplinks, DefaultRoutesThenTheNodesAddress) {
  const auto links = two_uplinks();
  EXPECT_THAT(choose_uplinks({}, links, {links.links[2]}, nullptr).value(), ElementsAre(3));
  const model::Node node{.name = "a", .internal_ips = {ip("192.0.2.1")}};
  EXPECT_THAT(choose_uplinks({}, links, {}, &node).value(), ElementsAre(2));
  EXPECT_THAT(choose_uplinks({}, links, {}, nullptr).value(), IsEmpty());
}

TEST(NodeLinks, OwnAddressesLeaveLoopbackAndLinkLocalOut) {
  EXPECT_THAT(two_uplinks().own_addresses(),
              ElementsAre(ip("192.0.2.1"), ip("198.51.100.1"), ip("fd00:2::1")));
}

TEST(NodeLinks, NodeAddressIsWhatItsObjectSaysIfTheNodeHoldsIt) {  // S65
  const auto links = two_uplinks();
  const model::Node held{.name = "a", .internal_ips = {ip("198.51.100.1")}};
  EXPECT_EQ(node_addresses(links, {2}, &held).ip4, ip("198.51.100.1"));
  const model::Node elsewhere{.name = "a", .internal_ips = {ip("203.0.113.1")}};
  EXPECT_EQ(node_addresses(links, {2}, &elsewhere).ip4, ip("192.0.2.1"));
  EXPECT_EQ(node_addresses(links, {2}, nullptr).ip6, ip("fd00:2::1"));
}

class Routes : public testing::Test {
 protected:
  Routes() {
    input_.node_name = "a";
    input_.addresses = {.ip4 = ip("192.0.2.1"), .ip6 = ip("fd00:2::1")};
    input_.host_ifindex = 9;
    input_.uplinks = {2};
    state_.nodes["a"] = {.name = "a", .internal_ips = {ip("192.0.2.1")}, .pod_cidrs = {cidr("10.0.1.0/24")}};
  }
  std::vector<std::string> wanted() {
    unreachable_.clear();
    std::vector<std::string> texts;
    for (const auto& route : wanted_routes(input_, state_, two_uplinks(), unreachable_))
      texts.push_back(fmt::format("{} {} {} {}", route.dst.to_string(), route.ifindex,
                                  route.gateway ? route.gateway->to_string() : "-",
                                  route.src ? route.src->to_string() : "-"));
    return texts;
  }
  RouteInput input_;
  model::ClusterState state_;
  std::vector<std::string> unreachable_;
};

TEST_F(Routes, OwnPodsAndServicesLeadToTheHostDevice) {
  input_.pod_cidrs = {cidr("10.0.1.0/24")};
  input_.service_cidrs = {cidr("10.96.0.0/12"), cidr("fd00:10:96::/112")};
  EXPECT_THAT(wanted(), ElementsAre("10.0.1.0/24 9 - 192.0.2.1", "10.96.0.0/12 9 - 192.0.2.1",
                                    "fd00:10:96::/112 9 - fd00:2::1"));
}

TEST_F(Routes, PodOutsideTheRangesHasARouteOfItsOwn) {
  input_.pod_cidrs = {cidr("10.0.1.0/24")};
  input_.pod_ips = {ip("10.0.1.5"), ip("172.16.0.5")};
  EXPECT_THAT(wanted(), ElementsAre("10.0.1.0/24 9 - 192.0.2.1", "172.16.0.5/32 9 - 192.0.2.1"));
}

TEST_F(Routes, NeighbourNodeIsTheGatewayToItsPods) {
  state_.nodes["b"] = {.name = "b",
                       .internal_ips = {ip("192.0.2.2"), ip("fd00:2::2")},
                       .pod_cidrs = {cidr("10.0.2.0/24"), cidr("fd00:1:2::/64")}};
  EXPECT_THAT(wanted(),
              ElementsAre("10.0.2.0/24 2 192.0.2.2 192.0.2.1", "fd00:1:2::/64 2 fd00:2::2 fd00:2::1"));
  EXPECT_THAT(unreachable_, IsEmpty());
}

TEST_F(Routes, NodeOnNoSegmentOfOursIsLeftToTheNetwork) {
  state_.nodes["b"] = {.name = "b", .internal_ips = {ip("203.0.113.2")}, .pod_cidrs = {cidr("10.0.2.0/24")}};
  EXPECT_THAT(wanted(), IsEmpty());
  EXPECT_THAT(unreachable_, ElementsAre("b"));
}

TEST_F(Routes, ANodeWithoutAnAddressOfAFamilyThatItsPodsHaveIsNamed) {
  state_.nodes["b"] = {.name = "b",
                       .internal_ips = {ip("192.0.2.2")},
                       .pod_cidrs = {cidr("10.0.2.0/24"), cidr("fd00:1:2::/64")}};
  EXPECT_THAT(wanted(), ElementsAre("10.0.2.0/24 2 192.0.2.2 192.0.2.1"));
  EXPECT_THAT(unreachable_, ElementsAre("b"));
}

TEST_F(Routes, WithAnOverlayOtherNodesPodsLeadToTheHostDeviceWhereverTheNodeIs) {
  input_.overlay_mtu = 1450;
  state_.nodes["b"] = {.name = "b", .internal_ips = {ip("203.0.113.2")}, .pod_cidrs = {cidr("10.0.2.0/24")}};
  EXPECT_THAT(wanted(), ElementsAre("10.0.2.0/24 9 - 192.0.2.1"));
  EXPECT_THAT(unreachable_, IsEmpty());
  EXPECT_EQ(wanted_routes(input_, state_, two_uplinks(), unreachable_).front().mtu, 1450U);
}

TEST(NodeLinks, ANeighbourIsBehindTheDeviceWithTheLongestPrefix) {
  auto links = two_uplinks();
  links.addresses.push_back(
      {.ifindex = 3, .address = ip("192.0.2.129"), .prefix_length = 25, .scope = RT_SCOPE_UNIVERSE});
  EXPECT_EQ(links.segment(ip("192.0.2.200"), {2, 3}), 3);
  EXPECT_EQ(links.segment(ip("192.0.2.7"), {2, 3}), 2);
}

class TunnelEnds : public testing::Test {
 protected:
  TunnelEnds() {
    input_.node_name = "a";
    input_.addresses = {.ip4 = ip("192.0.2.1"), .ip6 = ip("fd00:2::1")};
    state_.nodes["a"] = {.name = "a", .internal_ips = {ip("192.0.2.1"), ip("fd00:2::1")}};
    state_.nodes["b"] = {.name = "b", .internal_ips = {ip("fd00:2::2"), ip("192.0.2.2")}};
  }
  Tunnels tunnels() { return tunnels_to(state_, {{"b", 7}}, input_); }
  std::string to_b() {
    const auto made = tunnels();
    if (!made.records.contains(7)) return "";
    const node& record = made.records.at(7);
    return fmt::format("{} > {} {}", maps::from_abi(record.source).to_string(),
                       maps::from_abi(record.addr).to_string(), record.mtu);
  }
  TunnelInput input_;
  model::ClusterState state_;
};

TEST_F(TunnelEnds, AreOfTheFamilyOfTheOwnNodesFirstAddress) {
  EXPECT_EQ(to_b(), "192.0.2.1 > 192.0.2.2 1450");
  EXPECT_EQ(tunnels().mtu, 1450U);
  std::ranges::reverse(state_.nodes["a"].internal_ips);
  EXPECT_EQ(to_b(), "fd00:2::1 > fd00:2::2 1430");
  EXPECT_EQ(tunnels().mtu, 1430U);
}

TEST_F(TunnelEnds, AreOfTheOtherFamilyWhereANodeHasNothingElse) {
  state_.nodes["b"].internal_ips = {ip("fd00:2::2")};
  EXPECT_EQ(to_b(), "fd00:2::1 > fd00:2::2 1430");
  EXPECT_EQ(tunnels().mtu, 1430U) << "a pod's packets must fit into every tunnel";
}

TEST_F(TunnelEnds, ANodeOfNoCommonFamilyIsTold) {
  input_.addresses.ip6 = std::nullopt;
  state_.nodes["b"].internal_ips = {ip("fd00:2::2")};
  EXPECT_EQ(to_b(), "");
  EXPECT_THAT(tunnels().unreachable, ElementsAre("b"));
  state_.nodes.erase("b");
  EXPECT_TRUE(tunnels().records.empty()) << "a node that is gone has no tunnel";
}

TEST(StateDirectory, SecondAgentIsRefusedByName) {
  const auto path = std::filesystem::temp_directory_path() / fmt::format("bpfnet-agent-test-{}", getpid());
  {
    auto first = StateDir::lock(path);
    ASSERT_TRUE(first);
    const auto second = StateDir::lock(path);
    ASSERT_FALSE(second);
    EXPECT_THAT(second.error().message,
                HasSubstr(fmt::format("another bpfnetd (pid {}) runs with it", getpid())));
    EXPECT_TRUE(first->remove());
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

class Loop : public testing::Test {
 protected:
  Loop() : loop_(EventLoop::make({SIGUSR1}, [this](int signal) { signals_.push_back(signal); }).value()) {}
  std::vector<int> signals_;
  std::unique_ptr<EventLoop> loop_;
};

TEST_F(Loop, CallRunsOnTheOwnersThreadAndGivesTheResult) {
  const auto owner = std::this_thread::get_id();
  std::thread other([&] {
    EXPECT_EQ(loop_->call([&] { return std::this_thread::get_id(); }), owner);
    loop_->post([&] { loop_->stop(); });
  });
  EXPECT_TRUE(loop_->run());
  other.join();
  EXPECT_EQ(loop_->call([] { return 7; }), 7);  // by the owner itself: at once
}

TEST_F(Loop, CallAfterTheEndIsToldSo) {
  loop_->post([&] { loop_->stop(); });
  EXPECT_TRUE(loop_->run());
  std::thread other([&] { EXPECT_EQ(loop_->call([] { return 7; }), std::nullopt); });
  other.join();
}

TEST_F(Loop, TimersFireInOrderAndANewTimeReplacesTheOld) {
  std::vector<int> fired;
  const auto now = EventLoop::Clock::now();
  loop_->set_timer(1, now + milliseconds(5), [&] { fired.push_back(1); });
  loop_->set_timer(2, now + milliseconds(1), [&] { fired.push_back(2); });
  loop_->set_timer(3, now + milliseconds(1), [&] { fired.push_back(3); });
  loop_->set_timer(3, std::nullopt, {});
  loop_->set_timer(1, now + milliseconds(10), [&] {
    fired.push_back(10);
    loop_->stop();
  });
  EXPECT_TRUE(loop_->run());
  EXPECT_THAT(fired, ElementsAre(2, 10));
}

TEST_F(Loop, SignalsAreReadByTheLoop) {
  loop_->set_timer(1, EventLoop::Clock::now() + milliseconds(1), [&] {
    kill(getpid(), SIGUSR1);
    loop_->set_timer(1, EventLoop::Clock::now() + milliseconds(5), [&] { loop_->stop(); });
  });
  EXPECT_TRUE(loop_->run());
  EXPECT_THAT(signals_, ElementsAre(SIGUSR1));
}

TEST(Worker, StopFinishesWhatRuns) {
  Worker worker;
  std::promise<void> started;
  std::promise<void> release;
  bool first = false;
  worker.post([&] {
    started.set_value();
    release.get_future().wait();
    first = true;
  });
  started.get_future().wait();
  std::thread stopper([&] { worker.stop(); });
  release.set_value();
  stopper.join();
  EXPECT_TRUE(first);
  worker.post([] { FAIL() << "posted after stop()"; });
}

TEST(BpfnetdHelp, IsWhatTheGoldenFileSays) {
  FILE* pipe = popen(BPFNETD_BINARY " --help", "r");
  std::string help;
  char buffer[4096];
  for (size_t got = 0; (got = fread(buffer, 1, sizeof(buffer), pipe)) > 0;) help.append(buffer, got);
  EXPECT_EQ(pclose(pipe), 0);
  const std::string path = BPFNET_GOLDEN_DIR "/bpfnetd-help.txt";
  if (std::getenv("BPFNET_UPDATE_GOLDEN")) std::ofstream(path) << help;
  std::ostringstream golden;
  golden << std::ifstream(path).rdbuf();
  EXPECT_EQ(help, golden.str()) << "run with BPFNET_UPDATE_GOLDEN=1 if the new help is right";
}

TEST(BpfnetdFlags, AMistakeInTheFileIsNamed) {
  const std::string file = testing::TempDir() + "bpfnetd-flags.conf";
  std::ofstream(file) << "log-level=\"info\"\nmax-flow=5\n";
  FILE* pipe = popen(fmt::format("{} --config {} --cleanup 2>&1", BPFNETD_BINARY, file).c_str(), "r");
  char line[512] = {};
  ASSERT_NE(fgets(line, sizeof(line), pipe), nullptr);
  EXPECT_THAT(line, HasSubstr("max-flow"));
  EXPECT_NE(pclose(pipe), 0);
  std::remove(file.c_str());
}

TEST(BpfnetdFlags, MistakesAreOneLine) {
  for (const char* flags : {"--xdp maybe", "--pod-cidr 10.0.0.0/99", "--max-flows 1"}) {
    FILE* pipe = popen(fmt::format("{} {} 2>&1", BPFNETD_BINARY, flags).c_str(), "r");
    char line[512] = {};
    ASSERT_NE(fgets(line, sizeof(line), pipe), nullptr);
    EXPECT_THAT(line, HasSubstr(std::string(flags).substr(0, std::string(flags).find(' '))));
    EXPECT_NE(pclose(pipe), 0);
  }
}

}  // namespace
}  // namespace bpfnet::agent
