#include "control/objects/file_text.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

namespace bpfnet::objects {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxFile = 256UL << 20;  // as the agent reads them

Status write_all(int fd, std::string_view text, const std::string& name) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return fail_errno(errno, "{}: write", name);
    text.remove_prefix(static_cast<size_t>(written));
  }
  return ok();
}

Status still_as_read(const FileText& old) {
  struct stat now {};
  const bool same = ::stat(old.path.c_str(), &now) == 0 && now.st_ino == old.info.st_ino &&
                    now.st_dev == old.info.st_dev && now.st_size == old.info.st_size &&
                    now.st_mtim.tv_sec == old.info.st_mtim.tv_sec &&
                    now.st_mtim.tv_nsec == old.info.st_mtim.tv_nsec;
  if (same) return ok();
  return fail_errno(ESTALE, "{}: somebody changed it just now; nothing of it was written, try again",
                    old.path.string());
}

void sync_directory(const fs::path& directory) {
  const Fd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd) (void)::fsync(fd.get());
}

/// Goes with its name unless it was moved into place.
class TemporaryFile {
 public:
  explicit TemporaryFile(fs::path path) : path_(std::move(path)) {}
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() {
    if (!moved_) ::unlink(path_.c_str());
  }
  [[nodiscard]] const char* name() const { return path_.c_str(); }
  void moved() { moved_ = true; }

 private:
  fs::path path_;
  bool moved_ = false;
};

}  // namespace

Result<std::string> read_fd(int fd, const std::string& name, size_t limit) {
  std::string text;
  char buffer[64 << 10];
  for (;;) {
    const ssize_t got = ::read(fd, buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(errno, "{}: read", name);
    if (got == 0) return text;
    text.append(buffer, static_cast<size_t>(got));
    if (text.size() > limit) return fail_errno(EFBIG, "{}: is larger than {} MiB", name, limit >> 20);
  }
}

Result<FileText> read_file(const fs::path& path) {
  FileText file{.path = path, .text = {}};
  // O_NONBLOCK: a FIFO must not stop us.
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return fail_errno(errno, "{}: open", path.string());
  struct stat link {};
  if (::fstat(fd.get(), &file.info) != 0 || ::lstat(path.c_str(), &link) != 0)
    return fail_errno(errno, "{}: stat", path.string());
  file.link = S_ISLNK(link.st_mode) || link.st_nlink > 1;
  auto text = read_fd(fd.get(), path.string(), kMaxFile);
  if (!text) return pass(text);
  file.text = std::move(*text);
  return file;
}

Result<Fd> lock_directory(const fs::path& directory) {
  Fd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return fail_errno(errno, "manifests {}: open", directory.string());
  while (::flock(fd.get(), LOCK_EX) != 0)
    if (errno != EINTR) return fail_errno(errno, "manifests {}: lock", directory.string());
  return fd;
}

Status write_file(const fs::path& path, std::string_view text, const FileText* old) {
  const fs::path directory = path.parent_path();
  TemporaryFile temporary(directory /
                          fmt::format(".{}.{}", ::getpid(), path.filename().string()).substr(0, 255));
  {
    const mode_t mode = old == nullptr ? 0644 : old->info.st_mode & 07777;
    const Fd fd(::open(temporary.name(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
    if (!fd) return fail_errno(errno, "{}: create", temporary.name());
    BPFNET_TRY(write_all(fd.get(), text, path.string()));
    if (old != nullptr &&
        (::fchown(fd.get(), old->info.st_uid, old->info.st_gid) != 0 || ::fchmod(fd.get(), mode) != 0))
      return fail_errno(errno, "{}: keep its owner and mode", path.string());
    if (::fsync(fd.get()) != 0) return fail_errno(errno, "{}: write to disk", path.string());
  }
  if (old != nullptr) BPFNET_TRY(still_as_read(*old));
  if (::renameat2(AT_FDCWD, temporary.name(), AT_FDCWD, path.c_str(),
                  old == nullptr ? RENAME_NOREPLACE : 0) != 0) {
    if (errno == EEXIST)
      return fail_errno(EEXIST, "{}: holds something else; give that file another name", path.string());
    return fail_errno(errno, "{}: move into place", path.string());
  }
  temporary.moved();
  sync_directory(directory);
  return ok();
}

Status remove_file(const FileText& old) {
  BPFNET_TRY(still_as_read(old));
  if (::unlink(old.path.c_str()) != 0) return fail_errno(errno, "{}: remove", old.path.string());
  sync_directory(old.path.parent_path());
  return ok();
}

}  // namespace bpfnet::objects
