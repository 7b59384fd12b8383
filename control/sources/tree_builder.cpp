#include "control/sources/tree_builder.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace bpfnet::sources {
namespace {

// Aliases can blow a small file up to billions of nodes; honest manifests repeat a few labels.
constexpr uint64_t kMaxAliasedNodes = 100'000;

}  // namespace

const Value* Value::find(std::string_view key) const {
  for (const auto& [name, value] : entries) {
    if (name == key) return value;
  }
  return nullptr;
}

bool Value::names_a_key_twice() const {
  if (entries.size() <= 16) {
    for (size_t i = 1; i < entries.size(); ++i) {
      for (size_t j = 0; j < i; ++j) {
        if (entries[i].first == entries[j].first) return true;
      }
    }
    return false;
  }
  std::set<std::string_view> seen;
  return !std::ranges::all_of(entries, [&](const auto& entry) { return seen.insert(entry.first).second; });
}

void TreeBuilder::null(int line, size_t anchor) {
  if (!open_.empty() && open_.back().value->kind == Value::Kind::kMap && !open_.back().has_key) {
    throw SyntaxError{line, "a key is empty, expected a name"};
  }
  attach(make(Value::Kind::kNull, line, anchor));
}

void TreeBuilder::scalar(Value::Kind kind, std::string text, int line, size_t anchor) {
  if (!open_.empty() && open_.back().value->kind == Value::Kind::kMap && !open_.back().has_key) {
    open_.back().has_key = true;
    open_.back().key = std::move(text);
    return;
  }
  Value& value = make(kind, line, anchor);
  value.text = std::move(text);
  attach(value);
}

void TreeBuilder::start(Value::Kind kind, int line, size_t anchor) {
  if (open_.size() >= kMaxDepth)
    throw SyntaxError{line, fmt::format("nested deeper than {} levels", kMaxDepth)};
  if (!open_.empty() && open_.back().value->kind == Value::Kind::kMap && !open_.back().has_key) {
    throw SyntaxError{line, "a key is a list or a map, expected a name"};
  }
  open_.push_back({&make(kind, line, anchor), false, {}, {}});
}

void TreeBuilder::end() {
  Level level = std::move(open_.back());
  open_.pop_back();
  Value& value = *level.value;
  if (value.kind == Value::Kind::kMap) {
    if (value.names_a_key_twice()) value.has_duplicate_keys = true;
    merge(level);
  }
  attach(value);
}

void TreeBuilder::alias(size_t anchor, int line) {
  const auto found = anchors_.find(anchor);
  const bool inside = found != anchors_.end() && std::ranges::any_of(open_, [&](const Level& level) {
                        return level.value == found->second;
                      });
  if (found == anchors_.end() || inside) throw SyntaxError{line, "an alias refers to itself or to a key"};
  if (!open_.empty() && open_.back().value->kind == Value::Kind::kMap && !open_.back().has_key) {
    throw SyntaxError{line, "a key is an alias, expected a name"};
  }
  attach(*found->second);
}

Value& TreeBuilder::make(Value::Kind kind, int line, size_t anchor) {
  Value& value = document_.nodes.emplace_back();
  value.kind = kind;
  value.line = line;
  if (anchor != 0) anchors_[anchor] = &value;
  return value;
}

void TreeBuilder::attach(const Value& value) {
  if (open_.empty()) {
    document_.root = &value;
    return;
  }
  Level& level = open_.back();
  Value& parent = *level.value;
  parent.size += value.size;
  if (parent.size > document_.nodes.size() + kMaxAliasedNodes) {
    throw SyntaxError{parent.line, fmt::format("aliases add more than {} nodes", kMaxAliasedNodes)};
  }
  parent.has_duplicate_keys |= value.has_duplicate_keys;
  if (parent.kind == Value::Kind::kList) {
    parent.items.push_back(&value);
    return;
  }
  level.has_key = false;
  if (level.key != "<<") {
    parent.entries.emplace_back(std::move(level.key), &value);
  } else if (value.kind == Value::Kind::kList) {
    level.merges.insert(level.merges.end(), value.items.begin(), value.items.end());
  } else {
    level.merges.push_back(&value);
  }
}

// YAML's merge key: what the map itself says stands before what it merges in.
void TreeBuilder::merge(Level& level) {
  if (level.merges.empty()) return;
  auto& entries = level.value->entries;
  std::set<std::string> known;
  for (const auto& [key, value] : entries) known.insert(key);
  for (const Value* from : level.merges) {
    if (from->kind != Value::Kind::kMap) throw SyntaxError{from->line, "<< merges maps only"};
    for (const auto& [key, value] : from->entries) {
      if (known.insert(key).second) entries.emplace_back(key, value);
    }
  }
}

}  // namespace bpfnet::sources
