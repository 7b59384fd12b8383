#include "control/cni/types.h"

#include <fmt/format.h>

namespace bpfnet::cni {

std::string host_ifname(const AttachmentKey& key) {
  // FNV-1a, 64 bits: stable across builds and restarts, which std::hash is not.
  uint64_t hash = 0xcbf29ce484222325U;
  const auto mix = [&hash](std::string_view text) {
    for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3U;
  };
  mix(key.container_id);
  mix("/");
  mix(key.ifname);
  return fmt::format("bpn{:012x}", (hash ^ (hash >> 48)) & 0xffffffffffffU);
}

}  // namespace bpfnet::cni
