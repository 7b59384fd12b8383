#include "base/result.h"

#include <cerrno>
#include <cstring>

namespace bpfnet {

std::string errno_name(int code) {
  const int positive = code < 0 ? -code : code;
  const char* name = strerrorname_np(positive);
  if (name == nullptr) return fmt::format("errno {}", positive);
  return fmt::format("{} ({})", name, strerrordesc_np(positive));
}

}  // namespace bpfnet
