#pragma once

#include <cstdint>
#include <vector>

#include "control/compile/policy_lookup.h"

namespace bpfnet::compile {

/// A connection under way, behind the service if there is one (P11).
struct LiveFlow {
  Address client;
  Address backend;
  uint16_t client_port = 0;   ///< host byte order
  uint16_t backend_port = 0;  ///< host byte order; 0 for protocols without
  uint8_t proto = 0;
  uint16_t net = 0;
  uint16_t source = 0;       ///< endpoint index of the client; 0: no pod of this node
  uint16_t destination = 0;  ///< endpoint index of the backend
  bool by_service = false;   ///< the client asked for a service's address
  bool picked_up = false;    ///< its beginning was not seen: it must be allowed both ways round (P17)

  /// As if the other end had begun it.
  [[nodiscard]] LiveFlow reversed() const;
};

/// A connection that is allowed now and would not be.
struct BrokenFlow {
  LiveFlow flow;  ///< reversed, if only so it would be denied
  Direction direction = Direction::kIngress;
  uint32_t peer = 0;  ///< identity of the other end, in the later image; of a pod itself: see is_self()
  Finding before;
  Finding after;
};

/// A peer: who it is in the earlier and in the later image.
struct PeerChange {
  uint32_t before = 0;
  uint32_t after = 0;
  auto operator<=>(const PeerChange&) const = default;
};

struct PortRange {
  uint8_t proto = 0;  ///< 0: every protocol that is not named otherwise
  uint16_t first = 0;
  uint16_t last = UINT16_MAX;
  auto operator<=>(const PortRange&) const = default;
};

/// Connections of one endpoint in one direction that would be judged otherwise.
struct VerdictChange {
  uint16_t endpoint = 0;
  Direction direction = Direction::kIngress;
  /// Sorted; empty: every peer but the pod itself, which is told of apart: by its IDENTITY_SELF or
  /// IDENTITY_SELF6, and nobody else beside it.
  std::vector<PeerChange> peers;
  std::vector<PortRange> ports;
  PolicyVerdict before;
  PolicyVerdict after;
};

struct PolicyDiff {
  std::vector<BrokenFlow> broken;
  std::vector<VerdictChange> changes;  ///< by endpoint and direction
};

/// Whether a packet with this verdict goes on.
bool passes(const PolicyVerdict& verdict);

/// Pure. What would be judged otherwise under `after` than under `before`, both compiled with one set of
/// numbers. What is no matter of policy is left out: pods that reach themselves but for their services (P15,
/// A11), the own node's way in (P13).
PolicyDiff diff_policies(const PolicyImage& before, const PolicyImage& after,
                         const std::vector<LiveFlow>& flows);

}  // namespace bpfnet::compile
