#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/result.h"
#include "control/ipam/store.h"
#include "loader/netlink.h"

namespace bpfnet::agent {

/// Our host device: bpfnet0 has the routes, from_host runs at bpfnet1. Both have the same MAC.
struct HostDevice {
  int host_ifindex = 0;
  int router_ifindex = 0;
  Mac mac;
};

/// Makes the pair or takes over the one that is there. Journalled before it is made. `mtu` missing: a pair
/// that is there keeps its own.
Result<HostDevice> ensure_host_device(loader::Netlink& netlink, ipam::Store& store,
                                      std::optional<uint32_t> mtu);

/// Whether the host's stack takes IPv6 routes for our device: it may be switched off, as a whole or by
/// sysctl.
bool speaks_ipv6();

/// What the kernel must allow so that translated packets reach the host's sockets. Sysctls of devices that
/// are not ours are journalled with the value found first.
Status ensure_sysctls(ipam::Store& store);

/// Writes back every journalled sysctl. Errors are collected: the rest is restored all the same.
std::vector<std::string> restore_sysctls(ipam::Store& store);

}  // namespace bpfnet::agent
