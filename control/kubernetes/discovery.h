#pragma once

#include <cstdint>
#include <string_view>

namespace bpfnet::kubernetes {

/// What a server says about what it serves; kUnknown: the text is no such answer.
enum class Served : uint8_t { kUnknown, kYes, kNo };

/// `json`: the APIGroupList of GET /apis. `group_version`: `networking.k8s.io/v1`.
Served serves_group(std::string_view json, std::string_view group_version);
/// `json`: the APIResourceList of GET /apis/GROUP/VERSION.
Served serves_kind(std::string_view json, std::string_view plural);

}  // namespace bpfnet::kubernetes
