#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

namespace bpfnet::bench {

/// The value below which the share `q` (0 to 1) of a non-empty sample lies, by nearest rank.
inline double quantile(std::vector<double> values, double q) {
  const auto rank = static_cast<std::ptrdiff_t>(std::lround(q * static_cast<double>(values.size() - 1)));
  std::nth_element(values.begin(), values.begin() + rank, values.end());
  return values[static_cast<size_t>(rank)];
}

inline double median(std::vector<double> values) {
  return quantile(std::move(values), 0.5);
}

}  // namespace bpfnet::bench
