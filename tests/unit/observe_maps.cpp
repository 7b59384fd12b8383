#include "tests/unit/observe_maps.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>

#include <string>
#include <vector>

namespace bpfnet::observe::test {
namespace {

struct Shape {
  const char* name;
  bpf_map_type type;
  uint32_t key;
  uint32_t value;
  uint32_t entries;
  uint32_t flags = 0;
};

constexpr Shape kShapes[] = {
    {"flows", BPF_MAP_TYPE_HASH, sizeof(flow_key), sizeof(flow), 64},
    {"flow_slots", BPF_MAP_TYPE_ARRAY, 4, sizeof(flow_slot), 32},
    {"flow_free", BPF_MAP_TYPE_QUEUE, 0, 4, 32},
    {"flow_table", BPF_MAP_TYPE_ARRAY, 4, sizeof(flow_table), 1},
    {"endpoints", BPF_MAP_TYPE_ARRAY, 4, sizeof(endpoint), 8},
    {"endpoint_usage", BPF_MAP_TYPE_ARRAY, 4, sizeof(endpoint_usage), 8},
    {"interfaces", BPF_MAP_TYPE_HASH, 4, sizeof(interface), 8},
    {"addresses", BPF_MAP_TYPE_HASH, sizeof(address_key), sizeof(address_info), 16},
    {"cidrs", BPF_MAP_TYPE_LPM_TRIE, sizeof(cidr_key), sizeof(cidr_info), 16, BPF_F_NO_PREALLOC},
    {"nodes", BPF_MAP_TYPE_ARRAY, 4, sizeof(node), 8},
    {"frontends", BPF_MAP_TYPE_HASH, sizeof(frontend_key), sizeof(frontend), 16},
    {"frontend_ranges", BPF_MAP_TYPE_LPM_TRIE, sizeof(frontend_range_key), sizeof(frontend), 16,
     BPF_F_NO_PREALLOC},
    {"source_ranges", BPF_MAP_TYPE_LPM_TRIE, sizeof(source_range_key), sizeof(source_range), 16,
     BPF_F_NO_PREALLOC},
    {"affinities", BPF_MAP_TYPE_LRU_HASH, sizeof(affinity_key), sizeof(affinity), 16},
    {"backend_slots", BPF_MAP_TYPE_ARRAY, 4, sizeof(backend_slot), 16},
    {"backend_states", BPF_MAP_TYPE_ARRAY, 4, sizeof(backend_state), 16},
    {"policies", BPF_MAP_TYPE_LPM_TRIE, sizeof(policy_key), sizeof(policy_entry), 16, BPF_F_NO_PREALLOC},
    {"socket_namespaces", BPF_MAP_TYPE_HASH, sizeof(uint64_t), sizeof(socket_namespace), 8},
    // Socket storage needs BTF; what cannot be listed may as well be a hash.
    {"socket_peers", BPF_MAP_TYPE_HASH, 4, sizeof(socket_peer), 8},
    {"socket_datagrams", BPF_MAP_TYPE_HASH, 4, sizeof(socket_datagram_peers), 8},
    {"socket_counts", BPF_MAP_TYPE_PERCPU_ARRAY, 4, sizeof(socket_count), SOCKET_OUTCOMES_MAX},
    {"verdict_counts", BPF_MAP_TYPE_PERCPU_ARRAY, 4, sizeof(packet_count),
     uint32_t{HOOKS_MAX} * VERDICTS_MAX},
    {"drop_counts", BPF_MAP_TYPE_PERCPU_ARRAY, 4, sizeof(packet_count),
     uint32_t{HOOKS_MAX} * DROP_REASONS_MAX},
    {"audit_counts", BPF_MAP_TYPE_PERCPU_ARRAY, 4, sizeof(packet_count),
     uint32_t{HOOKS_MAX} * DROP_REASONS_MAX},
    {"events", BPF_MAP_TYPE_RINGBUF, 0, 0, 4096},
    {"node_config", BPF_MAP_TYPE_ARRAY, 4, sizeof(datapath_config), 1},
};

}  // namespace

Result<maps::Maps> make_maps() {
  std::vector<Fd> fds;
  Status status = ok();
  auto result = maps::Maps::from_fds([&](const std::string& name) {
    for (const Shape& shape : kShapes) {
      if (name != shape.name) continue;
      bpf_map_create_opts options{};
      options.sz = sizeof(options);
      options.map_flags = shape.flags;
      fds.emplace_back(
          bpf_map_create(shape.type, shape.name, shape.key, shape.value, shape.entries, &options));
      if (!fds.back()) status = fail_errno(errno, "map {}: create", name);
      return fds.back().get();
    }
    return -1;
  });
  if (!status) return pass(status);
  return result;
}

}  // namespace bpfnet::observe::test
