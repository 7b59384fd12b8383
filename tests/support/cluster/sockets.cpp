#include "tests/support/cluster/sockets.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <sstream>

namespace bpfnet::e2e {
namespace {

Seen parse_seen(const std::string& line) {
  std::istringstream words(line);
  Seen seen;
  std::string address;
  words >> seen.server >> address >> seen.peer.port;
  if (auto parsed = Address::parse(address)) seen.peer.address = *parsed;
  return seen;
}

HostPort name_of(int fd) {
  sockaddr_storage name{};
  socklen_t length = sizeof(name);
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&name), &length);
  return from_sockaddr(name);
}

/// A non-blocking socket of `type` in `netns`, bound as `options` say, not connected.
Result<Fd> make_socket(const Netns& netns, const HostPort& to, int type, const SocketOptions& options) {
  const bool v4 = to.address.is_ipv4();
  const int family = v4 ? AF_INET : AF_INET6;
  Fd fd = netns.in([&] { return Fd(::socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)); });
  if (!fd) return fail_errno(errno, "socket");
  // Only for a port that is named: of UDP sockets that all have it, the kernel may give one port to two, and
  // the answers of both to one.
  if (options.source_port != 0) set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  if (options.ttl > 0) {
    set_option(fd.get(), v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_TTL : IPV6_UNICAST_HOPS, options.ttl);
  }
  if (options.source_port != 0 || options.source) {
    const HostPort from{options.source.value_or(Address::unspecified(to.address.family())),
                        options.source_port};
    sockaddr_storage name{};
    const socklen_t length = to_sockaddr(from, name);
    if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&name), length) != 0) {
      return fail_errno(errno, "bind {}", from.to_string());
    }
  }
  return fd;
}

int socket_error(int fd) {
  int error = 0;
  socklen_t length = sizeof(error);
  ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
  return error;
}

/// The bytes of a bulk transfer: a function of their position, so that a shift or swap is seen.
void fill(std::string& buffer, uint64_t position) {
  for (size_t i = 0; i < buffer.size(); i++) {
    const uint64_t at = position + i;
    buffer[i] = static_cast<char>((at * 2654435761ULL) >> 13U);
  }
}

uint16_t icmp_checksum(const std::string& data) {
  uint32_t sum = 0;
  for (size_t i = 0; i + 1 < data.size(); i += 2) {
    sum += static_cast<uint32_t>(static_cast<uint8_t>(data[i])) << 8U | static_cast<uint8_t>(data[i + 1]);
  }
  if (data.size() % 2 != 0) sum += static_cast<uint32_t>(static_cast<uint8_t>(data.back())) << 8U;
  while (sum >> 16U != 0) sum = (sum & 0xffffU) + (sum >> 16U);
  return static_cast<uint16_t>(~sum);
}

constexpr size_t kEchoHeader = 8;

std::string echo_request(Family family, uint16_t id, size_t size) {
  std::string packet(kEchoHeader + size, 'e');
  packet[0] = family == Family::kIpv4 ? 8 : static_cast<char>(128);
  packet[1] = packet[2] = packet[3] = 0;
  packet[4] = static_cast<char>(id >> 8U);
  packet[5] = static_cast<char>(id);
  packet[6] = 0;
  packet[7] = 1;
  if (family == Family::kIpv4) {  // for ICMPv6 the kernel fills it in
    const uint16_t sum = icmp_checksum(packet);
    packet[2] = static_cast<char>(sum >> 8U);
    packet[3] = static_cast<char>(sum);
  }
  return packet;
}

struct IcmpMessage {
  HostPort from;
  int ttl = 0;
  uint8_t type = 0;
  uint16_t id = 0;
};

/// The next message of a raw ICMP socket.
Result<IcmpMessage> read_icmp(int fd, Family family, milliseconds timeout) {
  BPFNET_TRY(wait_for(fd, POLLIN, timeout));
  uint8_t buffer[65536];
  alignas(cmsghdr) char control[256];
  sockaddr_storage name{};
  iovec part{buffer, sizeof(buffer)};
  msghdr message{};
  message.msg_name = &name;
  message.msg_namelen = sizeof(name);
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const ssize_t n = ::recvmsg(fd, &message, 0);
  if (n < 0) return fail_errno(errno, "recvmsg");
  IcmpMessage result{.from = from_sockaddr(name)};
  size_t offset = 0;
  if (family == Family::kIpv4) {
    offset = static_cast<size_t>(buffer[0] & 0xfU) * 4;
    result.ttl = buffer[8];
  }
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_HOPLIMIT) {
      std::memcpy(&result.ttl, CMSG_DATA(c), sizeof(int));
    }
  }
  if (static_cast<size_t>(n) < offset + kEchoHeader) return fail("short ICMP message");
  result.type = buffer[offset];
  result.id = static_cast<uint16_t>(buffer[offset + 4] << 8 | buffer[offset + 5]);
  return result;
}

Fd raw_icmp(const Netns& netns, Family family) {
  const bool v4 = family == Family::kIpv4;
  Fd fd = netns.in([&] {
    return Fd(::socket(v4 ? AF_INET : AF_INET6, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK,
                       v4 ? static_cast<int>(IPPROTO_ICMP) : static_cast<int>(IPPROTO_ICMPV6)));
  });
  if (!v4) set_option(fd.get(), IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
  return fd;
}

}  // namespace

void set_option(int fd, int level, int name, int value) {
  ::setsockopt(fd, level, name, &value, sizeof(value));
}

std::string HostPort::to_string() const {
  return fmt::format(fmt::runtime(address.is_ipv4() ? "{}:{}" : "[{}]:{}"), address.to_string(), port);
}

socklen_t to_sockaddr(const HostPort& from, sockaddr_storage& to) {
  to = {};
  if (from.address.is_ipv4()) {
    auto& in = reinterpret_cast<sockaddr_in&>(to);
    in.sin_family = AF_INET;
    in.sin_port = htons(from.port);
    const auto octets = from.address.ipv4();
    std::memcpy(&in.sin_addr, octets.data(), octets.size());
    return sizeof(in);
  }
  auto& in = reinterpret_cast<sockaddr_in6&>(to);
  in.sin6_family = AF_INET6;
  in.sin6_port = htons(from.port);
  std::memcpy(&in.sin6_addr, from.address.bytes().data(), sizeof(in.sin6_addr));
  return sizeof(in);
}

HostPort from_sockaddr(const sockaddr_storage& from) {
  if (from.ss_family == AF_INET) {
    const auto& in = reinterpret_cast<const sockaddr_in&>(from);
    std::array<uint8_t, 4> octets{};
    std::memcpy(octets.data(), &in.sin_addr, octets.size());
    return {Address::from_ipv4(octets), ntohs(in.sin_port)};
  }
  const auto& in = reinterpret_cast<const sockaddr_in6&>(from);
  std::array<uint8_t, 16> bytes{};
  std::memcpy(bytes.data(), &in.sin6_addr, bytes.size());
  return {Address(bytes), ntohs(in.sin6_port)};
}

Status wait_for(int fd, short events, milliseconds timeout) {
  pollfd poll{fd, events, 0};
  const int n = ::poll(&poll, 1, static_cast<int>(timeout.count()));
  if (n < 0) return fail_errno(errno, "poll");
  if (n == 0) return fail_errno(ETIMEDOUT, "nothing within {} ms", timeout.count());
  return ok();
}

Result<TcpClient> TcpClient::connect(const Netns& netns, const HostPort& to, const SocketOptions& options) {
  auto fd = make_socket(netns, to, SOCK_STREAM, options);
  if (!fd) return pass(fd);
  TcpClient client;
  client.fd_ = std::move(*fd);
  client.timeout_ = options.timeout;
  sockaddr_storage name{};
  const socklen_t length = to_sockaddr(to, name);
  const std::string what = "tcp " + to.to_string();
  if (::connect(client.fd(), reinterpret_cast<sockaddr*>(&name), length) != 0 && errno != EINPROGRESS) {
    return fail_errno(errno, "{}", what);
  }
  auto connected = wait_for(client.fd(), POLLOUT, options.timeout);
  if (!connected) return pass(connected, what);
  if (const int error = socket_error(client.fd()); error != 0) return fail_errno(error, "{}", what);
  set_option(client.fd(), IPPROTO_TCP, TCP_NODELAY, 1);

  std::string line;
  while (!line.ends_with('\n')) {
    auto readable = wait_for(client.fd(), POLLIN, options.timeout);
    if (!readable) return pass(readable, what + " greeting");
    char c = 0;
    const ssize_t n = ::recv(client.fd(), &c, 1, 0);
    if (n <= 0) return fail_errno(n == 0 ? ECONNRESET : errno, "{} greeting", what);
    line.push_back(c);
  }
  client.seen_ = parse_seen(line);
  return client;
}

Status TcpClient::send(const std::string& text) {
  if (::send(fd(), text.data(), text.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(text.size())) {
    return fail_errno(errno, "tcp send");
  }
  return ok();
}

Status TcpClient::collect(const std::string& text) {
  std::string got;
  while (got.size() < text.size()) {
    BPFNET_TRY(wait_for(fd(), POLLIN, timeout_));
    char buffer[4096];
    const ssize_t n = ::recv(fd(), buffer, std::min(sizeof(buffer), text.size() - got.size()), 0);
    if (n <= 0) return fail_errno(n == 0 ? ECONNRESET : errno, "tcp receive");
    got.append(buffer, static_cast<size_t>(n));
  }
  if (got != text) return fail("tcp: other bytes came back");
  return ok();
}

Status TcpClient::echo(const std::string& text) {
  BPFNET_TRY(send(text));
  return collect(text);
}

Status TcpClient::bulk(size_t size) {
  std::string out(65536, '\0');
  std::string in(65536, '\0');
  std::string expected;
  size_t sent = 0;
  size_t received = 0;
  while (received < size) {
    BPFNET_TRY(wait_for(fd(), static_cast<short>(sent < size ? POLLIN | POLLOUT : POLLIN), timeout_));
    if (sent < size) {
      fill(out, sent);
      const ssize_t n = ::send(fd(), out.data(), std::min(out.size(), size - sent), MSG_NOSIGNAL);
      if (n < 0 && errno != EAGAIN) return fail_errno(errno, "bulk send after {} bytes", sent);
      if (n > 0) sent += static_cast<size_t>(n);
    }
    const ssize_t n = ::recv(fd(), in.data(), in.size(), 0);
    if (n == 0) return fail_errno(ECONNRESET, "bulk receive after {} bytes", received);
    if (n < 0 && errno != EAGAIN) return fail_errno(errno, "bulk receive after {} bytes", received);
    if (n <= 0) continue;
    expected.resize(static_cast<size_t>(n));
    fill(expected, received);
    if (in.compare(0, expected.size(), expected) != 0) return fail("bulk: wrong bytes near {}", received);
    received += expected.size();
  }
  return ok();
}

uint32_t TcpClient::retransmits() const {
  tcp_info info{};
  socklen_t length = sizeof(info);
  ::getsockopt(fd(), IPPROTO_TCP, TCP_INFO, &info, &length);
  return info.tcpi_total_retrans;
}

HostPort TcpClient::local() const {
  return name_of(fd());
}

Result<UdpClient> UdpClient::open(const Netns& netns, const HostPort& to, const SocketOptions& options) {
  auto fd = make_socket(netns, to, SOCK_DGRAM, options);
  if (!fd) return pass(fd);
  UdpClient client;
  client.fd_ = std::move(*fd);
  client.to_ = to;
  client.timeout_ = options.timeout;
  const bool v4 = to.address.is_ipv4();
  set_option(client.fd(), v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_RECVERR : IPV6_RECVERR, 1);
  client.connected_ = options.connect;
  if (!options.connect) return client;
  sockaddr_storage name{};
  const socklen_t length = to_sockaddr(to, name);
  if (::connect(client.fd(), reinterpret_cast<sockaddr*>(&name), length) != 0) {
    return fail_errno(errno, "udp {}", to.to_string());
  }
  return client;
}

void UdpClient::dont_fragment() {
  const bool v4 = to_.address.is_ipv4();
  set_option(fd(), v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_MTU_DISCOVER : IPV6_MTU_DISCOVER,
             IP_PMTUDISC_PROBE);
}

Status UdpClient::send(const std::string& payload) {
  sockaddr_storage name{};
  const socklen_t length = to_sockaddr(to_, name);
  const auto* peer = connected_ ? nullptr : reinterpret_cast<sockaddr*>(&name);
  if (::sendto(fd(), payload.data(), payload.size(), 0, peer, connected_ ? 0 : length) < 0)
    return fail_errno(errno, "udp {}", to_.to_string());
  return ok();
}

Result<Seen> UdpClient::receive(const std::string& payload) {
  const std::string what = "udp " + to_.to_string();
  auto readable = wait_for(fd(), POLLIN, timeout_);
  if (!readable) return pass(readable, what);
  std::string buffer(65536, '\0');
  sockaddr_storage name{};
  socklen_t length = sizeof(name);
  const ssize_t n =
      ::recvfrom(fd(), buffer.data(), buffer.size(), 0, reinterpret_cast<sockaddr*>(&name), &length);
  if (n < 0) return fail_errno(errno, "{}", what);
  if (const HostPort from = from_sockaddr(name); from != to_)
    return fail("{}: {} answered", what, from.to_string());
  buffer.resize(static_cast<size_t>(n));
  const size_t end = buffer.find('\n');
  if (end == std::string::npos || buffer.substr(end + 1) != payload)
    return fail("{}: other bytes came back", what);
  return parse_seen(buffer.substr(0, end));
}

Result<Seen> UdpClient::request(const std::string& payload) {
  BPFNET_TRY(send(payload));
  return receive(payload);
}

Result<IcmpError> UdpClient::error() {
  auto error = icmp_error(fd(), timeout_);
  if (!error) return pass(error, "udp " + to_.to_string());
  return error;
}

Result<IcmpError> icmp_error(int fd, milliseconds timeout) {
  pollfd poll{fd, 0, 0};  // POLLERR is always watched
  if (::poll(&poll, 1, static_cast<int>(timeout.count())) <= 0)
    return fail_errno(ETIMEDOUT, "no ICMP error within {} ms", timeout.count());
  alignas(cmsghdr) char control[512];
  sockaddr_storage name{};
  char payload[65536];
  iovec part{payload, sizeof(payload)};
  msghdr message{};
  message.msg_name = &name;
  message.msg_namelen = sizeof(name);
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  if (::recvmsg(fd, &message, MSG_ERRQUEUE) < 0) return fail_errno(errno, "error queue");
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    const bool ours = (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) ||
                      (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR);
    if (!ours) continue;
    const auto* report = reinterpret_cast<const sock_extended_err*>(CMSG_DATA(c));
    IcmpError error{.code = static_cast<int>(report->ee_errno),
                    .origin = report->ee_origin,
                    .icmp_type = report->ee_type,
                    .icmp_code = report->ee_code,
                    .mtu = report->ee_info,
                    .offender = {},
                    .target = from_sockaddr(name)};
    sockaddr_storage offender{};
    const auto* from = SO_EE_OFFENDER(report);
    std::memcpy(&offender, from, from->sa_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
    error.offender = from_sockaddr(offender).address;
    return error;
  }
  return fail("the error queue holds no ICMP error");
}

HostPort UdpClient::local() const {
  return name_of(fd());
}

Result<Pong> ping(const Netns& netns, const Address& to, const PingOptions& options) {
  const bool v4 = to.is_ipv4();
  const Fd fd = raw_icmp(netns, to.family());
  if (!fd) return fail_errno(errno, "ping socket");
  if (options.ttl > 0) {
    set_option(fd.get(), v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_TTL : IPV6_UNICAST_HOPS, options.ttl);
  }
  const uint16_t id = options.id != 0 ? options.id : static_cast<uint16_t>(std::random_device{}() | 1U);
  const std::string packet = echo_request(to.family(), id, options.size);
  sockaddr_storage name{};
  const socklen_t length = to_sockaddr({to, 0}, name);
  if (::sendto(fd.get(), packet.data(), packet.size(), 0, reinterpret_cast<sockaddr*>(&name), length) < 0) {
    return fail_errno(errno, "ping {}", to.to_string());
  }
  const auto end = std::chrono::steady_clock::now() + options.timeout;
  while (true) {
    const auto left = std::chrono::duration_cast<milliseconds>(end - std::chrono::steady_clock::now());
    auto message = read_icmp(fd.get(), to.family(), std::max(left, milliseconds(0)));
    if (!message) return pass(message, "ping " + to.to_string());
    if (message->type == (v4 ? 0 : 129) && message->id == id)
      return Pong{message->from.address, message->ttl};
  }
}

PingWatch::PingWatch(const Netns& netns, Family family) : fd_(raw_icmp(netns, family)), family_(family) {}

Result<Address> PingWatch::next_source(milliseconds timeout) {
  while (true) {
    auto message = read_icmp(fd_.get(), family_, timeout);
    if (!message) return pass(message, "ping watch");
    if (message->type == (family_ == Family::kIpv4 ? 8 : 128)) return message->from.address;
  }
}

Result<Seen> ask(const Netns& netns, const std::string& protocol, const HostPort& to,
                 const SocketOptions& options) {
  if (protocol == "tcp") {
    auto client = TcpClient::connect(netns, to, options);
    if (!client) return pass(client);
    auto echoed = client->echo("hello " + to.to_string());
    if (!echoed) return pass(echoed, "tcp " + to.to_string());
    return client->seen();
  }
  auto client = UdpClient::open(netns, to, options);
  if (!client) return pass(client);
  return client->request("hello " + to.to_string());
}

}  // namespace bpfnet::e2e
