#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "control/sources/source.h"

namespace bpfnet::sources {

/// Is a file of this name, without its directory, read by a FileSource?
bool is_manifest_name(std::string_view name);

/// Network state from a directory of Kubernetes manifests (*.yaml, *.yml, *.json; not its subdirectories, not
/// hidden files), watched by inotify. docs/manifests.md says what is read and what a mistake costs.
///
/// No threads. A file is read when its writer closes it or it is moved into place, never while it is being
/// written; only documents whose text changed are parsed again.
class FileSource : public Source {
 public:
  /// Watches `directory` and reads all of it. A directory that does not exist yet is a problem, not an error:
  /// it is waited for. Errors: inotify is not to be had (EMFILE: raise fs.inotify.max_user_instances).
  static Result<FileSource> open(const std::filesystem::path& directory);
  FileSource(FileSource&&) noexcept;
  FileSource& operator=(FileSource&&) noexcept;
  ~FileSource() override;

  [[nodiscard]] std::string describe() const override;
  [[nodiscard]] int fd() const override;
  bool process() override;
  /// Waits for events at most `timeout`, then process(). For tools and tests; the agent uses fd().
  bool poll(std::chrono::milliseconds timeout);

  /// True once every file of the directory has been read once.
  [[nodiscard]] bool synced() const override;
  [[nodiscard]] const model::ClusterState& state() const override;
  [[nodiscard]] uint64_t generation() const override;
  [[nodiscard]] Changes take_changes() override;
  /// Everything that is wrong now, by file and line.
  [[nodiscard]] std::vector<Problem> problems() const override;

 private:
  class Impl;
  explicit FileSource(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace bpfnet::sources
