#pragma once

#include <string>

#include "tests/e2e/e2e.h"

// Sockets whose calls are translated, and what there is to see of it.
namespace bpfnet::e2e {

/// Two nodes that translate at sockets.
class SocketsOn : public TwoNodes {
 public:
  static void SetUpTestSuite();

 protected:
  static Address loopback() { return pick(family(), "127.0.0.1", "::1"); }
};

Fd make_socket(const Netns& netns, int family, int type);
/// `to` as an IPv6 socket names it: IPv4 addresses v4-mapped.
socklen_t to_sockaddr6(const HostPort& to, sockaddr_storage& name);
HostPort peer_of(int fd);

/// A UDP socket that is not connected.
class Datagrams {
 public:
  /// `mapped`: an IPv6 socket also for IPv4.
  Datagrams(const Netns& netns, Family family, bool mapped = false);

  struct Answer {
    std::string server;
    HostPort client;  ///< as the server saw it
    HostPort from;    ///< as the application is told
  };
  Result<Answer> ask(const HostPort& to, milliseconds timeout = milliseconds(2000));
  [[nodiscard]] uint16_t port() const;

 private:
  bool six_;
  Fd fd_;
  int count_ = 0;
};

testing::AssertionResult answered_as(const Result<Datagrams::Answer>& answer, const std::string& server,
                                     const Address& client, const HostPort& from);
/// Does the flow table hold connections of this client port, and none of them translated?
testing::AssertionResult made_to_the_backend(const Node& node, uint16_t client_port);
/// How many socket calls of the node have come to this outcome.
uint64_t calls(const Node& node, const std::string& outcome);

}  // namespace bpfnet::e2e
