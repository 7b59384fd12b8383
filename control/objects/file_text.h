#pragma once

#include <sys/stat.h>

#include <filesystem>
#include <string>

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

/// `limit`: bytes; a larger file is an error.
Result<std::string> read_fd(int fd, const std::string& name, size_t limit);
Result<FileText> read_file(const std::filesystem::path& path);

/// Holds off others that take it too, until it goes; nothing is left behind. Waits.
Result<Fd> lock_directory(const std::filesystem::path& directory);

/// Makes `path` hold `text`: written beside it under a hidden name, on disk, then renamed, so that a reader
/// sees the old or the new. `old`: what it takes the place of, whose mode and owner stay; null: there must be
/// none. Errors: ESTALE: somebody else has changed it since it was read.
Status write_file(const std::filesystem::path& path, std::string_view text, const FileText* old);
/// The same for taking it away.
Status remove_file(const FileText& old);

}  // namespace bpfnet::objects
