#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace bpfnet::kubernetes {

/// A metadata.uid in its 16 bytes: a cluster has a hundred thousand of them. All zero: none.
using Uid = std::array<uint64_t, 2>;

/// None if `text` is no UUID.
Uid read_uid(std::string_view text);
/// `0f8fad5b-d9cb-469f-a165-70867728950e`; empty: none.
std::string to_string(const Uid& uid);

}  // namespace bpfnet::kubernetes
