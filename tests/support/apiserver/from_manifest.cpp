#include <nlohmann/json.hpp>
#include <stdexcept>

#include "control/objects/manifest.h"
#include "control/sources/document.h"
#include "tests/support/apiserver/api_server.h"

namespace bpfnet::test {

using nlohmann::json;

std::vector<json> objects_of_manifest(std::string_view yaml) {
  const sources::ParsedText parsed = sources::parse_yaml(yaml);
  if (parsed.error) throw std::runtime_error("manifest: " + parsed.error->text);
  std::vector<json> result;
  for (const sources::Document& document : parsed.documents)
    result.emplace_back(objects::to_json(*document.root));
  return result;
}

}  // namespace bpfnet::test
