#include "control/kubernetes/discovery.h"

#include <algorithm>

#include "control/sources/json_tree.h"

namespace bpfnet::kubernetes {
namespace {

using sources::Value;

bool says(const Value* map, std::string_view key, std::string_view text) {
  const Value* found = map->kind == Value::Kind::kMap ? map->find(key) : nullptr;
  return found && found->text == text;
}

const Value* list_in(const Value* map, std::string_view key) {
  const Value* found = map->kind == Value::Kind::kMap ? map->find(key) : nullptr;
  return found && found->kind == Value::Kind::kList ? found : nullptr;
}

/// The list `key` of an object of this kind. An empty one is not believed: every server has something.
const Value* list_of(sources::JsonTree& tree, std::string_view json, std::string_view kind,
                     std::string_view key) {
  if (!tree.parse(json) || !says(&tree.root(), "kind", kind)) return nullptr;
  const Value* list = list_in(&tree.root(), key);
  return list && !list->items.empty() ? list : nullptr;
}

}  // namespace

Served serves_group(std::string_view json, std::string_view group_version) {
  sources::JsonTree tree;
  const Value* groups = list_of(tree, json, "APIGroupList", "groups");
  if (!groups) return Served::kUnknown;
  const bool found = std::ranges::any_of(groups->items, [&](const Value* group) {
    const Value* versions = list_in(group, "versions");
    return versions && std::ranges::any_of(versions->items, [&](const Value* version) {
             return says(version, "groupVersion", group_version);
           });
  });
  return found ? Served::kYes : Served::kNo;
}

Served serves_kind(std::string_view json, std::string_view plural) {
  sources::JsonTree tree;
  const Value* kinds = list_of(tree, json, "APIResourceList", "resources");
  if (!kinds) return Served::kUnknown;
  const bool found =
      std::ranges::any_of(kinds->items, [&](const Value* kind) { return says(kind, "name", plural); });
  return found ? Served::kYes : Served::kNo;
}

}  // namespace bpfnet::kubernetes
