#include "control/kubernetes/object_reader.h"

#include <algorithm>
#include <charconv>

#include "control/kubernetes/json_cutter.h"

namespace bpfnet::kubernetes {
namespace {

using sources::Kind;
using sources::Value;

std::string text_at(const Value* map, std::string_view key) {
  const Value* found = map ? map->find(key) : nullptr;
  return found ? found->text : std::string();
}

int number_at(const Value* map, std::string_view key) {
  const std::string text = text_at(map, key);
  int number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

ServerStatus status_of(const Value& root) {
  return {.code = number_at(&root, "code"),
          .reason = text_at(&root, "reason"),
          .message = text_at(&root, "message")};
}

WatchEvent::Type type_of(std::string_view name) {
  using enum WatchEvent::Type;
  if (name == "ADDED") return kAdded;
  if (name == "MODIFIED") return kModified;
  if (name == "DELETED") return kDeleted;
  if (name == "BOOKMARK") return kBookmark;
  if (name == "ERROR") return kError;
  return kUnknown;
}

bool says_initial_end(const Value& metadata) {
  const Value* annotations = metadata.find("annotations");
  return annotations && text_at(annotations, "k8s.io/initial-events-end") == "true";
}

/// The string that is written as `json`; empty if there is anything in it that names do not have.
std::string plain_text(std::string_view json) {
  if (json.size() < 2 || json.front() != '"' || json.back() != '"') return {};
  const std::string_view text = json.substr(1, json.size() - 2);
  const bool plain = std::ranges::all_of(text, [](char c) { return c > ' ' && c <= '~' && c != '\\'; });
  return plain ? std::string(text) : std::string();
}

}  // namespace

ObjectReader::ObjectReader(const Resource& resource, std::string node_name,
                           std::function<void(const Value&)> see)
    : resource_(resource), node_name_(std::move(node_name)), see_(std::move(see)) {}

Result<ReadObject> ObjectReader::read(std::string_view json) {
  BPFNET_TRY(tree_.parse(json, resource_.skipped));
  return read_value(tree_.root(), true);
}

Result<ReadObject> ObjectReader::read_value(const Value& root, bool decode) {
  const Value* metadata = root.kind == Value::Kind::kMap ? root.find("metadata") : nullptr;
  if (!metadata) return fail("{}: an object without metadata", resource_.plural);
  ReadObject object;
  object.name = {text_at(metadata, "namespace"), text_at(metadata, "name")};
  object.version = text_at(metadata, "resourceVersion");
  object.uid = read_uid(text_at(metadata, "uid"));
  object.initial_end = says_initial_end(*metadata);
  if (!decode) return object;
  if (object.name.name.empty()) return fail("{}: an object without a name", resource_.plural);
  if (see_) see_(root);
  object.decoded = sources::decode_object(root, resource_.kind);
  for (const sources::Decoded& each : object.decoded.objects)
    if (each.name == object.name) object.name = each.name;  // one text for both
  trim(object.decoded);
  return object;
}

// A finished pod of another node is nobody's peer (P21); of a live one policies see labels, addresses and the
// names of its ports.
void ObjectReader::trim(sources::DecodedText& decoded) const {
  if (resource_.kind != Kind::kPod) return;
  std::erase_if(decoded.objects, [&](sources::Decoded& each) {
    if (!each.object) return false;
    auto& pod = std::get<model::Pod>(*each.object);
    if (pod.node_name == node_name_) return false;
    std::vector<model::ContainerPort> named;
    for (const model::ContainerPort& port : pod.ports)
      if (!port.name.empty())
        named.push_back({.name = port.name, .port = port.port, .protocol = port.protocol});
    pod.ports = std::move(named);
    pod.denied.reset();
    return pod.finished();
  });
}

Result<WatchEvent> ObjectReader::read_event(std::string_view json) {
  BPFNET_TRY(tree_.parse(json, resource_.skipped));
  const Value& root = tree_.root();
  const Value* object = root.kind == Value::Kind::kMap ? root.find("object") : nullptr;
  if (!object) return fail("{}: an event without an object", resource_.plural);
  WatchEvent event;
  event.type = type_of(text_at(&root, "type"));
  if (event.type == WatchEvent::Type::kError) {
    ServerStatus status = status_of(*object);
    event.code = status.code;
    event.message = std::move(status.message);
    return event;
  }
  const bool decode = event.type == WatchEvent::Type::kAdded || event.type == WatchEvent::Type::kModified;
  auto read = read_value(*object, decode);
  if (!read) return pass(read);
  if (event.type == WatchEvent::Type::kDeleted && read->name.name.empty())
    return fail("{}: an object without a name", resource_.plural);
  event.object = std::move(*read);
  return event;
}

ReadObject ObjectReader::salvage(std::string_view json, const std::string& why) {
  const std::string_view metadata = member(json, "metadata");
  ReadObject object;
  object.name = {plain_text(member(metadata, "namespace")), plain_text(member(metadata, "name"))};
  object.version = plain_text(member(metadata, "resourceVersion"));
  object.uid = read_uid(plain_text(member(metadata, "uid")));
  object.decoded.problems.push_back({.origin = {},
                                     .object = "",
                                     .field = "",
                                     .text = "cannot be read: " + why,
                                     .effect = sources::Effect::kNotRead});
  object.decoded.complete = false;
  return object;
}

Result<WatchEvent> ObjectReader::salvage_event(std::string_view json, const std::string& why) {
  using enum WatchEvent::Type;
  WatchEvent event;
  event.type = type_of(plain_text(member(json, "type")));
  const std::string_view object = member(json, "object");
  const bool change = event.type == kAdded || event.type == kModified || event.type == kDeleted;
  if (!change || !object.starts_with('{')) return fail("{}", why);
  event.object = salvage(object, why);
  if (event.type == kDeleted && event.object.name.name.empty()) return fail("{}", why);
  return event;
}

Result<ObjectReader::ListEnd> ObjectReader::read_list_end(std::string_view json) {
  BPFNET_TRY(tree_.parse(json));
  const Value* metadata = tree_.root().kind == Value::Kind::kMap ? tree_.root().find("metadata") : nullptr;
  ListEnd end{.version = text_at(metadata, "resourceVersion"), .more = text_at(metadata, "continue")};
  if (end.version.empty()) return fail("{}: a list without resourceVersion", resource_.plural);
  return end;
}

std::optional<ServerStatus> read_status(std::string_view json) {
  sources::JsonTree tree;
  if (!tree.parse(json)) return {};
  if (tree.root().kind != Value::Kind::kMap || text_at(&tree.root(), "kind") != "Status") return {};
  return status_of(tree.root());
}

}  // namespace bpfnet::kubernetes
