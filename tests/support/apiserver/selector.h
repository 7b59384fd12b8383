#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace bpfnet::test {

/// A label or field selector of a request: terms joined by commas, each `key`, `!key`, `key=value`,
/// `key==value` or `key!=value`.
class RequestSelector {
 public:
  /// nullopt: not one of those.
  static std::optional<RequestSelector> parse(const std::string& text, bool fields);
  [[nodiscard]] bool matches(const std::map<std::string, std::string>& values) const;

 private:
  enum class Test { kEquals, kDiffers, kExists, kMissing };
  struct Term {
    Test test;
    std::string key;
    std::string value;
  };
  std::vector<Term> terms_;
};

}  // namespace bpfnet::test
