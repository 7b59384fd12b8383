#pragma once

#include <cstddef>
#include <string>

#include "base/result.h"

namespace bpfnet {

/// All that is left to read. `name` is for errors; EFBIG: it is more than `limit` bytes.
Result<std::string> read_fd(int fd, const std::string& name, size_t limit);

}  // namespace bpfnet
