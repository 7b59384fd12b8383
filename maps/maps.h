#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "maps/abi/config.h"
#include "maps/abi/endpoint.h"
#include "maps/abi/event.h"
#include "maps/abi/flow.h"
#include "maps/abi/policy.h"
#include "maps/abi/service.h"
#include "maps/abi/socket.h"
#include "maps/map.h"

namespace bpfnet::maps {

/// Every map of the datapath, typed. Members bear the names of the BPF maps (bpf/maps.h). Move-only; owns the
/// descriptors. Maps that only programs use (fragments, event_budget) are not here.
struct Maps {
  Map<flow_key, flow> flows;
  Array<flow_slot> flow_slots;
  Queue<uint32_t> flow_free;
  Array<flow_table> flow_table_state;  ///< BPF name `flow_table`; reads only: a write would clear the timer
  Array<endpoint> endpoints;
  Array<endpoint_usage> endpoint_usages;  ///< BPF name `endpoint_usage`
  Map<uint32_t, interface> interfaces;    ///< by ifindex
  Map<address_key, address_info> addresses;
  Map<cidr_key, cidr_info> cidrs;
  Array<node> nodes;  ///< other nodes that the overlay reaches, by index
  Map<frontend_key, frontend> frontends;
  Map<frontend_range_key, frontend> frontend_ranges;
  Map<source_range_key, source_range> source_ranges;
  Map<affinity_key, affinity> affinities;  ///< written by the datapath; the agent only erases
  Array<backend_slot> backend_slots;
  Array<backend_state> backend_states;
  Map<policy_key, policy_entry> policies;
  Map<uint64_t, socket_namespace> socket_namespaces;  ///< by netns cookie
  MapBase socket_peers;                               ///< socket storage of socket_peer: not to be listed
  MapBase socket_datagrams;                           ///< socket storage of socket_datagram_peers
  PerCpuArray<socket_count> socket_counts;            ///< by enum socket_outcome
  PerCpuArray<packet_count> verdict_counts;           ///< index hook * VERDICTS_MAX + verdict
  PerCpuArray<packet_count> drop_counts;              ///< index hook * DROP_REASONS_MAX + reason
  PerCpuArray<packet_count> audit_counts;             ///< of packets that audit mode let through, likewise
  MapBase events;                                     ///< ring buffer of packet_event
  Array<datapath_config> node_config;  ///< one record: the configuration of the loaded programs

  /// Opens every map under `<pin_dir>/v<ABI_LAYOUT_VERSION>/maps`; works without the agent. Fails with ENOENT
  /// and a sentence to act on when nothing is pinned there.
  static Result<Maps> open_pinned(const std::string& pin_dir);

  /// `fd_of(bpf map name)` gives a descriptor, which stays the caller's (it is duplicated).
  template <typename FdOf>
  static Result<Maps> from_fds(FdOf&& fd_of);

  /// Calls visit(map, "bpf map name") for every member.
  template <typename Self, typename Visit>
  static void each(Self& self, Visit&& visit) {
    visit(self.flows, "flows");
    visit(self.flow_slots, "flow_slots");
    visit(self.flow_free, "flow_free");
    visit(self.flow_table_state, "flow_table");
    visit(self.endpoints, "endpoints");
    visit(self.endpoint_usages, "endpoint_usage");
    visit(self.interfaces, "interfaces");
    visit(self.addresses, "addresses");
    visit(self.cidrs, "cidrs");
    visit(self.nodes, "nodes");
    visit(self.frontends, "frontends");
    visit(self.frontend_ranges, "frontend_ranges");
    visit(self.source_ranges, "source_ranges");
    visit(self.affinities, "affinities");
    visit(self.backend_slots, "backend_slots");
    visit(self.backend_states, "backend_states");
    visit(self.policies, "policies");
    visit(self.socket_namespaces, "socket_namespaces");
    visit(self.socket_peers, "socket_peers");
    visit(self.socket_datagrams, "socket_datagrams");
    visit(self.socket_counts, "socket_counts");
    visit(self.verdict_counts, "verdict_counts");
    visit(self.drop_counts, "drop_counts");
    visit(self.audit_counts, "audit_counts");
    visit(self.events, "events");
    visit(self.node_config, "node_config");
  }
};

/// `<pin_dir>/v1/maps`
std::string map_pin_dir(const std::string& pin_dir);

/// A duplicate of `fd` with close-on-exec; `name` is for the error.
Result<Fd> duplicate_fd(int fd, const char* name);

/// adopt() of one member, whatever its type.
template <typename M>
Status adopt_into(M& member, Fd fd, const char* name) {
  if constexpr (std::is_same_v<M, MapBase>) {
    auto map = MapBase::adopt(std::move(fd), name, 0, 0);
    if (!map) return pass(map);
    member = std::move(*map);
  } else {
    auto map = M::adopt(std::move(fd), name);
    if (!map) return pass(map);
    member = std::move(*map);
  }
  return ok();
}

template <typename FdOf>
Result<Maps> Maps::from_fds(FdOf&& fd_of) {
  Maps maps;
  Status status = ok();
  each(maps, [&](auto& member, const char* name) {
    if (!status) return;
    auto fd = duplicate_fd(fd_of(name), name);
    status = fd ? adopt_into(member, std::move(*fd), name) : Status(pass(fd));
  });
  if (!status) return pass(status);
  return maps;
}

}  // namespace bpfnet::maps
