// What clients write: Events, and the status of Nodes.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/support/apiserver/api_server.h"

namespace bpfnet::test {
namespace {

using nlohmann::json;

/// As the server merges a strategic patch: a list of conditions by their types, everything else as a merge
/// patch.
void merge_strategically(json& object, const json& patch) {
  for (const auto& [key, value] : patch.items()) {
    json& place = object[key];
    if (key == "conditions" && value.is_array()) {
      if (!place.is_array()) place = json::array();
      for (const json& condition : value) {
        const auto same = std::ranges::find_if(
            place, [&](const json& each) { return each.at("type") == condition.at("type"); });
        if (same == place.end()) {
          place.push_back(condition);
        } else {
          same->merge_patch(condition);
        }
      }
    } else if (value.is_object() && place.is_object()) {
      merge_strategically(place, value);
    } else {
      place = value;
    }
  }
}

}  // namespace

void ApiServer::create(const HttpRequest& request, HttpConnection& connection, const Target& target) {
  json object = json::parse(request.body, nullptr, false);
  if (!object.is_object() || object.value("kind", "") != target.resource->kind)
    return connection.answer(400, status_json(400, "BadRequest", "no object of this kind: " + request.body));
  json& metadata = object["metadata"];
  if (target.resource->namespaced && metadata.value("namespace", "") != target.ns)
    return connection.answer(400,
                             status_json(400, "BadRequest", "the namespace of the object does not match"));
  std::string made;
  {
    const std::lock_guard lock(mutex_);
    if (!metadata.contains("name") && metadata.contains("generateName"))
      metadata["name"] = metadata.at("generateName").get<std::string>() + std::to_string(store_.version());
    const std::string name = metadata.value("name", "");
    if (name.empty())
      return connection.answer(422, status_json(422, "Invalid", "metadata.name: Required value"));
    if (store_.find(*target.resource, target.ns, name))
      return connection.answer(409, status_json(409, "AlreadyExists", name + " already exists"));
    store_.put(object);
    wake_watches();
    made = store_.find(*target.resource, target.ns, name)->with_kind();
  }
  connection.answer(201, made);
}

void ApiServer::patch(const HttpRequest& request, HttpConnection& connection, const Target& target) {
  const json change = json::parse(request.body, nullptr, false);
  const std::string type = request.header("content-type");
  if (!change.is_object() ||
      (type != "application/merge-patch+json" && type != "application/strategic-merge-patch+json"))
    return connection.answer(415, status_json(415, "UnsupportedMediaType", type));
  std::string made;
  {
    const std::lock_guard lock(mutex_);
    const ObjectPtr found = store_.find(*target.resource, target.ns, target.name);
    if (!found) return connection.answer(404, status_json(404, "NotFound", target.name + " not found"));
    json object = json::parse(found->with_kind());
    // The main resource keeps its status, the subresource changes nothing else.
    json allowed = change;
    if (target.subresource == "status") allowed = json{{"status", change.value("status", json::object())}};
    if (target.subresource.empty() && target.resource->kind == "Node") allowed.erase("status");
    if (type == "application/merge-patch+json") {
      object.merge_patch(allowed);
    } else {
      merge_strategically(object, allowed);
    }
    store_.put(object);
    wake_watches();
    made = store_.find(*target.resource, target.ns, target.name)->with_kind();
  }
  connection.answer(200, made);
}

// As kubectl and a controller would: create or replace, without asking for the version it was read at.
void ApiServer::replace(const HttpRequest& request, HttpConnection& connection, const Target& target) {
  json object = json::parse(request.body, nullptr, false);
  if (!object.is_object() || target.name.empty())
    return connection.answer(400, status_json(400, "BadRequest", "no object: " + request.body));
  object["kind"] = target.resource->kind;
  object["apiVersion"] = target.resource->version;
  object["metadata"]["name"] = target.name;
  if (target.resource->namespaced) object["metadata"]["namespace"] = target.ns;
  put(object);
  get_one(connection, target);
}

void ApiServer::erase(HttpConnection& connection, const Target& target) {
  if (remove(target.resource->kind, target.ns, target.name) == 0)
    return connection.answer(404, status_json(404, "NotFound", target.name + " not found"));
  connection.answer(200, R"({"kind":"Status","apiVersion":"v1","status":"Success"})");
}

}  // namespace bpfnet::test
