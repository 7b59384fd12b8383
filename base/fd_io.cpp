#include "base/fd_io.h"

#include <unistd.h>

#include <cerrno>

namespace bpfnet {

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

Status write_fd(int fd, const std::string& name, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return fail_errno(errno, "{}: write", name);
    text.remove_prefix(static_cast<size_t>(written));
  }
  return ok();
}

}  // namespace bpfnet
