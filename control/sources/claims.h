#pragma once

#include <string>
#include <vector>

#include "control/sources/decode.h"

namespace bpfnet::sources {

/// Something that only one object can have: its name, a cluster IP, a node port, a pod's address.
struct Claim {
  std::string key;    ///< the same for two objects that contradict each other
  std::string field;  ///< empty for the name
  std::string what;   ///< `10.96.0.1`, for complaints
  /// Lost alone: the object counts without it. Otherwise the object counts whole or not at all.
  bool separable = false;
};

std::vector<Claim> claims_of(const Object& object);
/// Takes the separable `claim` out of `object`.
void give_up(Object& object, const Claim& claim);

}  // namespace bpfnet::sources
