#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>

#include "control/sources/problem.h"

namespace bpfnet::kubernetes {

/// One kind of objects as the API server offers it.
struct Resource {
  sources::Kind kind;
  std::string_view plural;
  std::string_view path;            ///< of all namespaces
  std::string_view label_selector;  ///< not encoded; empty: all
  std::string_view field_selector;  ///< saves work; a server that does not know it sends all
  bool optional = false;            ///< a server without it is well (K18)
  std::string_view older_path;      ///< where servers have it that do not know `path`; empty: none of ours
  /// Keys that nothing of ours reads, left out before the object is looked at; never those of labels and
  /// annotations. Policies are read whole: what is unknown in them must be seen.
  std::span<const std::string_view> skipped;
};

/// All that are watched, in the order of sources::Kind.
const std::array<Resource, 8>& resources();
const Resource& resource_of(sources::Kind kind);

}  // namespace bpfnet::kubernetes
