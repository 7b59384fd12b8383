#include "control/objects/file_text.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "base/fd_io.h"

namespace bpfnet::objects {
namespace {

namespace fs = std::filesystem;

constexpr size_t kFewFiles = 16;
constexpr size_t kMaxFile = 256UL << 20;  // as the agent reads them

Status still_as_read(const FileText& old) {
  struct stat now {};
  const bool same = ::stat(old.path.c_str(), &now) == 0 && now.st_ino == old.info.st_ino &&
                    now.st_dev == old.info.st_dev && now.st_size == old.info.st_size &&
                    now.st_mtim.tv_sec == old.info.st_mtim.tv_sec &&
                    now.st_mtim.tv_nsec == old.info.st_mtim.tv_nsec;
  if (same) return ok();
  return fail_errno(ESTALE, "{}: somebody changed it just now; it was not written over, try again",
                    old.path.string());
}

}  // namespace

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

FileChanges::~FileChanges() {
  for (const Change& change : changes_)
    if (!change.temporary.empty()) ::unlink(change.temporary.c_str());
}

Status FileChanges::write(const std::string& name, std::string_view text, const FileText* old) {
  Change change{.old = old,
                .path = directory_ / name,
                .temporary = directory_ / fmt::format(".{}.{}", ::getpid(), name).substr(0, 255)};
  const mode_t mode = old == nullptr ? 0644 : old->info.st_mode & 07777;
  const Fd fd(::open(change.temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
  if (!fd) return fail_errno(errno, "{}: create", change.temporary.string());
  changes_.push_back(change);
  BPFNET_TRY(write_fd(fd.get(), change.path.string(), text));
  if (old != nullptr &&
      (::fchown(fd.get(), old->info.st_uid, old->info.st_gid) != 0 || ::fchmod(fd.get(), mode) != 0))
    return fail_errno(errno, "{}: keep its owner and mode", change.path.string());
  return ok();
}

// One by one costs milliseconds each; all of the file system at once costs what others have written as well.
Status FileChanges::to_disk() {
  if (changes_.size() > kFewFiles) {
    const Fd fd(::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd || ::syncfs(fd.get()) != 0) return fail_errno(errno, "{}: write to disk", directory_.string());
    return ok();
  }
  for (const Change& change : changes_) {
    if (change.temporary.empty()) continue;
    const Fd fd(::open(change.temporary.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd || ::fsync(fd.get()) != 0) return fail_errno(errno, "{}: write to disk", change.path.string());
  }
  return ok();
}

Status FileChanges::commit(Change& change) {
  if (change.old != nullptr) BPFNET_TRY(still_as_read(*change.old));
  if (change.temporary.empty()) {
    if (::unlink(change.path.c_str()) != 0) return fail_errno(errno, "{}: remove", change.path.string());
    return ok();
  }
  const unsigned flags = change.old == nullptr ? RENAME_NOREPLACE : 0;
  if (::renameat2(AT_FDCWD, change.temporary.c_str(), AT_FDCWD, change.path.c_str(), flags) != 0) {
    if (errno == EEXIST)
      return fail_errno(EEXIST, "{}: holds something else; give that file another name",
                        change.path.string());
    return fail_errno(errno, "{}: move into place", change.path.string());
  }
  change.temporary.clear();
  return ok();
}

Status FileChanges::commit() {
  BPFNET_TRY(to_disk());
  for (Change& change : changes_) BPFNET_TRY(commit(change));
  changes_.clear();
  const Fd fd(::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd || ::fsync(fd.get()) != 0) return fail_errno(errno, "{}: write to disk", directory_.string());
  return ok();
}

}  // namespace bpfnet::objects
