#include "control/observe/service_backends.h"

#include <set>

#include "maps/convert.h"

namespace bpfnet::observe {
namespace {

/// As stages/service.h finds it: exactly, then by blocks of ports.
Result<std::optional<frontend>> find_frontend(const maps::Maps& maps, const Address& address, uint8_t proto,
                                              uint16_t port, uint8_t scope) {
  auto exact = maps.frontends.get(maps::make_frontend_key(address, port, proto, scope));
  if (!exact || *exact) return exact;
  return maps.frontend_ranges.get(maps::make_frontend_range_key(address, port, 16, proto, scope));
}

}  // namespace

Result<std::optional<ServiceBackends>> find_service(const maps::Maps& maps, const Address& address,
                                                    uint8_t proto, uint16_t port, bool inside, bool local) {
  auto found = find_frontend(maps, address, proto, port, SCOPE_ADDRESS);
  if (!found) return pass(found);
  if (!*found && local) {
    const Address any = Address::unspecified(address.family());
    found = find_frontend(maps, any, proto, port, SCOPE_ANY_LOCAL);
    if (!found) return pass(found);
  }
  if (!*found) return std::optional<ServiceBackends>{};
  const frontend& front = **found;
  const bool range = (front.flags & FRONTEND_PORT_RANGE) != 0;
  const auto offset = static_cast<uint16_t>(range ? port - front.range_first : 0);
  const uint32_t first = inside ? front.first : front.ext_first;
  const uint32_t count = inside ? front.count : front.ext_count;
  std::set<std::pair<Address, uint16_t>> backends;  // a run may name one several times
  for (uint32_t slot = first; slot < first + count; ++slot) {
    auto record = maps.backend_slots.get(slot);
    if (!record) return pass(record);
    backends.emplace(maps::from_abi(record->addr),
                     static_cast<uint16_t>(maps::from_network(record->port) + offset));
  }
  return ServiceBackends{front.service, {backends.begin(), backends.end()}};
}

Result<bool> is_cluster_ip(const maps::Maps& maps, const Address& address) {
  auto mark = maps.frontends.get(maps::make_frontend_key(address, 0, 0));
  if (!mark) return pass(mark);
  return *mark && ((*mark)->flags & FRONTEND_CLUSTER_IP) != 0;
}

}  // namespace bpfnet::observe
