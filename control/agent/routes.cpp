#include "control/agent/routes.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <tuple>

namespace bpfnet::agent {
namespace {

constexpr uint8_t kUnicast = 1;

bool same_route(const loader::Route& a, const loader::Route& b) {
  return std::tie(a.dst, a.gateway, a.ifindex, a.src, a.mtu) ==
         std::tie(b.dst, b.gateway, b.ifindex, b.src, b.mtu);
}

std::string journal_name(const loader::Route& route) {
  return route.dst.to_string();
}

}  // namespace

std::vector<loader::Route> wanted_routes(const RouteInput& input, const model::ClusterState& state,
                                         const NodeLinks& links, std::vector<std::string>& unreachable) {
  std::vector<loader::Route> routes;
  const auto add = [&routes](const loader::Route& route) {
    const bool there =
        std::any_of(routes.begin(), routes.end(), [&](const auto& r) { return r.dst == route.dst; });
    if (!there) routes.push_back(route);
  };
  const auto add_own = [&](const Cidr& cidr) {
    add({.dst = cidr,
         .gateway = {},
         .ifindex = input.host_ifindex,
         .src = input.addresses.of(cidr.family())});
  };
  for (const Cidr& cidr : input.pod_cidrs) add_own(cidr);
  for (const Cidr& cidr : input.service_cidrs) add_own(cidr);
  for (const Address& ip : input.pod_ips) {
    const bool covered = std::any_of(input.pod_cidrs.begin(), input.pod_cidrs.end(),
                                     [&ip](const Cidr& cidr) { return cidr.contains(ip); });
    if (!covered) add_own(Cidr(ip, ip.bits()));
  }
  for (const auto& [name, node] : state.nodes) {
    if (name == input.node_name) continue;
    for (const Cidr& cidr : node.pod_cidrs) {
      if (input.overlay_mtu != 0) {
        add({.dst = cidr,
             .gateway = {},
             .ifindex = input.host_ifindex,
             .src = input.addresses.of(cidr.family()),
             .mtu = input.overlay_mtu});
        continue;
      }
      const auto gateway = node.address(cidr.family());
      if (gateway && links.holder(*gateway) != 0) continue;
      const auto device = gateway ? links.segment(*gateway, input.uplinks) : std::nullopt;
      if (!device) {
        if (unreachable.empty() || unreachable.back() != name) unreachable.push_back(name);
        continue;
      }
      add({.dst = cidr, .gateway = gateway, .ifindex = *device, .src = input.addresses.of(cidr.family())});
    }
  }
  return routes;
}

std::vector<std::string> sync_routes(loader::Netlink& netlink, ipam::Store& store,
                                     const std::vector<loader::Route>& wanted) {
  std::vector<std::string> problems;
  auto present = netlink.routes();
  if (!present) return {present.error().message};
  std::erase_if(*present, [](const loader::Route& route) {
    return route.protocol != loader::kRouteProtocol || route.type != kUnicast;
  });
  const auto note = [&problems](const auto& result) {
    if (!result) problems.push_back(result.error().message);
  };
  for (const loader::Route& route : *present) {
    const bool kept =
        std::any_of(wanted.begin(), wanted.end(), [&](const auto& w) { return w.dst == route.dst; });
    if (kept) continue;
    note(netlink.delete_route(route));
    note(store.remove_journal("route", journal_name(route)));
    spdlog::info("route {}: removed", route.to_string());
  }
  for (const loader::Route& route : wanted) {
    auto held =
        std::find_if(present->begin(), present->end(), [&](const auto& p) { return p.dst == route.dst; });
    if (held != present->end() && same_route(*held, route)) continue;
    note(store.add_journal(
        {.kind = "route", .object = journal_name(route), .before = "", .after = route.to_string()}));
    if (held != present->end()) {
      note(netlink.replace_route(route));
      spdlog::info("route {}: changed", route.to_string());
      continue;
    }
    auto added = netlink.add_route(route);
    if (!added) {
      problems.push_back(added.error().message);
    } else if (!*added) {
      problems.push_back(fmt::format("route {}: another route to {} is there; it is left as it is",
                                     route.to_string(), route.dst.to_string()));
    } else {
      spdlog::info("route {}: added", route.to_string());
    }
  }
  return problems;
}

}  // namespace bpfnet::agent
