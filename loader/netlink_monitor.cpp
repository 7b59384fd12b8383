#include <linux/rtnetlink.h>
#include <poll.h>

#include <cerrno>

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

Status await_running(int netns_fd, int ifindex, std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  auto netlink = Netlink::open(netns_fd);
  if (!netlink) return pass(netlink);
  std::optional<NetlinkMonitor> monitor;
  while (true) {
    auto link = netlink->link(ifindex);
    if (!link) return pass(link);
    if (!*link) return fail("interface {}: gone before it was running", ifindex);
    if ((*link)->is_running()) return ok();
    if (!monitor) {  // and look once more: it may have come up meanwhile
      auto opened = NetlinkMonitor::open(netns_fd);
      if (!opened) return pass(opened);
      monitor.emplace(std::move(*opened));
      continue;
    }
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    pollfd events{.fd = monitor->fd(), .events = POLLIN, .revents = 0};
    if (left <= 0 || (::poll(&events, 1, static_cast<int>(left)) < 0 && errno != EINTR))
      return fail("interface {}: up, but without a carrier after {} ms", (*link)->name, timeout.count());
    if (auto read = monitor->read(); !read) return pass(read);
  }
}

}  // namespace bpfnet::loader
