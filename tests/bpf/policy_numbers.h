#pragma once

#include <cstdint>

// What the tests of policy call the one set they fill and the two ends it judges.
namespace bpfnet::test {

inline constexpr uint32_t kSet = 20;
inline constexpr uint32_t kClientIdentity = 1001;
inline constexpr uint32_t kServerIdentity = 1002;

}  // namespace bpfnet::test
