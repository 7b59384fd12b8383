#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"

// TC programs on kernels without TCX: direct-action filters of a clsact qdisc, at a priority and handle of
// our own. Replacing one is a single update in the kernel.
namespace bpfnet::loader {

enum class Direction { kIngress, kEgress };

/// Where a hook stands at a device: ingress or egress as seen from the device.
Direction clsact_direction(std::string_view hook, std::string_view ifname);

/// Makes the qdisc if there is none, then makes or replaces our filter.
Status clsact_attach(int ifindex, Direction direction, int program_fd);
/// Kernel id of the program our filter runs; 0: there is no filter of ours.
Result<uint32_t> clsact_program(int ifindex, Direction direction);
/// Removes our filter, and the qdisc when it holds no filter any more. Fine when there is none.
Status clsact_detach(int ifindex, Direction direction);

}  // namespace bpfnet::loader
