#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace bpfnet::agent {

/// How a program ended.
struct ToolOutput {
  int status = 0;  ///< exit status; 128 + signal if it was killed
  std::string out;
  std::string err;
};

/// Runs a program of the host, found by PATH, with `input` as its stdin, and waits for its end. An empty
/// optional: it is not installed.
Result<std::optional<ToolOutput>> run_tool(const std::vector<std::string>& argv,
                                           const std::string& input = "");

}  // namespace bpfnet::agent
