// Fragments in any order (S49), through services and directly, by the kernel's own stacks at both ends. The
// fragments of a datagram are made here, by raw sockets, in every order.
#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/e2e/e2e.h"

namespace bpfnet::e2e {
namespace {

using nlohmann::json;

constexpr size_t kHeader = 8;
constexpr size_t kPiece = 1336;  // fits every link

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

using Order = std::array<size_t, 3>;

/// Sends the datagram in three parts in this order, parts that are too large for a link in more pieces.
void send_pieces(const Netns& netns, const HostPort& from, const HostPort& to, const std::string& payload,
                 const Order& order) {
  static uint16_t id = 4000;
  ++id;
  const std::string udp = datagram(from, to, payload);
  const size_t part = (udp.size() / 3 + 7) / 8 * 8;
  const Fd fd(netns.in([&] {
    return ::socket(to.address.is_ipv6() ? AF_INET6 : AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
  }));
  ASSERT_TRUE(fd);
  sockaddr_storage address{};
  const socklen_t length = to_sockaddr({to.address, 0}, address);
  for (const size_t i : order) {
    const size_t end = std::min((i + 1) * part, udp.size());
    for (size_t at = i * part; at < end; at += kPiece) {
      const std::string packet = fragment(from, to, udp, at, std::min(kPiece, end - at), id);
      ASSERT_EQ(
          sendto(fd.get(), packet.data(), packet.size(), 0, reinterpret_cast<sockaddr*>(&address), length),
          static_cast<ssize_t>(packet.size()))
          << strerror(errno);
    }
  }
}

std::string letters(size_t size) {
  std::string text(size, 'x');
  for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>('a' + i % 23);
  return text;
}

/// One datagram in this order, and its answer.
Result<Seen> ask_in_pieces(const Netns& netns, const Address& source, const HostPort& to, const Order& order,
                           size_t size = 2000, milliseconds timeout = milliseconds(2000)) {
  auto socket = UdpClient::open(netns, to, {.timeout = timeout});
  if (!socket) return pass(socket);
  const std::string payload = letters(size);
  send_pieces(netns, {source, socket->local().port}, to, payload, order);
  return socket->receive(payload);
}

/// Fragments that went to a node's defragmenter and came back.
uint64_t diverted(const Node& node) {
  uint64_t count = 0;
  const json status = node.ctl({"status"});
  for (const auto& [hook, verdicts] : status.at("datapath").at("hooks").items())
    count += verdicts.value("defragment", uint64_t{0});
  return count;
}

std::string device(const Node& node) {
  const std::string shown = node.netns().ip_show("-o link show bpfnet2");
  return shown.substr(0, shown.find(':'));
}

class Fragments : public TwoNodes {
 protected:
  void TearDown() override {
    if (has_cluster() && !node_a().agent().running()) node_a().start();
    TwoNodes::TearDown();
  }
  /// One request of client-a in this order.
  static Result<Seen> ask(const HostPort& to, const Order& order, milliseconds timeout = milliseconds(2000)) {
    return ask_in_pieces(pod("client-a").netns(), pod("client-a").ip(family()), to, order, 2000, timeout);
  }

  /// Every order of three fragments must be answered, by `server` where it is named.
  template <typename Client>
  static void expect_every_order(Client& client, const HostPort& to, size_t size = 2000) {
    Order order{0, 1, 2};
    do {
      EXPECT_TRUE(worked(ask_in_pieces(client.netns(), client.ip(family()), to, order, size)))
          << order[0] << order[1] << order[2];
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

TEST_P(Fragments, EightThousandBytesInEveryOrder) {
  for (const int number : {11, 12}) expect_every_order(pod("client-a"), service(number), 8000);
  expect_every_order(pod("client-a"), {pod("web-b").ip(family()), Pod::kPort}, 8000);
  expect_every_order(network().client(), {node_a().ip(family()), 30081}, 8000);
}

TEST_P(Fragments, OutsideToPodInEveryOrder) {
  const Address web = pod("web-a").ip(family());
  const std::string route = web.to_string() + " via " + node_a().ip(family()).to_string();
  network().client().netns().ip("route replace " + route);
  expect_every_order(network().client(), {web, Pod::kPort});
  network().client().netns().ip("route del " + route);
}

TEST_P(Fragments, InOrderNothingIsDiverted) {
  const uint64_t before = diverted(node_a());
  EXPECT_TRUE(answered(ask(service(11), {0, 1, 2}), "web-a", pod("client-a").ip(family())));
  EXPECT_TRUE(answered(ask(service(11), {0, 2, 1}), "web-a", pod("client-a").ip(family())));
  EXPECT_EQ(diverted(node_a()), before);
  EXPECT_TRUE(answered(ask(service(11), {1, 0, 2}), "web-a", pod("client-a").ip(family())));
  EXPECT_EQ(diverted(node_a()), before + 6) << "three there, three back";
}

// What never becomes whole reaches nobody, and those after it do.
TEST_P(Fragments, WithoutOneOfThemThereIsNoDatagram) {
  EXPECT_TRUE(failed_with(ask(service(11), {1, 1, 2}, kSilence), ETIMEDOUT));
  EXPECT_TRUE(failed_with(ask(service(11), {2, 0, 0}, kSilence), ETIMEDOUT));
  EXPECT_TRUE(worked(ask(service(11), {2, 1, 0})));
}

TEST_P(Fragments, WithoutAnAgentAndTakenOverByTheNext) {
  const std::string before = device(node_a());
  node_a().kill_agent();
  expect_every_order(pod("client-a"), service(11));
  expect_every_order(network().client(), {node_a().ip(family()), 30081});
  node_a().start();
  EXPECT_EQ(device(node_a()), before);
  expect_every_order(pod("client-a"), service(11));
}

// Half a defragmenter is as good as none: the next agent makes it anew.
TEST_P(Fragments, WhatSomebodyTookAwayIsMadeAnew) {
  node_a().kill_agent();
  node_a().netns().ip("link del bpfnet2");
  node_a().start();
  expect_every_order(pod("client-a"), service(11));
  node_a().kill_agent();
  const std::string pin = family() == Family::kIpv4 ? "ipv4" : "ipv6";
  ASSERT_TRUE(std::filesystem::remove(node_a().bpffs() + "/defrag/" + pin));
  node_a().start();
  expect_every_order(pod("client-a"), service(11));
}

INSTANTIATE_TEST_SUITE_P(Families, Fragments, testing::Values(Family::kIpv4, Family::kIpv6), family_name);

class FragmentsSetup : public testing::Test {};

TEST_F(FragmentsSetup, CleanupLeavesNeitherDeviceNorLink) {
  Cluster cluster(cluster_options({"node-a"}));
  Node& node = cluster.node(0);
  const json link = json::parse(
      check_run({.argv = {"bpftool", "-j", "link", "show", "pinned", node.bpffs() + "/defrag/ipv4"}}));
  const auto exists = [&] {
    return run({.argv = {"bpftool", "-j", "link", "show", "id", link.at("id").dump()}}).status == 0;
  };
  node.kill_agent();
  EXPECT_TRUE(exists()) << "the datapath outlives the agent";
  ASSERT_EQ(node.cleanup(), 0) << read_text(node.dir("cleanup.log"));
  EXPECT_EQ(node.netns().ip_show("link show").find("bpfnet"), std::string::npos);
  EXPECT_TRUE(eventually([&] { return !exists(); }));
  EXPECT_FALSE(std::filesystem::exists(node.bpffs()));
}

// What cannot be had is told, and everything else works.
TEST_F(FragmentsSetup, WithoutADefragmenterFragmentsInOrderWork) {
  Cluster cluster(cluster_options({"node-a"}));
  Node& node = cluster.node(0);
  ASSERT_TRUE(agent_removed(node));
  node.netns().ip("link add bpfnet2 type veth peer name other");
  node.start();
  const std::string state = node.api("/v1/status").at("fragments");
  EXPECT_TRUE(state.starts_with("in order only: device bpfnet2: is not ours")) << state;
  EXPECT_NE(node.log().find("fragments are carried in order only: device bpfnet2"), std::string::npos);
  cluster.add_pod(0, "web");
  cluster.add_pod(0, "client");
  const HostPort to{cluster.pod("web").ip(Family::kIpv4), Pod::kPort};
  const Pod& client = cluster.pod("client");
  const Address own = client.ip(Family::kIpv4);
  EXPECT_TRUE(worked(ask_in_pieces(client.netns(), own, to, {0, 1, 2})));
  EXPECT_TRUE(failed_with(ask_in_pieces(client.netns(), own, to, {1, 0, 2}, 2000, kSilence), ETIMEDOUT));
  node.stop_agent();
  EXPECT_EQ(node.cleanup(), 0) << read_text(node.dir("cleanup.log"));
  EXPECT_NE(node.netns().ip_show("link show").find("bpfnet2"), std::string::npos) << "it was not ours";
}

}  // namespace
}  // namespace bpfnet::e2e
