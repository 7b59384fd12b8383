#include <arpa/inet.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <netlink/attr.h>

#include <cerrno>

#include "loader/netlink.h"
#include "loader/netlink_parse.h"
#include "loader/netlink_socket.h"
#include "loader/netns.h"

namespace bpfnet::loader {
namespace {

Message link_request(int type, int flags, int ifindex) {
  ifinfomsg info{};
  info.ifi_family = AF_UNSPEC;
  info.ifi_index = ifindex;
  return make_message(type, flags, info);
}

/// Changes `mask` of the device's IFF_* flags to `flags`.
Message flags_request(int ifindex, unsigned flags, unsigned mask) {
  ifinfomsg info{};
  info.ifi_family = AF_UNSPEC;
  info.ifi_index = ifindex;
  info.ifi_flags = flags;
  info.ifi_change = mask;
  return make_message(RTM_NEWLINK, 0, info);
}

Status check_name(const std::string& name) {
  if (name.empty() || name.size() >= IFNAMSIZ)
    return fail_errno(EINVAL, "link `{}`: a name has 1 to {} characters", name, IFNAMSIZ - 1);
  return ok();
}

void put_mac(nl_msg* message, const Mac& mac) {
  if (!mac.is_zero()) nla_put(message, IFLA_ADDRESS, static_cast<int>(mac.bytes.size()), mac.bytes.data());
}

void put_link(nl_msg* message, const std::string& name, const Mac& mac, uint32_t mtu) {
  nla_put_string(message, IFLA_IFNAME, name.c_str());
  put_mac(message, mac);
  if (mtu != 0) nla_put_u32(message, IFLA_MTU, mtu);
}

}  // namespace

bool Link::is_running() const {
  constexpr uint8_t kOperUp = 6;  // IF_OPER_UP of linux/if.h, which does not go with net/if.h
  return is_up() && operstate == kOperUp;
}

bool Link::is_up() const {
  return (flags & IFF_UP) != 0;
}

bool Link::is_loopback() const {
  return (flags & IFF_LOOPBACK) != 0;
}

Netlink::Netlink(std::unique_ptr<NetlinkSocket> socket) : socket_(std::move(socket)) {}
Netlink::Netlink(Netlink&&) noexcept = default;
Netlink& Netlink::operator=(Netlink&&) noexcept = default;
Netlink::~Netlink() = default;

Result<Netlink> Netlink::open() {
  auto socket = NetlinkSocket::open();
  if (!socket) return pass(socket);
  return Netlink(std::move(*socket));
}

Result<Netlink> Netlink::open(int netns_fd) {
  return in_netns(netns_fd, [] { return open(); });
}

Result<std::vector<Link>> Netlink::links() {
  for (;;) {
    std::vector<Link> result;
    const auto status = socket_->request(link_request(RTM_GETLINK, NLM_F_DUMP, 0), "links: list",
                                         [&](const nlmsghdr* header) {
                                           if (auto link = parse_link(header))
                                             result.push_back(std::move(*link));
                                         });
    if (status) return result;
    if (status.error().code != EAGAIN) return pass(status);
  }
}

Result<std::optional<Link>> Netlink::link(std::string_view name) {
  const std::string text(name);
  BPFNET_TRY(check_name(text));
  auto message = link_request(RTM_GETLINK, 0, 0);
  nla_put_string(message.get(), IFLA_IFNAME, text.c_str());
  std::optional<Link> result;
  const auto status = socket_->request(std::move(message), fmt::format("link {}: get", text),
                                       [&](const nlmsghdr* header) { result = parse_link(header); });
  if (!status && status.error().code != ENODEV) return pass(status);
  return result;
}

Result<std::optional<Link>> Netlink::link(int ifindex) {
  std::optional<Link> result;
  const auto status =
      socket_->request(link_request(RTM_GETLINK, 0, ifindex), fmt::format("link {}: get", ifindex),
                       [&](const nlmsghdr* header) { result = parse_link(header); });
  if (!status && status.error().code != ENODEV) return pass(status);
  return result;
}

Result<Link> Netlink::made_link(const std::string& name) {
  auto made = link(name);
  if (!made) return pass(made);
  if (!*made) return fail_errno(ENODEV, "link {}: gone as soon as it was made", name);
  return std::move(**made);
}

Result<Link> Netlink::create_veth(const VethSpec& spec) {
  BPFNET_TRY(check_name(spec.name));
  BPFNET_TRY(check_name(spec.peer_name));
  auto message = link_request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0);
  nl_msg* m = message.get();
  put_link(m, spec.name, spec.mac, spec.mtu);
  nlattr* info = nla_nest_start(m, IFLA_LINKINFO);
  nla_put_string(m, IFLA_INFO_KIND, "veth");
  nlattr* data = nla_nest_start(m, IFLA_INFO_DATA);
  nlattr* peer = nla_nest_start(m, VETH_INFO_PEER);
  ifinfomsg peer_info{};
  nlmsg_append(m, &peer_info, sizeof(peer_info), NLMSG_ALIGNTO);
  put_link(m, spec.peer_name, spec.peer_mac, spec.mtu);
  if (spec.peer_netns_fd >= 0) nla_put_u32(m, IFLA_NET_NS_FD, static_cast<uint32_t>(spec.peer_netns_fd));
  nla_nest_end(m, peer);
  nla_nest_end(m, data);
  nla_nest_end(m, info);
  BPFNET_TRY(socket_->request(std::move(message),
                              fmt::format("link {} with peer {}: create", spec.name, spec.peer_name)));
  return made_link(spec.name);
}

Result<Link> Netlink::create_vxlan(const VxlanSpec& spec) {
  BPFNET_TRY(check_name(spec.name));
  auto message = link_request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0);
  nl_msg* m = message.get();
  put_link(m, spec.name, spec.mac, spec.mtu);
  nlattr* info = nla_nest_start(m, IFLA_LINKINFO);
  nla_put_string(m, IFLA_INFO_KIND, "vxlan");
  nlattr* data = nla_nest_start(m, IFLA_INFO_DATA);
  nla_put_u8(m, IFLA_VXLAN_COLLECT_METADATA, 1);
  nla_put_u8(m, IFLA_VXLAN_LEARNING, 0);
  nla_put_u16(m, IFLA_VXLAN_PORT, htons(spec.port));
  nla_nest_end(m, data);
  nla_nest_end(m, info);
  BPFNET_TRY(socket_->request(std::move(message), fmt::format("link {} of VXLAN: create", spec.name)));
  return made_link(spec.name);
}

Result<bool> Netlink::delete_link(std::string_view name) {
  auto found = link(name);
  if (!found) return pass(found);
  if (!*found) return false;
  auto deleted = delete_link((*found)->ifindex);
  if (!deleted) return pass(deleted, name);
  return *deleted;
}

Result<bool> Netlink::delete_link(int ifindex) {
  // Index 0 with no name would be refused too, but with an error that names nothing.
  if (ifindex <= 0) return fail_errno(EINVAL, "link {}: delete", ifindex);
  const auto status =
      socket_->request(link_request(RTM_DELLINK, 0, ifindex), fmt::format("link {}: delete", ifindex));
  if (status) return true;
  if (status.error().code == ENODEV) return false;
  return pass(status);
}

Status Netlink::set_up(int ifindex, bool up) {
  return socket_->request(flags_request(ifindex, up ? IFF_UP : 0, IFF_UP),
                          fmt::format("link {}: set {}", ifindex, up ? "up" : "down"));
}

Status Netlink::set_noarp(int ifindex, bool noarp) {
  return socket_->request(flags_request(ifindex, noarp ? IFF_NOARP : 0, IFF_NOARP),
                          fmt::format("link {}: set noarp {}", ifindex, noarp ? "on" : "off"));
}

Status Netlink::set_mac(int ifindex, const Mac& mac) {
  auto message = link_request(RTM_NEWLINK, 0, ifindex);
  put_mac(message.get(), mac);
  return socket_->request(std::move(message), fmt::format("link {}: set mac {}", ifindex, mac.to_string()));
}

Status Netlink::set_mtu(int ifindex, uint32_t mtu) {
  auto message = link_request(RTM_NEWLINK, 0, ifindex);
  nla_put_u32(message.get(), IFLA_MTU, mtu);
  return socket_->request(std::move(message), fmt::format("link {}: set mtu {}", ifindex, mtu));
}

Status Netlink::rename(int ifindex, const std::string& name) {
  BPFNET_TRY(check_name(name));
  auto message = link_request(RTM_NEWLINK, 0, ifindex);
  nla_put_string(message.get(), IFLA_IFNAME, name.c_str());
  return socket_->request(std::move(message), fmt::format("link {}: rename to {}", ifindex, name));
}

}  // namespace bpfnet::loader
