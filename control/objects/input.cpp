#include "control/objects/input.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "base/fd_io.h"
#include "control/objects/file_text.h"
#include "control/sources/files.h"

namespace bpfnet::objects {
namespace {

namespace fs = std::filesystem;
using sources::Effect;

constexpr size_t kComplaintsShown = 20;
constexpr size_t kMaxInput = 256UL << 20;

/// Gathers all that is read, and every complaint about it.
class Reader {
 public:
  explicit Reader(bool skip_unknown) : skip_unknown_(skip_unknown) {}

  void text(std::string_view text, const std::string& source) {
    // Standard input may be either; JSON begins with a brace and is seen in YAML too.
    ManifestText read = read_manifests(text, source, format_of(source), true);
    for (sources::Problem& problem : read.problems) {
      const bool harmless = problem.effect == Effect::kNone;
      problem.effect = Effect::kNone;  // what it costs is the same for all: nothing is written
      (harmless ? input_.notes : complaints_).push_back(problem.to_string());
    }
    for (DocumentText& document : read.documents)
      for (Manifest& manifest : document.manifests) take(std::move(manifest));
  }

  Result<Input> finish() {
    if (complaints_.empty()) return std::move(input_);
    std::string all;
    for (const std::string& each : complaints_) {
      if (&each - complaints_.data() == kComplaintsShown) break;
      all += each + "\n";
    }
    if (complaints_.size() > kComplaintsShown)
      all += fmt::format("and {} more\n", complaints_.size() - kComplaintsShown);
    return fail("{}nothing was written", all);
  }

 private:
  void take(Manifest manifest) {
    const std::string where = fmt::format("{}:{}", manifest.origin.source, manifest.origin.line);
    if (!manifest.key) {
      // One of a kind that is read has no usable name: decoding has complained of it.
      const std::string version =
          manifest.json.is_object() ? manifest.json.value("apiVersion", nlohmann::ordered_json()).dump() : "";
      if (sources::kind_of(manifest.kind, version.size() > 2 ? version.substr(1, version.size() - 2) : ""))
        return;
      const std::string what =
          fmt::format("{}: kind {}", where, manifest.kind.empty() ? "is missing" : manifest.kind);
      if (skip_unknown_) {
        input_.notes.push_back(what + ": left out, bpfnet does not read it");
      } else if (!manifest.kind.empty()) {
        complaints_.push_back(what + ": bpfnet does not read it; take it out, or give --skip-unknown");
      }
      return;
    }
    const auto [first, is_new] = seen_.try_emplace(*manifest.key, where);
    if (!is_new)
      return complaints_.push_back(fmt::format("{}: {}: stands at {} already, expected once", where,
                                               manifest.key->to_string(), first->second));
    input_.manifests.push_back(std::move(manifest));
  }

  bool skip_unknown_;
  Input input_;
  std::vector<std::string> complaints_;
  std::map<Key, std::string> seen_;
};

Result<std::vector<std::string>> files_of(const std::string& directory) {
  std::vector<std::string> files;
  std::error_code error;
  for (auto entry = fs::directory_iterator(directory, error); !error && entry != fs::directory_iterator();
       entry.increment(error))
    if (sources::is_manifest_name(entry->path().filename().native()) && !entry->is_directory())
      files.push_back(entry->path());
  if (error) return fail_errno(error.value(), "{}: read", directory);
  if (files.empty()) return fail("{}: there is no *.yaml, *.yml or *.json in it", directory);
  std::ranges::sort(files);
  return files;
}

}  // namespace

Result<Input> read_input(const std::vector<std::string>& files, bool skip_unknown) {
  Reader reader(skip_unknown);
  for (const std::string& file : files) {
    if (file == "-") {
      const auto text = read_fd(STDIN_FILENO, "stdin", kMaxInput);
      if (!text) return pass(text);
      reader.text(*text, "stdin");
      continue;
    }
    std::error_code none;
    auto names = fs::is_directory(file, none) ? files_of(file) : Result<std::vector<std::string>>({file});
    if (!names) return pass(names);
    for (const std::string& name : *names) {
      const auto read = read_file(name);
      if (!read) return pass(read);
      reader.text(read->text, name);
    }
  }
  auto input = reader.finish();
  if (input && input->manifests.empty()) return fail("{}: there is no object in it", fmt::join(files, ", "));
  return input;
}

Result<Input> read_input_text(std::string_view text, const std::string& source, bool skip_unknown) {
  Reader reader(skip_unknown);
  reader.text(text, source);
  return reader.finish();
}

}  // namespace bpfnet::objects
