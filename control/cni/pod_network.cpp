#include "control/cni/pod_network.h"

#include <linux/if_addr.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "loader/netlink.h"
#include "loader/netns.h"
#include "loader/sysctl.h"

namespace bpfnet::cni {
namespace {

using loader::Netlink;

constexpr int kLoopbackIfindex = 1;
/// Above what the kernel gives IPv6 routes that say none.
constexpr uint32_t kFurtherMetric = 1024;
/// Routing tables in the container: this and the interface's index.
constexpr uint32_t kFirstTable = 98000;
constexpr uint32_t kRulePriority = 9800;
/// The kernel's link watch has thousands of devices to look at after a boot, at worst.
constexpr std::chrono::seconds kCarrierTimeout{5};

bool has_family(const ipam::EndpointRecord& record, Family family) {
  return std::any_of(record.ips.begin(), record.ips.end(),
                     [family](const Address& ip) { return ip.family() == family; });
}

std::string ipv6_key(const std::string& device, const char* key) {
  return fmt::format("net/ipv6/conf/{}/{}", device, key);
}

// A kernel without IPv6 has none of these keys; pods with IPv6 addresses fail later, by name.
Status set_ipv6_key(const std::string& device, const char* key, const char* value) {
  auto change = loader::write_sysctl(ipv6_key(device, key), value);
  if (!change && change.error().code != ENOENT) return pass(change);
  return ok();
}

// Runtimes switch IPv6 off where they see none. No duplicate detection: the lease is the proof, and a
// tentative address would lose the pod's first packets.
Status switch_on_ipv6(const std::string& device) {
  BPFNET_TRY(set_ipv6_key(device, "disable_ipv6", "0"));
  BPFNET_TRY(set_ipv6_key(device, "accept_dad", "0"));
  return set_ipv6_key(device, "accept_ra", "0");
}

loader::Route kernel_route(const ResultRoute& route, int ifindex) {
  loader::Route out;
  out.dst = route.dst;
  out.gateway = route.gateway;
  out.ifindex = ifindex;
  out.onlink = true;
  out.mtu = route.mtu;
  out.metric = route.priority;
  return out;
}

/// `eth1` -> 1; 0 for eth0 and names without a number.
uint32_t interface_number(const std::string& ifname) {
  const size_t digits = ifname.find_last_not_of("0123456789") + 1;
  return digits == ifname.size() ? 0 : static_cast<uint32_t>(std::stoul(ifname.substr(digits, 4)));
}

/// A container's further networks: new connections go out by its first, but what has an address of this one
/// must leave by this one, whose datapath alone knows it.
Status route_by_source(Netlink& netlink, int ifindex, const ipam::EndpointRecord& record,
                       const std::vector<ResultRoute>& routes) {
  const uint32_t table = kFirstTable + static_cast<uint32_t>(ifindex);
  for (const ResultRoute& route : routes) {
    loader::Route own = kernel_route(route, ifindex);
    own.table = table;
    BPFNET_TRY(netlink.add_route(own));
  }
  for (const Address& ip : record.ips)
    BPFNET_TRY(netlink.add_rule({.source = ip, .table = table, .priority = kRulePriority}));
  return ok();
}

Status configure_pod_side(Netlink& netlink, int pod_netns, const ipam::EndpointRecord& record,
                          const std::vector<ResultRoute>& routes) {
  auto link = netlink.link(record.key.ifname);
  if (!link) return pass(link);
  if (!*link) return fail("link {}: gone while it was configured", record.key.ifname);
  const int ifindex = (*link)->ifindex;
  if (has_family(record, Family::kIpv6)) {
    auto switched = loader::in_netns(pod_netns, [&] { return switch_on_ipv6(record.key.ifname); });
    if (!switched) return pass(switched);
  }
  // A pod that speaks to its own address does so over lo.
  BPFNET_TRY(netlink.set_up(kLoopbackIfindex));
  BPFNET_TRY(netlink.set_up(ifindex));
  for (const Address& ip : record.ips) BPFNET_TRY(netlink.add_address(ifindex, ip, ip.bits()));
  for (const ResultRoute& route : routes) BPFNET_TRY(netlink.add_route(kernel_route(route, ifindex)));
  if (interface_number(record.key.ifname) != 0) return route_by_source(netlink, ifindex, record, routes);
  return ok();
}

Status check_addresses(Netlink& netlink, int ifindex, int interface, const AddResult& prev_result,
                       const std::string& ifname) {
  auto found = netlink.addresses(ifindex);
  if (!found) return pass(found);
  for (const ResultIp& ip : prev_result.ips) {
    if (ip.interface && *ip.interface != interface) continue;
    const bool there = std::any_of(found->begin(), found->end(), [&ip](const loader::InterfaceAddress& each) {
      return each.address == ip.address && each.prefix_length == ip.prefix_length;
    });
    if (!there)
      return fail("address {}/{} is gone from {}", ip.address.to_string(), ip.prefix_length, ifname);
  }
  return ok();
}

// Only the routes that are ours: a later plugin may have added or replaced its own.
Status check_routes(Netlink& netlink, int ifindex, const AddResult& prev_result) {
  auto found = netlink.routes();
  if (!found) return pass(found);
  for (const ResultRoute& route : prev_result.routes) {
    if (!route.gateway || *route.gateway != gateway(route.dst.family())) continue;
    const bool there = std::any_of(found->begin(), found->end(), [&](const loader::Route& each) {
      return each.dst == route.dst && each.gateway == route.gateway && each.ifindex == ifindex;
    });
    if (!there) return fail("route {} via {} is gone", route.dst.to_string(), route.gateway->to_string());
  }
  return ok();
}

}  // namespace

Address gateway(Family family) {
  static const Address ipv4 = Address::from_ipv4({169, 254, 1, 1});
  static const Address ipv6 = Address::parse("fe80::1").value();
  return family == Family::kIpv4 ? ipv4 : ipv6;
}

std::vector<ResultRoute> pod_routes(const ipam::EndpointRecord& record, const std::vector<Cidr>& extra) {
  std::vector<ResultRoute> routes;
  // A container has one default route for each of its networks; eth0's is the one that is used.
  const uint32_t number = interface_number(record.key.ifname);
  const uint32_t metric = number == 0 ? 0 : kFurtherMetric + number;
  const auto add = [&routes, metric](const Cidr& dst) {
    const bool known =
        std::any_of(routes.begin(), routes.end(), [&dst](const auto& each) { return each.dst == dst; });
    if (!known) routes.push_back({.dst = dst, .gateway = gateway(dst.family()), .priority = metric});
  };
  if (has_family(record, Family::kIpv4)) add(Cidr::parse("0.0.0.0/0").value());
  if (has_family(record, Family::kIpv6)) add(Cidr::parse("::/0").value());
  for (const Cidr& dst : extra) {
    if (has_family(record, dst.family())) add(dst);
  }
  return routes;
}

CniResult<void> refuse_existing(int pod_netns, const std::string& ifname) {
  auto netlink = Netlink::open(pod_netns);
  if (!netlink) return refuse(ErrorCode::kOther, "{}", netlink.error().message);
  auto link = netlink->link(ifname);
  if (!link) return refuse(ErrorCode::kOther, "{}", link.error().message);
  if (*link)
    return refuse(ErrorCode::kInterfaceExists, "interface {} exists already in the container", ifname);
  return {};
}

Result<int> create_pair(int host_netns, int pod_netns, const ipam::EndpointRecord& record) {
  auto netlink = Netlink::open(host_netns);
  if (!netlink) return pass(netlink);
  loader::VethSpec spec;
  spec.name = record.host_ifname;
  spec.peer_name = record.key.ifname;
  spec.peer_netns_fd = pod_netns;
  spec.mac = record.host_mac;
  spec.peer_mac = record.mac;
  spec.mtu = record.mtu;
  auto link = netlink->create_veth(spec);
  if (!link) return pass(link);
  return link->ifindex;
}

Status configure_pair(int host_netns, int pod_netns, int host_ifindex, const ipam::EndpointRecord& record,
                      const std::vector<ResultRoute>& routes) {
  auto host = Netlink::open(host_netns);
  if (!host) return pass(host);
  // The host side has no addresses; without this it would speak MLD and router solicitations to the pod.
  BPFNET_TRY(
      loader::in_netns(host_netns, [&] { return set_ipv6_key(record.host_ifname, "disable_ipv6", "1"); }));
  BPFNET_TRY(host->set_up(host_ifindex));
  auto pod = Netlink::open(pod_netns);
  if (!pod) return pass(pod);
  BPFNET_TRY(configure_pod_side(*pod, pod_netns, record, routes));
  // It came up before its peer; the answer to the pod's first ARP request goes out by it.
  return loader::await_running(host_netns, host_ifindex, kCarrierTimeout);
}

Status check_pod(int pod_netns, const ipam::EndpointRecord& record, const std::string& sandbox,
                 const AddResult& prev_result) {
  const std::string& ifname = record.key.ifname;
  const auto& interfaces = prev_result.interfaces;
  const auto ours = std::find_if(interfaces.begin(), interfaces.end(), [&](const ResultInterface& each) {
    return each.name == ifname && each.sandbox == sandbox;
  });
  if (ours == interfaces.end()) return fail("prevResult has no interface {} in {}", ifname, sandbox);

  auto netlink = Netlink::open(pod_netns);
  if (!netlink) return pass(netlink);
  auto link = netlink->link(ifname);
  if (!link) return pass(link);
  if (!*link) return fail("interface {} is gone", ifname);
  if (!(*link)->is_up()) return fail("interface {} is down", ifname);
  if (const auto mac = Mac::parse(ours->mac); mac && *mac != (*link)->mac) {
    return fail("interface {} has MAC {}, prevResult says {}", ifname, (*link)->mac.to_string(), ours->mac);
  }
  const int index = static_cast<int>(ours - interfaces.begin());
  BPFNET_TRY(check_addresses(*netlink, (*link)->ifindex, index, prev_result, ifname));
  return check_routes(*netlink, (*link)->ifindex, prev_result);
}

}  // namespace bpfnet::cni
