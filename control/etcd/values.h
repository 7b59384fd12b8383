#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "control/etcd/keys.h"
#include "control/sources/decode.h"

namespace bpfnet::etcd {

/// What the value of a key gave.
struct DecodedValue {
  /// Of the key's object: good, or refused with its problems.
  sources::Decoded object;
  /// The text holds no such object at all: its last good version stays, and if there is none, `object` says
  /// what closes it.
  bool unreadable = false;
  /// An object of the key that counts as absent on purpose: a slice of host names (S4).
  bool left_out = false;
};

/// Decodes the JSON at the key of `name`. Problems have lines within the value and no source.
DecodedValue decode_value(const KeyName& name, std::string_view value);

}  // namespace bpfnet::etcd
