#include "maps/dump.h"

#include <linux/bpf.h>

#include <algorithm>

#include "maps/abi/reasons.h"
#include "maps/labels.h"

namespace bpfnet::maps {
namespace {

std::string type_name(uint32_t type) {
  switch (type) {
    case BPF_MAP_TYPE_HASH:
      return "hash";
    case BPF_MAP_TYPE_ARRAY:
      return "array";
    case BPF_MAP_TYPE_PERCPU_ARRAY:
      return "percpu-array";
    case BPF_MAP_TYPE_LPM_TRIE:
      return "lpm";
    case BPF_MAP_TYPE_QUEUE:
      return "queue";
    case BPF_MAP_TYPE_RINGBUF:
      return "ringbuf";
    case BPF_MAP_TYPE_LRU_HASH:
      return "lru-hash";
    case BPF_MAP_TYPE_SK_STORAGE:
      return "socket-storage";
    default:
      return std::to_string(type);
  }
}

constexpr std::pair<std::string_view, std::string_view> kPurposes[] = {
    {"flows", "Connections: two entries each, one for either direction."},
    {"flow_slots", "One for each connection, walked by the expiry."},
    {"flow_free", "Slots that are free again."},
    {"flow_table", "Bookkeeping of the flow table."},
    {"endpoints", "Local pods, their policy sets and epochs."},
    {"endpoint_usage", "Live connections charged to each pod."},
    {"interfaces", "Devices the programs run at."},
    {"addresses", "Exact addresses: pods, nodes, this node's own."},
    {"cidrs", "Prefixes: cluster and service ranges, CIDRs named by policies."},
    {"nodes", "Other nodes as the overlay reaches them."},
    {"frontends", "Service addresses and ports."},
    {"frontend_ranges", "Blocks of published ports."},
    {"source_ranges", "Clients that load-balancer addresses are open to."},
    {"affinities", "Session affinity: client and service port to backend."},
    {"backend_slots", "Runs of backends, indexed by frontends."},
    {"backend_states", "Generation of each backend."},
    {"policies", "Entries of the policy sets."},
    {"socket_namespaces", "Network namespaces whose sockets are translated."},
    {"socket_peers", "TCP sockets: the service asked for, the backend connected to."},
    {"socket_datagrams", "Unconnected UDP sockets: services and their backends."},
    {"socket_counts", "System calls on sockets by what was done."},
    {"verdict_counts", "Packets by hook and verdict."},
    {"drop_counts", "Dropped packets by hook and reason."},
    {"audit_counts", "Packets that audit mode let through, by hook and what they would be dropped for."},
    {"events", "Events to user space."},
    {"node_config", "Configuration of the loaded programs."},
};

template <typename V>
bool all_zero(const V& value) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(&value);
  return std::all_of(bytes, bytes + sizeof(value), [](uint8_t byte) { return byte == 0; });
}

template <typename K, typename V>
Status dump_map(const Map<K, V>& map, const DumpOptions& /*options*/, std::vector<DumpedEntry>& out) {
  auto entries = map.entries();
  if (!entries) return pass(entries);
  // In order of the text people read, so that two dumps can be compared.
  std::sort(entries->begin(), entries->end(),
            [](const auto& a, const auto& b) { return std::memcmp(&a.first, &b.first, sizeof(K)) < 0; });
  for (const auto& [key, value] : *entries) out.push_back({decode(key), decode(value)});
  return ok();
}

template <typename V>
Status dump_map(const Array<V>& map, const DumpOptions& options, std::vector<DumpedEntry>& out) {
  return map.for_each([&](uint32_t index, const V& value) {
    if (options.all || !all_zero(value)) out.push_back({decode(index), decode(value)});
  });
}

template <typename V>
Status dump_map(const PerCpuArray<V>& map, const DumpOptions& options, std::vector<DumpedEntry>& out) {
  auto sums = map.sums();
  if (!sums) return pass(sums);
  const bool drops = map.name() == "drop_counts" || map.name() == "audit_counts";
  const uint32_t row = drops ? static_cast<uint32_t>(DROP_REASONS_MAX) : static_cast<uint32_t>(VERDICTS_MAX);
  for (uint32_t i = 0; i < sums->size(); ++i) {
    if (!options.all && all_zero((*sums)[i])) continue;
    const Field what =
        drops ? Field{"reason", drop_reason_label(i % row)} : Field{"verdict", verdict_label(i % row)};
    out.push_back({{{"hook", hook_label(i / row)}, what}, decode((*sums)[i])});
  }
  return ok();
}

Status dump_map(const PerCpuArray<socket_count>& map, const DumpOptions& options,
                std::vector<DumpedEntry>& out) {
  auto sums = map.sums();
  if (!sums) return pass(sums);
  for (uint32_t i = 0; i < sums->size(); ++i)
    if (options.all || (*sums)[i].calls != 0)
      out.push_back({{{"outcome", socket_outcome_label(i)}}, decode((*sums)[i])});
  return ok();
}

template <typename V>
Status dump_map(const Queue<V>& map, const DumpOptions&, std::vector<DumpedEntry>&) {
  return fail("map {}: a queue cannot be read without taking from it", map.name());
}

Status dump_map(const MapBase& map, const DumpOptions&, std::vector<DumpedEntry>&) {
  if (map.info().type == BPF_MAP_TYPE_SK_STORAGE)
    return fail("map {}: its records hang at sockets and cannot be listed; see socket_counts", map.name());
  return fail("map {}: a ring buffer cannot be read without taking from it", map.name());
}

}  // namespace

std::vector<MapSummary> summarize(const Maps& maps) {
  std::vector<MapSummary> result;
  Maps::each(maps, [&](const auto& map, std::string_view name) {
    const auto* purpose = std::find_if(std::begin(kPurposes), std::end(kPurposes),
                                       [&](const auto& known) { return known.first == name; });
    result.push_back(
        {.name = std::string(name),
         .type = type_name(map.info().type),
         .purpose = purpose == std::end(kPurposes) ? std::string() : std::string(purpose->second),
         .info = map.info()});
  });
  return result;
}

Result<std::vector<DumpedEntry>> dump(const Maps& maps, std::string_view name, const DumpOptions& options) {
  std::vector<DumpedEntry> result;
  Status status = ok();
  bool found = false;
  std::vector<std::string> known;
  Maps::each(maps, [&](const auto& map, const char* map_name) {
    known.emplace_back(map_name);
    if (name != map_name) return;
    found = true;
    status = dump_map(map, options, result);
  });
  if (!found) return fail("no map `{}`; there are {}", name, fmt::join(known, ", "));
  if (!status) return pass(status);
  return result;
}

}  // namespace bpfnet::maps
