#include "control/sources/files.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <tuple>

#include "control/sources/catalog.h"
#include "control/sources/manifest_file.h"
#include "control/sources/watch.h"

namespace bpfnet::sources {

namespace fs = std::filesystem;

bool is_manifest_name(std::string_view name) {
  if (name.starts_with('.')) return false;
  return name.ends_with(".yaml") || name.ends_with(".yml") || name.ends_with(".json");
}

class FileSource::Impl {
 public:
  explicit Impl(DirectoryWatch watch) : watch_(std::move(watch)) {}

  [[nodiscard]] int fd() const { return watch_.fd(); }
  [[nodiscard]] const fs::path& directory() const { return watch_.directory(); }
  [[nodiscard]] bool synced() const { return synced_; }
  Catalog& catalog() { return catalog_; }
  [[nodiscard]] const Catalog& catalog() const { return catalog_; }

  bool process() {
    WatchEvents events = watch_.read();
    // Whoever writes beside and renames makes events that nobody needs to look at everything for.
    std::erase_if(events.names, [](const auto& event) { return !is_manifest_name(event.first); });
    if (events.rescan) {
      scan();
    } else {
      for (const auto& [name, what] : events.names) follow(name, what);
    }
    if (!events.rescan && events.names.empty()) return false;
    settle();
    return true;
  }

  void scan() {
    std::error_code error;
    std::set<std::string> present;
    for (auto entry = fs::directory_iterator(watch_.directory(), error);
         !error && entry != fs::directory_iterator(); entry.increment(error)) {
      if (is_manifest_name(entry->path().filename().native())) present.insert(entry->path().filename());
    }
    directory_error_ = error ? error.message() : "";
    if (error) return;  // Whatever was read before stays.
    for (auto file = files_.begin(); file != files_.end();) {
      if (present.contains(file->first)) {
        ++file;
      } else {
        file->second.clear(catalog_);
        file = files_.erase(file);
      }
    }
    for (const std::string& name : present) refresh(name);
  }

  void settle() {
    catalog_.settle();
    if (synced_ || !directory_error_.empty() || !watch_.present()) return;
    synced_ = std::ranges::none_of(files_, [](const auto& file) { return file.second.never_read(); });
  }

  [[nodiscard]] std::vector<Problem> problems() const {
    std::vector<Problem> result;
    if (!directory_error_.empty()) {
      result.push_back({{watch_.directory().string(), 0}, "", "", directory_error_, Effect::kNotRead});
    }
    for (const auto& [name, file] : files_) file.collect_problems(result);
    catalog_.collect_problems(result);
    std::ranges::stable_sort(result, {}, [](const Problem& each) {
      return std::tuple(std::string_view(each.origin.source), each.origin.line);
    });
    return result;
  }

 private:
  void follow(const std::string& name, uint32_t what) {
    if ((what & (WatchEvents::kWritten | WatchEvents::kRemoved)) != 0) return refresh(name);
    const auto known = files_.find(name);
    const bool failed = known != files_.end() && known->second.has_failed();
    if ((what & WatchEvents::kModeSet) != 0 && failed) return refresh(name);
    // A regular file that was just made is still to be written and will be closed; a link is complete.
    if ((what & WatchEvents::kCreated) != 0 && ManifestFile::is_link(watch_.directory() / name))
      refresh(name);
  }

  void refresh(const std::string& name) {
    auto file = files_.find(name);
    if (file == files_.end()) file = files_.try_emplace(name, watch_.directory() / name).first;
    if (file->second.refresh(catalog_) == ManifestFile::State::kGone) files_.erase(file);
  }

  DirectoryWatch watch_;
  Catalog catalog_;
  std::map<std::string, ManifestFile> files_;
  std::string directory_error_;
  bool synced_ = false;
};

FileSource::FileSource(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
FileSource::FileSource(FileSource&&) noexcept = default;
FileSource& FileSource::operator=(FileSource&&) noexcept = default;
FileSource::~FileSource() = default;

Result<FileSource> FileSource::open(const fs::path& directory) {
  auto watch = DirectoryWatch::open(directory);
  if (!watch) return pass(watch);
  auto impl = std::make_unique<Impl>(std::move(*watch));
  impl->scan();
  impl->settle();
  return FileSource(std::move(impl));
}

std::string FileSource::describe() const {
  return fmt::format("manifests {}", impl_->directory().native());
}

int FileSource::fd() const {
  return impl_->fd();
}

bool FileSource::process() {
  return impl_->process();
}

bool FileSource::poll(std::chrono::milliseconds timeout) {
  pollfd wait{impl_->fd(), POLLIN, 0};
  if (::poll(&wait, 1, static_cast<int>(timeout.count())) <= 0) return false;
  return impl_->process();
}

bool FileSource::synced() const {
  return impl_->synced();
}

const model::ClusterState& FileSource::state() const {
  return impl_->catalog().state();
}

uint64_t FileSource::generation() const {
  return impl_->catalog().generation();
}

Changes FileSource::take_changes() {
  return impl_->catalog().take_changes();
}

std::vector<Problem> FileSource::problems() const {
  return impl_->problems();
}

}  // namespace bpfnet::sources
