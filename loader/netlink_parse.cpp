#include "loader/netlink_parse.h"

#include <arpa/inet.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/attr.h>
#include <netlink/msg.h>

#include <cstring>

namespace bpfnet::loader {
namespace {

template <int kMax>
struct Attributes {
  nlattr* table[kMax + 1] = {};

  bool parse(const nlmsghdr* header, size_t family_header) {
    return nlmsg_parse(const_cast<nlmsghdr*>(header), static_cast<int>(family_header), table, kMax,
                       nullptr) == 0;
  }
  bool has(int type) const { return table[type] != nullptr; }
  uint32_t u32(int type) const { return has(type) ? nla_get_u32(table[type]) : 0; }
  std::optional<Address> address(int type) const {
    if (!has(type)) return std::nullopt;
    const auto* bytes = static_cast<const uint8_t*>(nla_data(table[type]));
    if (nla_len(table[type]) == 4) return Address::from_ipv4({bytes[0], bytes[1], bytes[2], bytes[3]});
    if (nla_len(table[type]) != 16) return std::nullopt;
    std::array<uint8_t, 16> copy;
    std::memcpy(copy.data(), bytes, copy.size());
    return Address(copy);
  }
  Mac mac(int type) const {
    Mac result;
    if (has(type) && nla_len(table[type]) == 6) std::memcpy(result.bytes.data(), nla_data(table[type]), 6);
    return result;
  }
};

void parse_vxlan(nlattr* data, Link& link) {
  nlattr* nested[IFLA_VXLAN_MAX + 1] = {};
  if (nla_parse_nested(nested, IFLA_VXLAN_MAX, data, nullptr) != 0) return;
  if (nested[IFLA_VXLAN_PORT] != nullptr) link.vxlan_port = ntohs(nla_get_u16(nested[IFLA_VXLAN_PORT]));
  link.vxlan_external =
      nested[IFLA_VXLAN_COLLECT_METADATA] != nullptr && nla_get_u8(nested[IFLA_VXLAN_COLLECT_METADATA]) != 0;
}

Address any(uint8_t family) {
  return family == AF_INET ? Address::from_ipv4({0, 0, 0, 0}) : Address();
}

}  // namespace

std::optional<Link> parse_link(const nlmsghdr* header) {
  if (header->nlmsg_type != RTM_NEWLINK && header->nlmsg_type != RTM_DELLINK) return std::nullopt;
  Attributes<IFLA_MAX> attributes;
  if (!attributes.parse(header, sizeof(ifinfomsg))) return std::nullopt;
  const auto* info = static_cast<const ifinfomsg*>(nlmsg_data(header));
  if (info->ifi_family != AF_UNSPEC) return std::nullopt;  // bridge ports tell of themselves as AF_BRIDGE
  Link link{.ifindex = info->ifi_index, .flags = info->ifi_flags};
  if (attributes.has(IFLA_IFNAME)) link.name = nla_get_string(attributes.table[IFLA_IFNAME]);
  link.mac = attributes.mac(IFLA_ADDRESS);
  link.mtu = attributes.u32(IFLA_MTU);
  if (attributes.has(IFLA_OPERSTATE)) link.operstate = nla_get_u8(attributes.table[IFLA_OPERSTATE]);
  link.peer_ifindex = static_cast<int>(attributes.u32(IFLA_LINK));
  link.peer_elsewhere = attributes.has(IFLA_LINK_NETNSID);
  if (attributes.has(IFLA_LINKINFO)) {
    nlattr* nested[IFLA_INFO_MAX + 1] = {};
    if (nla_parse_nested(nested, IFLA_INFO_MAX, attributes.table[IFLA_LINKINFO], nullptr) == 0 &&
        nested[IFLA_INFO_KIND] != nullptr)
      link.kind = nla_get_string(nested[IFLA_INFO_KIND]);
    if (link.kind == "vxlan" && nested[IFLA_INFO_DATA] != nullptr) parse_vxlan(nested[IFLA_INFO_DATA], link);
  }
  return link;
}

std::optional<InterfaceAddress> parse_address(const nlmsghdr* header) {
  if (header->nlmsg_type != RTM_NEWADDR && header->nlmsg_type != RTM_DELADDR) return std::nullopt;
  Attributes<IFA_MAX> attributes;
  if (!attributes.parse(header, sizeof(ifaddrmsg))) return std::nullopt;
  const auto* info = static_cast<const ifaddrmsg*>(nlmsg_data(header));
  if (info->ifa_family != AF_INET && info->ifa_family != AF_INET6) return std::nullopt;
  // IFA_LOCAL is our side of a point-to-point pair; IPv6 usually has IFA_ADDRESS alone.
  auto address = attributes.address(IFA_LOCAL);
  if (!address) address = attributes.address(IFA_ADDRESS);
  if (!address) return std::nullopt;
  return InterfaceAddress{.ifindex = static_cast<int>(info->ifa_index),
                          .address = *address,
                          .prefix_length = info->ifa_prefixlen,
                          .scope = info->ifa_scope,
                          .flags = attributes.has(IFA_FLAGS) ? attributes.u32(IFA_FLAGS) : info->ifa_flags};
}

std::optional<Route> parse_route(const nlmsghdr* header) {
  if (header->nlmsg_type != RTM_NEWROUTE && header->nlmsg_type != RTM_DELROUTE) return std::nullopt;
  Attributes<RTA_MAX> attributes;
  if (!attributes.parse(header, sizeof(rtmsg))) return std::nullopt;
  const auto* info = static_cast<const rtmsg*>(nlmsg_data(header));
  if (info->rtm_family != AF_INET && info->rtm_family != AF_INET6) return std::nullopt;
  if ((info->rtm_flags & RTM_F_CLONED) != 0 && info->rtm_family == AF_INET6 && info->rtm_dst_len != 128)
    return std::nullopt;
  Route route;
  route.dst = Cidr(attributes.address(RTA_DST).value_or(any(info->rtm_family)), info->rtm_dst_len);
  route.gateway = attributes.address(RTA_GATEWAY);
  route.ifindex = static_cast<int>(attributes.u32(RTA_OIF));
  route.src = attributes.address(RTA_PREFSRC);
  route.onlink = (info->rtm_flags & RTNH_F_ONLINK) != 0;
  route.table = attributes.has(RTA_TABLE) ? attributes.u32(RTA_TABLE) : info->rtm_table;
  route.metric = attributes.u32(RTA_PRIORITY);
  route.protocol = info->rtm_protocol;
  route.type = info->rtm_type;
  if (attributes.has(RTA_METRICS)) {
    nlattr* metrics[RTAX_MAX + 1] = {};
    if (nla_parse_nested(metrics, RTAX_MAX, attributes.table[RTA_METRICS], nullptr) == 0 &&
        metrics[RTAX_MTU] != nullptr)
      route.mtu = nla_get_u32(metrics[RTAX_MTU]);
  }
  if (attributes.has(RTA_MULTIPATH) &&
      nla_len(attributes.table[RTA_MULTIPATH]) >= static_cast<int>(sizeof(rtnexthop))) {
    const auto* hop = static_cast<const rtnexthop*>(nla_data(attributes.table[RTA_MULTIPATH]));
    route.ifindex = hop->rtnh_ifindex;
    route.onlink = (hop->rtnh_flags & RTNH_F_ONLINK) != 0;
    Attributes<RTA_MAX> first;
    if (hop->rtnh_len > sizeof(*hop) &&
        nla_parse(first.table, RTA_MAX, reinterpret_cast<nlattr*>(const_cast<rtnexthop*>(hop) + 1),
                  static_cast<int>(hop->rtnh_len - sizeof(*hop)), nullptr) == 0)
      route.gateway = first.address(RTA_GATEWAY);
  }
  return route;
}

std::optional<Neighbour> parse_neighbour(const nlmsghdr* header) {
  if (header->nlmsg_type != RTM_NEWNEIGH) return std::nullopt;
  Attributes<NDA_MAX> attributes;
  if (!attributes.parse(header, sizeof(ndmsg))) return std::nullopt;
  const auto* info = static_cast<const ndmsg*>(nlmsg_data(header));
  const auto address = attributes.address(NDA_DST);
  if (!address || (info->ndm_family != AF_INET && info->ndm_family != AF_INET6)) return std::nullopt;
  return Neighbour{.ifindex = info->ndm_ifindex,
                   .address = *address,
                   .mac = attributes.mac(NDA_LLADDR),
                   .state = info->ndm_state};
}

}  // namespace bpfnet::loader
