#pragma once

#include "maps/convert.h"
#include "tests/support/fixture.h"

namespace bpfnet::test {

inline constexpr uint16_t kTunnelPort = 4789;
inline constexpr uint32_t kVni = 7;
inline constexpr uint16_t kTunnelMtu = 1450;
inline constexpr uint16_t kNode2 = 2;  ///< index of the node of who().remote
inline constexpr uint16_t kNode3 = 3;

inline datapath_config overlay_config() {
  datapath_config config = default_config();
  config.overlay_port = maps::to_network(kTunnelPort);
  config.overlay_vni = kVni;
  return config;
}

inline Mac tunnel_mac(bool to) {
  const struct mac addresses[] = {OVERLAY_MAC_FROM, OVERLAY_MAC_TO};
  return maps::from_abi(addresses[to ? 1 : 0]);
}

/// Frames inside of tunnels have these for both directions.
inline Eth inside_tunnel() {
  return Eth{.dst = tunnel_mac(true), .src = tunnel_mac(false)};
}

}  // namespace bpfnet::test
