#include "control/etcd/keys.h"

#include <fmt/format.h>

namespace bpfnet::etcd {

std::string key_of(std::string_view prefix, const KeyName& name) {
  return fmt::format("{}{}/{}", prefix, sources::to_string(name.kind), name.name.to_string());
}

std::optional<KeyName> parse_key(std::string_view prefix, std::string_view key) {
  if (!key.starts_with(prefix)) return std::nullopt;
  key.remove_prefix(prefix.size());
  for (const sources::Kind kind : sources::kAllKinds) {
    std::string_view rest = key;
    const std::string_view word = sources::to_string(kind);
    if (!rest.starts_with(word) || !rest.substr(word.size()).starts_with('/')) continue;
    rest.remove_prefix(word.size() + 1);
    KeyName name{kind, {}};
    if (sources::is_namespaced(kind)) {
      const size_t slash = rest.find('/');
      if (slash == std::string_view::npos || slash == 0) return std::nullopt;
      name.name.ns = rest.substr(0, slash);
      rest.remove_prefix(slash + 1);
    }
    if (rest.empty() || rest.find('/') != std::string_view::npos) return std::nullopt;
    name.name.name = rest;
    return name;
  }
  return std::nullopt;
}

}  // namespace bpfnet::etcd
