#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "control/sources/document.h"

namespace bpfnet::sources {

/// Builds a Document from parser events. In a map, the event at a key's place must be a scalar.
/// Throws SyntaxError: neither of the two parsers has another way to be stopped from within an event.
class TreeBuilder {
 public:
  explicit TreeBuilder(Document& document) : document_(document) {}

  /// `anchor` is the parser's number for `&name`, 0 for none.
  void null(int line, size_t anchor = 0);
  void scalar(Value::Kind kind, std::string text, int line, size_t anchor = 0);
  void start(Value::Kind kind, int line, size_t anchor = 0);
  void end();
  void alias(size_t anchor, int line);

 private:
  struct Level {
    Value* value = nullptr;
    bool has_key = false;
    std::string key;
    std::vector<const Value*> merges;  ///< maps that `<<` brings in
  };

  Value& make(Value::Kind kind, int line, size_t anchor);
  void attach(const Value& value);
  void merge(Level& level);

  Document& document_;
  std::vector<Level> open_;
  std::unordered_map<size_t, const Value*> anchors_;
};

}  // namespace bpfnet::sources
