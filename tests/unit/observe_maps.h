#pragma once

#include "maps/maps.h"

namespace bpfnet::observe::test {

/// Maps of the datapath's types in the kernel, small, without programs. Fails where BPF is not available.
Result<maps::Maps> make_maps();

}  // namespace bpfnet::observe::test
