#pragma once

#include <linux/bpf.h>

#include <cstdint>

// The one place for what TCX needs beyond the UAPI headers of the oldest build system (Linux 6.1): TCX links
// came with 6.6 (kernel commit e420bed02507).
namespace bpfnet::loader {

inline constexpr auto kTcxIngress = static_cast<bpf_attach_type>(46);
inline constexpr auto kTcxEgress = static_cast<bpf_attach_type>(47);
inline constexpr uint32_t kLinkTypeTcx = 11;
inline constexpr uint32_t kLinkTypeXdp = 6;

/// ifindex of a TCX or XDP link; 0 when its device is gone. Both have it first among their own fields.
inline int link_ifindex(const bpf_link_info& info) {
  return static_cast<int>(info.xdp.ifindex);
}

}  // namespace bpfnet::loader
