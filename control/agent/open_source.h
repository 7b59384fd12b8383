#pragma once

#include <memory>

#include "base/result.h"
#include "control/agent/options.h"
#include "control/sources/source.h"

namespace bpfnet::agent {

/// The source that `options` name. Errors say which flag to set right.
Result<std::unique_ptr<sources::Source>> open_source(const Options& options);

}  // namespace bpfnet::agent
