#pragma once

#include <string>

#include "control/model/objects.h"

namespace bpfnet::test {

/// The manifest (JSON) that is read as this object.
std::string manifest_of(const model::NetworkPolicy& policy);
std::string manifest_of(const model::ClusterNetworkPolicy& policy);

}  // namespace bpfnet::test
