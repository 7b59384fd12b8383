#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "control/sources/document.h"

namespace bpfnet::sources {

/// Parses JSON of machines, fast (simdjson), into the tree that the decoders work on. For text that people
/// write there is parse_json, which knows lines; here all are 0. Keeps its buffers from one text to the next.
class JsonTree {
 public:
  JsonTree();
  ~JsonTree();
  JsonTree(JsonTree&&) noexcept;
  JsonTree& operator=(JsonTree&&) noexcept;

  /// Reads one JSON value. Entries of maps whose key is in `skipped` are left out with all below them, except
  /// below `labels` and `annotations`. Errors: no JSON, nested deeper than 64 levels, integers above 64 bits.
  Status parse(std::string_view text, std::span<const std::string_view> skipped = {});
  /// What was parsed last; good until the next call.
  [[nodiscard]] const Value& root() const { return *document_.root; }

 private:
  struct Parser;
  std::unique_ptr<Parser> parser_;
  Document document_;
};

}  // namespace bpfnet::sources
