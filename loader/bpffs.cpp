#include "loader/bpffs.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "loader/mounts.h"
#include "maps/labels.h"

namespace bpfnet::loader {
namespace {

constexpr const char* kSystemBpffs = "/sys/fs/bpf";

bool below(std::string_view path, std::string_view parent) {
  return path.size() > parent.size() && path.starts_with(parent) && path[parent.size()] == '/';
}

Status make_directories(const std::string& path) {
  for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    BPFNET_TRY(make_directory(path.substr(0, slash)));
    if (slash == std::string::npos) return ok();
  }
}

Status mount_bpffs(const std::string& dir) {
  // The lock keeps two agents that start at once from mounting one over the other.
  const Fd under(::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!under) return fail_errno(errno, "bpffs {}: open", dir);
  if (flock(under.get(), LOCK_EX) != 0) return fail_errno(errno, "bpffs {}: lock", dir);
  if (is_bpffs(dir)) return ok();
  if (::mount(kMountSource, dir.c_str(), "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") != 0)
    return fail_errno(errno, "bpffs {}: mount (a BPF file system is needed there; mount -t bpf bpf {})", dir,
                      dir);
  return ok();
}

}  // namespace

bool is_own_mount(const std::string& dir, std::string_view kind) {
  bool ours = false;
  for (const Mount& mount : read_mounts())
    if (mount.point == dir) ours = mount.type == kind && mount.source == kMountSource;
  return ours;
}

bool is_bpffs(const std::string& dir) {
  struct statfs stat {};
  return statfs(dir.c_str(), &stat) == 0 && stat.f_type == BPF_FS_MAGIC;
}

Status make_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return ok();
  return fail_errno(errno, "directory {}: create", path);
}

Status ensure_bpffs(const std::string& dir) {
  if (dir.empty() || dir.front() != '/' || dir.back() == '/')
    return fail_errno(EINVAL, "bpffs directory `{}`: an absolute path without a slash at its end is needed",
                      dir);
  if (below(dir, kSystemBpffs) && !is_bpffs(kSystemBpffs)) BPFNET_TRY(mount_bpffs(kSystemBpffs));
  BPFNET_TRY(make_directories(dir));
  if (is_bpffs(dir)) return ok();
  return mount_bpffs(dir);
}

Status unmount_bpffs(const std::string& dir) {
  ::rmdir(dir.c_str());  // refused where it is a mount point or holds what is not ours
  for (const std::string& point : {dir, std::string(kSystemBpffs)}) {
    if (point != dir && !below(dir, point)) continue;
    if (!is_own_mount(point, "bpf")) continue;
    auto left = list_directory(point);
    if (!left) return pass(left);
    // The kernel puts two iterators into every bpffs.
    std::erase_if(*left,
                  [](const std::string& name) { return name == "maps.debug" || name == "progs.debug"; });
    if (!left->empty()) continue;
    if (::umount2(point.c_str(), 0) != 0) return fail_errno(errno, "bpffs {}: unmount", point);
    if (point != kSystemBpffs) ::rmdir(point.c_str());  // fails where the user keeps it for other things
  }
  return ok();
}

Result<std::vector<std::string>> list_directory(const std::string& path) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(opendir(path.c_str()), closedir);
  if (dir == nullptr) {
    if (errno == ENOENT) return names;
    return fail_errno(errno, "directory {}: open", path);
  }
  while (const dirent* entry = readdir(dir.get())) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

Status remove_pin(const std::string& path) {
  if (::unlink(path.c_str()) == 0 || errno == ENOENT) return ok();
  return fail_errno(errno, "pin {}: remove", path);
}

Status remove_tree(const std::string& path) {
  if (::unlink(path.c_str()) == 0 || errno == ENOENT) return ok();
  if (errno != EISDIR && errno != EPERM) return fail_errno(errno, "pin {}: remove", path);
  auto names = list_directory(path);
  if (!names) return pass(names);
  for (const std::string& name : *names) BPFNET_TRY(remove_tree(fmt::format("{}/{}", path, name)));
  if (::rmdir(path.c_str()) != 0 && errno != ENOENT) return fail_errno(errno, "directory {}: remove", path);
  return ok();
}

Result<Fd> lock_directory(const std::string& dir) {
  Fd fd(::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return fail_errno(errno, "directory {}: open", dir);
  if (flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
  if (errno == EWOULDBLOCK)
    return fail_errno(
        EBUSY, "directory {}: lock (another bpfnetd serves it; stop that one or give each its own --bpffs)",
        dir);
  return fail_errno(errno, "directory {}: lock", dir);
}

std::string link_pin_name(std::string_view ifname, std::string_view hook) {
  std::string name;
  for (const char c : ifname) {
    if (c == '.')
      name += "%2e";
    else if (c == '%')
      name += "%25";
    else
      name += c;
  }
  return fmt::format("{}_{}", name, hook);
}

std::optional<LinkPinName> parse_link_pin_name(std::string_view name) {
  for (const maps::Label& hook : maps::hooks()) {
    const std::string suffix = fmt::format("_{}", hook.label);
    if (!name.ends_with(suffix) || name.size() == suffix.size()) continue;
    LinkPinName result{.hook = std::string(hook.label)};
    name.remove_suffix(suffix.size());
    for (size_t i = 0; i < name.size(); ++i) {
      if (name.substr(i, 3) == "%2e" || name.substr(i, 3) == "%25") {
        result.ifname += name[i + 2] == 'e' ? '.' : '%';
        i += 2;
      } else {
        result.ifname += name[i];
      }
    }
    return result;
  }
  return std::nullopt;
}

}  // namespace bpfnet::loader
