#include "tests/e2e/socket_calls.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <sstream>

namespace bpfnet::e2e {

void SocketsOn::SetUpTestSuite() {
  ClusterOptions options = cluster_options();
  options.sockets = "on";
  set_up(std::move(options));
}

Fd make_socket(const Netns& netns, int family, int type) {
  return netns.in([&] { return Fd(::socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)); });
}

socklen_t to_sockaddr6(const HostPort& to, sockaddr_storage& name) {
  name = {};
  auto& in = reinterpret_cast<sockaddr_in6&>(name);
  in.sin6_family = AF_INET6;
  in.sin6_port = htons(to.port);
  std::memcpy(&in.sin6_addr, to.address.bytes().data(), sizeof(in.sin6_addr));
  return sizeof(in);
}

HostPort peer_of(int fd) {
  sockaddr_storage name{};
  socklen_t length = sizeof(name);
  EXPECT_EQ(::getpeername(fd, reinterpret_cast<sockaddr*>(&name), &length), 0) << std::strerror(errno);
  return from_sockaddr(name);
}

Datagrams::Datagrams(const Netns& netns, Family family, bool mapped)
    : six_(mapped || family == Family::kIpv6),
      fd_(make_socket(netns, six_ ? AF_INET6 : AF_INET, SOCK_DGRAM)) {}

Result<Datagrams::Answer> Datagrams::ask(const HostPort& to, milliseconds timeout) {
  const std::string payload = fmt::format("request {}", ++count_);
  sockaddr_storage name{};
  socklen_t length = six_ ? to_sockaddr6(to, name) : to_sockaddr(to, name);
  if (::sendto(fd_.get(), payload.data(), payload.size(), 0, reinterpret_cast<sockaddr*>(&name), length) < 0)
    return fail_errno(errno, "sendto {}", to.to_string());
  BPFNET_TRY(wait_for(fd_.get(), POLLIN, timeout));
  char buffer[4096];
  length = sizeof(name);
  const ssize_t n =
      ::recvfrom(fd_.get(), buffer, sizeof(buffer), 0, reinterpret_cast<sockaddr*>(&name), &length);
  if (n < 0) return fail_errno(errno, "recvfrom");
  const std::string text(buffer, static_cast<size_t>(n));
  if (!text.ends_with("\n" + payload)) return fail("other bytes came back: {}", text);
  std::istringstream words(text);
  Answer answer;
  std::string address;
  words >> answer.server >> address >> answer.client.port;
  answer.client.address = Address::parse(address).value();
  answer.from = from_sockaddr(name);
  return answer;
}

uint16_t Datagrams::port() const {
  sockaddr_storage name{};
  socklen_t length = sizeof(name);
  ::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&name), &length);
  return from_sockaddr(name).port;
}

testing::AssertionResult answered_as(const Result<Datagrams::Answer>& answer, const std::string& server,
                                     const Address& client, const HostPort& from) {
  if (!answer) return testing::AssertionFailure() << answer.error().message;
  if (answer->server == server && answer->client.address == client && answer->from == from)
    return testing::AssertionSuccess();
  return testing::AssertionFailure() << answer->server << " answered, having seen "
                                     << answer->client.to_string() << ", as " << answer->from.to_string();
}

testing::AssertionResult made_to_the_backend(const Node& node, uint16_t client_port) {
  int plain = 0;
  for (const nlohmann::json& flow : node.ctl({"flow", "list"})) {
    if (flow.at("client_port") != client_port) continue;
    for (const auto& flag : flow.at("flags"))
      if (flag == "service") return testing::AssertionFailure() << "translated by packet: " << flow.dump();
    plain++;
  }
  return plain > 0 ? testing::AssertionSuccess() : testing::AssertionFailure() << "no such flow";
}

uint64_t calls(const Node& node, const std::string& outcome) {
  return node.ctl({"status"}).at("datapath").at("sockets").value(outcome, uint64_t{0});
}

}  // namespace bpfnet::e2e
