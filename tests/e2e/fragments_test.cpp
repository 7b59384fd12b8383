// Fragments in any order (S49), through services and directly, by the kernel's own stacks at both ends. The
// fragments of a datagram are made here, by raw sockets, in every order.
#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "tests/e2e/e2e.h"

namespace bpfnet::e2e {
namespace {

constexpr size_t kHeader = 8;

uint16_t folded(uint32_t sum) {
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

uint32_t sum_of(const std::string& bytes) {
  uint32_t sum = 0;
  for (size_t i = 0; i < bytes.size(); ++i)
    sum += static_cast<uint32_t>(static_cast<uint8_t>(bytes[i])) << (i % 2 == 0 ? 8 : 0);
  return sum;
}

std::string word(uint32_t value) {
  return {static_cast<char>(value >> 8), static_cast<char>(value)};
}

std::string raw(const Address& address) {
  if (address.is_ipv6()) {
    const auto& all = address.bytes();
    return {reinterpret_cast<const char*>(all.data()), all.size()};
  }
  const auto four = address.ipv4();
  return {reinterpret_cast<const char*>(four.data()), four.size()};
}

std::string datagram(const HostPort& from, const HostPort& to, const std::string& payload) {
  const auto size = static_cast<uint32_t>(kHeader + payload.size());
  std::string udp = word(from.port) + word(to.port) + word(size) + word(0) + payload;
  const uint16_t check =
      folded(sum_of(raw(from.address) + raw(to.address)) + IPPROTO_UDP + size + sum_of(udp));
  udp.replace(6, 2, word(check == 0 ? 0xffff : check));
  return udp;
}

/// One fragment as an IP packet.
std::string fragment(const HostPort& from, const HostPort& to, const std::string& udp, size_t at, size_t size,
                     uint16_t id) {
  const std::string part = udp.substr(at, size);
  const bool more = at + part.size() < udp.size();
  if (to.address.is_ipv6())
    return std::string("\x60\0\0\0", 4) + word(static_cast<uint32_t>(part.size() + 8)) + "\x2c\x40" +
           raw(from.address) + raw(to.address) + std::string("\x11\0", 2) +
           word(static_cast<uint32_t>(at) | (more ? 1 : 0)) + word(0) + word(id) + part;
  std::string head = std::string("\x45\0", 2) + word(static_cast<uint32_t>(part.size() + 20)) + word(id) +
                     word(static_cast<uint32_t>(at / 8) | (more ? 0x2000 : 0)) + "\x40\x11" + word(0) +
                     raw(from.address) + raw(to.address);
  head.replace(10, 2, word(folded(sum_of(head))));
  return head + part;
}

class Fragments : public TwoNodes {
 protected:
  /// Sends the datagram of `socket` in three pieces in this order.
  static void send_pieces(const Netns& netns, const HostPort& from, const HostPort& to,
                          const std::string& payload, const std::array<size_t, 3>& order) {
    static uint16_t id = 4000;
    ++id;
    const std::string udp = datagram(from, to, payload);
    const size_t size = (udp.size() / 3 + 7) / 8 * 8;
    const Fd fd(netns.in([&] {
      return ::socket(to.address.is_ipv6() ? AF_INET6 : AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
    }));
    ASSERT_TRUE(fd);
    sockaddr_storage address{};
    const socklen_t length = to_sockaddr({to.address, 0}, address);
    for (const size_t i : order) {
      const std::string packet = fragment(from, to, udp, i * size, size, id);
      ASSERT_EQ(
          sendto(fd.get(), packet.data(), packet.size(), 0, reinterpret_cast<sockaddr*>(&address), length),
          static_cast<ssize_t>(packet.size()))
          << strerror(errno);
    }
  }

  /// Every order of three fragments must be answered, by `server` where it is named.
  template <typename Client>
  static void expect_every_order(Client& client, const HostPort& to, size_t size = 2000) {
    const std::string payload = [&] {
      std::string text(size, 'x');
      for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>('a' + i % 23);
      return text;
    }();
    std::array<size_t, 3> order{0, 1, 2};
    do {
      auto socket = UdpClient::open(client.netns(), to);
      ASSERT_TRUE(worked(socket));
      const HostPort from{client.ip(family()), socket->local().port};
      send_pieces(client.netns(), from, to, payload, order);
      EXPECT_TRUE(worked(socket->receive(payload))) << order[0] << order[1] << order[2];
    } while (std::next_permutation(order.begin(), order.end()));
  }
};

TEST_P(Fragments, PodToPodInEveryOrder) {
  expect_every_order(pod("client-a"), {pod("web-a").ip(family()), Pod::kPort});
  expect_every_order(pod("client-a"), {pod("web-b").ip(family()), Pod::kPort});
}

TEST_P(Fragments, PodToClusterIpInEveryOrder) {
  expect_every_order(pod("client-a"), service(11));
  expect_every_order(pod("client-a"), service(12));
}

TEST_P(Fragments, PodToNodePortInEveryOrder) {
  expect_every_order(pod("client-a"), {node_a().ip(family()), 30081});
  expect_every_order(pod("client-a"), {node_b().ip(family()), 30082});
}

TEST_P(Fragments, OutsideToNodePortInEveryOrder) {
  expect_every_order(network().client(), {node_a().ip(family()), 30081});
  expect_every_order(network().client(), {node_a().ip(family()), 30082});
}

TEST_P(Fragments, OutsideToAProcessOfTheHostInEveryOrder) {
  const EchoServer server(node_a().netns(), "host-a", 9191);
  expect_every_order(network().client(), {node_a().ip(family()), 9191});
}

TEST_P(Fragments, EightThousandBytesThereAndBack) {
  for (const int number : {11, 12}) {
    auto socket = UdpClient::open(pod("client-a").netns(), service(number));
    ASSERT_TRUE(worked(socket));
    EXPECT_TRUE(worked(socket->request(std::string(8000, 'y'))));
  }
}

TEST_P(Fragments, AfterARestartOfTheAgentInEveryOrder) {
  node_a().kill_agent();
  node_a().start();
  EXPECT_EQ(node_a().api("/v1/status").at("fragments"), "any order");
  expect_every_order(pod("client-a"), service(12));
}

INSTANTIATE_TEST_SUITE_P(Families, Fragments, testing::Values(Family::kIpv4, Family::kIpv6), family_name);

}  // namespace
}  // namespace bpfnet::e2e
