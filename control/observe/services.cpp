#include <fmt/format.h>

#include <algorithm>

#include "control/observe/table.h"
#include "control/observe/views.h"
#include "maps/convert.h"
#include "maps/decode.h"
#include "maps/key_text.h"
#include "maps/labels.h"

namespace bpfnet::observe {
namespace {

using nlohmann::ordered_json;

/// The backends of one run, each once and in order: a run may name one several times, for its weight.
Result<std::vector<std::string>> backends_of(const std::vector<backend_slot>& slots, uint32_t first,
                                             uint32_t count) {
  std::vector<std::string> backends;
  for (uint32_t i = first; i < first + count && i < slots.size(); ++i) {
    const backend_slot& slot = slots[i];
    backends.push_back(socket_text(maps::from_abi(slot.addr).to_string(), maps::from_network(slot.port)));
  }
  std::ranges::sort(backends);
  const auto rest = std::ranges::unique(backends);
  backends.erase(rest.begin(), rest.end());
  return backends;
}

/// A frontend and its backends line by line; those for clients outside only where they differ.
void add_rows(Table& table, const std::string& address, const std::string& service, const std::string& kind,
              const std::vector<std::string>& inside, const std::vector<std::string>& outside) {
  const bool divided = inside != outside;
  const size_t lines = std::max<size_t>({inside.size(), divided ? outside.size() : 0, 1});
  for (size_t i = 0; i < lines; ++i) {
    const auto cell = [&](const std::vector<std::string>& backends) {
      if (i < backends.size()) return backends[i];
      return std::string(i == 0 ? "none" : "");
    };
    table.add({i == 0 ? address : "", i == 0 ? service : "", i == 0 ? kind : "", cell(inside),
               divided ? cell(outside) : (i == 0 ? "same" : "")});
  }
}

}  // namespace

Result<View> services_view(const maps::Maps& maps, const Names& names) {
  auto frontends = maps.frontends.entries();
  if (!frontends) return pass(frontends);
  auto slots = maps.backend_slots.values();
  if (!slots) return pass(slots);
  std::ranges::sort(*frontends, [](const auto& a, const auto& b) {
    return std::memcmp(&a.first, &b.first, sizeof(frontend_key)) < 0;
  });

  View view;
  view.json = ordered_json::array();
  Table table({"FRONTEND", "SERVICE", "KIND", "BACKENDS", "FOR OUTSIDE CLIENTS"});
  for (const auto& [key, value] : *frontends) {
    auto inside = backends_of(*slots, value.first, value.count);
    if (!inside) return pass(inside);
    auto outside = backends_of(*slots, value.ext_first, value.ext_count);
    if (!outside) return pass(outside);
    const auto flags = maps::frontend_flag_labels(value.flags);
    add_rows(table, maps::key_text(key), names.service(value.service),
             fmt::format("{}", fmt::join(flags, ",")), *inside, *outside);
    ordered_json json = maps::to_json(maps::decode(key));
    json["service"] = value.service;
    json["service_name"] = names.service(value.service);
    json["flags"] = flags;
    json["affinity_ticks"] = value.affinity_ticks;
    json["backends"] = *inside;
    json["external_backends"] = *outside;
    view.json.push_back(std::move(json));
  }
  view.text = table.text();
  return view;
}

}  // namespace bpfnet::observe
