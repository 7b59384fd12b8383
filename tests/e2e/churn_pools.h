#pragma once

#include "tests/e2e/churn_specification.h"

namespace bpfnet::e2e::churn {

/// The addresses and node ports that Services of the churn have: of each kind a few, so that they pass from
/// one to another. `skip`: any number, which chooses among those that no Service of `world` has.
std::vector<Address> unused_cluster_ips(const World& world, size_t skip);
std::vector<Address> unused_load_balancers(const World& world, size_t skip);
std::vector<Address> unused_external_ips(const World& world, size_t skip);
uint16_t unused_node_port(const World& world, size_t skip);

}  // namespace bpfnet::e2e::churn
