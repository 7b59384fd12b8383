#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace bpfnet::sources {

/// One node of a parsed manifest. YAML and JSON give the same tree; all decoding works on it.
struct Value {
  enum class Kind : uint8_t { kNull, kPlain, kString, kList, kMap };
  Kind kind = Kind::kNull;
  /// Some map here or below names a key twice: what its author meant is unknown.
  bool has_duplicate_keys = false;
  int line = 0;       ///< 1-based, within the text that was parsed
  uint64_t size = 1;  ///< nodes of the subtree, aliases counted each time they are used
  /// kPlain: an unquoted YAML scalar, a JSON number or boolean; kString: text. Else empty.
  std::string text;
  std::vector<std::pair<std::string, const Value*>> entries;  ///< kMap, in file order
  std::vector<const Value*> items;                            ///< kList

  /// The first entry named `key`; null when there is none.
  [[nodiscard]] const Value* find(std::string_view key) const;
  /// Of this map alone.
  [[nodiscard]] bool names_a_key_twice() const;
};

/// Levels of lists and maps in each other that are read.
inline constexpr size_t kMaxDepth = 64;

/// A parsed document; owns all of its nodes. Not to be copied: the nodes point to each other.
struct Document {
  Document() = default;
  Document(Document&&) = default;
  Document& operator=(Document&&) = default;
  Document(const Document&) = delete;
  Document& operator=(const Document&) = delete;
  ~Document() = default;

  std::deque<Value> nodes;
  const Value* root = nullptr;
};

struct SyntaxError {
  int line = 0;  ///< 1-based, within the text that was parsed
  std::string text;
};

/// What could be read before the end or the first error. Documents without content are left out.
struct ParsedText {
  std::vector<Document> documents;
  std::optional<SyntaxError> error;
};

/// Never throws; nesting and alias expansion are bounded.
ParsedText parse_yaml(std::string_view text);
/// Accepts several JSON values one after another.
ParsedText parse_json(std::string_view text);

/// One document of a YAML file, cut out by its `---` lines, so that a syntax error costs one document and an
/// unchanged document needs no parsing.
struct Chunk {
  std::string_view text;
  int first_line = 1;  ///< 1-based line in the file
};
std::vector<Chunk> split_documents(std::string_view text);

}  // namespace bpfnet::sources
