#include "maps/maps.h"

#include <bpf/bpf.h>
#include <fcntl.h>

#include <cerrno>

#include "maps/abi/base.h"

namespace bpfnet::maps {

std::string map_pin_dir(const std::string& pin_dir) {
  return fmt::format("{}/v{}/maps", pin_dir, static_cast<int>(ABI_LAYOUT_VERSION));
}

Result<Fd> duplicate_fd(int fd, const char* name) {
  const int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (copy < 0) return fail_errno(errno, "map {}: duplicate descriptor {}", name, fd);
  return Fd(copy);
}

Result<Maps> Maps::open_pinned(const std::string& pin_dir) {
  const std::string dir = map_pin_dir(pin_dir);
  Maps maps;
  Status status = ok();
  each(maps, [&](auto& member, const char* name) {
    if (!status) return;
    const std::string path = fmt::format("{}/{}", dir, name);
    const int fd = bpf_obj_get(path.c_str());
    if (fd == -ENOENT)
      status = fail_errno(fd, "map {}: nothing is pinned at {}; has bpfnetd run with --bpffs {}?", name, path,
                          pin_dir);
    else if (fd < 0)
      status = fail_errno(fd, "map {}: open {}", name, path);
    else
      status = adopt_into(member, Fd(fd), name);
  });
  if (!status) return pass(status);
  return maps;
}

}  // namespace bpfnet::maps
