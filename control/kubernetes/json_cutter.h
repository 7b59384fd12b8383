#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace bpfnet::kubernetes {

/// Follows JSON byte by byte as far as it takes to see where a value ends: strings and brackets. It checks
/// nothing else; whoever gets the value parses it.
class JsonScanner {
 public:
  /// Depth after `c`. Strings count as nothing.
  int step(char c) {
    if (in_string_) {
      if (escaped_) {
        escaped_ = false;
      } else if (c == '\\') {
        escaped_ = true;
      } else if (c == '"') {
        in_string_ = false;
      }
      return depth_;
    }
    if (c == '"') {
      in_string_ = true;
    } else if (c == '{' || c == '[') {
      ++depth_;
    } else if (c == '}' || c == ']') {
      --depth_;
    }
    return depth_;
  }
  [[nodiscard]] int depth() const { return depth_; }
  [[nodiscard]] bool in_string() const { return in_string_; }

 private:
  int depth_ = 0;
  bool in_string_ = false;
  bool escaped_ = false;
};

/// The largest object that is taken; etcd holds none above 1.5 MiB, and an event adds a little.
inline constexpr size_t kLargestObject = size_t{8} << 20;

/// Cuts the body of a watch into its events, wherever it was split (K3). Events are JSON objects one after
/// another, with or without space between them.
class FrameCutter {
 public:
  /// Calls `frame` for each event that is complete now. Errors: something that is no object, or too large a
  /// one; the rest of the body is of no use then. `frame` gives false to stop.
  Status feed(std::string_view bytes, const std::function<bool(std::string_view)>& frame);
  /// In the middle of an event.
  [[nodiscard]] bool partial() const { return !pending_.empty(); }

 private:
  JsonScanner scanner_;
  std::string pending_;  ///< the beginning of an event
};

/// The value of `key` in the JSON object `object`, as it is written: strings with their quotes, without space
/// around it. Empty: there is none. Of JSON that parsers do not take it still finds the parts.
std::string_view member(std::string_view object, std::string_view key);

/// Cuts the body of a list into its items while it arrives, so that a list of any size needs the memory of
/// one item: servers answer resourceVersion=0 without pages.
class ListCutter {
 public:
  /// Calls `item` for each one that is complete now. Errors as above.
  Status feed(std::string_view bytes, const std::function<bool(std::string_view)>& item);
  /// The list object without its items; empty as long as it is not complete.
  [[nodiscard]] std::string_view rest() const {
    return complete_ ? std::string_view(rest_) : std::string_view();
  }

 private:
  JsonScanner scanner_;
  std::string rest_;
  std::string item_;
  bool in_items_ = false;
  bool complete_ = false;
  std::string key_;  ///< the last string at depth 1
  bool in_key_ = false;
};

}  // namespace bpfnet::kubernetes
