#pragma once

#include <string_view>

#include "base/address.h"

/// Address literals of tests, for every room's; a test with a bad one stops with an exception.
namespace bpfnet {

inline Address ip(std::string_view text) {
  return Address::parse(text).value();
}
inline Cidr cidr(std::string_view text) {
  return Cidr::parse(text).value();
}

}  // namespace bpfnet
