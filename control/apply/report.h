#pragma once

#include <string>
#include <vector>

namespace bpfnet::apply {

/// One object that could not be put in place: its old state goes on serving and the next sync tries again.
struct Problem {
  std::string object;   ///< `default/web:http`, `endpoint 3`
  std::string message;  ///< `map frontends: update {...}: E2BIG ...`
};

using Problems = std::vector<Problem>;

}  // namespace bpfnet::apply
