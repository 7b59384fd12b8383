#pragma once

#include <chrono>
#include <optional>
#include <string_view>

namespace bpfnet::sources {

/// RFC 3339: `2026-01-31T12:00:00Z`, with a fraction of a second and an offset such as `+02:00` where given.
std::optional<std::chrono::system_clock::time_point> parse_time(std::string_view text);

}  // namespace bpfnet::sources
