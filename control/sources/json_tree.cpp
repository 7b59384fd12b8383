#include "control/sources/json_tree.h"

#include <simdjson.h>

#include <algorithm>

namespace bpfnet::sources {
namespace {

namespace dom = simdjson::dom;

/// A buffer that one large object has left behind is given back.
constexpr size_t kLargestKept = size_t{4} << 20;

class Builder {
 public:
  Builder(Document& document, std::span<const std::string_view> skipped)
      : document_(document), skipped_(skipped) {}

  Value* build(const dom::element& from, bool skip) {
    Value& value = document_.nodes.emplace_back();
    switch (from.type()) {
      case dom::element_type::ARRAY:
        value.kind = Value::Kind::kList;
        for (const dom::element item : dom::array(from)) attach(value, build(item, skip));
        break;
      case dom::element_type::OBJECT:
        value.kind = Value::Kind::kMap;
        build_map(value, dom::object(from), skip);
        break;
      case dom::element_type::STRING:
        value.kind = Value::Kind::kString;
        value.text = std::string_view(from);
        break;
      case dom::element_type::INT64:
        value.kind = Value::Kind::kPlain;
        value.text = std::to_string(int64_t(from));
        break;
      case dom::element_type::UINT64:
        value.kind = Value::Kind::kPlain;
        value.text = std::to_string(uint64_t(from));
        break;
      case dom::element_type::DOUBLE:
        value.kind = Value::Kind::kPlain;
        value.text = fmt::format("{}", double(from));
        break;
      case dom::element_type::BOOL:
        value.kind = Value::Kind::kPlain;
        value.text = bool(from) ? "true" : "false";
        break;
      case dom::element_type::NULL_VALUE:
        break;
    }
    return &value;
  }

 private:
  void build_map(Value& map, const dom::object& from, bool skip) {
    for (const dom::key_value_pair entry : from) {
      if (skip && std::ranges::find(skipped_, entry.key) != skipped_.end()) continue;
      const bool free_keys = entry.key == "labels" || entry.key == "annotations";
      const Value* value = build(entry.value, skip && !free_keys);
      map.entries.emplace_back(entry.key, value);
      attach_size(map, *value);
    }
    if (map.names_a_key_twice()) map.has_duplicate_keys = true;
  }

  static void attach(Value& list, const Value* item) {
    list.items.push_back(item);
    attach_size(list, *item);
  }
  static void attach_size(Value& parent, const Value& child) {
    parent.size += child.size;
    parent.has_duplicate_keys |= child.has_duplicate_keys;
  }

  Document& document_;
  std::span<const std::string_view> skipped_;
};

}  // namespace

struct JsonTree::Parser {
  dom::parser parser;
  std::string buffer;  ///< simdjson reads a little beyond the end of the text
};

JsonTree::JsonTree() : parser_(std::make_unique<Parser>()) {}
JsonTree::~JsonTree() = default;
JsonTree::JsonTree(JsonTree&&) noexcept = default;
JsonTree& JsonTree::operator=(JsonTree&&) noexcept = default;

Status JsonTree::parse(std::string_view text, std::span<const std::string_view> skipped) {
  document_ = Document();
  if (parser_->buffer.capacity() > kLargestKept && text.size() < kLargestKept / 8)
    parser_ = std::make_unique<Parser>();
  if (parser_->parser.max_depth() != kMaxDepth &&
      parser_->parser.allocate(std::max<size_t>(text.size(), 4096), kMaxDepth) != simdjson::SUCCESS)
    return fail("out of memory");
  parser_->buffer.reserve(text.size() + simdjson::SIMDJSON_PADDING);
  parser_->buffer.assign(text);
  const auto parsed = parser_->parser.parse(parser_->buffer.data(), text.size(), false);
  if (parsed.error() != simdjson::SUCCESS) return fail("{}", simdjson::error_message(parsed.error()));
  document_.root = Builder(document_, skipped).build(parsed.value_unsafe(), true);
  return ok();
}

}  // namespace bpfnet::sources
