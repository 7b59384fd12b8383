#include "loader/pinned_maps.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "base/fd.h"
#include "loader/bpffs.h"
#include "maps/map.h"

namespace bpfnet::loader {
namespace {

/// Losing these costs a count, an event or a datagram, never a connection.
constexpr std::string_view kExpendable[] = {"fragments",   "event_budget", "events",       "verdict_counts",
                                            "drop_counts", "audit_counts", "socket_counts"};

bool is_expendable(std::string_view name) {
  return std::find(std::begin(kExpendable), std::end(kExpendable), name) != std::end(kExpendable);
}

/// 0: the size stands in the program.
uint32_t wanted_size(std::string_view name, const DatapathSizes& sizes, uint32_t max_flows) {
  if (name == "flows") return 2 * max_flows;
  if (name == "flow_slots" || name == "flow_free") return max_flows;
  if (name == "endpoints" || name == "endpoint_usage" || name == "socket_namespaces") return sizes.endpoints;
  if (name == "interfaces") return sizes.interfaces;
  if (name == "addresses") return sizes.addresses;
  if (name == "cidrs") return sizes.cidrs;
  if (name == "frontends") return sizes.frontends;
  if (name == "frontend_ranges") return sizes.frontend_ranges;
  if (name == "source_ranges") return sizes.source_ranges;
  if (name == "affinities") return sizes.affinities;
  if (name == "backend_slots") return sizes.backend_slots;
  if (name == "backend_states") return sizes.backend_states;
  if (name == "policies") return sizes.policies;
  if (name == "fragments") return sizes.fragments;
  if (name == "events") return sizes.event_bytes;
  return 0;
}

Result<Fd> open_pin(const std::string& path) {
  const int fd = bpf_obj_get(path.c_str());
  if (fd >= 0) return Fd(fd);
  if (fd == -ENOENT) return Fd();
  return fail_errno(fd, "pin {}: open", path);
}

std::string layout_difference(const bpf_map* map, const maps::MapInfo& pinned) {
  if (pinned.type != static_cast<uint32_t>(bpf_map__type(map)))
    return fmt::format("its type is {}, this build's {}", pinned.type, static_cast<int>(bpf_map__type(map)));
  if (pinned.key_size != bpf_map__key_size(map) || pinned.value_size != bpf_map__value_size(map))
    return fmt::format("its records are {}/{} bytes (key/value), this build's {}/{}", pinned.key_size,
                       pinned.value_size, bpf_map__key_size(map), bpf_map__value_size(map));
  if (pinned.flags != bpf_map__map_flags(map))
    return fmt::format("its flags are {:#x}, this build's {:#x}", pinned.flags, bpf_map__map_flags(map));
  return {};
}

/// What earlier programs ran with, from the node_config map of the pins.
Status keep_config(const std::string& map_dir, datapath_config& config) {
  auto fd = open_pin(map_dir + "/node_config");
  if (!fd) return pass(fd);
  datapath_config before{};
  const uint32_t index = 0;
  if (!*fd || bpf_map_lookup_elem(fd->get(), &index, &before) != 0 || before.hash_seed == 0) return ok();
  config.hash_seed = before.hash_seed;
  if (config.primary_uplink == 0) config.primary_uplink = before.primary_uplink;
  return ok();
}

}  // namespace

Result<Adoption> adopt_maps(bpf_object* object, const std::string& map_dir, const DatapathSizes& sizes,
                            datapath_config& config) {
  Adoption adoption;
  auto slots = open_pin(map_dir + "/flow_slots");
  if (!slots) return pass(slots);
  if (*slots) {
    auto info = maps::MapInfo::of(slots->get());
    if (!info) return pass(info, "map flow_slots");
    if (info->max_entries != config.max_flows)
      adoption.warnings.push_back(fmt::format("{} flows were asked for; the pinned table keeps its {}",
                                              config.max_flows, info->max_entries));
    config.max_flows = info->max_entries;
  }
  BPFNET_TRY(keep_config(map_dir, config));

  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object) {
    if (bpf_map__is_internal(map)) continue;  // rodata and the like belong to the programs, not to the node
    const std::string name = bpf_map__name(map);
    const uint32_t wanted = wanted_size(name, sizes, config.max_flows);
    if (wanted != 0)
      if (const int rc = bpf_map__set_max_entries(map, wanted); rc != 0)
        return fail_errno(rc, "map {}: set size {}", name, wanted);
    const uint32_t size = bpf_map__max_entries(map);
    const std::string path = fmt::format("{}/{}", map_dir, name);
    auto pinned = open_pin(path);
    if (!pinned) return pass(pinned);
    if (!*pinned) {
      adoption.fresh.push_back(name);
      continue;
    }
    adoption.adopted = true;
    auto info = maps::MapInfo::of(pinned->get());
    if (!info) return pass(info, "map " + name);
    const std::string difference = layout_difference(map, *info);
    if (is_expendable(name) && (!difference.empty() || info->max_entries != size)) {
      adoption.warnings.push_back(
          fmt::format("map {}: made anew, {}", name, difference.empty() ? "its size differs" : difference));
      adoption.fresh.push_back(name);
      continue;
    }
    if (!difference.empty())
      return fail_errno(
          EINVAL,
          "map {}: {} cannot be adopted, {}; remove the datapath with `bpfnetd --cleanup` (connections "
          "are lost) or run the bpfnetd that made it",
          name, path, difference);
    if (info->max_entries != size && name != "flows" && name != "flow_slots" && name != "flow_free")
      adoption.warnings.push_back(fmt::format(
          "map {}: {} entries were asked for; the pinned map keeps its {}", name, size, info->max_entries));
    if (const int rc = bpf_map__reuse_fd(map, pinned->get()); rc != 0)
      return fail_errno(rc, "map {}: adopt {}", name, path);
  }
  return adoption;
}

Status pin_maps(bpf_object* object, const std::string& map_dir, const Adoption& adoption) {
  const bool first = !adoption.adopted;
  const std::string dir = first ? map_dir + "-new" : map_dir;
  if (first) BPFNET_TRY(remove_tree(dir));
  BPFNET_TRY(make_directory(dir));
  for (const std::string& name : adoption.fresh) {
    const std::string path = fmt::format("{}/{}", dir, name);
    BPFNET_TRY(remove_pin(path));
    const bpf_map* map = bpf_object__find_map_by_name(object, name.c_str());
    if (const int rc = bpf_obj_pin(bpf_map__fd(map), path.c_str()); rc != 0)
      return fail_errno(rc, "map {}: pin at {}", name, path);
  }
  if (!first) return ok();
  // An empty directory may be left from a run that ended before this line.
  if (::rmdir(map_dir.c_str()) != 0 && errno != ENOENT)
    return fail_errno(errno, "directory {}: replace", map_dir);
  if (std::rename(dir.c_str(), map_dir.c_str()) != 0)
    return fail_errno(errno, "directory {}: rename to {}", dir, map_dir);
  return ok();
}

}  // namespace bpfnet::loader
