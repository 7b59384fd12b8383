#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace bpfnet::sources {

/// What happened in a directory since it was last asked.
struct WatchEvents {
  enum : uint32_t {
    kWritten = 1,  ///< closed by a writer, or moved here: complete
    kCreated = 2,  ///< a new name; its writer may still be at work
    kRemoved = 4,  ///< deleted or moved away
    kModeSet = 8,  ///< permissions changed
  };
  std::map<std::string, uint32_t> names;
  bool rescan = false;  ///< anything may have changed: read the whole directory
};

/// Watches one directory by inotify, through its removal, replacement and absence (then its nearest existing
/// ancestor is watched for it to come back).
class DirectoryWatch {
 public:
  static Result<DirectoryWatch> open(const std::filesystem::path& directory);

  [[nodiscard]] int fd() const { return inotify_.get(); }
  [[nodiscard]] const std::filesystem::path& directory() const { return directory_; }
  /// Is the directory there and watched?
  [[nodiscard]] bool present() const { return watch_ >= 0; }
  /// Takes all pending events; never blocks.
  WatchEvents read();

 private:
  void attach();

  Fd inotify_;
  std::filesystem::path directory_;
  int watch_ = -1;
  int ancestor_watch_ = -1;
  std::string awaited_;  ///< the name in the ancestor that leads to the directory
};

}  // namespace bpfnet::sources
