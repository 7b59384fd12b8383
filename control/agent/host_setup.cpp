#include "control/agent/host_setup.h"

#include <net/if.h>
#include <spdlog/spdlog.h>

#include <cerrno>

#include "control/agent/node_links.h"
#include "loader/sysctl.h"

namespace bpfnet::agent {
namespace {

struct Setting {
  const char* key;
  const char* value;
};

/// Gone with the device, so no journal.
constexpr Setting kDeviceSettings[] = {
    // bpf_fib_lookup routes only for a device that forwards; the rest of the host stays as it is.
    {"net/ipv4/conf/bpfnet0/forwarding", "1"},
    {"net/ipv4/conf/bpfnet1/forwarding", "1"},
    {"net/ipv6/conf/bpfnet0/forwarding", "1"},
    {"net/ipv6/conf/bpfnet1/forwarding", "1"},
    // Answers to outside clients enter here although their route points to an uplink (2: loose, and the
    // larger of this and conf/all counts).
    {"net/ipv4/conf/bpfnet0/rp_filter", "2"},
    // A host process that reaches a backend of this host arrives with one of the host's own addresses.
    {"net/ipv4/conf/bpfnet0/accept_local", "1"},
    {"net/ipv4/conf/bpfnet0/route_localnet", "1"},
    // No link-local addresses and no router discovery on a device that leads nowhere.
    {"net/ipv6/conf/bpfnet0/addr_gen_mode", "1"},
    {"net/ipv6/conf/bpfnet1/addr_gen_mode", "1"},
    {"net/ipv6/conf/bpfnet0/accept_ra", "0"},
    {"net/ipv6/conf/bpfnet1/accept_ra", "0"},
};

/// NodePorts on 127.0.0.1: answers are delivered on lo with the source 127.0.0.1; those of load balancer
/// addresses and externalIPs too, whose route points to an uplink (rp_filter 2: loose).
constexpr Setting kLoopbackSettings[] = {
    {"net/ipv4/conf/lo/rp_filter", "2"},
    {"net/ipv4/conf/lo/accept_local", "1"},
    {"net/ipv4/conf/lo/route_localnet", "1"},
};

/// IPv6 may be switched off: its settings are then not there and not needed.
bool optional_key(const std::string& key) {
  return key.starts_with("net/ipv6/");
}

Status check_pair(const loader::Link& host, const loader::Link& router) {
  if (host.kind != "veth" || host.peer_ifindex != router.ifindex || host.peer_elsewhere)
    return fail("device {}: exists and is not one of a veth pair with {}; remove it or rename it", host.name,
                kRouterDevice);
  return ok();
}

}  // namespace

Result<HostDevice> ensure_host_device(loader::Netlink& netlink, ipam::Store& store,
                                      std::optional<uint32_t> mtu) {
  BPFNET_TRY(store.add_journal({.kind = "device", .object = kHostDevice, .before = "", .after = "veth"}));
  auto host = netlink.link(kHostDevice);
  if (!host) return pass(host);
  if (!*host) {
    const Mac mac = Mac::random();
    auto made = netlink.create_veth({.name = kHostDevice,
                                     .peer_name = kRouterDevice,
                                     .mac = mac,
                                     .peer_mac = mac,
                                     .mtu = mtu.value_or(kDefaultMtu)});
    if (!made) return pass(made, "host device");
    host = netlink.link(kHostDevice);
    if (!host) return pass(host);
  }
  auto router = netlink.link(kRouterDevice);
  if (!router) return pass(router);
  if (!*host || !*router) return fail("device {}: has no peer {}", kHostDevice, kRouterDevice);
  BPFNET_TRY(check_pair(**host, **router));
  // Repeated on adoption: an agent may have been killed between any two of these.
  for (const Setting& setting : kDeviceSettings) {
    auto written = loader::write_sysctl(setting.key, setting.value);
    if (!written && !(optional_key(setting.key) && written.error().code == ENOENT)) return pass(written);
  }
  if ((*host)->mac != (*router)->mac) BPFNET_TRY(netlink.set_mac((*router)->ifindex, (*host)->mac));
  if (!((*host)->flags & IFF_NOARP)) BPFNET_TRY(netlink.set_noarp((*host)->ifindex));
  for (const loader::Link* link : {&**router, &**host}) {
    if (mtu && link->mtu != *mtu) BPFNET_TRY(netlink.set_mtu(link->ifindex, *mtu));
    if (!link->is_up()) BPFNET_TRY(netlink.set_up(link->ifindex));
  }
  return HostDevice{
      .host_ifindex = (*host)->ifindex, .router_ifindex = (*router)->ifindex, .mac = (*host)->mac};
}

bool speaks_ipv6() {
  const auto disabled = loader::read_sysctl(fmt::format("net/ipv6/conf/{}/disable_ipv6", kHostDevice));
  return disabled && *disabled == "0";
}

Status ensure_sysctls(ipam::Store& store) {
  for (const Setting& setting : kLoopbackSettings) {
    auto before = loader::read_sysctl(setting.key);
    if (!before) return pass(before);
    if (*before == setting.value) continue;
    BPFNET_TRY(store.add_journal(
        {.kind = "sysctl", .object = setting.key, .before = *before, .after = setting.value}));
    auto written = loader::write_sysctl(setting.key, setting.value);
    if (!written) return pass(written);
    spdlog::info("sysctl {}: {} -> {}", setting.key, *before, setting.value);
  }
  return ok();
}

std::vector<std::string> restore_sysctls(ipam::Store& store) {
  std::vector<std::string> errors;
  auto journal = store.journal();
  if (!journal) return {journal.error().message};
  for (const ipam::JournalEntry& entry : *journal) {
    if (entry.kind != "sysctl") continue;
    auto written = loader::write_sysctl(entry.object, entry.before);
    if (!written) {
      errors.push_back(written.error().message);
      continue;
    }
    Status removed = store.remove_journal(entry.kind, entry.object);
    if (!removed) errors.push_back(removed.error().message);
  }
  return errors;
}

}  // namespace bpfnet::agent
