#pragma once

#include <sys/stat.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace bpfnet::objects {

/// A file as it was read.
struct FileText {
  std::filesystem::path path;
  std::string text;
  struct stat info {};
  bool link = false;  ///< a symbolic link, or a further name of a file: written down elsewhere
};

Result<FileText> read_file(const std::filesystem::path& path);

/// Holds off others that take it too, until it goes; nothing is left behind. Waits.
Result<Fd> lock_directory(const std::filesystem::path& directory);

/// Changes of files of one directory. Nothing of it is seen until commit(), and nothing at all after an error
/// before it: all texts are written beside their files under hidden names and to disk, then renamed one after
/// the other, so that a reader of a file sees the old or the new.
class FileChanges {
 public:
  explicit FileChanges(std::filesystem::path directory) : directory_(std::move(directory)) {}
  FileChanges(const FileChanges&) = delete;
  FileChanges& operator=(const FileChanges&) = delete;
  /// Takes away what was not committed.
  ~FileChanges();

  /// `old`: what it takes the place of, whose mode and owner stay; null: there must be no such file. It must
  /// live until commit().
  Status write(const std::string& name, std::string_view text, const FileText* old);
  void remove(const FileText& old) { changes_.push_back({.old = &old, .path = old.path, .temporary = {}}); }
  /// Errors: ESTALE: somebody else has changed a file since it was read; those before it are changed.
  Status commit();

 private:
  struct Change {
    const FileText* old = nullptr;
    std::filesystem::path path;
    std::filesystem::path temporary;  ///< empty: the file goes
  };
  Status to_disk();
  static Status commit(Change& change);

  std::filesystem::path directory_;
  std::vector<Change> changes_;
};

}  // namespace bpfnet::objects
