#pragma once

#include <string>
#include <vector>

#include "tests/support/cluster/sockets.h"

namespace bpfnet::e2e {

/// Who answers packets whose hop limit grows by one, as traceroute asks: the routers that say "time exceeded"
/// in words of `to`, at last `to` itself. `protocol`: "udp", "tcp" or "icmp" (echo requests; the port is not
/// used). Every step is a socket of its own.
Result<std::vector<Address>> trace(const Netns& netns, const std::string& protocol, const HostPort& to);

}  // namespace bpfnet::e2e
