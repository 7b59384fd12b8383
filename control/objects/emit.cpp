#include <algorithm>
#include <array>

#include "base/address.h"
#include "control/objects/manifest.h"

namespace bpfnet::objects {
namespace {

using nlohmann::ordered_json;
using sources::Value;

template <size_t size>
bool one_of(std::string_view text, const std::array<std::string_view, size>& words) {
  return std::ranges::find(words, text) != words.end();
}

// The words of YAML 1.1, as kubectl reads it.
constexpr std::array<std::string_view, 9> kTrue = {"true", "True", "TRUE", "yes", "Yes",
                                                   "YES",  "on",   "On",   "ON"};
constexpr std::array<std::string_view, 9> kFalse = {"false", "False", "FALSE", "no", "No",
                                                    "NO",    "off",   "Off",   "OFF"};
constexpr std::array<std::string_view, 7> kOther = {"null", "Null", "NULL", "y", "Y", "n", "N"};

ordered_json scalar(const std::string& text) {
  if (one_of(text, kTrue)) return true;
  if (one_of(text, kFalse)) return false;
  auto number = ordered_json::parse(text, nullptr, false);
  return number.is_number() ? std::move(number) : ordered_json(text);
}

/// Does every reader of YAML take it for this text without quotes?
bool is_plain(const std::string& text) {
  if (text.empty() || one_of(text, kTrue) || one_of(text, kFalse) || one_of(text, kOther)) return false;
  const bool plain_letters = std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '/' || c == '-' || c == '_';
  });
  if (!plain_letters || text.front() == '-' || text.front() == '.') return false;
  if (text.front() < '0' || text.front() > '9') return true;
  return Address::parse(text).has_value() || Cidr::parse(text).has_value();  // 1e5, 0x10, 1.10, 2026-01-01
}

std::string scalar_text(const ordered_json& value) {
  if (value.is_string() && is_plain(value.get_ref<const std::string&>())) return value.get<std::string>();
  return value.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

bool is_block(const ordered_json& value) {
  return value.is_structured() && !value.empty();
}

/// Lines of `value` at `indent`; the first one begins where the caller stands.
void emit(const ordered_json& value, size_t indent, std::string& text) {
  const std::string margin(indent, ' ');
  bool first = true;
  const auto begin_line = [&] {
    if (!first) text += margin;
    first = false;
  };
  if (value.is_array()) {
    for (const ordered_json& item : value) {
      begin_line();
      text += "- ";
      is_block(item) ? emit(item, indent + 2, text) : void(text += scalar_text(item) + "\n");
    }
    return;
  }
  for (const auto& [key, item] : value.items()) {
    begin_line();
    text += scalar_text(key) + ":";
    if (!is_block(item)) {
      text += " " + scalar_text(item) + "\n";
      continue;
    }
    // A list stands at its key's own margin, as kubectl writes it.
    const size_t inner = item.is_array() ? indent : indent + 2;
    text += "\n" + std::string(inner, ' ');
    emit(item, inner, text);
  }
}

}  // namespace

ordered_json to_json(const Value& value) {
  switch (value.kind) {
    case Value::Kind::kNull:
      return nullptr;
    case Value::Kind::kPlain:
      return scalar(value.text);
    case Value::Kind::kString:
      return value.text;
    case Value::Kind::kList: {
      ordered_json list = ordered_json::array();
      for (const Value* item : value.items) list.push_back(to_json(*item));
      return list;
    }
    case Value::Kind::kMap: {
      ordered_json map = ordered_json::object();
      for (const auto& [key, item] : value.entries) map[key] = to_json(*item);
      return map;
    }
  }
  return nullptr;
}

std::string json_text(const ordered_json& json) {
  return json.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

std::string yaml_text(const ordered_json& json) {
  if (!is_block(json)) return scalar_text(json) + "\n";
  std::string text;
  emit(json, 0, text);
  return text;
}

}  // namespace bpfnet::objects
