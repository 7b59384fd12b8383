#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/result.h"

namespace bpfnet {

// Of files and pipes that block. `name` is for errors.

/// All that is left to read. EFBIG: it is more than `limit` bytes.
Result<std::string> read_fd(int fd, const std::string& name, size_t limit);
/// Writes all of it, however often that takes.
Status write_fd(int fd, const std::string& name, std::string_view text);

}  // namespace bpfnet
