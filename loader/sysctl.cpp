#include "loader/sysctl.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>

#include "base/fd.h"

namespace bpfnet::loader {
namespace {

/// A procfs of our own that is mounted nowhere. Empty with errno set where that is not allowed.
Fd detached_proc() {
  const Fd context(::fsopen("proc", FSOPEN_CLOEXEC));
  if (!context || ::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) return {};
  return Fd(::fsmount(context.get(), FSMOUNT_CLOEXEC, 0));
}

/// Container runtimes mount /proc/sys read-only for whoever is not privileged, although the settings of a
/// network namespace belong to those who may administer it.
Fd open_to_write(const std::string& path) {
  Fd fd(::open(("/proc" + path).c_str(), O_WRONLY | O_CLOEXEC));
  if (fd || errno != EROFS) return fd;
  const Fd proc = detached_proc();
  if (!proc) return {};
  return Fd(::openat(proc.get(), path.substr(1).c_str(), O_WRONLY | O_CLOEXEC));
}

}  // namespace

Result<std::string> read_sysctl(const std::string& key) {
  const Fd fd(::open(("/proc/sys/" + key).c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail_errno(errno, "sysctl {}: open", key);
  char buffer[4096];
  const ssize_t size = ::read(fd.get(), buffer, sizeof(buffer));
  if (size < 0) return fail_errno(errno, "sysctl {}: read", key);
  std::string value(buffer, static_cast<size_t>(size));
  while (!value.empty() && value.back() == '\n') value.pop_back();
  return value;
}

Result<SysctlChange> write_sysctl(const std::string& key, const std::string& value) {
  auto before = read_sysctl(key);
  if (!before) return pass(before);
  SysctlChange change{.key = key, .before = *before, .after = value};
  if (!change.changed()) return change;
  const Fd fd = open_to_write("/sys/" + key);
  if (!fd) return fail_errno(errno, "sysctl {}: open to write {}", key, value);
  if (::write(fd.get(), value.data(), value.size()) != static_cast<ssize_t>(value.size()))
    return fail_errno(errno, "sysctl {}: write {}", key, value);
  return change;
}

}  // namespace bpfnet::loader
