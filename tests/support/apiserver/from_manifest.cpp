#include <charconv>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "control/sources/document.h"
#include "tests/support/apiserver/api_server.h"

namespace bpfnet::test {
namespace {

using nlohmann::json;
using sources::Value;

json scalar(const std::string& text) {
  if (text == "true" || text == "false") return text == "true";
  if (text == "null" || text == "~" || text.empty()) return nullptr;
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc{} && end == text.data() + text.size()) return number;
  return text;
}

json to_json(const Value& value) {
  switch (value.kind) {
    case Value::Kind::kNull:
      return nullptr;
    case Value::Kind::kPlain:
      return scalar(value.text);
    case Value::Kind::kString:
      return value.text;
    case Value::Kind::kList: {
      json list = json::array();
      for (const Value* item : value.items) list.push_back(to_json(*item));
      return list;
    }
    case Value::Kind::kMap: {
      json map = json::object();
      for (const auto& [key, entry] : value.entries) map[key] = to_json(*entry);
      return map;
    }
  }
  return nullptr;
}

}  // namespace

std::vector<json> objects_of_manifest(std::string_view yaml) {
  const sources::ParsedText parsed = sources::parse_yaml(yaml);
  if (parsed.error) throw std::runtime_error("manifest: " + parsed.error->text);
  std::vector<json> objects;
  for (const sources::Document& document : parsed.documents) objects.push_back(to_json(*document.root));
  return objects;
}

}  // namespace bpfnet::test
