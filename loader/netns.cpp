#include "loader/netns.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <cerrno>
#include <cstdlib>

namespace bpfnet::loader {

Result<Fd> open_netns(const std::string& path) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail_errno(errno, "netns {}: open", path);
  struct statfs stat {};
  if (fstatfs(fd.get(), &stat) != 0) return fail_errno(errno, "netns {}: statfs", path);
  // A netns file left behind by an unmount is a plain empty file.
  if (stat.f_type != NSFS_MAGIC && stat.f_type != PROC_SUPER_MAGIC)
    return fail_errno(EINVAL, "netns {}: the file is no network namespace", path);
  return fd;
}

Result<Fd> current_netns() {
  return open_netns("/proc/thread-self/ns/net");
}

Result<Fd> new_netns() {
  auto home = current_netns();
  if (!home) return pass(home);
  auto guard = NetnsGuard::enter(home->get());
  if (!guard) return pass(guard);
  if (unshare(CLONE_NEWNET) != 0) return fail_errno(errno, "netns: create");
  return current_netns();
}

Result<uint64_t> netns_id(int netns_fd) {
  struct stat stat {};
  if (fstat(netns_fd, &stat) != 0) return fail_errno(errno, "netns: stat");
  return static_cast<uint64_t>(stat.st_ino);
}

Result<uint64_t> netns_cookie() {
  const Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return fail_errno(errno, "netns: socket");
  uint64_t cookie = 0;
  socklen_t size = sizeof(cookie);
  if (getsockopt(socket.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) != 0)
    return fail_errno(errno, "netns: read its cookie");
  return cookie;
}

Result<NetnsGuard> NetnsGuard::enter(int netns_fd) {
  auto home = current_netns();
  if (!home) return pass(home);
  if (setns(netns_fd, CLONE_NEWNET) != 0) return fail_errno(errno, "netns: enter");
  return NetnsGuard(std::move(*home));
}

NetnsGuard::~NetnsGuard() {
  if (!home_) return;
  if (setns(home_.get(), CLONE_NEWNET) == 0) return;
  spdlog::critical("netns: cannot go back: {}", errno_name(errno));
  std::abort();
}

}  // namespace bpfnet::loader
