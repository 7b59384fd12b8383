#include "loader/netlink.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_addr.h>
#include <net/if.h>
#include <poll.h>

#include <cerrno>
#include <chrono>
#include <thread>

#include "loader/netns.h"
#include "loader/sysctl.h"

namespace bpfnet::loader {
namespace {

using ::testing::HasSubstr;

Address ip(const char* text) {
  return *Address::parse(text);
}
Cidr cidr(const char* text) {
  return *Cidr::parse(text);
}

/// Two nameless namespaces: they end with their descriptors, also when a test fails.
class NetlinkTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto node = new_netns();
    auto pod = new_netns();
    ASSERT_TRUE(node) << node.error().message;
    ASSERT_TRUE(pod);
    node_ns = std::move(*node);
    pod_ns = std::move(*pod);
    node_link.emplace(*Netlink::open(node_ns.get()));
    pod_link.emplace(*Netlink::open(pod_ns.get()));
  }
  Netlink& node() { return *node_link; }
  Netlink& pod() { return *pod_link; }

  /// bpn0 in the node, eth0 in the pod, both up; gives the ifindices.
  std::pair<int, int> make_pair_of_links() {
    auto host = node().create_veth({.name = "bpn0", .peer_name = "eth0", .peer_netns_fd = pod_ns.get()});
    EXPECT_TRUE(host) << host.error().message;
    auto peer = pod().link("eth0");
    EXPECT_TRUE(peer && *peer);
    EXPECT_TRUE(node().set_up(host->ifindex));
    EXPECT_TRUE(pod().set_up((*peer)->ifindex));
    return {host->ifindex, (*peer)->ifindex};
  }

  Fd node_ns;
  Fd pod_ns;
  std::optional<Netlink> node_link;
  std::optional<Netlink> pod_link;
};

// One device for tunnels to everywhere; a second one on its port is refused when it is set up.
TEST_F(NetlinkTest, VxlanDeviceForTunnelsToEverywhere) {
  const Mac mac{{0x02, 0x62, 0x70, 0x66, 0x6e, 0x01}};
  const auto made = node().create_vxlan({.name = "tunnels", .port = 4790, .mac = mac, .mtu = 1450});
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_EQ(made->kind, "vxlan");
  EXPECT_EQ(made->vxlan_port, 4790);
  EXPECT_TRUE(made->vxlan_external);
  EXPECT_EQ(made->mac, mac);
  EXPECT_EQ(made->mtu, 1450U);
  EXPECT_TRUE(node().set_up(made->ifindex));
  const auto again = node().create_vxlan({.name = "more", .port = 4790});
  // Kernels refuse it either at once or when it is set up.
  if (again) {
    EXPECT_EQ(node().set_up(again->ifindex).error().code, EADDRINUSE);
  } else {
    EXPECT_EQ(again.error().code, EEXIST);
  }
}

// A pod's first ARP request is answered by the host's side, which came up first.
TEST_F(NetlinkTest, ADeviceIsWaitedForUntilItPassesPackets) {
  auto host = node().create_veth({.name = "bpn0", .peer_name = "eth0", .peer_netns_fd = pod_ns.get()});
  ASSERT_TRUE(host);
  ASSERT_TRUE(node().set_up(host->ifindex));
  const Status alone = await_running(node_ns.get(), host->ifindex, std::chrono::milliseconds(20));
  ASSERT_FALSE(alone);
  EXPECT_THAT(alone.error().message, HasSubstr("interface bpn0: up, but without a carrier after 20 ms"));

  const int peer = (*pod().link("eth0"))->ifindex;
  std::thread later([&] { EXPECT_TRUE(pod().set_up(peer)); });
  EXPECT_TRUE(await_running(node_ns.get(), host->ifindex, std::chrono::seconds(10)));
  later.join();
  EXPECT_TRUE((*node().link(host->ifindex))->is_running());
  EXPECT_THAT(await_running(node_ns.get(), 999, std::chrono::seconds(1)).error().message, HasSubstr("gone"));
}

TEST_F(NetlinkTest, AVethIsBornWithItsPeerInTheOtherNetns) {
  const Mac host_mac = Mac::random();
  const Mac pod_mac = Mac::random();
  const auto host = node().create_veth({.name = "bpn0123456789ab",
                                        .peer_name = "eth0",
                                        .peer_netns_fd = pod_ns.get(),
                                        .mac = host_mac,
                                        .peer_mac = pod_mac,
                                        .mtu = 1400});
  ASSERT_TRUE(host) << host.error().message;
  EXPECT_EQ(host->name, "bpn0123456789ab");
  EXPECT_EQ(host->kind, "veth");
  EXPECT_EQ(host->mac, host_mac);
  EXPECT_EQ(host->mtu, 1400U);
  EXPECT_TRUE(host->peer_elsewhere);
  EXPECT_FALSE(host->is_up());
  const auto peer = pod().link("eth0");
  ASSERT_TRUE(peer && *peer);
  EXPECT_EQ((*peer)->mac, pod_mac);
  EXPECT_EQ((*peer)->mtu, 1400U);
  EXPECT_EQ((*peer)->ifindex, host->peer_ifindex);
}

TEST_F(NetlinkTest, AFailedCreationLeavesNothingAndNamesBoth) {
  make_pair_of_links();
  const auto again = node().create_veth({.name = "bpn1", .peer_name = "eth0", .peer_netns_fd = pod_ns.get()});
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, EEXIST);
  EXPECT_THAT(again.error().message, HasSubstr("link bpn1 with peer eth0: create: EEXIST"));
  EXPECT_FALSE(node().link("bpn1")->has_value());
  EXPECT_EQ(node().create_veth({.name = "name-that-is-too-long", .peer_name = "e"}).error().code, EINVAL);
}

TEST_F(NetlinkTest, LinksAreFoundChangedAndDeleted) {
  const auto [host, peer] = make_pair_of_links();
  EXPECT_TRUE((*node().link(host))->is_up());
  ASSERT_TRUE(node().set_noarp(host));
  ASSERT_TRUE(node().set_mtu(host, 1300));
  const Mac mac = Mac::random();
  ASSERT_TRUE(node().set_mac(host, mac));
  const Link changed = **node().link(host);
  EXPECT_TRUE((changed.flags & IFF_NOARP) != 0);
  EXPECT_EQ(changed.mtu, 1300U);
  EXPECT_EQ(changed.mac, mac);
  EXPECT_EQ(node().links()->size(), 2U);
  EXPECT_FALSE(node().link("nothing")->has_value());
  EXPECT_FALSE(node().link(4711)->has_value());
  EXPECT_TRUE(*node().delete_link("bpn0"));
  EXPECT_FALSE(*node().delete_link("bpn0"));
  EXPECT_FALSE(pod().link(peer)->has_value());
}

TEST_F(NetlinkTest, AddressesOfBothFamiliesAreUsableAtOnce) {
  const auto [host, peer] = make_pair_of_links();
  EXPECT_TRUE(*pod().add_address(peer, ip("10.1.0.2"), 32));
  EXPECT_TRUE(*pod().add_address(peer, ip("fd00::2"), 128));
  EXPECT_FALSE(*pod().add_address(peer, ip("fd00::2"), 128));
  int found = 0;
  const auto addresses = pod().addresses(peer);
  for (const InterfaceAddress& address : *addresses) {
    if (address.address.is_link_local()) continue;
    ++found;
    EXPECT_EQ(address.prefix_length, address.address.bits());
    EXPECT_EQ(address.flags & IFA_F_TENTATIVE, 0U);
  }
  EXPECT_EQ(found, 2);
  EXPECT_TRUE(*pod().delete_address(peer, ip("10.1.0.2"), 32));
  EXPECT_FALSE(*pod().delete_address(peer, ip("10.1.0.2"), 32));
  EXPECT_EQ(node().add_address(4711, ip("10.1.0.2"), 32).error().code, ENODEV);
}

TEST_F(NetlinkTest, ARuleChoosesTheTableOfASource) {
  const auto [host, peer] = make_pair_of_links();
  ASSERT_TRUE(pod().add_address(peer, ip("10.1.0.2"), 32));
  ASSERT_TRUE(pod().add_route({.dst = cidr("192.0.2.0/24"),
                               .gateway = ip("169.254.1.1"),
                               .ifindex = peer,
                               .onlink = true,
                               .table = 98002}));
  EXPECT_EQ(pod().route_to(ip("192.0.2.1")).error().code, ENETUNREACH) << "no rule, no table";
  for (const char* source : {"10.1.0.2", "fd00::2"}) {
    const SourceRule rule{.source = ip(source), .table = 98002, .priority = 9800};
    auto added = pod().add_rule(rule);
    ASSERT_TRUE(added) << added.error().message;
    EXPECT_TRUE(*added);
    EXPECT_FALSE(*pod().add_rule(rule)) << "the same rule again is no error";
  }
}

TEST_F(NetlinkTest, ThePodsDefaultRoutesGoByAnOnlinkGateway) {
  const auto [host, peer] = make_pair_of_links();
  ASSERT_TRUE(pod().add_address(peer, ip("10.1.0.2"), 32));
  ASSERT_TRUE(pod().add_address(peer, ip("fd00::2"), 128));
  const Route v4{.dst = cidr("0.0.0.0/0"), .gateway = ip("169.254.1.1"), .ifindex = peer, .onlink = true};
  const Route v6{.dst = cidr("::/0"), .gateway = ip("fe80::1"), .ifindex = peer};
  auto added = pod().add_route(v4);
  ASSERT_TRUE(added) << added.error().message;
  EXPECT_TRUE(*added);
  added = pod().add_route(v6);
  ASSERT_TRUE(added) << added.error().message;
  EXPECT_FALSE(*pod().add_route(v4)) << "the same route again is no error";
  const auto way = pod().route_to(ip("192.0.2.1"));
  ASSERT_TRUE(way) << way.error().message;
  EXPECT_EQ(way->gateway, ip("169.254.1.1"));
  EXPECT_EQ(way->src, ip("10.1.0.2"));
  EXPECT_EQ(pod().route_to(ip("2001:db8::1"))->gateway, ip("fe80::1"));
  const auto devices = pod().default_route_devices();
  ASSERT_EQ(devices->size(), 1U);
  EXPECT_EQ(devices->front().name, "eth0");
  EXPECT_TRUE(*pod().delete_route(v4));
  EXPECT_FALSE(*pod().delete_route(v4));
  EXPECT_EQ(pod().route_to(ip("192.0.2.1")).error().code, ENETUNREACH);
}

TEST_F(NetlinkTest, ReplacingARouteTellsWhatWasThere) {
  const auto [host, peer] = make_pair_of_links();
  ASSERT_TRUE(node().add_address(host, ip("192.0.2.1"), 24));
  ASSERT_TRUE(node().add_address(host, ip("2001:db8::1"), 64));
  for (const auto& [dst, first, second, src] :
       {std::tuple{"10.2.0.0/24", "192.0.2.2", "192.0.2.3", "192.0.2.1"},
        std::tuple{"fd00:2::/64", "2001:db8::2", "2001:db8::3", "2001:db8::1"}}) {
    Route route{.dst = cidr(dst), .gateway = ip(first), .ifindex = host, .src = ip(src)};
    const auto before = node().replace_route(route);
    ASSERT_TRUE(before) << before.error().message;
    EXPECT_FALSE(before->has_value());
    route.gateway = ip(second);
    EXPECT_EQ(node().add_route(route).error().code, EEXIST) << "another route is in the way";
    const auto replaced = node().replace_route(route);
    ASSERT_TRUE(replaced && *replaced);
    EXPECT_EQ((*replaced)->gateway, ip(first));
    EXPECT_EQ((*replaced)->src, ip(src));
    EXPECT_EQ((*replaced)->protocol, kRouteProtocol);
    int ours = 0;
    const auto routes = node().routes();
    for (const Route& known : *routes) ours += known.dst == cidr(dst) ? 1 : 0;
    EXPECT_EQ(ours, 1);
  }
}

TEST_F(NetlinkTest, OtherTablesAreKeptApart) {
  const auto [host, peer] = make_pair_of_links();
  ASSERT_TRUE(node().add_route({.dst = cidr("10.3.0.0/24"), .ifindex = host, .table = 1000}));
  const auto table = node().routes(1000);
  ASSERT_TRUE(table) << table.error().message;
  ASSERT_EQ(table->size(), 1U);
  EXPECT_EQ(table->front().table, 1000U);
  const auto routes = node().routes();
  for (const Route& route : *routes) EXPECT_NE(route.dst, cidr("10.3.0.0/24"));
  EXPECT_TRUE(node().routes(4242)->empty());
}

TEST_F(NetlinkTest, NeighboursArePermanent) {
  const auto [host, peer] = make_pair_of_links();
  const Mac mac = Mac::random();
  ASSERT_TRUE(pod().replace_neighbour({.ifindex = peer, .address = ip("169.254.1.1"), .mac = mac}));
  ASSERT_TRUE(pod().replace_neighbour({.ifindex = peer, .address = ip("fe80::1"), .mac = mac}));
  const auto neighbours = pod().neighbours(peer);
  ASSERT_TRUE(neighbours) << neighbours.error().message;
  int found = 0;
  for (const Neighbour& neighbour : *neighbours) found += neighbour.mac == mac ? 1 : 0;
  EXPECT_EQ(found, 2);
  EXPECT_TRUE(*pod().delete_neighbour(peer, ip("fe80::1")));
  EXPECT_FALSE(*pod().delete_neighbour(peer, ip("fe80::1")));
}

TEST_F(NetlinkTest, TheMonitorTellsOfLinksAddressesAndRoutes) {
  auto monitor = NetlinkMonitor::open(node_ns.get());
  ASSERT_TRUE(monitor) << monitor.error().message;
  EXPECT_TRUE(monitor->read()->empty());
  const auto [host, peer] = make_pair_of_links();
  ASSERT_TRUE(node().add_address(host, ip("192.0.2.1"), 24));
  ASSERT_TRUE(node().add_route({.dst = cidr("10.3.0.0/24"), .ifindex = host}));
  ASSERT_TRUE(node().delete_link(host));
  pollfd poller{.fd = monitor->fd(), .events = POLLIN, .revents = 0};
  ASSERT_EQ(poll(&poller, 1, 1000), 1);
  bool link_added = false;
  bool link_removed = false;
  bool address = false;
  bool route = false;
  const auto events = monitor->read();
  for (const NetlinkEvent& event : *events) {
    if (event.kind == NetlinkEvent::Kind::kLink && event.link.name == "bpn0")
      (event.removed ? link_removed : link_added) = true;
    address |= event.kind == NetlinkEvent::Kind::kAddress && event.address.address == ip("192.0.2.1");
    route |= event.kind == NetlinkEvent::Kind::kRoute && event.route.dst == cidr("10.3.0.0/24");
  }
  EXPECT_TRUE(link_added && link_removed && address && route);
}

TEST_F(NetlinkTest, SysctlsBelongToTheNetns) {
  const std::string key = "net/ipv4/conf/lo/accept_local";
  const auto change = in_netns(pod_ns.get(), [&] { return write_sysctl(key, "1"); });
  ASSERT_TRUE(change) << change.error().message;
  EXPECT_EQ(change->before, "0");
  EXPECT_TRUE(change->changed());
  EXPECT_EQ(*in_netns(pod_ns.get(), [&] { return read_sysctl(key); }), "1");
  EXPECT_EQ(*in_netns(node_ns.get(), [&] { return read_sysctl(key); }), "0");
  EXPECT_FALSE(in_netns(pod_ns.get(), [&] { return write_sysctl(key, "1"); })->changed());
  const auto missing = read_sysctl("net/ipv4/conf/nothing/rp_filter");
  EXPECT_THAT(missing.error().message, HasSubstr("sysctl net/ipv4/conf/nothing/rp_filter: open: ENOENT"));
}

TEST_F(NetlinkTest, APlainFileIsNoNetns) {
  EXPECT_EQ(open_netns("/proc/self/exe").error().code, EINVAL);
  EXPECT_EQ(open_netns("/run/netns/bn-loader-none").error().code, ENOENT);
  EXPECT_NE(*netns_id(node_ns.get()), *netns_id(pod_ns.get()));
}

}  // namespace
}  // namespace bpfnet::loader
