#include "control/objects/manifest.h"

#include <fmt/format.h>

#include <algorithm>

namespace bpfnet::objects {
namespace {

using nlohmann::ordered_json;
using sources::Format;
using sources::Value;

std::string text_at(const Value& root, std::string_view key) {
  const Value* found = root.find(key);
  return found == nullptr ? std::string() : found->text;
}

/// Names are taken as they are written: whether they may be so is decoding's to say.
std::optional<Key> key_of(const Value& object, std::string_view kind, std::string_view api_version) {
  const auto known = sources::kind_of(kind, api_version);
  const Value* metadata = object.find("metadata");
  if (!known || metadata == nullptr) return std::nullopt;
  Key key{*known, {"", text_at(*metadata, "name")}};
  if (key.name.name.empty()) return std::nullopt;
  if (sources::is_namespaced(*known)) {
    key.name.ns = text_at(*metadata, "namespace");
    if (key.name.ns.empty()) key.name.ns = "default";
  }
  return key;
}

Manifest manifest_of(const Value& object, std::string kind, std::string api_version,
                     const std::string& source, int lines_before) {
  Manifest manifest{.kind = std::move(kind), .key = {}, .json = to_json(object), .origin = {}, .text = {}};
  manifest.key = key_of(object, manifest.kind, api_version);
  manifest.origin = {source, lines_before + object.line};
  // Items of a typed list may leave these to it; alone they need them.
  if (!manifest.kind.empty() && manifest.json.is_object() && !manifest.json.contains("kind")) {
    ordered_json named = {{"apiVersion", std::move(api_version)}, {"kind", manifest.kind}};
    named.update(manifest.json);
    manifest.json = std::move(named);
  }
  return manifest;
}

void add_objects(const Value& root, DocumentText& into, const std::string& source, int lines_before) {
  if (root.kind != Value::Kind::kMap) return;
  const std::string kind = text_at(root, "kind");
  const std::string version = text_at(root, "apiVersion");
  const Value* items = root.find("items");
  if (!kind.ends_with("List") || items == nullptr) {
    into.manifests.push_back(manifest_of(root, kind, version, source, lines_before));
    return;
  }
  for (const Value* item : items->items) {
    const std::string item_kind = text_at(*item, "kind");
    const std::string item_version = text_at(*item, "apiVersion");
    into.manifests.push_back(
        manifest_of(*item, item_kind.empty() ? kind.substr(0, kind.size() - 4) : item_kind,
                    item_version.empty() ? version : item_version, source, lines_before));
  }
}

/// A `---` that says nothing more is not part of what stands in the document.
std::string without_marker(std::string_view text) {
  if (text.starts_with("---")) {
    const size_t line_end = std::min(text.find('\n'), text.size());
    if (text.substr(3, line_end - 3).find_first_not_of(" \t\r") == std::string_view::npos)
      text.remove_prefix(std::min(line_end + 1, text.size()));
  }
  const size_t last = text.find_last_not_of(" \t\r\n");
  return last == std::string_view::npos ? std::string() : std::string(text.substr(0, last + 1)) + "\n";
}

}  // namespace

std::string Key::to_string() const {
  return fmt::format("{} {}", sources::to_string(kind), name.to_string());
}

ManifestText read_manifests(std::string_view text, const std::string& source, Format format, bool decode) {
  ManifestText result;
  const auto chunks =
      format == Format::kJson ? std::vector<sources::Chunk>{{text, 1}} : sources::split_documents(text);
  for (const sources::Chunk& chunk : chunks) {
    const sources::ParsedText parsed = sources::parse(chunk.text, format);
    const int lines_before = chunk.first_line - 1;
    DocumentText document;
    document.begin = static_cast<size_t>(chunk.text.data() - text.data());
    document.end = document.begin + chunk.text.size();
    document.readable = !parsed.error;
    const auto add_problem = [&](sources::Problem problem) {
      problem.origin = {source, lines_before + problem.origin.line};
      result.problems.push_back(std::move(problem));
    };
    if (parsed.error)
      add_problem({{"", parsed.error->line}, "", "", parsed.error->text, sources::Effect::kNotRead});
    for (const sources::Document& each : parsed.documents) {
      add_objects(*each.root, document, source, lines_before);
      if (!decode) continue;
      sources::DecodedText decoded = sources::decode(*each.root);
      for (auto& problem : decoded.problems) add_problem(std::move(problem));
      for (auto& object : decoded.objects)
        for (auto& problem : object.problems) add_problem(std::move(problem));
    }
    // An item of a list has the list's text around it.
    if (document.readable && parsed.documents.size() == 1 && document.manifests.size() == 1 &&
        parsed.documents.front().root->find("items") == nullptr) {
      document.manifests.front().alone = true;
      document.manifests.front().text = without_marker(chunk.text);
    }
    result.documents.push_back(std::move(document));
  }
  return result;
}

Format format_of(std::string_view file) {
  return file.ends_with(".json") ? Format::kJson : Format::kYaml;
}

}  // namespace bpfnet::objects
