// The agent's side of CNI over real namespaces and a real store: what is built, what is undone, what stays.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_addr.h>

#include <thread>

#include "loader/netlink.h"
#include "loader/sysctl.h"
#include "tests/support/addresses.h"
#include "tests/unit/cni_fixture.h"

namespace bpfnet::cni::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

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

}  // namespace
}  // namespace bpfnet::cni::test
