// The agent's side of CNI over real namespaces and a real store: what is built, what is undone, what stays.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_addr.h>
#include <sys/wait.h>

#include <csignal>
#include <thread>

#include "loader/netlink.h"
#include "loader/sysctl.h"
#include "tests/unit/cni_fixture.h"

namespace bpfnet::cni::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

Address ip(const char* text) {
  return Address::parse(text).value();
}

class EndpointTest : public NodeTest {};

// C10, C23
TEST_F(EndpointTest, AddGivesThePodAddressesRoutesAndTellsThem) {
  const Pod pod;
  const json result = added("c1", pod);

  EXPECT_EQ(result["interfaces"][0]["name"], host_ifname({"c1", "eth0"}));
  EXPECT_FALSE(result["interfaces"][0].contains("sandbox"));
  EXPECT_EQ(result["interfaces"][1]["name"], "eth0");
  EXPECT_EQ(result["interfaces"][1]["sandbox"], pod.path());
  EXPECT_EQ(result["ips"][0],
            json::parse(R"({"address":"10.7.0.1/32","gateway":"169.254.1.1","interface":1})"));
  EXPECT_EQ(result["ips"][1],
            json::parse(R"({"address":"fd00:7::1/128","gateway":"fe80::1","interface":1})"));
  EXPECT_FALSE(result.contains("dns"));

  auto netlink = loader::Netlink::open(pod.netns()).value();
  const auto link = netlink.link("eth0").value();
  ASSERT_TRUE(link);
  EXPECT_TRUE(link->is_up());
  EXPECT_EQ(result["interfaces"][1]["mac"], link->mac.to_string());
  EXPECT_EQ(netlink.route_to(ip("192.0.2.1"))->gateway, ip("169.254.1.1"));
  EXPECT_EQ(netlink.route_to(ip("2001:db8::1"))->gateway, ip("fe80::1"));
  const auto addresses = netlink.addresses(link->ifindex).value();
  for (const auto& address : addresses) {
    if (address.address.is_link_local()) continue;
    EXPECT_EQ(address.flags & IFA_F_TENTATIVE, 0U) << "tentative: " << address.address.to_string();
  }
  EXPECT_TRUE(loader::Netlink::open()->link(host_ifname({"c1", "eth0"})).value()->is_up());
}

TEST_F(EndpointTest, NoPacketPassesBeforeTheEndpointIsPublished) {
  const Pod pod;
  datapath_->on_step = [&](const AttachmentKey& key, AddStep step) {
    if (step != AddStep::kPublished) return;
    EXPECT_FALSE(loader::Netlink::open()->link(host_ifname(key)).value()->is_up());
    EXPECT_FALSE(loader::Netlink::open(pod.netns())->link("eth0").value()->is_up());
  };
  added("c1", pod);
}

// Podman and Docker switch IPv6 off in new namespaces.
TEST_F(EndpointTest, Ipv6WorksWhereTheRuntimeSwitchedItOff) {
  const Pod pod;
  ASSERT_TRUE(loader::in_netns(pod.netns(), []() -> Status {
    BPFNET_TRY(loader::write_sysctl("net/ipv6/conf/all/disable_ipv6", "1"));
    return ok();
  }));
  added("c1", pod);
  EXPECT_EQ(loader::Netlink::open(pod.netns())->route_to(ip("2001:db8::1"))->gateway, ip("fe80::1"));
}

TEST_F(EndpointTest, TakesMtuMacAndAddressesFromTheRequest) {
  const Pod pod;
  const json conf = json::parse(
      R"({"mtu":1400,"runtimeConfig":{"mac":"02:11:22:33:44:55","ips":["10.7.0.99/24","fd00:7::99"]}})");
  const json result = added("c1", pod, conf);
  EXPECT_EQ(result["interfaces"][1]["mac"], "02:11:22:33:44:55");
  EXPECT_EQ(result["interfaces"][1]["mtu"], 1400);
  EXPECT_EQ(result["ips"][0]["address"], "10.7.0.99/32");
  EXPECT_EQ(result["ips"][1]["address"], "fd00:7::99/128");
  EXPECT_EQ(loader::Netlink::open(pod.netns())->link("eth0").value()->mtu, 1400U);
}

// C9
TEST_F(EndpointTest, AnExistingInterfaceIsAnErrorAndStays) {
  const Pod pod;
  added("c1", pod);
  EXPECT_EQ(code_of(plugin("ADD", "c1", pod.path())), 100);
  EXPECT_EQ(code_of(plugin("ADD", "c2", pod.path())), 100);
  EXPECT_EQ(devices(pod.netns()), "eth0 ");
  EXPECT_EQ(store_->endpoints().value().size(), 1U);
  EXPECT_EQ(store_->leases().value().size(), 2U);
}

// C7
TEST_F(EndpointTest, NamesWhatIsWrongWithTheNetns) {
  EXPECT_EQ(code_of(plugin("ADD", "c1", "/run/netns/bn-cni-not-there")), 3);
  EXPECT_EQ(code_of(plugin("ADD", "c1", "/etc/hostname")), 4);
  EXPECT_EQ(code_of(plugin("ADD", "c1", "/proc/thread-self/ns/net")), 8);
  EXPECT_EQ(leftovers(), "");
}

// C9
TEST_F(EndpointTest, AFailedPublishLeavesNothing) {
  const Pod pod;
  datapath_->refuse_publish = true;
  const auto outcome = plugin("ADD", "c1", pod.path());
  EXPECT_EQ(code_of(outcome), 999);
  EXPECT_THAT(message_of(outcome), HasSubstr("E2BIG"));
  EXPECT_EQ(leftovers(), "");
  EXPECT_EQ(devices(pod.netns()), "");
  datapath_->refuse_publish = false;
  added("c1", pod);
}

TEST_F(EndpointTest, AnExhaustedPoolIsTryAgainForAddAndUnavailableForStatus) {
  allocator_->set_pools({Cidr::parse("10.7.0.0/30").value()});
  EXPECT_EQ(code_of(plugin("STATUS", "", "")), 0);
  const Pod a;
  const Pod b;
  const Pod c;
  added("a", a);
  added("b", b);
  const auto outcome = plugin("ADD", "c", c.path());
  EXPECT_EQ(code_of(outcome), 11);
  EXPECT_THAT(message_of(outcome), HasSubstr("10.7.0.0/30 is exhausted: 2 of 2"));
  EXPECT_EQ(devices(c.netns()), "");
  EXPECT_EQ(code_of(plugin("STATUS", "", "")), 50);
  EXPECT_EQ(code_of(plugin("DEL", "a", a.path())), 0);
  EXPECT_EQ(code_of(plugin("STATUS", "", "")), 0);
  added("c", c);
}

TEST_F(EndpointTest, AnAgentThatIsNotReadyRefusesAddAndStatusButNotDel) {
  const Pod pod;
  datapath_->not_ready = "first sync is under way";
  EXPECT_EQ(code_of(plugin("ADD", "c1", pod.path())), 11);
  EXPECT_EQ(code_of(plugin("STATUS", "", "")), 50);
  EXPECT_EQ(code_of(plugin("DEL", "c1", pod.path())), 0);
}

// C11
TEST_F(EndpointTest, DelTwiceTheSecondWithoutNetns) {
  const Pod pod;
  added("c1", pod);
  EXPECT_EQ(code_of(plugin("DEL", "c1", pod.path())), 0);
  EXPECT_EQ(leftovers(), "");
  EXPECT_EQ(devices(pod.netns()), "");
  EXPECT_EQ(code_of(plugin("DEL", "c1", "")), 0);
  EXPECT_EQ(code_of(plugin("DEL", "never-added", "")), 0);
}

TEST_F(EndpointTest, DelAfterTheNetnsIsGone) {
  std::optional<Pod> pod(std::in_place);
  added("c1", *pod);
  const std::string path = pod->path();
  pod.reset();
  EXPECT_EQ(code_of(plugin("DEL", "c1", path)), 0);
  EXPECT_EQ(leftovers(), "");
}

// C12
TEST_F(EndpointTest, ALateDelDoesNotTouchTheNextOwnerOfTheAddress) {
  const Pod a;
  const Pod b;
  const json conf = json::parse(R"({"runtimeConfig":{"ips":["10.7.0.50"]}})");
  added("a", a, conf);
  ASSERT_EQ(code_of(plugin("DEL", "a", a.path())), 0);
  const json result = added("b", b, conf);
  EXPECT_EQ(code_of(plugin("DEL", "a", a.path())), 0);
  EXPECT_EQ(code_of(plugin("CHECK", "b", b.path(), {{"prevResult", result}})), 0);
}

// C13, C25
TEST_F(EndpointTest, CheckPassesRightAfterAddAndFindsWhatIsGone) {
  const Pod pod;
  const json result = added("c1", pod);
  const json conf = {{"prevResult", result}};
  ASSERT_EQ(code_of(plugin("CHECK", "c1", pod.path(), conf)), 0);

  const LiveEndpoint endpoint = manager_->endpoints().value().front();
  ASSERT_TRUE(datapath_->withdraw(endpoint.record));
  EXPECT_THAT(message_of(plugin("CHECK", "c1", pod.path(), conf)), HasSubstr("map endpoints"));
  ASSERT_TRUE(datapath_->publish(endpoint));
  auto netlink = loader::Netlink::open(pod.netns()).value();
  ASSERT_TRUE(netlink.delete_address(netlink.link("eth0").value()->ifindex, ip("10.7.0.1"), 32));
  EXPECT_THAT(message_of(plugin("CHECK", "c1", pod.path(), conf)), HasSubstr("10.7.0.1/32 is gone"));
  EXPECT_EQ(code_of(plugin("CHECK", "c1", pod.path())), 7) << "no prevResult";
  ASSERT_EQ(code_of(plugin("DEL", "c1", pod.path())), 0);
  EXPECT_THAT(message_of(plugin("CHECK", "c1", pod.path(), conf)), HasSubstr("no such endpoint"));
}

TEST_F(EndpointTest, CheckFindsALostRoute) {
  const Pod pod;
  const json result = added("c1", pod);
  auto netlink = loader::Netlink::open(pod.netns()).value();
  const auto routes = netlink.routes().value();
  for (const auto& route : routes) {
    if (route.dst == Cidr::parse("0.0.0.0/0").value()) {
      ASSERT_TRUE(netlink.delete_route(route));
    }
  }
  EXPECT_THAT(message_of(plugin("CHECK", "c1", pod.path(), {{"prevResult", result}})),
              HasSubstr("0.0.0.0/0"));
}

// C14
TEST_F(EndpointTest, GcFreesAllButTheValidOnesOfItsNetwork) {
  const Pod a;
  const Pod b;
  const Pod c;
  added("a", a);
  added("b", b);
  added("c", c, {{"name", "other"}});
  const json conf = json::parse(R"({"cni.dev/valid-attachments":[{"containerID":"a","ifname":"eth0"}]})");
  const auto outcome = plugin("GC", "", "", conf);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_EQ(outcome.output, "");
  const auto left = store_->endpoints().value();
  ASSERT_EQ(left.size(), 2U);
  EXPECT_EQ(left[0].key.container_id, "a");
  EXPECT_EQ(left[1].key.container_id, "c");
  EXPECT_EQ(devices(b.netns()), "");
  EXPECT_EQ(code_of(plugin("GC", "", "")), 7) << "without a list nothing is freed";
}

// Podman gives a container's second network eth1: both have a default route, and neither is in the other's
// way.
TEST_F(EndpointTest, ASecondNetworkHasRoutesOfItsOwn) {
  const Pod pod;
  const Variables eth1 = {{"CNI_IFNAME", "eth1"}};
  const auto second = added("a", pod, {}, eth1);  // whichever comes first
  const auto first = added("a", pod);
  auto netlink = loader::Netlink::open(pod.netns()).value();
  const Address outside = Address::parse("198.51.100.1").value();
  const int eth0_index = netlink.link("eth0").value()->ifindex;
  EXPECT_EQ(netlink.route_to(outside)->ifindex, eth0_index);
  const json conf = {{"prevResult", second}};
  EXPECT_EQ(code_of(plugin("CHECK", "a", pod.path(), conf, eth1)), 0);
  EXPECT_EQ(code_of(plugin("CHECK", "a", pod.path(), {{"prevResult", first}})), 0);
  // What has the second network's address leaves by its interface.
  const int eth1_index = netlink.link("eth1").value()->ifindex;
  const auto routes = netlink.routes(98000 + static_cast<uint32_t>(eth1_index)).value();
  EXPECT_FALSE(routes.empty());
  for (const loader::Route& route : routes) EXPECT_EQ(route.ifindex, eth1_index);
  ASSERT_EQ(code_of(plugin("DEL", "a", pod.path(), {}, eth1)), 0);
  EXPECT_EQ(devices(pod.netns()), "eth0 ");
  added("a", pod, {}, eth1);  // and again
  ASSERT_EQ(code_of(plugin("DEL", "a", pod.path())), 0);
  ASSERT_EQ(code_of(plugin("DEL", "a", pod.path(), {}, eth1)), 0);
  EXPECT_EQ(leftovers(), "");
}

// C21
TEST_F(EndpointTest, AHostPortTakenNamesBothOwners) {
  const Pod a;
  const Pod b;
  const json conf =
      json::parse(R"({"runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80}]}})");
  added("a", a, conf, {{"CNI_ARGS", "K8S_POD_NAMESPACE=ns1;K8S_POD_NAME=first"}});
  const auto outcome =
      plugin("ADD", "b", b.path(), conf, {{"CNI_ARGS", "K8S_POD_NAMESPACE=ns1;K8S_POD_NAME=second"}});
  EXPECT_EQ(code_of(outcome), 101);
  EXPECT_THAT(message_of(outcome), HasSubstr("ns1/first"));
  EXPECT_THAT(message_of(outcome), HasSubstr("ns1/second"));
  EXPECT_EQ(devices(b.netns()), "");
  ASSERT_EQ(code_of(plugin("DEL", "a", a.path())), 0);
  added("b", b, conf);
}

TEST_F(EndpointTest, OverlappingPortRangesNameBothOwnersAndNothingIsMade) {
  const Pod a;
  const Pod b;
  const auto mapping = [](const char* text) {
    return json{{"runtimeConfig", {{"portMappings", {json::parse(text)}}}}};
  };
  const json range = mapping(R"({"hostPort":8000,"hostPortEnd":8099,"containerPort":8000})");
  added("a", a, range, {{"CNI_ARGS", "K8S_POD_NAMESPACE=ns1;K8S_POD_NAME=first"}});
  EXPECT_EQ(store_->endpoints().value()[0].host_ports[0].count, 100);
  const auto outcome =
      plugin("ADD", "b", b.path(), mapping(R"({"hostPort":8099,"containerPort":80,"hostIP":"192.0.2.1"})"),
             {{"CNI_ARGS", "K8S_POD_NAMESPACE=ns1;K8S_POD_NAME=second"}});
  EXPECT_EQ(code_of(outcome), 101);
  EXPECT_THAT(message_of(outcome), HasSubstr("8099 of pod ns1/second"));
  EXPECT_THAT(message_of(outcome), HasSubstr("taken by pod ns1/first"));
  EXPECT_THAT(message_of(outcome), HasSubstr("8000-8099"));
  EXPECT_EQ(devices(b.netns()), "");
  EXPECT_EQ(store_->endpoints().value().size(), 1U);
  added("b", b, mapping(R"({"hostPort":8100,"containerPort":80})"));
}

TEST_F(EndpointTest, APortThatAServiceHasIsRefusedInItsName) {
  const Pod a;
  const json conf =
      json::parse(R"({"runtimeConfig":{"portMappings":[{"hostPort":30080,"containerPort":80}]}})");
  datapath_->services_port = 30080;
  const auto outcome = plugin("ADD", "a", a.path(), conf);
  EXPECT_EQ(code_of(outcome), 101);
  EXPECT_THAT(message_of(outcome), HasSubstr("30080 of container a/eth0 is taken by Service default/web"));
  EXPECT_EQ(devices(a.netns()), "");
  EXPECT_EQ(leftovers(), "");
  datapath_->services_port = 0;
  added("a", a, conf);
}

TEST_F(EndpointTest, ARepeatedAddOfTheSameContainerMeetsItsOwnPortsOnly) {
  const Pod first;
  const json conf =
      json::parse(R"({"runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80}]}})");
  added("a", first, conf);
  ASSERT_EQ(code_of(plugin("DEL", "a", first.path())), 0);
  const Pod second;
  added("a", second, conf);
}

TEST_F(EndpointTest, HostPortsOfDifferentHostIpOrProtocolCoexist) {
  const char* mappings[] = {R"({"hostPort":54321,"containerPort":80,"hostIP":"127.0.0.1"})",
                            R"({"hostPort":54321,"containerPort":80,"hostIP":"192.0.2.1"})",
                            R"({"hostPort":54321,"containerPort":80,"hostIP":"192.0.2.1","protocol":"UDP"})"};
  std::vector<Pod> pods(3);
  for (size_t i = 0; i < pods.size(); ++i) {
    added(fmt::format("c{}", i), pods[i],
          {{"runtimeConfig", {{"portMappings", {json::parse(mappings[i])}}}}});
  }
  const Pod last;
  const json any =
      json::parse(R"({"runtimeConfig":{"portMappings":[{"hostPort":54321,"containerPort":80}]}})");
  EXPECT_EQ(code_of(plugin("ADD", "any", last.path(), any)), 101);
}

// C16
TEST_F(EndpointTest, FiftyAddsAtOnceThenFiftyDels) {
  constexpr size_t kPods = 50;
  std::vector<Pod> pods(kPods);
  std::vector<PluginOutcome> outcomes(kPods);
  const auto all_at_once = [&](const char* command) {
    std::vector<std::thread> threads;
    for (size_t i = 0; i < kPods; ++i) {
      threads.emplace_back([&, i] { outcomes[i] = plugin(command, fmt::format("c{}", i), pods[i].path()); });
    }
    for (std::thread& thread : threads) thread.join();
    for (const PluginOutcome& outcome : outcomes) EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  };
  all_at_once("ADD");
  EXPECT_EQ(store_->leases().value().size(), 2 * kPods);
  EXPECT_EQ(manager_->endpoints().value().size(), kPods);
  all_at_once("DEL");
  EXPECT_EQ(leftovers(), "");
}

TEST_F(EndpointTest, OneContainerManyTimesAtOnceIsMadeOnce) {
  const Pod pod;
  std::atomic<int> made = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] { made += plugin("ADD", "c1", pod.path()).exit_code == 0 ? 1 : 0; });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(made, 1);
  EXPECT_EQ(store_->leases().value().size(), 2U);
}

TEST_F(EndpointTest, ARestartKeepsWhatIsReady) {
  const Pod pod;
  const json result = added("c1", pod);
  restart_agent();
  const auto recovered = manager_->recover().value();
  ASSERT_EQ(recovered.size(), 1U);
  EXPECT_EQ(recovered[0].record.key.container_id, "c1");
  EXPECT_EQ(code_of(plugin("CHECK", "c1", pod.path(), {{"prevResult", result}})), 0);
}

TEST_F(EndpointTest, ARestartForgetsEndpointsWhoseDeviceIsGone) {
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

TEST_F(EndpointTest, AVanishedDeviceFreesItsEndpoint) {
  const Pod pod;
  added("c1", pod);
  const std::string device = host_ifname({"c1", "eth0"});
  EXPECT_FALSE(manager_->device_vanished(device).value()) << "it is still there";
  ASSERT_TRUE(loader::Netlink::open()->delete_link(device));
  EXPECT_TRUE(manager_->device_vanished(device).value());
  EXPECT_EQ(leftovers(), "");
}

// C11: the agent is down, the runtime deletes, the next agent finishes.
TEST_F(EndpointTest, ADelWithoutAgentIsFinishedByTheNextOne) {
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

TEST_F(EndpointTest, AnAddAfterADelWithoutAgentWinsOverThePendingDelete) {
  const Pod pod;
  added("c1", pod);
  stop_agent();
  ASSERT_EQ(code_of(plugin("DEL", "c1", pod.path())), 0);
  restart_agent();
  const json result = added("c1", pod);
  manager_->finish_pending_deletes();
  EXPECT_EQ(code_of(plugin("CHECK", "c1", pod.path(), {{"prevResult", result}})), 0);
}

// --- killed at every step ---

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
