#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "control/model/objects.h"
#include "control/sources/problem.h"

namespace bpfnet::etcd {

/// Which object a key is about.
struct KeyName {
  sources::Kind kind = sources::Kind::kNamespace;
  model::ObjectName name;
  auto operator<=>(const KeyName&) const = default;
};

/// `/bpfnet/Service/shop/web`, `/bpfnet/Node/a`.
std::string key_of(std::string_view prefix, const KeyName& name);
/// nullopt: no object stands there.
std::optional<KeyName> parse_key(std::string_view prefix, std::string_view key);

}  // namespace bpfnet::etcd
