#pragma once

#include <cstddef>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "control/model/objects.h"
#include "control/sources/decode.h"

namespace bpfnet::objects {

/// What an object is called, everywhere.
struct Key {
  sources::Kind kind = sources::Kind::kNamespace;
  model::ObjectName name;
  auto operator<=>(const Key&) const = default;
  /// `Service default/web`, as problems name it.
  [[nodiscard]] std::string to_string() const;
};

/// One object as it stands in a text.
struct Manifest {
  std::string kind;             ///< as written
  std::optional<Key> key;       ///< missing: of a kind that bpfnet does not read, or without a usable name
  nlohmann::ordered_json json;  ///< all of its fields, also those nobody reads
  model::Origin origin;
  /// The object is all that its document holds, so that the document's text is the object's.
  bool alone = false;
  std::string text;  ///< of a document it is alone in: as written, comments included, without `---`
};

/// One document of a text and what it holds.
struct DocumentText {
  size_t begin = 0;  ///< its place in the text
  size_t end = 0;
  bool readable = true;
  std::vector<Manifest> manifests;
};

struct ManifestText {
  std::vector<DocumentText> documents;
  std::vector<sources::Problem> problems;  ///< of syntax and, if asked for, of decoding
};

/// Takes the text of a manifest file apart. `source` is its name in complaints. Pure; never throws.
/// `decode`: objects are decoded as the agent would, for their problems.
ManifestText read_manifests(std::string_view text, const std::string& source, sources::Format format,
                            bool decode);

/// By its name's end; anything but `.json` is YAML.
sources::Format format_of(std::string_view file);

/// All fields of a parsed value. Scalars are typed as kubectl types them (YAML 1.1): `yes` is true, `0x10`
/// text.
nlohmann::ordered_json to_json(const sources::Value& value);
/// JSON for people, ends with a newline.
std::string json_text(const nlohmann::ordered_json& json);
/// The same as a YAML document in block style, without `---`.
std::string yaml_text(const nlohmann::ordered_json& json);

}  // namespace bpfnet::objects
