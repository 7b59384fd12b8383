#include "control/objects/file_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <set>

#include "control/sources/files.h"

namespace bpfnet::objects {
namespace {

namespace fs = std::filesystem;
using sources::Format;

constexpr size_t kFewNames = 100;     // with more, parsing is quicker than looking for each
constexpr size_t kLongestName = 240;  // NAME_MAX is 255; a hidden name and a number are still to be added

std::string trimmed(std::string_view text) {
  const size_t last = text.find_last_not_of(" \t\r\n");
  return std::string(text.substr(0, last == std::string_view::npos ? 0 : last + 1));
}

/// Is what stands there already what `manifest` says?
bool is_same(const Manifest& old, const Manifest& manifest, Format format) {
  const bool by_text = old.alone && manifest.alone && format_of(manifest.origin.source) == format;
  return by_text ? trimmed(old.text) == trimmed(manifest.text) : old.json == manifest.json;
}

/// The text of `manifest` for a file of `format`, as written where that is possible.
std::string text_for(const Manifest& manifest, Format format) {
  const bool written_as_json = manifest.alone && nlohmann::json::accept(manifest.text);
  if (format == Format::kJson) return written_as_json ? manifest.text : json_text(manifest.json);
  return manifest.alone && !written_as_json ? manifest.text : yaml_text(manifest.json);
}

/// What the text of a document in a file begins with: its `---`, where it has one.
std::string marker_of(std::string_view document) {
  return document.starts_with("---") ? "---\n" : "";
}

Status join(const std::vector<std::string>& refusals) {
  std::string text;
  for (const std::string& each : refusals) text += (text.empty() ? "" : "\n") + each;
  return fail("{}", text);
}

/// Most of a large directory need not be parsed for one object: a name stands in the text of whatever defines
/// it, unless it is written in escapes.
bool may_hold(const std::string& text, const std::vector<std::string>& names) {
  if (names.size() > kFewNames || text.find('\\') != std::string::npos) return true;
  return std::ranges::any_of(names,
                             [&](const std::string& name) { return text.find(name) != std::string::npos; });
}

}  // namespace

std::string FileStore::file_name(const Key& key, Format format) {
  std::string name(sources::to_string(key.kind));
  std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::tolower(c); });
  if (!key.name.ns.empty()) name += "." + key.name.ns.str();
  name += "." + key.name.name.str();
  if (name.size() > kLongestName) {
    const std::string number = fmt::format("-{:016x}", std::hash<std::string>{}(name));
    name = name.substr(0, kLongestName - number.size()) + number;
  }
  return name + (format == Format::kJson ? ".json" : ".yaml");
}

std::string FileStore::Place::to_string() const {
  return fmt::format("{}:{}", file->text.path.string(), manifest->origin.line);
}

std::string FileStore::Place::obstacle() const {
  if (file->text.link) return "that file is a link: change what it leads to";
  if (!manifest->alone)
    return "it shares its document with other objects: change it there, or give it a document of its own";
  return "";
}

Result<FileStore::Directory> FileStore::read(const std::vector<std::string>* wanted) {
  Directory result;
  std::error_code error;
  std::set<std::string> names;
  for (auto entry = fs::directory_iterator(directory_, error); !error && entry != fs::directory_iterator();
       entry.increment(error)) {
    const std::string name = entry->path().filename();
    if (sources::is_manifest_name(name) && !entry->is_directory()) names.insert(name);
  }
  if (error) return fail_errno(error.value(), "manifests {}: read", directory_.string());
  for (const std::string& name : names) {
    auto text = read_file(directory_ / name);
    if (!text) {
      result.notes.push_back(text.error().message + "; what it defines is not known here");
      continue;
    }
    File& file = result.files[name];
    file.text = std::move(*text);
    if (wanted != nullptr && !may_hold(file.text.text, *wanted)) continue;
    file.parsed = read_manifests(file.text.text, file.text.path, format_of(name), false);
    for (const sources::Problem& problem : file.parsed.problems)
      result.notes.push_back(fmt::format("{}:{}: {}; what this document defines is not known here",
                                         problem.origin.source, problem.origin.line, problem.text));
    for (DocumentText& document : file.parsed.documents)
      for (const Manifest& manifest : document.manifests)
        if (manifest.key) result.places[*manifest.key].push_back({&file, &document, &manifest});
  }
  return result;
}

Result<Listing> FileStore::list() {
  auto directory = read(nullptr);
  if (!directory) return pass(directory);
  Listing listing{{}, std::move(directory->notes)};
  for (const auto& [key, places] : directory->places) {
    for (const Place& place : places)
      listing.objects.push_back(
          {key, place.manifest->json,
           format_of(place.file->text.path.native()) == Format::kYaml ? place.manifest->text : "",
           place.to_string()});
    if (places.size() > 1)
      listing.notes.push_back(fmt::format("{}: is defined at {} and at {}; the agent tells which counts",
                                          key.to_string(), places[0].to_string(), places[1].to_string()));
  }
  return listing;
}

Status FileStore::edit(File& file, const Edits& edits, FileChanges& changes) {
  std::string text;
  size_t at = 0;
  bool holds_anything = false;
  for (DocumentText& document : file.parsed.documents) {
    const auto edit = edits.find(&document);
    if (edit == edits.end()) {
      holds_anything |= !document.manifests.empty() || !document.readable;
      continue;
    }
    holds_anything |= !edit->second.empty();
    text.append(file.text.text, at, document.begin - at);
    text += edit->second;
    at = document.end;
  }
  text.append(file.text.text, at);
  if (!holds_anything) return changes.remove(file.text), ok();
  return changes.write(file.text.path.filename(), text, &file.text);
}

Result<Changes> FileStore::apply(const std::vector<Manifest>& manifests, bool dry_run) {
  std::error_code error;
  fs::create_directory(directory_, error);  // its parent must be there: a slip of the pen makes no tree
  const auto lock = lock_directory(directory_);
  if (!lock) return pass(lock);
  std::vector<std::string> names;
  for (const Manifest& each : manifests) names.push_back(each.key->name.name);
  auto directory = read(&names);
  if (!directory) return pass(directory);

  Changes result{{}, std::move(directory->notes)};
  std::vector<std::string> refusals;
  std::map<File*, Edits> edits;
  std::vector<std::pair<fs::path, std::string>> fresh;
  for (const Manifest& manifest : manifests) {
    const Key& key = *manifest.key;
    const auto found = directory->places.find(key);
    if (found == directory->places.end()) {
      const Format format = format_of(manifest.origin.source);
      const fs::path path = directory_ / file_name(key, format);
      fresh.emplace_back(path, text_for(manifest, format));
      result.changes.push_back({key, Action::kCreated, path});
      if (directory->files.contains(path.filename()))
        refusals.push_back(
            fmt::format("{}: holds something else; give that file another name", path.string()));
      continue;
    }
    const Place& place = found->second.front();
    const Format format = format_of(place.file->text.path.native());
    if (found->second.size() > 1) {
      refusals.push_back(fmt::format("{}: is defined at {} and at {}; take one of them away", key.to_string(),
                                     place.to_string(), found->second[1].to_string()));
    } else if (is_same(*place.manifest, manifest, format)) {
      result.changes.push_back({key, Action::kUnchanged, place.to_string()});
    } else if (const std::string obstacle = place.obstacle(); !obstacle.empty()) {
      refusals.push_back(
          fmt::format("{}: is defined at {}, and {}", key.to_string(), place.to_string(), obstacle));
    } else {
      const std::string_view old = std::string_view(place.file->text.text).substr(place.document->begin);
      edits[place.file][place.document] = marker_of(old) + text_for(manifest, format);
      result.changes.push_back({key, Action::kConfigured, place.to_string()});
    }
  }
  if (!refusals.empty()) {
    auto refused = join(refusals);
    return pass(refused);
  }
  if (dry_run) return result;
  FileChanges files(directory_);
  for (const auto& [path, text] : fresh) BPFNET_TRY(files.write(path.filename(), text, nullptr));
  for (const auto& [file, what] : edits) BPFNET_TRY(edit(*file, what, files));
  BPFNET_TRY(files.commit());
  return result;
}

Result<Changes> FileStore::remove(const std::vector<Key>& keys, bool dry_run) {
  const auto lock = lock_directory(directory_);
  if (!lock) return pass(lock);
  std::vector<std::string> names;
  for (const Key& each : keys) names.push_back(each.name.name);
  auto directory = read(&names);
  if (!directory) return pass(directory);

  Changes result{{}, std::move(directory->notes)};
  std::vector<std::string> refusals;
  std::map<File*, Edits> edits;
  for (const Key& key : keys) {
    const auto found = directory->places.find(key);
    if (found == directory->places.end()) continue;
    // All of them: another definition would take the place of the deleted one.
    for (const Place& place : found->second) {
      if (const std::string obstacle = place.obstacle(); !obstacle.empty()) {
        refusals.push_back(
            fmt::format("{}: is defined at {}, and {}", key.to_string(), place.to_string(), obstacle));
      } else {
        edits[place.file][place.document] = "";
      }
    }
    result.changes.push_back({key, Action::kDeleted, found->second.front().to_string()});
  }
  if (!refusals.empty()) {
    auto refused = join(refusals);
    return pass(refused);
  }
  if (dry_run) return result;
  FileChanges files(directory_);
  for (const auto& [file, what] : edits) BPFNET_TRY(edit(*file, what, files));
  BPFNET_TRY(files.commit());
  return result;
}

}  // namespace bpfnet::objects
