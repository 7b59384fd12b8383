#include "tests/support/apiserver/object_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace bpfnet::test {
namespace {

using nlohmann::json;

std::string text_at(const json& object, const std::string& pointer) {
  const json::json_pointer at(pointer);
  if (!object.contains(at)) return {};
  const json& value = object.at(at);
  return value.is_string() ? value.get<std::string>() : value.dump();
}

/// An object that is made anew is another one.
std::string uid_of(uint64_t created) {
  return fmt::format("0f8fad5b-d9cb-469f-a165-{:012x}", created);
}

}  // namespace

std::string StoredObject::with_kind() const {
  return fmt::format(R"({{"kind":"{}","apiVersion":"{}",{})", resource->kind, resource->version,
                     text.substr(1));
}

uint64_t ObjectStore::put(json object) {
  const Resource* resource = resource_of_kind(object.value("kind", ""));
  if (!resource) throw std::runtime_error("api server: no such kind: " + object.dump());
  auto stored = std::make_shared<StoredObject>();
  stored->resource = resource;
  json& metadata = object["metadata"];
  stored->name = metadata.at("name");
  if (resource->namespaced) {
    stored->ns = metadata.value("namespace", "default");
    metadata["namespace"] = stored->ns;
  }
  stored->version = ++version_;
  metadata["resourceVersion"] = std::to_string(stored->version);
  ObjectPtr& place = objects_[resource][{stored->ns, stored->name}];
  metadata["uid"] = place ? json::parse(place->text).at("metadata").at("uid") : json(uid_of(stored->version));
  metadata.emplace("creationTimestamp", "2026-01-31T12:00:00Z");
  if (const auto labels = metadata.find("labels"); labels != metadata.end() && labels->is_object())
    for (const auto& [key, value] : labels->items())
      stored->labels[key] = value.is_string() ? value.get<std::string>() : value.dump();
  stored->fields = {{"metadata.name", stored->name}, {"metadata.namespace", stored->ns}};
  for (const char* field : {"/spec/clusterIP", "/spec/nodeName", "/status/phase", "/spec/type"}) {
    std::string name(field + 1);
    std::ranges::replace(name, '/', '.');
    stored->fields[name] = text_at(object, field);
  }
  object.erase("kind");
  object.erase("apiVersion");
  stored->text = object.dump();
  events_[resource].push_back({stored->version, place, stored});
  place = std::move(stored);
  return version_;
}

bool ObjectStore::remove(const Resource& resource, const std::string& ns, const std::string& name) {
  auto& objects = objects_[&resource];
  const auto found = objects.find({ns, name});
  if (found == objects.end()) return false;
  events_[&resource].push_back({++version_, found->second, nullptr});
  objects.erase(found);
  return true;
}

ObjectPtr ObjectStore::find(const Resource& resource, const std::string& ns, const std::string& name) const {
  const auto objects = objects_.find(&resource);
  if (objects == objects_.end()) return nullptr;
  const auto found = objects->second.find({ns, name});
  return found == objects->second.end() ? nullptr : found->second;
}

std::vector<ObjectPtr> ObjectStore::all(const Resource& resource) const {
  std::vector<ObjectPtr> list;
  if (const auto objects = objects_.find(&resource); objects != objects_.end())
    for (const auto& [key, object] : objects->second) list.push_back(object);
  return list;
}

std::vector<ObjectPtr> ObjectStore::at(const Resource& resource, uint64_t version) const {
  std::map<Key, ObjectPtr> objects;
  for (const ObjectPtr& each : all(resource)) objects[{each->ns, each->name}] = each;
  if (const auto events = events_.find(&resource); events != events_.end()) {
    for (auto event = events->second.rbegin(); event != events->second.rend() && event->version > version;
         ++event) {
      const ObjectPtr& either = event->after ? event->after : event->before;
      objects[{either->ns, either->name}] = event->before;
    }
  }
  std::vector<ObjectPtr> list;
  for (const auto& [key, object] : objects)
    if (object) list.push_back(object);
  return list;
}

std::vector<StoredEvent> ObjectStore::since(const Resource& resource, uint64_t version, size_t limit) const {
  std::vector<StoredEvent> list;
  const auto events = events_.find(&resource);
  if (events == events_.end()) return list;
  auto at = std::ranges::upper_bound(events->second, version, {}, &StoredEvent::version);
  for (; at != events->second.end() && list.size() < limit; ++at) list.push_back(*at);
  return list;
}

}  // namespace bpfnet::test
