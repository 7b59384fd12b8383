#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "control/model/objects.h"
#include "control/sources/changes.h"
#include "control/sources/problem.h"

namespace bpfnet::sources {

/// Is a file of this name, without its directory, read by a FileSource?
bool is_manifest_name(std::string_view name);

/// Network state from a directory of Kubernetes manifests (*.yaml, *.yml, *.json; not its subdirectories, not
/// hidden files), watched by inotify. docs/manifests.md says what is read and what a mistake costs.
///
/// No threads: the owner waits for fd() with epoll (level-triggered) and calls process(). A file is read when
/// its writer closes it or it is moved into place, never while it is being written; only documents whose text
/// changed are parsed again.
class FileSource {
 public:
  /// Watches `directory` and reads all of it. A directory that does not exist yet is a problem, not an error:
  /// it is waited for. Errors: inotify is not to be had (EMFILE: raise fs.inotify.max_user_instances).
  static Result<FileSource> open(const std::filesystem::path& directory);
  FileSource(FileSource&&) noexcept;
  FileSource& operator=(FileSource&&) noexcept;
  ~FileSource();

  /// Readable when process() has something to do. Owned by this object.
  [[nodiscard]] int fd() const;
  /// Takes up what happened since the last call; never blocks. True if state() or problems() changed.
  bool process();
  /// Waits for events at most `timeout`, then process(). For tools and tests; the agent uses fd().
  bool poll(std::chrono::milliseconds timeout);

  /// True once every file of the directory has been read once: nothing may be deleted before that.
  [[nodiscard]] bool synced() const;
  /// The wanted state. Valid until this object is destroyed, changed only by process(), poll() and open().
  [[nodiscard]] const model::ClusterState& state() const;
  /// Grows with every change of state(); 0 before the first object.
  [[nodiscard]] uint64_t generation() const;
  /// What changed since the last call (after open(): everything). A change of line numbers alone is none.
  [[nodiscard]] Changes take_changes();
  /// Everything that is wrong now, by file and line.
  [[nodiscard]] std::vector<Problem> problems() const;

 private:
  class Impl;
  explicit FileSource(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace bpfnet::sources
