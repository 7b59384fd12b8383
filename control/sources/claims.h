#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/address.h"
#include "control/sources/decode.h"

namespace bpfnet::sources {

/// Something besides its name that only one object can have: a cluster IP, a node port, a pod's address.
struct Holding {
  enum class Type : uint8_t { kPodCidr, kNodeIp, kPodIp, kClusterIp, kNodePort, kVip };
  Type type = Type::kPodIp;
  model::Protocol protocol = model::Protocol::kTcp;  ///< kNodePort, kVip
  uint16_t number = 0;  ///< kNodePort, kVip: port; kPodCidr: length of the prefix
  Address address;      ///< all but kNodePort
  auto operator<=>(const Holding&) const = default;
  /// `10.96.0.1`, `198.51.100.1 port 80 TCP`, for complaints.
  [[nodiscard]] std::string to_string() const;
};

struct HoldingHash {
  size_t operator()(const Holding& holding) const noexcept;
};

/// What an object says is its own.
struct Claim {
  std::optional<Holding> holding;  ///< missing: its name
  std::string_view field;          ///< `spec.clusterIP`; empty for the name
  /// Lost alone: the object counts without it. Otherwise the object counts whole or not at all.
  bool separable = false;
};

/// Its name first.
std::vector<Claim> claims_of(const Object& object);
/// Takes the separable `claim` out of `object`.
void give_up(Object& object, const Claim& claim);

}  // namespace bpfnet::sources
