#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace bpfnet {

/// RFC 4648, with padding, on one line.
std::string to_base64(std::string_view bytes);
/// The padding may be missing. nullopt: not base64; nor is a text with space in it.
std::optional<std::string> from_base64(std::string_view text);

}  // namespace bpfnet
