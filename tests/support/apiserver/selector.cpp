#include "tests/support/apiserver/selector.h"

#include <algorithm>

namespace bpfnet::test {

std::optional<RequestSelector> RequestSelector::parse(const std::string& text, bool fields) {
  RequestSelector selector;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    const std::string term = text.substr(at, end - at);
    at = end + 1;
    if (term.empty() || term.find_first_of(" ()") != std::string::npos) return {};
    if (const size_t differs = term.find("!="); differs != std::string::npos) {
      selector.terms_.push_back({Test::kDiffers, term.substr(0, differs), term.substr(differs + 2)});
    } else if (const size_t equals = term.find('='); equals != std::string::npos) {
      const size_t value = term.find_first_not_of('=', equals);
      selector.terms_.push_back(
          {Test::kEquals, term.substr(0, equals), value == std::string::npos ? "" : term.substr(value)});
    } else if (fields) {
      return {};
    } else {
      const bool missing = term.front() == '!';
      selector.terms_.push_back({missing ? Test::kMissing : Test::kExists, term.substr(missing ? 1 : 0), ""});
    }
  }
  return selector;
}

bool RequestSelector::matches(const std::map<std::string, std::string>& values) const {
  return std::ranges::all_of(terms_, [&](const Term& term) {
    const auto found = values.find(term.key);
    const bool there = found != values.end();
    switch (term.test) {
      case Test::kEquals:
        return there ? found->second == term.value : term.value.empty();
      case Test::kDiffers:
        return there ? found->second != term.value : !term.value.empty();
      case Test::kExists:
        return there;
      case Test::kMissing:
        return !there;
    }
    return false;
  });
}

}  // namespace bpfnet::test
