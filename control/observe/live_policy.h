#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>

#include "base/address.h"
#include "base/result.h"
#include "control/compile/policy_lookup.h"
#include "maps/maps.h"

// Policy as the pinned maps hold it now: what the datapath finds, found by the same lookups.
namespace bpfnet::observe {

/// All that the datapath knows of an address (bpf/lib/identity.h).
struct Party {
  uint32_t identity = 0;
  uint16_t endpoint = 0;    ///< of a pod of this node
  uint16_t flags = 0;       ///< enum address_flags
  uint32_t cidr_flags = 0;  ///< enum cidr_flags; of addresses that are not known exactly
};

Result<Party> find_party(const maps::Maps& maps, const Address& address, uint16_t net = 0);
/// An address of the family that no pod, node or prefix of a policy but the widest is about.
Result<Party> find_world(const maps::Maps& maps, Family family);

/// The verdict of a set in the kernel. `port` in host byte order. Of IDENTITY_SELF the pod's own entries
/// alone count, and what they do not name is allowed (A11).
Result<compile::PolicyVerdict> find_verdict(const maps::Maps& maps, uint32_t set, uint32_t identity,
                                            uint8_t proto, uint16_t port);

/// The entries of sets, read at most once a second: one walk of the map serves a burst of questions.
class LiveSets {
 public:
  /// `maps` must outlive it.
  explicit LiveSets(const maps::Maps& maps) : maps_(maps) {}

  /// Empty for a set without entries. Valid until the next call.
  Result<const compile::PolicySet*> find(uint32_t set);
  [[nodiscard]] const maps::Maps& maps() const { return maps_; }

 private:
  const maps::Maps& maps_;
  std::map<uint32_t, compile::PolicySet> sets_;
  std::optional<std::chrono::steady_clock::time_point> read_;
};

}  // namespace bpfnet::observe
