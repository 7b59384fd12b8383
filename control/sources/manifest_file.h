#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "control/sources/catalog.h"

namespace bpfnet::sources {

/// One file of the directory: what it held when it was last readable, document by document.
class ManifestFile {
 public:
  enum class State { kGone, kPresent };

  explicit ManifestFile(std::filesystem::path path) : path_(std::move(path)) {}

  /// A symbolic link, or a further name of a file.
  static bool is_link(const std::filesystem::path& path);

  /// Reads the file again and parses those of its documents whose text changed. A file that cannot be read,
  /// or is being written, keeps what it held. kGone: its objects have been removed.
  State refresh(Catalog& catalog);
  /// Removes its objects.
  void clear(Catalog& catalog);

  /// Not even one version could be read yet, because a writer is at work.
  [[nodiscard]] bool never_read() const { return busy_ && !read_once_; }
  [[nodiscard]] bool has_failed() const { return failure_.has_value(); }
  /// What is wrong with the file and its documents; the catalog knows what is wrong with objects.
  void collect_problems(std::vector<Problem>& into) const;

 private:
  struct Document {
    size_t hash = 0;
    size_t size = 0;
    int first_line = 1;
    bool complete = true;
    std::vector<Candidate*> candidates;
    std::vector<Problem> problems;
  };
  void fail(std::string text, bool busy);
  void load(Catalog& catalog, std::string_view text);
  void shift(Catalog& catalog, Document& document, int lines);

  std::filesystem::path path_;
  std::optional<Problem> failure_;
  bool busy_ = false;
  bool read_once_ = false;
  std::vector<Document> documents_;
};

}  // namespace bpfnet::sources
