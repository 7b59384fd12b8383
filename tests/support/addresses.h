#pragma once

#include <stdexcept>
#include <string_view>

#include "base/address.h"

/// Address literals of tests, for every room's; a test with a bad one stops with an exception.
namespace bpfnet {

inline Address ip(std::string_view text) {
  auto address = Address::parse(text);
  if (!address) throw std::invalid_argument(address.error().message);
  return *address;
}
inline Cidr cidr(std::string_view text) {
  auto prefix = Cidr::parse(text);
  if (!prefix) throw std::invalid_argument(prefix.error().message);
  return *prefix;
}

}  // namespace bpfnet
