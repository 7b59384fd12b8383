#pragma once

#include <string>

#include "base/result.h"

// /proc/sys of the calling thread's network namespace. Keys are paths with slashes, because interface names
// may hold dots: `net/ipv4/conf/eth0.5/rp_filter`.
namespace bpfnet::loader {

/// The value without its newline. ENOENT when the kernel has no such key.
Result<std::string> read_sysctl(const std::string& key);

/// What a write did; `before` is what to write back.
struct SysctlChange {
  std::string key;
  std::string before;
  std::string after;
  [[nodiscard]] bool changed() const { return before != after; }
};

/// Writes only when the value differs.
Result<SysctlChange> write_sysctl(const std::string& key, const std::string& value);

}  // namespace bpfnet::loader
