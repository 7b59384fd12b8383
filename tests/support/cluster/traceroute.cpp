#include "tests/support/cluster/traceroute.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>

#include <array>
#include <cerrno>
#include <optional>

namespace bpfnet::e2e {
namespace {

constexpr int kMostHops = 8;
constexpr milliseconds kPatience{4000};

/// Not blocking, with this hop limit, and with a queue of errors. For echo the kernel must allow ping
/// sockets.
Fd probe_socket(const Netns& netns, const std::string& protocol, bool v4, int hops) {
  const int type = protocol == "tcp" ? SOCK_STREAM : SOCK_DGRAM;
  int number = 0;
  if (protocol == "icmp") {
    netns.sysctl("net/ipv4/ping_group_range", "0 0");
    number = v4 ? static_cast<int>(IPPROTO_ICMP) : static_cast<int>(IPPROTO_ICMPV6);
  }
  Fd fd = netns.in(
      [&] { return Fd(::socket(v4 ? AF_INET : AF_INET6, type | SOCK_CLOEXEC | SOCK_NONBLOCK, number)); });
  set_option(fd.get(), v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_TTL : IPV6_UNICAST_HOPS, hops);
  set_option(fd.get(), v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_RECVERR : IPV6_RECVERR, 1);
  return fd;
}

/// The router where the packet's hops were used up; nullopt: it has arrived.
Result<std::optional<Address>> hop(const Netns& netns, const std::string& protocol, const HostPort& to,
                                   int hops) {
  const bool v4 = to.address.is_ipv4();
  const Fd fd = probe_socket(netns, protocol, v4, hops);
  if (!fd) return fail_errno(errno, "socket");
  sockaddr_storage name{};
  const socklen_t length = to_sockaddr({to.address, protocol == "icmp" ? uint16_t{0} : to.port}, name);
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&name), length) != 0 && errno != EINPROGRESS)
    return fail_errno(errno, "connect");
  if (protocol != "tcp") {
    std::array<char, 16> request{};
    if (protocol == "icmp") request[0] = v4 ? 8 : static_cast<char>(128);
    if (::send(fd.get(), request.data(), request.size(), 0) < 0) return fail_errno(errno, "send");
  }
  const short arrived = protocol == "tcp" ? POLLOUT : POLLIN;
  pollfd poll{fd.get(), arrived, 0};
  if (::poll(&poll, 1, static_cast<int>(kPatience.count())) <= 0) return fail_errno(ETIMEDOUT, "no answer");
  if ((poll.revents & POLLERR) == 0) return std::nullopt;
  auto error = icmp_error(fd.get(), kPatience);
  if (!error) return pass(error);
  if (error->code != EHOSTUNREACH || error->icmp_type != (v4 ? 11 : 3))
    return fail_errno(error->code, "{} says type {} code {}", error->offender.to_string(), error->icmp_type,
                      error->icmp_code);
  if (protocol == "udp" && error->target != to) return fail("it is about {}", error->target.to_string());
  return error->offender;
}

}  // namespace

Result<std::vector<Address>> trace(const Netns& netns, const std::string& protocol, const HostPort& to) {
  std::vector<Address> path;
  for (int hops = 1; hops <= kMostHops; ++hops) {
    auto next = hop(netns, protocol, to, hops);
    if (!next) return pass(next, fmt::format("{} to {} with {} hops", protocol, to.to_string(), hops));
    path.push_back(next->value_or(to.address));
    if (!*next) return path;
  }
  return fail("{} to {}: more than {} hops", protocol, to.to_string(), kMostHops);
}

}  // namespace bpfnet::e2e
