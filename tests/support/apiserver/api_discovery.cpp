// What the server says it serves: GET /apis and GET /apis/GROUP/VERSION.
#include <map>
#include <nlohmann/json.hpp>

#include "tests/support/apiserver/api_server.h"

namespace bpfnet::test {

using nlohmann::json;

std::optional<std::string> ApiServer::discovery(const std::string& path) const {
  const std::lock_guard lock(mutex_);
  std::map<std::string, json> kinds;  // of each group and version
  for (const Resource& each : known_resources())
    if (each.version != "v1" && !missing_.contains(each.kind))
      kinds[older_.contains(each.kind) ? older_.at(each.kind) : each.version].push_back(
          {{"name", each.plural},
           {"kind", each.kind},
           {"namespaced", each.namespaced},
           {"verbs", {"list", "watch"}}});
  if (path == "/apis") {
    json groups = json::array();
    for (const auto& [version, resources] : kinds) {
      const size_t slash = version.find('/');
      groups.push_back({{"name", version.substr(0, slash)},
                        {"versions", {{{"groupVersion", version}, {"version", version.substr(slash + 1)}}}}});
    }
    return json{{"kind", "APIGroupList"}, {"apiVersion", "v1"}, {"groups", groups}}.dump();
  }
  for (const auto& [version, resources] : kinds)
    if (path == "/apis/" + version)
      return json{{"kind", "APIResourceList"}, {"groupVersion", version}, {"resources", resources}}.dump();
  return {};
}

}  // namespace bpfnet::test
