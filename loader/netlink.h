#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/address.h"
#include "base/result.h"

// Links, addresses, routes and neighbours of one network namespace (rtnetlink by libnl).
namespace bpfnet::loader {

/// rtm_protocol of every route we add: tells ours from all others (see rtnetlink(7); 98 is unassigned).
inline constexpr uint8_t kRouteProtocol = 98;

struct Link {
  int ifindex = 0;
  std::string name;
  std::string kind;  ///< `veth`, `vxlan`, ...; empty for physical devices and lo
  Mac mac;
  uint32_t mtu = 0;
  uint32_t flags = 0;           ///< IFF_*
  uint8_t operstate = 0;        ///< IF_OPER_* (RFC 2863)
  int peer_ifindex = 0;         ///< IFLA_LINK: the peer of a veth, in the peer's netns; 0: none
  bool peer_elsewhere = false;  ///< the peer is in another netns
  uint16_t vxlan_port = 0;      ///< of a VXLAN device: UDP port, host byte order
  bool vxlan_external = false;  ///< and whether each packet says by itself where its tunnel leads

  [[nodiscard]] bool is_up() const;
  /// The kernel has seen its carrier: a device that is up drops what it is given until then.
  [[nodiscard]] bool is_running() const;
  [[nodiscard]] bool is_loopback() const;
};

/// A veth pair to make. Each side gets its final name, MAC and MTU in the one request that creates it.
struct VethSpec {
  std::string name;
  std::string peer_name;
  int peer_netns_fd = -1;  ///< where the peer is born; -1: same netns
  Mac mac;                 ///< zero: the kernel chooses
  Mac peer_mac;
  uint32_t mtu = 0;  ///< of both; 0: the kernel's 1500
};

/// One VXLAN device for tunnels to everywhere: packets carry the other end with them (collect metadata).
struct VxlanSpec {
  std::string name;
  uint16_t port = 4789;  ///< UDP, host byte order
  Mac mac;
  uint32_t mtu = 0;  ///< 0: the kernel's 1500
};

struct InterfaceAddress {
  int ifindex = 0;
  Address address;
  int prefix_length = 0;  ///< within the family
  uint8_t scope = 0;      ///< RT_SCOPE_*
  uint32_t flags = 0;     ///< IFA_F_*
};

struct Route {
  Cidr dst;  ///< 0.0.0.0/0 or ::/0 is the default route
  std::optional<Address> gateway;
  int ifindex = 0;
  std::optional<Address> src;  ///< preferred source
  bool onlink = false;         ///< the gateway is on the link whatever the addresses say
  uint32_t table = 254;        ///< RT_TABLE_MAIN
  uint32_t metric = 0;         ///< 0: the kernel's default (IPv6: 1024)
  uint32_t mtu = 0;            ///< RTAX_MTU; 0: the device's
  uint8_t protocol = kRouteProtocol;
  uint8_t type = 1;  ///< RTN_UNICAST

  /// `10.0.0.0/24 via 10.0.0.1 dev 4`
  [[nodiscard]] std::string to_string() const;
};

/// A rule for packets with this source: they are routed by `table`.
struct SourceRule {
  Address source;
  uint32_t table = 0;
  uint32_t priority = 0;  ///< lower ones are asked first; 32766 is the main table's
};

struct Neighbour {
  int ifindex = 0;
  Address address;
  Mac mac;
  uint16_t state = 0x80;  ///< NUD_*; NUD_PERMANENT
};

class NetlinkSocket;

/// Bound to the netns it was opened in, wherever its thread goes afterwards. One thread at a time. Errors
/// read `link bpn01: create: EEXIST (...)`, with the kernel's own words where it gives any. Mutating calls
/// tell what was there before where a caller's journal needs it.
class Netlink {
 public:
  /// In the calling thread's netns.
  static Result<Netlink> open();
  static Result<Netlink> open(int netns_fd);
  Netlink(Netlink&&) noexcept;
  Netlink& operator=(Netlink&&) noexcept;
  ~Netlink();

  // --- links ---
  Result<std::vector<Link>> links();
  /// nullopt: no such device.
  Result<std::optional<Link>> link(std::string_view name);
  Result<std::optional<Link>> link(int ifindex);
  /// Makes both sides, down; the peer's record is read in its own netns by the caller. Nothing is left behind
  /// on failure.
  Result<Link> create_veth(const VethSpec& spec);
  /// Made down. That its port is free shows when it is set up: EADDRINUSE.
  Result<Link> create_vxlan(const VxlanSpec& spec);
  /// false: was not there. Deleting one side of a veth deletes both.
  Result<bool> delete_link(std::string_view name);
  Result<bool> delete_link(int ifindex);
  Status set_up(int ifindex, bool up = true);
  /// Sets and clears IFF_NOARP.
  Status set_noarp(int ifindex, bool noarp = true);
  Status set_mac(int ifindex, const Mac& mac);
  Status set_mtu(int ifindex, uint32_t mtu);
  Status rename(int ifindex, const std::string& name);

  // --- addresses ---
  Result<std::vector<InterfaceAddress>> addresses();
  Result<std::vector<InterfaceAddress>> addresses(int ifindex);
  /// false: it was there already. `nodad`: IPv6 addresses are usable at once.
  Result<bool> add_address(int ifindex, const Address& address, int prefix_length, bool nodad = true);
  /// false: was not there.
  Result<bool> delete_address(int ifindex, const Address& address, int prefix_length);

  // --- routes ---
  /// Of both families, unicast (and other types) of all tables but `local`; `table` 0: all tables.
  Result<std::vector<Route>> routes(uint32_t table = 254);
  /// false: the same route was there already (EEXIST).
  Result<bool> add_route(const Route& route);
  /// Puts the route in place of the one with the same destination, table and metric; gives that one.
  Result<std::optional<Route>> replace_route(const Route& route);
  /// false: was not there.
  Result<bool> delete_route(const Route& route);
  /// What the kernel would use for a packet to `destination`. ENETUNREACH: no route.
  Result<Route> route_to(const Address& destination);
  /// Devices of default routes of either family in the main table, lowest metric first, each once.
  Result<std::vector<Link>> default_route_devices();

  /// false: it was there already.
  Result<bool> add_rule(const SourceRule& rule);

  // --- neighbours ---
  Result<std::vector<Neighbour>> neighbours(int ifindex);
  Status replace_neighbour(const Neighbour& neighbour);
  /// false: was not there.
  Result<bool> delete_neighbour(int ifindex, const Address& address);

 private:
  Result<Link> made_link(const std::string& name);
  explicit Netlink(std::unique_ptr<NetlinkSocket> socket);
  std::unique_ptr<NetlinkSocket> socket_;
};

/// One change the kernel told of.
struct NetlinkEvent {
  enum class Kind {
    kLink,
    kAddress,
    kRoute,
    kOverrun,  ///< changes were lost: read everything anew
  };
  Kind kind = Kind::kLink;
  bool removed = false;
  Link link;                 ///< of kLink
  InterfaceAddress address;  ///< of kAddress
  Route route;               ///< of kRoute
};

/// Tells changes of links, addresses and routes of the netns it was opened in.
class NetlinkMonitor {
 public:
  static Result<NetlinkMonitor> open();
  static Result<NetlinkMonitor> open(int netns_fd);
  NetlinkMonitor(NetlinkMonitor&&) noexcept;
  NetlinkMonitor& operator=(NetlinkMonitor&&) noexcept;
  ~NetlinkMonitor();

  /// For epoll: readable when there are events. Owned by the monitor.
  [[nodiscard]] int fd() const;
  /// All events there are now; never waits.
  Result<std::vector<NetlinkEvent>> read();

 private:
  explicit NetlinkMonitor(std::unique_ptr<NetlinkSocket> socket);
  std::unique_ptr<NetlinkSocket> socket_;
};

/// Waits until a device is running. One whose peer comes up later is so only when the kernel's link watch has
/// been there: from Linux 6.8 asking for the device sees to it, before it is an event.
Status await_running(int netns_fd, int ifindex, std::chrono::milliseconds timeout);

}  // namespace bpfnet::loader
