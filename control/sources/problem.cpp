#include "control/sources/problem.h"

#include <fmt/format.h>

namespace bpfnet::sources {
namespace {

std::string_view consequence(Effect effect) {
  switch (effect) {
    case Effect::kNone:
      return "";
    case Effect::kFieldSkipped:
      return "this field is left out";
    case Effect::kRefused:
      return "the object is not used";
    case Effect::kLastGood:
      return "its last good version stays";
    case Effect::kIsolated:
      return "until then the pods it selects are isolated";
    case Effect::kClosed:
      return "until then it denies what it may be meant to deny and accepts nothing of what cannot be read";
    case Effect::kWithoutField:
      return "until then the object counts without this field";
    case Effect::kMetadataOnly:
      return "until then the pod is known by its labels only";
    case Effect::kNotRead:
      return "not read; what stood here before stays";
  }
  return "";
}

}  // namespace

std::string Problem::to_string() const {
  std::string line = origin.source.str();
  if (origin.line > 0) line += fmt::format(":{}", origin.line);
  for (const std::string& part : {object, field, text}) {
    if (!part.empty()) line += (line.empty() ? "" : ": ") + part;
  }
  if (const std::string_view cost = consequence(effect); !cost.empty()) line += fmt::format("; {}", cost);
  return line;
}

}  // namespace bpfnet::sources
