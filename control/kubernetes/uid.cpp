#include "control/kubernetes/uid.h"

#include <fmt/format.h>

#include <charconv>

namespace bpfnet::kubernetes {

Uid read_uid(std::string_view text) {
  constexpr size_t kLength = 36;
  std::string digits;
  for (size_t i = 0; i < text.size() && text.size() == kLength; ++i) {
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    if (dash != (text[i] == '-')) return {};
    if (!dash) digits += text[i];
  }
  Uid uid{};
  if (digits.empty()) return uid;
  for (size_t half = 0; half < uid.size(); ++half) {
    const char* end = digits.data() + 16 * (half + 1);
    if (const auto read = std::from_chars(end - 16, end, uid.at(half), 16); read.ptr != end) return {};
  }
  return uid;
}

std::string to_string(const Uid& uid) {
  if (uid == Uid{}) return {};
  return fmt::format("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", uid[0] >> 32, (uid[0] >> 16) & 0xffff,
                     uid[0] & 0xffff, uid[1] >> 48, uid[1] & 0xffffffffffffULL);
}

}  // namespace bpfnet::kubernetes
