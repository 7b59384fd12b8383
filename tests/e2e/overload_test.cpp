// A flow table that is far too small, under a SYN flood: what is established stays.
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "tests/e2e/e2e.h"

namespace bpfnet::e2e {
namespace {

constexpr int kEstablished = 100;
constexpr uint32_t kSyns = 20000;

class Overload : public testing::TestWithParam<Family> {
 protected:
  Overload() : cluster_(cluster_options({"node-a"}, {"--max-flows", "256"})) {
    cluster_.add_pod(0, "web-a");
    cluster_.add_pod(0, "client-a");
    cluster_.apply("web", echo_service("web", 10, {cluster_.backend("web-a")}, 30080).yaml());
  }
  [[nodiscard]] HostPort service() const { return {pick(GetParam(), "10.96.0.10", "fd00:10:96::10"), 80}; }
  Cluster cluster_;
};

/// Sends SYNs to `to` from as many forged sources.
void syn_flood(const Netns& from, const HostPort& to, uint32_t count) {
  const bool v4 = to.address.is_ipv4();
  const Fd fd =
      from.in([&] { return Fd(::socket(v4 ? AF_INET : AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW)); });
  sockaddr_storage name{};
  const socklen_t length = to_sockaddr({to.address, 0}, name);
  for (uint32_t i = 0; i < count; i++) {
    tcphdr tcp{};
    tcp.source = htons(static_cast<uint16_t>(1024 + i % 60000));
    tcp.dest = htons(to.port);
    tcp.seq = htonl(i);
    tcp.doff = sizeof(tcp) / 4;
    tcp.syn = 1;
    tcp.window = htons(65535);
    char packet[sizeof(ip6_hdr) + sizeof(tcp)] = {};
    size_t size = 0;
    if (v4) {
      iphdr ip{};
      ip.version = 4;
      ip.ihl = 5;
      ip.ttl = 64;
      ip.protocol = IPPROTO_TCP;
      ip.saddr = htonl(0xCB007100U | (i & 0xffU));  // 203.0.113.0/24, RFC 5737
      const auto target = to.address.ipv4();
      std::memcpy(&ip.daddr, target.data(), target.size());
      std::memcpy(packet, &ip, sizeof(ip));
      size = sizeof(ip);
    } else {
      ip6_hdr ip{};
      ip.ip6_flow = htonl(6U << 28U);
      ip.ip6_plen = htons(sizeof(tcp));
      ip.ip6_nxt = IPPROTO_TCP;
      ip.ip6_hlim = 64;
      const auto source = Address::parse(fmt::format("2001:db8:f::{:x}", i & 0xffffU)).value().bytes();
      std::memcpy(&ip.ip6_src, source.data(), source.size());
      std::memcpy(&ip.ip6_dst, to.address.bytes().data(), sizeof(ip.ip6_dst));
      std::memcpy(packet, &ip, sizeof(ip));
      size = sizeof(ip);
    }
    std::memcpy(packet + size, &tcp, sizeof(tcp));
    size += sizeof(tcp);
    ::sendto(fd.get(), packet, size, 0, reinterpret_cast<sockaddr*>(&name), length);
  }
}

TEST_P(Overload, SynFloodCannotPushOutEstablishedConnections) {
  const Netns& netns = cluster_.pod("client-a").netns();
  std::vector<TcpClient> clients;
  for (int i = 0; i < kEstablished; i++) {
    auto client = TcpClient::connect(netns, service());
    ASSERT_TRUE(worked(client)) << "connection " << i;
    clients.push_back(std::move(*client));
  }
  syn_flood(cluster_.network().client().netns(), {cluster_.node(0).ip(GetParam()), 30080}, kSyns);
  int alive = 0;
  for (auto& client : clients) alive += client.echo("through the flood") ? 1 : 0;
  EXPECT_EQ(alive, kEstablished);
  // A newcomer takes the place of a half-open one.
  EXPECT_TRUE(worked(ask(netns, "tcp", service()))) << cluster_.node(0).ctl_text({"drops"}).out;
}

TEST_P(Overload, TableFullOfEstablishedConnectionsRefusesNewOnesByName) {
  const Netns& netns = cluster_.pod("client-a").netns();
  std::vector<TcpClient> clients;
  while (clients.size() < 300) {
    auto client = TcpClient::connect(netns, service(), {.timeout = kSilence});
    if (!client) break;
    clients.push_back(std::move(*client));
  }
  EXPECT_GE(clients.size(), 200U);
  EXPECT_LE(clients.size(), 256U);
  int alive = 0;
  for (auto& client : clients) alive += client.echo("still here") ? 1 : 0;
  EXPECT_EQ(alive, static_cast<int>(clients.size()));
  const Output drops = cluster_.node(0).ctl_text({"drops"});
  EXPECT_NE(drops.out.find("flow-table-full"), std::string::npos) << drops.out;
}

INSTANTIATE_TEST_SUITE_P(E2e, Overload, testing::Values(Family::kIpv4, Family::kIpv6), family_name);

}  // namespace
}  // namespace bpfnet::e2e
