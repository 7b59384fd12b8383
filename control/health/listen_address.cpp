#include "control/health/listen_address.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

namespace bpfnet::health {
namespace {

constexpr int kBacklog = 256;

socklen_t to_sockaddr(const ListenAddress& where, int family, sockaddr_storage& storage) {
  if (family == AF_INET) {
    auto& to = reinterpret_cast<sockaddr_in&>(storage);
    to.sin_family = AF_INET;
    to.sin_port = htons(where.port);
    if (!where.both_families) std::memcpy(&to.sin_addr, where.ip.ipv4().data(), 4);
    return sizeof(to);
  }
  auto& to = reinterpret_cast<sockaddr_in6&>(storage);
  to.sin6_family = AF_INET6;
  to.sin6_port = htons(where.port);
  if (!where.both_families) std::memcpy(&to.sin6_addr, where.ip.bytes().data(), 16);
  return sizeof(to);
}

}  // namespace

Result<ListenAddress> ListenAddress::parse(std::string_view text) {
  const auto wrong = [&] {
    return fail("{}: not an address and port, like 127.0.0.1:10249, [::1]:10249 or :10256", text);
  };
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return wrong();
  std::string_view host = text.substr(0, colon);
  const std::string_view port = text.substr(colon + 1);
  ListenAddress where;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), where.port);
  if (error != std::errc() || end != port.data() + port.size()) return wrong();
  if (host.empty()) {
    where.both_families = true;
    return where;
  }
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  const auto ip = Address::parse(host);
  if (!ip || ip->is_ipv6() != bracketed) return wrong();
  where.both_families = ip->is_unspecified();
  where.ip = where.both_families ? Address() : *ip;
  return where;
}

std::string ListenAddress::to_string() const {
  if (both_families) return fmt::format("[::]:{}", port);
  return ip.is_ipv4() ? fmt::format("{}:{}", ip.to_string(), port)
                      : fmt::format("[{}]:{}", ip.to_string(), port);
}

Result<Fd> open_listener(const ListenAddress& where) {
  int family = where.both_families || where.ip.is_ipv6() ? AF_INET6 : AF_INET;
  Fd fd(socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd && errno == EAFNOSUPPORT && where.both_families) {
    family = AF_INET;
    fd = Fd(socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  }
  if (!fd) return fail_errno(errno, "listen on {}: open a socket", where.to_string());
  const int on = 1;
  const int v6_only = where.both_families ? 0 : 1;
  // Connections of an agent that has just ended do not keep the next one from its ports.
  bool set = setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0;
  if (family == AF_INET6)
    set = set && setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &v6_only, sizeof(v6_only)) == 0;
  sockaddr_storage address{};
  const socklen_t length = to_sockaddr(where, family, address);
  if (!set || bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), length) != 0 ||
      ::listen(fd.get(), kBacklog) != 0)
    return fail_errno(errno, "listen on {}", where.to_string());
  return fd;
}

std::vector<ListenAddress> node_port_addresses(const std::vector<Cidr>& cidrs,
                                               const std::vector<Address>& own) {
  std::vector<ListenAddress> listen;
  bool all[2] = {};
  const Family families[] = {Family::kIpv4, Family::kIpv6};
  for (size_t i = 0; i < 2; ++i) {
    const auto of_family = [&](const Cidr& cidr) { return cidr.family() == families[i]; };
    all[i] = std::none_of(cidrs.begin(), cidrs.end(), of_family) ||
             std::any_of(cidrs.begin(), cidrs.end(),
                         [&](const Cidr& cidr) { return of_family(cidr) && cidr.length() == 0; });
  }
  if (all[0] && all[1]) return {{.both_families = true}};
  std::vector<Address> candidates = own;
  candidates.push_back(Address::from_ipv4({127, 0, 0, 1}));
  candidates.push_back(Address::parse("::1").value());
  for (size_t i = 0; i < 2; ++i) {
    if (all[i]) {
      listen.push_back({.ip = Address::unspecified(families[i])});
      continue;
    }
    for (const Address& ip : candidates) {
      const bool named =
          ip.family() == families[i] &&
          std::any_of(cidrs.begin(), cidrs.end(), [&](const Cidr& cidr) { return cidr.contains(ip); });
      if (named) listen.push_back({.ip = ip});
    }
  }
  std::sort(listen.begin(), listen.end());
  listen.erase(std::unique(listen.begin(), listen.end()), listen.end());
  return listen;
}

}  // namespace bpfnet::health
