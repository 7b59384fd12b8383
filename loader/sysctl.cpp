#include "loader/sysctl.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "base/fd.h"

namespace bpfnet::loader {

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
  const Fd fd(::open(("/proc/sys/" + key).c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd) return fail_errno(errno, "sysctl {}: open to write {}", key, value);
  if (::write(fd.get(), value.data(), value.size()) != static_cast<ssize_t>(value.size()))
    return fail_errno(errno, "sysctl {}: write {}", key, value);
  return change;
}

}  // namespace bpfnet::loader
