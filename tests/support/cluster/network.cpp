#include <fmt/format.h>

#include "tests/support/cluster/cluster.h"

namespace bpfnet::e2e {
namespace {

Address address(const std::string& text) {
  return Address::parse(text).value();
}

}  // namespace

Host::Host(std::string netns_name, const Address& ip4, const Address& ip6)
    : netns_(std::move(netns_name)), ip4_(ip4), ip6_(ip6) {}

// RFC 5737 and RFC 3849 ranges: 192.0.2.0/24 and 2001:db8:1::/64 are the switch, 198.51.100.0/24 and
// 2001:db8:2::/64 the far network. RFC 2544: 198.18.0.0/15 has the segments of a routed cluster.
Network::Network(const std::string& prefix)
    : lan_(prefix + "lan"),
      router_(std::make_unique<Host>(prefix + "router", address("192.0.2.1"), address("2001:db8:1::1"))),
      client_(std::make_unique<Host>(prefix + "client", address("192.0.2.100"), address("2001:db8:1::100"))),
      other_client_(
          std::make_unique<Host>(prefix + "client2", address("192.0.2.101"), address("2001:db8:1::101"))),
      far_(std::make_unique<Host>(prefix + "far", address("198.51.100.10"), address("2001:db8:2::10"))) {
  lan_.ip("link add br0 type bridge forward_delay 0 mcast_snooping 0\nlink set br0 up");
  attach(*router_, "router");
  attach(*client_, "client");
  attach(*other_client_, "client2");

  Netns& router = router_->netns();
  Netns& far = far_->netns();
  router.ip(fmt::format("link add far type veth peer name eth0 netns {}", far.name()));
  router.ip(
      fmt::format("link set far mtu {} up\naddr add 198.51.100.1/24 dev far\n"
                  "addr add 2001:db8:2::1/64 dev far nodad",
                  kFarMtu));
  far.ip(
      fmt::format("link set eth0 mtu {} up\naddr add 198.51.100.10/24 dev eth0\n"
                  "addr add 2001:db8:2::10/64 dev eth0 nodad\nroute add default via 198.51.100.1\n"
                  "route add default via 2001:db8:2::1",
                  kFarMtu));
  router.sysctl("net/ipv4/ip_forward", "1");
  router.sysctl("net/ipv6/conf/all/forwarding", "1");
  // Tests provoke errors in bursts; the kernel's limits are for hostile networks.
  for (const auto* host : {router_.get(), client_.get(), other_client_.get(), far_.get()}) {
    host->netns().sysctl("net/ipv4/icmp_ratelimit", "0");
    host->netns().sysctl("net/ipv6/icmp/ratelimit", "0");
  }
}

void Network::attach(const Host& host, const std::string& name) {
  const Netns& netns = host.netns();
  lan_.ip(fmt::format("link add {} type veth peer name eth0 netns {}\nlink set {} master br0 up", name,
                      netns.name(), name));
  netns.ip(fmt::format("link set eth0 up\naddr add {}/24 dev eth0\naddr add {}/64 dev eth0 nodad",
                       host.ip(Family::kIpv4).to_string(), host.ip(Family::kIpv6).to_string()));
  if (&host == router_.get()) return;
  netns.ip("route add default via 192.0.2.1\nroute add default via 2001:db8:1::1");
}

void Network::attach_routed(const Host& host, const std::string& name, size_t number) {
  const Netns& netns = host.netns();
  const Address ip4 = address(fmt::format("198.18.{}.1", number));
  const Address ip6 = address(fmt::format("2001:db8:{}::1", number));
  router_->netns().ip(fmt::format(
      "link add {0} type veth peer name eth0 netns {1}\nlink set {0} up\naddr add {2}/24 dev {0}\n"
      "addr add {3}/64 dev {0} nodad",
      name, netns.name(), ip4.to_string(), ip6.to_string()));
  netns.ip(
      fmt::format("link set eth0 up\naddr add {}/24 dev eth0\naddr add {}/64 dev eth0 nodad\n"
                  "route add default via {}\nroute add default via {}",
                  host.ip(Family::kIpv4).to_string(), host.ip(Family::kIpv6).to_string(), ip4.to_string(),
                  ip6.to_string()));
}

void Network::route(const std::string& prefix, const Host& host, Family family) {
  router_->netns().ip(fmt::format("route add {} via {}", prefix, host.ip(family).to_string()));
}

void Network::keep() {
  lan_.keep();
  for (auto* host : {router_.get(), client_.get(), other_client_.get(), far_.get()}) host->netns().keep();
}

}  // namespace bpfnet::e2e
