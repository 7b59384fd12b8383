#pragma once

#include <string>
#include <vector>

namespace bpfnet::loader {

/// A line of /proc/self/mountinfo.
struct Mount {
  std::string point;
  std::string type;
  std::string source;
};
/// What this mount namespace has; of those at one point the topmost is the last.
std::vector<Mount> read_mounts();

}  // namespace bpfnet::loader
