#include "base/read_fd.h"

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

}  // namespace bpfnet
