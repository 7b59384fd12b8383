#include "tests/unit/health_client.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "control/health/listen_address.h"

namespace bpfnet::health::test {
namespace {

Reply unreachable(int code) {
  const std::string name = errno_name(code);
  return {.raw = name.substr(0, name.find(' '))};
}

}  // namespace

std::string Reply::header(const std::string& name) const {
  const size_t at = raw.find("\r\n" + name + ": ");
  if (at == std::string::npos || at > raw.find("\r\n\r\n")) return "";
  const size_t begin = at + name.size() + 4;
  return raw.substr(begin, raw.find("\r\n", begin) - begin);
}

Fd connect_to(uint16_t port, const std::string& host) {
  const Address ip = Address::parse(host).value();
  sockaddr_in6 to{};
  to.sin6_family = AF_INET6;
  to.sin6_port = htons(port);
  std::memcpy(&to.sin6_addr, ip.bytes().data(), 16);  // IPv4 as v4-mapped
  Fd fd(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval timeout{.tv_sec = 5, .tv_usec = 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof(to)) != 0) fd.reset();
  return fd;
}

Reply get(uint16_t port, const std::string& path, const std::string& host, const std::string& method) {
  const Fd fd = connect_to(port, host);
  if (!fd) return unreachable(errno);
  const std::string request = method + " " + path + " HTTP/1.1\r\nHost: test\r\n" +
                              (method == "POST" ? "Content-Length: 3\r\n\r\nabc" : "\r\n");
  if (send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL) < 0) return unreachable(errno);
  Reply reply;
  std::array<char, 65536> chunk{};
  ssize_t got = 0;
  while ((got = recv(fd.get(), chunk.data(), chunk.size(), 0)) > 0)
    reply.raw.append(chunk.data(), static_cast<size_t>(got));
  const size_t end = reply.raw.find("\r\n\r\n");
  if (got < 0 || end == std::string::npos) return reply;
  reply.body = reply.raw.substr(end + 4);
  reply.status = std::stoi(reply.raw.substr(reply.raw.find(' ') + 1, 3));
  return reply;
}

Fd hold(uint16_t& port) {
  Fd fd = open_listener({.port = port, .both_families = true}).value();
  sockaddr_in6 own{};
  socklen_t length = sizeof(own);
  getsockname(fd.get(), reinterpret_cast<sockaddr*>(&own), &length);
  port = ntohs(own.sin6_port);
  return fd;
}

}  // namespace bpfnet::health::test
