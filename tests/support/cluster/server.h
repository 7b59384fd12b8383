#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <thread>

#include "base/fd.h"
#include "tests/support/cluster/netns.h"
#include "tests/support/cluster/sockets.h"

namespace bpfnet::e2e {

/// Listens on one port, TCP and UDP, both families, in a namespace. A TCP connection is greeted with the line
/// `NAME PEER-ADDRESS PEER-PORT`, then echoed; a datagram comes back with that line in front.
class EchoServer {
 public:
  /// Throws if the port is taken. `address`: only this one. `name`: empty, the address that was reached.
  EchoServer(const Netns& netns, std::string name, uint16_t port, const Address& address = {});
  ~EchoServer();
  EchoServer(const EchoServer&) = delete;

  [[nodiscard]] uint16_t port() const { return port_; }
  [[nodiscard]] uint64_t accepted() const { return accepted_; }
  /// TCP connections that are open now.
  [[nodiscard]] size_t open() const { return open_; }

 private:
  struct Connection {
    Fd fd;
    std::string pending;  ///< not yet taken back by the client
  };
  void serve();
  void accept_all();
  void answer_datagrams();
  bool echo(Connection& connection);

  std::string name_;
  uint16_t port_;
  Fd listener_;
  Fd datagrams_;
  Fd epoll_;
  Fd stop_;
  std::map<int, Connection> connections_;
  std::atomic<uint64_t> accepted_ = 0;
  std::atomic<size_t> open_ = 0;
  std::thread thread_;
};

}  // namespace bpfnet::e2e
