#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>
#include <set>

#include "control/observe/table.h"
#include "control/observe/views.h"
#include "maps/convert.h"

namespace bpfnet::observe {
namespace {

struct KnownNode {
  std::set<Address> addresses;
  std::set<Cidr> pods;
  node tunnel{};
};

template <typename T>
std::vector<std::string> texts(const std::set<T>& values) {
  std::vector<std::string> result;
  for (const T& each : values) result.push_back(each.to_string());
  return result;
}

}  // namespace

Result<View> nodes_view(const maps::Maps& maps, const Names& names) {
  std::map<uint32_t, KnownNode> known;
  BPFNET_TRY(maps.addresses.for_each([&](const address_key& key, const address_info& info) {
    if (info.node != 0 && (info.flags & ADDRESS_REMOTE_NODE) != 0)
      known[info.node].addresses.insert(maps::from_abi(key.addr));
  }));
  BPFNET_TRY(maps.cidrs.for_each([&](const cidr_key& key, const cidr_info& info) {
    if (info.node != 0) known[info.node].pods.insert(maps::from_abi(key));
  }));
  BPFNET_TRY(maps.nodes.for_each([&](uint32_t index, const node& record) {
    if (maps::from_abi(record.addr) != Address()) known[index].tunnel = record;
  }));

  View view;
  view.json = nlohmann::ordered_json::array();
  Table table({"INDEX", "NODE", "ADDRESSES", "PODS", "TUNNEL TO", "FROM", "MTU"});
  for (const auto& [index, each] : known) {
    const auto addresses = texts(each.addresses);
    const auto pods = texts(each.pods);
    const node& tunnel = each.tunnel;
    table.add({std::to_string(index), names.node(index), fmt::format("{}", fmt::join(addresses, " ")),
               fmt::format("{}", fmt::join(pods, " ")), address_text(tunnel.addr),
               address_text(tunnel.source), tunnel.mtu == 0 ? "" : std::to_string(tunnel.mtu)});
    view.json.push_back({{"index", index},
                         {"name", names.node(index)},
                         {"addresses", addresses},
                         {"pods", pods},
                         {"tunnel_to", address_text(tunnel.addr)},
                         {"tunnel_from", address_text(tunnel.source)},
                         {"mtu", tunnel.mtu}});
  }
  view.text = table.text();
  return view;
}

}  // namespace bpfnet::observe
