#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

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

using SourceSets = std::map<uint32_t, std::vector<std::string>>;

/// Who may use the frontends that have a set (S39).
Result<SourceSets> source_sets(const maps::Maps& maps) {
  auto entries = maps.source_ranges.entries();
  if (!entries) return pass(entries);
  SourceSets sets;
  for (const auto& [key, value] : *entries) sets[key.set].push_back(maps::from_abi(key).to_string());
  for (auto& [set, ranges] : sets) std::ranges::sort(ranges);
  return sets;
}

/// Lists frontends of either map.
class Listing {
 public:
  Listing(const Names& names, std::vector<backend_slot> slots, SourceSets sources)
      : names_(names), slots_(std::move(slots)), sources_(std::move(sources)) {}

  template <typename Key>
  Status add(const Key& key, const frontend& value) {
    auto inside = backends_of(slots_, value.first, value.count);
    if (!inside) return pass(inside);
    auto outside = backends_of(slots_, value.ext_first, value.ext_count);
    if (!outside) return pass(outside);
    const auto flags = maps::frontend_flag_labels(value.flags);
    std::string kind = fmt::format("{}", fmt::join(flags, ","));
    ordered_json json = maps::to_json(maps::decode(key));
    json["service"] = value.service;
    json["service_name"] = names_.service(value.service);
    json["flags"] = flags;
    json["affinity_ticks"] = value.affinity_ticks;
    if (value.source_set != 0) {
      const auto& ranges = sources_[value.source_set];
      kind += fmt::format(" from {}", ranges.empty() ? "nowhere" : fmt::format("{}", fmt::join(ranges, " ")));
      json["source_ranges"] = ranges;
    }
    json["backends"] = *inside;
    json["external_backends"] = *outside;
    add_rows(table_, maps::key_text(key), names_.service(value.service), kind, *inside, *outside);
    json_.push_back(std::move(json));
    return ok();
  }

  View view() {
    View view;
    view.json = std::move(json_);
    view.text = table_.text();
    return view;
  }

 private:
  const Names& names_;
  std::vector<backend_slot> slots_;
  SourceSets sources_;
  ordered_json json_ = ordered_json::array();
  Table table_{{"FRONTEND", "SERVICE", "KIND", "BACKENDS", "FOR OUTSIDE CLIENTS"}};
};

template <typename Entries>
void sort_by_bytes(Entries& entries) {
  std::ranges::sort(entries, [](const auto& a, const auto& b) {
    return std::memcmp(&a.first, &b.first, sizeof(a.first)) < 0;
  });
}

}  // namespace

Result<View> services_view(const maps::Maps& maps, const Names& names) {
  auto frontends = maps.frontends.entries();
  if (!frontends) return pass(frontends);
  auto ranges = maps.frontend_ranges.entries();
  if (!ranges) return pass(ranges);
  auto slots = maps.backend_slots.values();
  if (!slots) return pass(slots);
  auto sources = source_sets(maps);
  if (!sources) return pass(sources);
  sort_by_bytes(*frontends);
  sort_by_bytes(*ranges);

  Listing listing(names, std::move(*slots), std::move(*sources));
  for (const auto& [key, value] : *frontends) {
    if (key.port == 0 && key.proto == 0) continue;  // marks a live address, which has no port to connect to
    BPFNET_TRY(listing.add(key, value));
  }
  for (const auto& [key, value] : *ranges) BPFNET_TRY(listing.add(key, value));
  return listing.view();
}

}  // namespace bpfnet::observe
