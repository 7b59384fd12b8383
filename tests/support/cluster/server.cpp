#include "tests/support/cluster/server.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <array>
#include <cstring>
#include <stdexcept>

namespace bpfnet::e2e {
namespace {

constexpr size_t kPendingLimit = 1 << 20;

Fd bound_socket(const Netns& netns, int type, const HostPort& at) {
  const int family = at.address.is_ipv4() ? AF_INET : AF_INET6;
  Fd fd = netns.in([&] { return Fd(::socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)); });
  const int on = 1;
  const int off = 0;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  // The unspecified IPv6 address then stands for both families.
  if (family == AF_INET6) ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
  sockaddr_storage name{};
  const socklen_t length = to_sockaddr(at, name);
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&name), length) != 0) {
    throw std::runtime_error(
        fmt::format("{}: bind {}: {}", netns.name(), at.to_string(), std::strerror(errno)));
  }
  return fd;
}

std::string greeting(const std::string& name, const sockaddr_storage& peer) {
  const HostPort from = from_sockaddr(peer);
  return fmt::format("{} {} {}\n", name, from.address.to_string(), from.port);
}

/// The address that the peer of a connected socket has reached.
Address reached(int fd) {
  sockaddr_storage name{};
  socklen_t length = sizeof(name);
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&name), &length);
  return from_sockaddr(name).address;
}

/// A datagram with its peer and the address that it came to, from where it is answered.
struct Datagram {
  sockaddr_storage peer{};
  in6_pktinfo at{};
  std::string payload;

  /// False: there is none.
  bool receive(int fd) {
    payload.resize(65536);
    iovec data{payload.data(), payload.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(in6_pktinfo))> control{};
    msghdr message = header(data, control);
    const ssize_t n = ::recvmsg(fd, &message, 0);
    if (n < 0) return false;
    payload.resize(static_cast<size_t>(n));
    for (cmsghdr* each = CMSG_FIRSTHDR(&message); each != nullptr; each = CMSG_NXTHDR(&message, each))
      if (each->cmsg_level == IPPROTO_IPV6 && each->cmsg_type == IPV6_PKTINFO)
        std::memcpy(&at, CMSG_DATA(each), sizeof(at));
    return true;
  }

  void answer(int fd, std::string text) {
    iovec data{text.data(), text.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(in6_pktinfo))> control{};
    const msghdr message = header(data, control);
    cmsghdr* info = CMSG_FIRSTHDR(&message);
    info->cmsg_level = IPPROTO_IPV6;
    info->cmsg_type = IPV6_PKTINFO;
    info->cmsg_len = CMSG_LEN(sizeof(in6_pktinfo));
    at.ipi6_ifindex = 0;  // the way back may be another one
    std::memcpy(CMSG_DATA(info), &at, sizeof(at));
    ::sendmsg(fd, &message, 0);
  }

  [[nodiscard]] Address address() const {
    std::array<uint8_t, 16> bytes{};
    std::memcpy(bytes.data(), &at.ipi6_addr, bytes.size());
    return Address(bytes);
  }

 private:
  template <size_t size>
  msghdr header(iovec& data, std::array<char, size>& control) {
    msghdr message{};
    message.msg_name = &peer;
    message.msg_namelen = sizeof(sockaddr_in6);
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    return message;
  }
};

void watch(int epoll, int fd, uint32_t events, int operation = EPOLL_CTL_ADD) {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  ::epoll_ctl(epoll, operation, fd, &event);
}

}  // namespace

EchoServer::EchoServer(const Netns& netns, std::string name, uint16_t port, const Address& address)
    : name_(std::move(name)),
      port_(port),
      listener_(bound_socket(netns, SOCK_STREAM, {address, port})),
      datagrams_(bound_socket(netns, SOCK_DGRAM, {address, port})),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)),
      stop_(::eventfd(0, EFD_CLOEXEC)) {
  ::listen(listener_.get(), 4096);
  if (name_.empty()) {
    const int on = 1;
    ::setsockopt(datagrams_.get(), IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on));
  }
  for (const int fd : {listener_.get(), datagrams_.get(), stop_.get()}) watch(epoll_.get(), fd, EPOLLIN);
  thread_ = std::thread([this] { serve(); });
}

EchoServer::~EchoServer() {
  const uint64_t one = 1;
  if (::write(stop_.get(), &one, sizeof(one)) == sizeof(one)) thread_.join();
}

void EchoServer::serve() {
  epoll_event events[64];
  while (true) {
    const int n = ::epoll_wait(epoll_.get(), events, 64, -1);
    for (int i = 0; i < n; i++) {
      const int fd = events[i].data.fd;
      if (fd == stop_.get()) return;
      if (fd == listener_.get()) {
        accept_all();
      } else if (fd == datagrams_.get()) {
        answer_datagrams();
      } else if (auto found = connections_.find(fd); found != connections_.end() && !echo(found->second)) {
        connections_.erase(found);
      }
    }
    open_ = connections_.size();
  }
}

void EchoServer::accept_all() {
  while (true) {
    sockaddr_storage peer{};
    socklen_t length = sizeof(peer);
    Fd fd(::accept4(listener_.get(), reinterpret_cast<sockaddr*>(&peer), &length,
                    SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd) return;
    const int on = 1;
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    const int key = fd.get();
    Connection& connection = connections_[key];
    connection = {std::move(fd), greeting(name_.empty() ? reached(key).to_string() : name_, peer)};
    watch(epoll_.get(), key, EPOLLIN);
    accepted_++;
    if (!echo(connection)) connections_.erase(key);
  }
}

bool EchoServer::echo(Connection& connection) {
  char buffer[65536];
  while (connection.pending.size() < kPendingLimit) {
    const ssize_t n = ::recv(connection.fd.get(), buffer, sizeof(buffer), 0);
    if (n == 0) return false;
    if (n < 0) {
      if (errno != EAGAIN) return false;
      break;
    }
    connection.pending.append(buffer, static_cast<size_t>(n));
  }
  while (!connection.pending.empty()) {
    const ssize_t n =
        ::send(connection.fd.get(), connection.pending.data(), connection.pending.size(), MSG_NOSIGNAL);
    if (n < 0) {
      if (errno != EAGAIN) return false;
      break;
    }
    connection.pending.erase(0, static_cast<size_t>(n));
  }
  const uint32_t reading = connection.pending.size() < kPendingLimit ? static_cast<uint32_t>(EPOLLIN) : 0;
  const uint32_t writing = connection.pending.empty() ? 0 : static_cast<uint32_t>(EPOLLOUT);
  watch(epoll_.get(), connection.fd.get(), reading | writing, EPOLL_CTL_MOD);
  return true;
}

void EchoServer::answer_datagrams() {
  if (name_.empty()) {
    for (Datagram each; each.receive(datagrams_.get());)
      each.answer(datagrams_.get(), greeting(each.address().to_string(), each.peer) + each.payload);
    return;
  }
  std::string buffer(65536, '\0');
  while (true) {
    sockaddr_storage peer{};
    socklen_t length = sizeof(peer);
    const ssize_t n = ::recvfrom(datagrams_.get(), buffer.data(), buffer.size(), 0,
                                 reinterpret_cast<sockaddr*>(&peer), &length);
    if (n < 0) return;
    const std::string answer = greeting(name_, peer) + buffer.substr(0, static_cast<size_t>(n));
    ::sendto(datagrams_.get(), answer.data(), answer.size(), 0, reinterpret_cast<sockaddr*>(&peer), length);
  }
}

}  // namespace bpfnet::e2e
