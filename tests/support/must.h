#pragma once

#include <stdexcept>
#include <utility>

#include "base/result.h"

namespace bpfnet::test {

/// For set-up that cannot fail unless the test machine is broken: the error ends the test as an exception.
inline void must(const Status& status) {
  if (!status) throw std::runtime_error(status.error().message);
}
template <typename T>
T must(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message);
  return std::move(*result);
}

}  // namespace bpfnet::test
