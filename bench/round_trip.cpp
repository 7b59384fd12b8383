#include "bench/round_trip.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <stdexcept>

namespace bpfnet::bench {
namespace {

constexpr int kBacklog = 128;
/// About what a small request and its answer weigh; the wire format is private to this file.
constexpr size_t kRequest = 64;
struct Answer {
  uint16_t port;
  uint8_t client[4];
  uint8_t filler[58];
};
static_assert(sizeof(Answer) == 64);

[[noreturn]] void raise_errno(const std::string& what) {
  throw std::runtime_error(fmt::format("{}: {}", what, std::strerror(errno)));
}

Fd listen_on(uint16_t port) {
  Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      ::listen(fd.get(), kBacklog) != 0)
    raise_errno(fmt::format("port {}", port));
  return fd;
}

/// A client that hangs must not hold the server.
void limit_waits(int fd) {
  const timeval two_seconds{.tv_sec = 2, .tv_usec = 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &two_seconds, sizeof(two_seconds));
  ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &two_seconds, sizeof(two_seconds));
}

void answer(int listener) {
  sockaddr_in peer{};
  socklen_t size = sizeof(peer);
  const Fd connection(::accept4(listener, reinterpret_cast<sockaddr*>(&peer), &size, SOCK_CLOEXEC));
  if (!connection) return;
  limit_waits(connection.get());
  char request[kRequest];
  if (::recv(connection.get(), request, sizeof(request), MSG_WAITALL) != static_cast<ssize_t>(kRequest))
    return;
  sockaddr_in own{};
  size = sizeof(own);
  ::getsockname(connection.get(), reinterpret_cast<sockaddr*>(&own), &size);
  Answer reply{};
  reply.port = ntohs(own.sin_port);
  std::memcpy(reply.client, &peer.sin_addr, sizeof(reply.client));
  if (::send(connection.get(), &reply, sizeof(reply), MSG_NOSIGNAL) != static_cast<ssize_t>(sizeof(reply)))
    return;
  // The client closes first, as it would with HTTP.
  (void)::recv(connection.get(), request, sizeof(request), 0);
}

sockaddr_in to_sockaddr(const e2e::HostPort& to) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(to.port);
  const auto octets = to.address.ipv4();
  std::memcpy(&address.sin_addr, octets.data(), octets.size());
  return address;
}

Answer one_round_trip(const sockaddr_in& to) {
  const Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) raise_errno("socket");
  limit_waits(fd.get());
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof(to)) != 0) raise_errno("connect");
  const char request[kRequest] = {};
  if (::send(fd.get(), request, sizeof(request), MSG_NOSIGNAL) != static_cast<ssize_t>(kRequest))
    raise_errno("send");
  Answer reply{};
  const ssize_t got = ::recv(fd.get(), &reply, sizeof(reply), MSG_WAITALL);
  if (got != static_cast<ssize_t>(sizeof(reply))) {
    if (got >= 0) errno = ECONNRESET;
    raise_errno("receive");
  }
  return reply;
}

}  // namespace

RequestServer::RequestServer(const e2e::Netns& netns, const std::vector<uint16_t>& ports)
    : stop_(::eventfd(0, EFD_CLOEXEC)) {
  netns.in([&] {
    for (const uint16_t port : ports) listeners_.push_back(listen_on(port));
  });
  thread_ = std::thread([this] { serve(); });
}

RequestServer::~RequestServer() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(stop_.get(), &one, sizeof(one));
  thread_.join();
}

void RequestServer::serve() {
  std::vector<pollfd> polls;
  for (const Fd& listener : listeners_) polls.push_back({listener.get(), POLLIN, 0});
  polls.push_back({stop_.get(), POLLIN, 0});
  while (true) {
    if (::poll(polls.data(), polls.size(), -1) <= 0) continue;
    if (polls.back().revents != 0) return;
    for (const pollfd& poll : polls)
      if (poll.revents != 0) answer(poll.fd);
  }
}

Reply ask(const e2e::HostPort& to) {
  const Answer answer = one_round_trip(to_sockaddr(to));
  return {
      .port = answer.port,
      .client = Address::from_ipv4({answer.client[0], answer.client[1], answer.client[2], answer.client[3]})};
}

std::vector<double> round_trips(const e2e::HostPort& to, size_t count) {
  using Clock = std::chrono::steady_clock;
  const sockaddr_in address = to_sockaddr(to);
  std::vector<double> result(count);
  for (double& microseconds : result) {
    const auto begin = Clock::now();
    (void)one_round_trip(address);
    microseconds = std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
  }
  return result;
}

}  // namespace bpfnet::bench
