#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "tests/support/cluster/netns.h"
#include "tests/support/cluster/sockets.h"

namespace bpfnet::bench {

/// What a server answers a request with.
struct Reply {
  uint16_t port = 0;  ///< the one it listens on: tells backends apart
  Address client;     ///< whom it sees
};

/// Answers one request a connection on each of `ports`, IPv4, in a namespace; its thread sleeps when nobody
/// asks.
class RequestServer {
 public:
  /// Throws std::runtime_error if a port is taken.
  RequestServer(const e2e::Netns& netns, const std::vector<uint16_t>& ports);
  ~RequestServer();
  RequestServer(const RequestServer&) = delete;

 private:
  void serve();
  std::vector<Fd> listeners_;
  Fd stop_;
  std::thread thread_;
};

/// One connection: connect, request, answer, close. Throws std::runtime_error if any of these fails or takes
/// longer than two seconds.
Reply ask(const e2e::HostPort& to);

/// `count` connections one after another; microseconds of each. As ask() for failures.
std::vector<double> round_trips(const e2e::HostPort& to, size_t count);

}  // namespace bpfnet::bench
