#include <linux/rtnetlink.h>

#include "loader/netlink.h"
#include "loader/netlink_parse.h"
#include "loader/netlink_socket.h"
#include "loader/netns.h"

namespace bpfnet::loader {
namespace {

std::optional<NetlinkEvent> to_event(const nlmsghdr* header) {
  NetlinkEvent event;
  switch (header->nlmsg_type) {
    case RTM_NEWLINK:
    case RTM_DELLINK:
      if (auto link = parse_link(header)) {
        event.kind = NetlinkEvent::Kind::kLink;
        event.link = std::move(*link);
        event.removed = header->nlmsg_type == RTM_DELLINK;
        return event;
      }
      return std::nullopt;
    case RTM_NEWADDR:
    case RTM_DELADDR:
      if (auto address = parse_address(header)) {
        event.kind = NetlinkEvent::Kind::kAddress;
        event.address = *address;
        event.removed = header->nlmsg_type == RTM_DELADDR;
        return event;
      }
      return std::nullopt;
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
      if (auto route = parse_route(header)) {
        event.kind = NetlinkEvent::Kind::kRoute;
        event.route = *route;
        event.removed = header->nlmsg_type == RTM_DELROUTE;
        return event;
      }
      return std::nullopt;
    default:
      return std::nullopt;
  }
}

}  // namespace

NetlinkMonitor::NetlinkMonitor(std::unique_ptr<NetlinkSocket> socket) : socket_(std::move(socket)) {}
NetlinkMonitor::NetlinkMonitor(NetlinkMonitor&&) noexcept = default;
NetlinkMonitor& NetlinkMonitor::operator=(NetlinkMonitor&&) noexcept = default;
NetlinkMonitor::~NetlinkMonitor() = default;

Result<NetlinkMonitor> NetlinkMonitor::open() {
  auto socket = NetlinkSocket::open_monitor();
  if (!socket) return pass(socket);
  return NetlinkMonitor(std::move(*socket));
}

Result<NetlinkMonitor> NetlinkMonitor::open(int netns_fd) {
  return in_netns(netns_fd, [] { return open(); });
}

int NetlinkMonitor::fd() const {
  return socket_->fd();
}

Result<std::vector<NetlinkEvent>> NetlinkMonitor::read() {
  std::vector<NetlinkEvent> events;
  auto complete = socket_->drain([&](const nlmsghdr* header) {
    if (auto event = to_event(header)) events.push_back(std::move(*event));
  });
  if (!complete) return pass(complete);
  if (!*complete) events.push_back({.kind = NetlinkEvent::Kind::kOverrun});
  return events;
}

}  // namespace bpfnet::loader
