#include "tests/support/cluster/prober.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/epoll.h>

#include <chrono>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <utility>

namespace bpfnet::e2e {
namespace {

/// Below the second after which TCP would send a SYN again, and have it dropped and counted twice.
constexpr milliseconds kRoundLimit{900};
/// Rounds that a busy machine made too long, or that a stray packet disturbed, are done again.
constexpr int kTries = 3;
/// The next rounds' source ports of SCTP: new associations, but not so many that they fill the flow table.
constexpr uint16_t kSctpPort = 20000;
constexpr uint16_t kSctpPorts = 8;
/// epoll numbers from here on are connections of the attempt.
constexpr uint64_t kConnections = 1U << 20U;

/// What a datagram says; the server adds who it is.
struct ProbeDatagram {
  uint16_t round;
  uint16_t index;
  uint32_t by;
};

Fd server_socket(int type, uint16_t port) {
  Fd fd(::socket(AF_INET6, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  sockaddr_in6 any{};
  any.sin6_family = AF_INET6;
  any.sin6_port = htons(port);
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&any), sizeof(any)) != 0 ||
      (type == SOCK_STREAM && ::listen(fd.get(), 4096) != 0)) {
    throw std::runtime_error(fmt::format("prober: port {}: {}", port, std::strerror(errno)));
  }
  return fd;
}

/// The handshake is the answer; nothing is said on the connection.
void accept_and_close(int listener) {
  while (true) {
    const Fd fd(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
    if (!fd) return;
  }
}

void echo_datagrams(int fd, size_t party) {
  while (true) {
    ProbeDatagram datagram{};
    sockaddr_storage peer{};
    socklen_t length = sizeof(peer);
    const ssize_t n =
        ::recvfrom(fd, &datagram, sizeof(datagram), 0, reinterpret_cast<sockaddr*>(&peer), &length);
    if (n < 0) return;
    datagram.by = static_cast<uint32_t>(party);
    (void)::sendto(fd, &datagram, sizeof(datagram), 0, reinterpret_cast<sockaddr*>(&peer), length);
  }
}

uint64_t sum(const std::vector<uint64_t>& counts) {
  return std::accumulate(counts.begin(), counts.end(), uint64_t{0});
}

int af(Family family) {
  return family == Family::kIpv4 ? AF_INET : AF_INET6;
}

}  // namespace

struct Prober::Party {
  explicit Party(const Netns& ns)
      : netns(ns), sctp{SctpSocket(ns, Family::kIpv4), SctpSocket(ns, Family::kIpv6)} {
    netns.in([&] {
      for (const auto family : {Family::kIpv4, Family::kIpv6}) {
        for (auto& fd : datagrams[index(family)])
          fd = Fd(::socket(af(family), SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      }
    });
  }
  static size_t index(Family family) { return family == Family::kIpv4 ? 0 : 1; }

  const Netns& netns;
  Fd datagrams[2][2];  ///< by family and lane
  SctpSocket sctp[2];
  std::vector<Fd> servers;
};

struct Prober::Attempt {
  std::span<const PartyProbe> probes;
  std::vector<ProbeOutcome> outcomes;
  std::vector<Fd> connections;  ///< by probe, TCP only
  size_t done = 0;
};

Prober::Prober() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {}
Prober::~Prober() = default;

void Prober::watch(int fd, Handler handler) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = handlers_.size();
  handlers_.push_back(std::move(handler));
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event);
}

size_t Prober::add(const Netns& netns, const std::vector<uint16_t>& ports) {
  const size_t number = parties_.size();
  Party& party = *parties_.emplace_back(std::make_unique<Party>(netns));
  for (const auto& lanes : party.datagrams) {
    for (const auto& fd : lanes) watch(fd.get(), [this, fd = fd.get()] { read_datagrams(fd); });
  }
  for (const auto& socket : party.sctp)
    watch(socket.fd(), [this, number, &socket] { read_sctp(number, socket); });
  netns.in([&] {
    for (const uint16_t port : ports) {
      party.servers.push_back(server_socket(SOCK_STREAM, port));
      watch(party.servers.back().get(), [fd = party.servers.back().get()] { accept_and_close(fd); });
      party.servers.push_back(server_socket(SOCK_DGRAM, port));
      watch(party.servers.back().get(),
            [fd = party.servers.back().get(), number] { echo_datagrams(fd, number); });
    }
  });
  return number;
}

ProbeRound Prober::run(std::span<const PartyProbe> probes, const DropCounts& drops) {
  std::string sums;
  for (int i = 0; i < kTries; i++) {
    const auto before = drops();
    begin(probes);
    auto dropped = settle(drops, before);
    const auto attempt = std::move(attempt_);
    if (std::cmp_equal(attempt->done + sum(dropped), probes.size()))
      return {std::move(attempt->outcomes), std::move(dropped)};
    sums +=
        fmt::format(" {} of {} answered, {} packets dropped;", attempt->done, probes.size(), sum(dropped));
  }
  throw std::runtime_error("prober: probes do not add up:" + sums);
}

std::vector<uint64_t> Prober::settle(const DropCounts& drops, const std::vector<uint64_t>& before) {
  const auto end = std::chrono::steady_clock::now() + kRoundLimit;
  while (true) {
    epoll_event events[128];
    const int n = ::epoll_wait(epoll_.get(), events, 128, 1);
    for (int i = 0; i < n; i++) {
      const uint64_t number = events[i].data.u64;
      if (number >= kConnections) {
        connected(number - kConnections);
      } else {
        handlers_[number]();
      }
    }
    const bool late = std::chrono::steady_clock::now() >= end;
    if (n > 0 && !late) continue;
    auto dropped = drops();
    for (size_t i = 0; i < dropped.size(); i++) dropped[i] -= before[i];
    if (late || attempt_->done + sum(dropped) >= attempt_->probes.size()) return dropped;
  }
}

void Prober::begin(std::span<const PartyProbe> probes) {
  round_++;
  attempt_ = std::make_unique<Attempt>();
  attempt_->probes = probes;
  attempt_->outcomes.resize(probes.size());
  attempt_->connections.resize(probes.size());
  for (size_t number = 0; number < parties_.size(); number++) {
    parties_[number]->netns.in([&] {
      for (size_t i = 0; i < probes.size(); i++) {
        if (probes[i].from != number || probes[i].proto != IPPROTO_TCP) continue;
        connect(i, Fd(::socket(af(probes[i].to.address.family()), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
                               0)));
      }
    });
  }
  for (size_t i = 0; i < probes.size(); i++) {
    const PartyProbe& probe = probes[i];
    const Party& party = *parties_[probe.from];
    const size_t family = Party::index(probe.to.address.family());
    if (probe.proto == IPPROTO_UDP) {
      const ProbeDatagram datagram{round_, static_cast<uint16_t>(i), 0};
      sockaddr_storage name{};
      const socklen_t length = to_sockaddr(probe.to, name);
      (void)::sendto(party.datagrams[family][probe.lane].get(), &datagram, sizeof(datagram), 0,
                     reinterpret_cast<sockaddr*>(&name), length);
    } else if (probe.proto == IPPROTO_SCTP) {
      party.sctp[family].send(
          {.source_port = static_cast<uint16_t>(kSctpPort + round_ % kSctpPorts + probe.lane * kSctpPorts),
           .destination_port = probe.to.port,
           .initiate_tag = static_cast<uint32_t>(round_) << 16U | static_cast<uint32_t>(i + 1)},
          probe.to.address);
    }
  }
}

void Prober::connect(size_t index, Fd fd) {
  // Closed by a reset: neither end keeps anything of it.
  const linger at_once{1, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
  sockaddr_storage name{};
  const socklen_t length = to_sockaddr(attempt_->probes[index].to, name);
  const int failed = ::connect(fd.get(), reinterpret_cast<sockaddr*>(&name), length) == 0 ? 0 : errno;
  if (failed != 0 && failed != EINPROGRESS) {
    attempt_->outcomes[index].refused = failed;
    attempt_->done++;
    return;
  }
  epoll_event event{};
  event.events = EPOLLOUT;
  event.data.u64 = kConnections + index;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd.get(), &event);
  attempt_->connections[index] = std::move(fd);
}

void Prober::connected(size_t index) {
  const Fd fd = std::move(attempt_->connections[index]);
  int error = 0;
  socklen_t length = sizeof(error);
  ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &length);
  if (error == 0) return answer(index, attempt_->probes[index].to, std::nullopt);
  attempt_->outcomes[index].refused = error;
  attempt_->done++;
}

void Prober::answer(size_t index, const HostPort& from, std::optional<size_t> by) {
  ProbeOutcome& outcome = attempt_->outcomes.at(index);
  if (from != attempt_->probes[index].to) {
    throw std::runtime_error(fmt::format("prober: {} was asked by protocol {}, {} answered",
                                         attempt_->probes[index].to.to_string(),
                                         attempt_->probes[index].proto, from.to_string()));
  }
  if (outcome.answered) return;
  outcome = {.answered = true, .by = by};
  attempt_->done++;
}

void Prober::read_datagrams(int fd) {
  while (true) {
    ProbeDatagram datagram{};
    sockaddr_storage peer{};
    socklen_t length = sizeof(peer);
    const ssize_t n =
        ::recvfrom(fd, &datagram, sizeof(datagram), 0, reinterpret_cast<sockaddr*>(&peer), &length);
    if (n < 0) return;
    if (datagram.round == round_) answer(datagram.index, from_sockaddr(peer), datagram.by);
  }
}

void Prober::read_sctp(size_t party, const SctpSocket& socket) {
  while (const auto received = socket.receive()) {
    const SctpInit& init = received->init;
    if (!init.ack) {
      socket.send({.source_port = init.destination_port,
                   .destination_port = init.source_port,
                   .tag = init.initiate_tag,
                   .initiate_tag = static_cast<uint32_t>(party + 1),
                   .ack = true},
                  received->from);
    } else if (init.tag >> 16U == round_) {
      answer((init.tag & 0xffffU) - 1, {received->from, init.source_port}, init.initiate_tag - 1);
    }
  }
}

}  // namespace bpfnet::e2e
