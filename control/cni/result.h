#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "control/cni/error.h"
#include "control/cni/types.h"
#include "control/cni/version.h"

namespace bpfnet::cni {

/// The result in the shape of `version` (C2), ready for stdout.
std::string result_json(const AddResult& result, Version version);

/// Reads a result of any version: prevResult, and the answers of delegated plugins. Its own cniVersion
/// counts; `fallback` if it names none. Errors are code 6.
CniResult<AddResult> parse_result(const nlohmann::json& json, Version fallback);

/// An error for stdout (C7).
std::string error_json(const CniError& error, Version version);

/// The newest shape, as the local API speaks it.
nlohmann::json to_json(const AddResult& result);

/// Ours after the interfaces of the plugins before us (C9).
AddResult merge(const AddResult& previous, const AddResult& ours);

}  // namespace bpfnet::cni
