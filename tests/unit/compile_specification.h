#pragma once

#include "control/compile/images.h"
#include "control/compile/policy_text.h"

namespace bpfnet::compile {

/// NetworkPolicy as spec/network-policy.md states it, statement by statement, one connection at a time and
/// with nothing in common with the compiler: what the compiler is held against. `peer` is the other end's
/// address, after service translation (P11).
bool specification_allows(const model::ClusterState& state, const NodeView& node,
                          const std::vector<LocalEndpoint>& endpoints, const LocalEndpoint& subject,
                          Direction direction, const Address& peer, uint8_t proto, uint16_t port);

}  // namespace bpfnet::compile
