#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>

#include <algorithm>
#include <cerrno>

#include "loader/netlink.h"
#include "loader/netlink_parse.h"
#include "loader/netlink_socket.h"

namespace bpfnet::loader {
namespace {

uint8_t family_of(const Address& address) {
  return address.is_ipv4() ? AF_INET : AF_INET6;
}

void put_address(nl_msg* message, int type, const Address& address) {
  if (address.is_ipv4()) {
    const auto octets = address.ipv4();
    nla_put(message, type, static_cast<int>(octets.size()), octets.data());
  } else {
    nla_put(message, type, static_cast<int>(address.bytes().size()), address.bytes().data());
  }
}

Message address_request(int type, int flags, int ifindex, const Address& address, int prefix_length,
                        bool nodad) {
  ifaddrmsg info{};
  info.ifa_family = family_of(address);
  info.ifa_prefixlen = static_cast<uint8_t>(prefix_length);
  info.ifa_index = static_cast<uint32_t>(ifindex);
  info.ifa_scope = address.is_link_local() ? RT_SCOPE_LINK
                   : address.is_loopback() ? RT_SCOPE_HOST
                                           : RT_SCOPE_UNIVERSE;
  if (nodad && address.is_ipv6()) info.ifa_flags = IFA_F_NODAD;
  auto message = make_message(type, flags, info);
  put_address(message.get(), IFA_LOCAL, address);
  put_address(message.get(), IFA_ADDRESS, address);
  return message;
}

Message route_request(int type, int flags, const Route& route) {
  rtmsg info{};
  info.rtm_family = family_of(route.dst.address());
  info.rtm_dst_len = static_cast<uint8_t>(route.dst.length());
  info.rtm_table = static_cast<uint8_t>(route.table < 256 ? route.table : RT_TABLE_UNSPEC);
  info.rtm_protocol = route.protocol;
  info.rtm_type = route.type;
  // A deletion by RT_SCOPE_NOWHERE matches any scope.
  info.rtm_scope = type == RTM_DELROUTE ? RT_SCOPE_NOWHERE
                   : route.gateway      ? RT_SCOPE_UNIVERSE
                                        : RT_SCOPE_LINK;
  if (info.rtm_family == AF_INET6 || (route.type != RTN_UNICAST && type != RTM_DELROUTE))
    info.rtm_scope = RT_SCOPE_UNIVERSE;
  if (route.onlink) info.rtm_flags |= RTNH_F_ONLINK;
  auto message = make_message(type, flags, info);
  nl_msg* m = message.get();
  if (route.dst.length() > 0) put_address(m, RTA_DST, route.dst.address());
  if (route.gateway) put_address(m, RTA_GATEWAY, *route.gateway);
  if (route.ifindex != 0) nla_put_u32(m, RTA_OIF, static_cast<uint32_t>(route.ifindex));
  if (route.src) put_address(m, RTA_PREFSRC, *route.src);
  if (route.metric != 0) nla_put_u32(m, RTA_PRIORITY, route.metric);
  nla_put_u32(m, RTA_TABLE, route.table);
  if (route.mtu != 0) {
    nlattr* metrics = nla_nest_start(m, RTA_METRICS);
    nla_put_u32(m, RTAX_MTU, route.mtu);
    nla_nest_end(m, metrics);
  }
  return message;
}

/// IPv6 routes without a metric get 1024.
uint32_t effective_metric(const Route& route) {
  return route.metric == 0 && route.dst.address().is_ipv6() ? 1024 : route.metric;
}

bool same_route(const Route& a, const Route& b) {
  return a.gateway == b.gateway && a.ifindex == b.ifindex && a.mtu == b.mtu && a.src == b.src &&
         a.type == b.type;
}

}  // namespace

std::string Route::to_string() const {
  std::string text = dst.to_string();
  if (gateway) text += " via " + gateway->to_string();
  if (ifindex != 0) text += fmt::format(" dev {}", ifindex);
  if (src) text += " src " + src->to_string();
  if (table != RT_TABLE_MAIN) text += fmt::format(" table {}", table);
  if (metric != 0) text += fmt::format(" metric {}", metric);
  return text;
}

Result<std::vector<InterfaceAddress>> Netlink::addresses() {
  return addresses(0);
}

Result<std::vector<InterfaceAddress>> Netlink::addresses(int ifindex) {
  for (;;) {
    std::vector<InterfaceAddress> result;
    ifaddrmsg info{};
    info.ifa_index = static_cast<uint32_t>(ifindex);
    const auto status = socket_->request(make_message(RTM_GETADDR, NLM_F_DUMP, info), "addresses: list",
                                         [&](const nlmsghdr* header) {
                                           auto address = parse_address(header);
                                           if (address && (ifindex == 0 || address->ifindex == ifindex))
                                             result.push_back(*address);
                                         });
    if (status) return result;
    if (status.error().code == ENODEV) return std::vector<InterfaceAddress>{};
    if (status.error().code != EAGAIN) return pass(status);
  }
}

Result<bool> Netlink::add_address(int ifindex, const Address& address, int prefix_length, bool nodad) {
  const auto status = socket_->request(
      address_request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, ifindex, address, prefix_length, nodad),
      fmt::format("address {}/{} on link {}: add", address.to_string(), prefix_length, ifindex));
  if (status) return true;
  if (status.error().code == EEXIST) return false;
  return pass(status);
}

Result<bool> Netlink::delete_address(int ifindex, const Address& address, int prefix_length) {
  const auto status = socket_->request(
      address_request(RTM_DELADDR, 0, ifindex, address, prefix_length, false),
      fmt::format("address {}/{} on link {}: delete", address.to_string(), prefix_length, ifindex));
  if (status) return true;
  if (status.error().code == EADDRNOTAVAIL || status.error().code == ENODEV) return false;
  return pass(status);
}

Result<std::vector<Route>> Netlink::routes(uint32_t table) {
  std::vector<Route> result;
  for (const uint8_t family : {AF_INET, AF_INET6}) {
    for (;;) {
      std::vector<Route> found;
      rtmsg info{};
      info.rtm_family = family;
      auto message = make_message(RTM_GETROUTE, NLM_F_DUMP, info);
      if (table != 0) nla_put_u32(message.get(), RTA_TABLE, table);
      const auto status = socket_->request(std::move(message), "routes: list", [&](const nlmsghdr* header) {
        auto route = parse_route(header);
        if (route && route->table != RT_TABLE_LOCAL && (table == 0 || route->table == table))
          found.push_back(*route);
      });
      // ENOENT: that table has never held a route of this family.
      if (!status && status.error().code == EAGAIN) continue;
      if (!status && status.error().code != ENOENT) return pass(status);
      result.insert(result.end(), found.begin(), found.end());
      break;
    }
  }
  return result;
}

Result<bool> Netlink::add_route(const Route& route) {
  const auto status = socket_->request(route_request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, route),
                                       fmt::format("route {}: add", route.to_string()));
  if (status) return true;
  if (status.error().code != EEXIST) return pass(status);
  auto existing = routes(route.table);
  if (!existing) return pass(existing);
  for (const Route& other : *existing) {
    if (other.dst == route.dst && effective_metric(other) == effective_metric(route) &&
        same_route(other, route))
      return false;
  }
  return pass(status);
}

Result<std::optional<Route>> Netlink::replace_route(const Route& route) {
  auto existing = routes(route.table);
  if (!existing) return pass(existing);
  std::optional<Route> before;
  for (const Route& other : *existing) {
    if (other.dst == route.dst && effective_metric(other) == effective_metric(route)) {
      before = other;
      break;
    }
  }
  BPFNET_TRY(socket_->request(route_request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, route),
                              fmt::format("route {}: replace", route.to_string())));
  return before;
}

Result<bool> Netlink::delete_route(const Route& route) {
  const auto status = socket_->request(route_request(RTM_DELROUTE, 0, route),
                                       fmt::format("route {}: delete", route.to_string()));
  if (status) return true;
  // ENODEV: the device is gone, and its routes with it.
  if (status.error().code == ESRCH || status.error().code == ENODEV || status.error().code == ENOENT)
    return false;
  return pass(status);
}

Result<bool> Netlink::add_rule(const SourceRule& rule) {
  fib_rule_hdr info{};
  info.family = family_of(rule.source);
  info.src_len = static_cast<uint8_t>(rule.source.bits());
  info.action = FR_ACT_TO_TBL;
  auto message = make_message(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, info);
  put_address(message.get(), FRA_SRC, rule.source);
  nla_put_u32(message.get(), FRA_TABLE, rule.table);
  nla_put_u32(message.get(), FRA_PRIORITY, rule.priority);
  nla_put_u8(message.get(), FRA_PROTOCOL, kRouteProtocol);
  const auto status = socket_->request(
      std::move(message), fmt::format("rule from {} table {}: add", rule.source.to_string(), rule.table));
  if (status) return true;
  if (status.error().code == EEXIST) return false;
  return pass(status);
}

Result<Route> Netlink::route_to(const Address& destination) {
  rtmsg info{};
  info.rtm_family = family_of(destination);
  info.rtm_dst_len = static_cast<uint8_t>(destination.bits());
  auto message = make_message(RTM_GETROUTE, 0, info);
  put_address(message.get(), RTA_DST, destination);
  std::optional<Route> result;
  BPFNET_TRY(socket_->request(std::move(message),
                              fmt::format("route to {}: look up", destination.to_string()),
                              [&](const nlmsghdr* header) { result = parse_route(header); }));
  if (!result) return fail_errno(ENETUNREACH, "route to {}: look up", destination.to_string());
  return *result;
}

Result<std::vector<Link>> Netlink::default_route_devices() {
  auto all = routes(RT_TABLE_MAIN);
  if (!all) return pass(all);
  std::erase_if(*all, [](const Route& route) {
    return route.dst.length() != 0 || route.type != RTN_UNICAST || route.ifindex == 0;
  });
  // A stable order: IPv4 metrics start at 0 and IPv6 ones at 1024, so each family's best comes by its own.
  std::stable_sort(all->begin(), all->end(),
                   [](const Route& a, const Route& b) { return a.metric < b.metric; });
  std::vector<Link> result;
  for (const Route& route : *all) {
    if (std::any_of(result.begin(), result.end(),
                    [&](const Link& link) { return link.ifindex == route.ifindex; }))
      continue;
    auto device = link(route.ifindex);
    if (!device) return pass(device);
    if (*device && !(*device)->is_loopback()) result.push_back(std::move(**device));
  }
  return result;
}

Result<std::vector<Neighbour>> Netlink::neighbours(int ifindex) {
  for (;;) {
    std::vector<Neighbour> result;
    const ndmsg info{};
    auto message = make_message(RTM_GETNEIGH, NLM_F_DUMP, info);
    nla_put_u32(message.get(), NDA_IFINDEX, static_cast<uint32_t>(ifindex));
    const auto status = socket_->request(
        std::move(message), fmt::format("neighbours of link {}: list", ifindex), [&](const nlmsghdr* header) {
          auto neighbour = parse_neighbour(header);
          if (neighbour && neighbour->ifindex == ifindex) result.push_back(*neighbour);
        });
    if (status) return result;
    if (status.error().code != EAGAIN) return pass(status);
  }
}

Status Netlink::replace_neighbour(const Neighbour& neighbour) {
  ndmsg info{};
  info.ndm_family = family_of(neighbour.address);
  info.ndm_ifindex = neighbour.ifindex;
  info.ndm_state = neighbour.state;
  auto message = make_message(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, info);
  put_address(message.get(), NDA_DST, neighbour.address);
  nla_put(message.get(), NDA_LLADDR, static_cast<int>(neighbour.mac.bytes.size()),
          neighbour.mac.bytes.data());
  return socket_->request(std::move(message),
                          fmt::format("neighbour {} {} on link {}: replace", neighbour.address.to_string(),
                                      neighbour.mac.to_string(), neighbour.ifindex));
}

Result<bool> Netlink::delete_neighbour(int ifindex, const Address& address) {
  ndmsg info{};
  info.ndm_family = family_of(address);
  info.ndm_ifindex = ifindex;
  auto message = make_message(RTM_DELNEIGH, 0, info);
  put_address(message.get(), NDA_DST, address);
  const auto status = socket_->request(
      std::move(message), fmt::format("neighbour {} on link {}: delete", address.to_string(), ifindex));
  if (status) return true;
  if (status.error().code == ENOENT || status.error().code == ENODEV || status.error().code == ENXIO)
    return false;
  return pass(status);
}

}  // namespace bpfnet::loader
