#include "control/observe/live_policy.h"

#include "maps/convert.h"

namespace bpfnet::observe {
namespace {

constexpr std::chrono::seconds kFresh{1};

}  // namespace

Result<Party> find_party(const maps::Maps& maps, const Address& address, uint16_t net) {
  auto info = maps.addresses.get(maps::make_address_key(address, net));
  if (!info) return pass(info);
  if (*info) {
    const bool local = ((*info)->flags & ADDRESS_LOCAL_POD) != 0;
    return Party{(*info)->identity, local ? (*info)->endpoint : uint16_t{0}, (*info)->flags, 0};
  }
  if (address.is_loopback()) return Party{IDENTITY_HOST, 0, ADDRESS_LOCAL_NODE | ADDRESS_NODE_PORT, 0};
  auto cidr = maps.cidrs.get(maps::make_cidr_lookup(address, net));
  if (!cidr) return pass(cidr);
  Party party{.identity = IDENTITY_WORLD};
  if (*cidr) party.cidr_flags = (*cidr)->flags;
  if (*cidr && (*cidr)->identity != 0) party.identity = (*cidr)->identity;
  return party;
}

Result<Party> find_world(const maps::Maps& maps, Family family) {
  const Address any = Address::unspecified(family);
  auto cidr = maps.cidrs.get(maps::make_cidr_key(Cidr(any, 0)));
  if (!cidr) return pass(cidr);
  const bool known = *cidr && (*cidr)->identity != 0;
  return Party{.identity = known ? (*cidr)->identity : uint32_t{IDENTITY_WORLD}};
}

Result<compile::PolicyVerdict> find_verdict(const maps::Maps& maps, uint32_t set, uint32_t identity,
                                            uint8_t proto, uint16_t port) {
  if (set == POLICY_SET_ALLOW_ALL) return compile::PolicyVerdict{0, POLICY_ALLOW};
  const bool self = compile::is_self(identity);
  for (const uint32_t peer : {identity, uint32_t{IDENTITY_ANY}}) {
    if (self && peer == IDENTITY_ANY) break;
    policy_key key = maps::make_policy_key(set, peer, proto, port, 16);
    key.prefixlen = POLICY_PREFIX_PORT;  // of protocol 0, too: nothing shorter was asked for
    auto entry = maps.policies.get(key);
    if (!entry) return pass(entry);
    if (*entry) return compile::PolicyVerdict{(*entry)->rule, (*entry)->verdict};
  }
  const bool open = self && set != POLICY_SET_CLOSED;
  return compile::PolicyVerdict{0, open ? uint8_t{POLICY_ALLOW} : uint8_t{POLICY_DENY}};
}

Result<const compile::PolicySet*> LiveSets::find(uint32_t set) {
  const auto now = std::chrono::steady_clock::now();
  if (!read_ || now - *read_ > kFresh) {
    auto entries = maps_.policies.entries();
    if (!entries) return pass(entries);
    sets_.clear();
    for (const auto& [key, entry] : *entries) {
      const maps::PolicyKeyFields fields = maps::from_abi(key);
      sets_[fields.set].entries[{fields.identity, fields.proto, fields.port, fields.port_bits}] = {
          entry.rule, entry.verdict};
    }
    read_ = now;
  }
  return &sets_[set];
}

}  // namespace bpfnet::observe
