#include "loader/cgroup.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <optional>

#include "loader/bpffs.h"
#include "loader/mounts.h"

namespace bpfnet::loader {
namespace {

/// The inode number of the first cgroup namespace of a kernel (PROC_CGROUP_INIT_INO).
constexpr ino_t kInitialCgroupNamespace = 0xEFFFFFFB;

/// Where this host has cgroup2; empty: nowhere.
std::string cgroup2_mount() {
  for (const Mount& mount : read_mounts())
    if (mount.type == "cgroup2") return mount.point;
  return {};
}

struct CgroupLink {
  Fd fd;
  uint64_t cgroup = 0;  // 0: gone
  uint32_t program = 0;
};

/// nullopt: there is none.
Result<std::optional<CgroupLink>> open_link(const std::string& path) {
  CgroupLink link;
  link.fd = Fd(bpf_obj_get(path.c_str()));
  if (link.fd.get() == -ENOENT) return std::optional<CgroupLink>{};
  if (!link.fd) return fail_errno(link.fd.get(), "pin {}: open", path);
  bpf_link_info info{};
  uint32_t size = sizeof(info);
  if (const int rc = bpf_obj_get_info_by_fd(link.fd.get(), &info, &size); rc != 0)
    return fail_errno(rc, "pin {}: read link info", path);
  link.cgroup = info.cgroup.cgroup_id;
  link.program = info.prog_id;
  return std::optional<CgroupLink>{std::move(link)};
}

/// Detaching is at once; without it the last reference would go some time after the pin.
Status drop_link(const std::string& path, const CgroupLink& link) {
  if (const int rc = bpf_link_detach(link.fd.get()); rc != 0 && link.cgroup != 0)
    return fail_errno(rc, "pin {}: detach", path);
  return remove_pin(path);
}

/// true: the link is new.
Result<bool> attach_one(const std::string& path, int cgroup, uint64_t cgroup_id,
                        const CgroupProgram& program) {
  auto old = open_link(path);
  if (!old) return pass(old);
  if (*old && (*old)->cgroup == cgroup_id) {
    const int rc = bpf_link_update((*old)->fd.get(), program.fd, nullptr);
    if (rc != 0) return fail_errno(rc, "pin {}: update its program", path);
    return false;
  }
  const Fd link(bpf_link_create(program.fd, cgroup, static_cast<bpf_attach_type>(program.type), nullptr));
  if (!link) return fail_errno(link.get(), "program {}: attach to the cgroup", program.name);
  // The new one is there before the old one goes, and takes its name in one step.
  const std::string fresh = path + "%new";
  BPFNET_TRY(remove_pin(fresh));
  if (const int rc = bpf_obj_pin(link.get(), fresh.c_str()); rc != 0)
    return fail_errno(rc, "pin {}: create", fresh);
  if (std::rename(fresh.c_str(), path.c_str()) != 0) return fail_errno(errno, "pin {}: replace", path);
  if (*old) bpf_link_detach((*old)->fd.get());  // fails when its cgroup is gone, which is as good
  return true;
}

}  // namespace

Result<Fd> open_cgroup(const std::string& path) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct statfs stat {};
  if (fd && fstatfs(fd.get(), &stat) == 0 && stat.f_type == CGROUP2_SUPER_MAGIC) return fd;
  const int error = fd ? ENOTSUP : errno;
  const std::string mount = cgroup2_mount();
  return fail_errno(error, "cgroup {}: {}; {}", path, fd ? "is not of a cgroup2 hierarchy" : "open",
                    mount.empty() ? "this host has no cgroup2 mounted (mount -t cgroup2 none DIR)"
                                  : fmt::format("cgroup2 is mounted at {}", mount));
}

Result<bool> ensure_cgroup2(const std::string& path) {
  if (auto present = open_cgroup(path); !present) {
    std::error_code error;
    std::filesystem::create_directories(path, error);
    if (error) return fail_errno(error.value(), "cgroup {}: create", path);
    // Over a hierarchy of version 1, a mount would take that away from everybody.
    if (!std::filesystem::is_empty(path, error)) return pass(present);
    if (::mount(kMountSource, path.c_str(), "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0)
      return fail_errno(errno, "cgroup {}: mount cgroup2", path);
  }
  struct stat stat {};
  if (::stat("/proc/self/ns/cgroup", &stat) != 0) return fail_errno(errno, "cgroup namespace: stat");
  return stat.st_ino == kInitialCgroupNamespace;
}

Status unmount_cgroup2(const std::string& path) {
  if (!is_own_mount(path, "cgroup2")) return ok();
  if (::umount2(path.c_str(), 0) != 0) return fail_errno(errno, "cgroup {}: unmount", path);
  ::rmdir(path.c_str());  // fails where the user keeps it for other things
  return ok();
}

Status attach_cgroup(const std::string& link_dir, const std::string& cgroup,
                     const std::vector<CgroupProgram>& programs) {
  auto directory = open_cgroup(cgroup);
  if (!directory) return pass(directory);
  struct stat stat {};
  if (fstat(directory->get(), &stat) != 0) return fail_errno(errno, "cgroup {}: stat", cgroup);
  BPFNET_TRY(make_directory(link_dir));
  std::vector<std::string> made;
  for (const CgroupProgram& program : programs) {
    const std::string path = fmt::format("{}/{}", link_dir, program.name);
    auto fresh = attach_one(path, directory->get(), stat.st_ino, program);
    if (fresh) {
      if (*fresh) made.push_back(path);
      continue;
    }
    for (const std::string& each : made)
      if (auto link = open_link(each); link && *link) (void)drop_link(each, **link);
    return pass(fresh);
  }
  return ok();
}

Status detach_cgroup(const std::string& link_dir) {
  auto names = list_directory(link_dir);
  if (!names) return pass(names);
  for (const std::string& name : *names) {
    const std::string path = fmt::format("{}/{}", link_dir, name);
    auto link = open_link(path);
    if (!link) return pass(link);
    if (*link) BPFNET_TRY(drop_link(path, **link));
  }
  return remove_tree(link_dir);
}

Result<std::vector<CgroupAttachment>> cgroup_attachments(const std::string& link_dir) {
  std::vector<CgroupAttachment> result;
  auto names = list_directory(link_dir);
  if (!names) return pass(names);
  for (const std::string& name : *names) {
    auto link = open_link(fmt::format("{}/{}", link_dir, name));
    if (!link) return pass(link);
    if (*link) result.push_back({.program = name, .cgroup = (*link)->cgroup, .id = (*link)->program});
  }
  return result;
}

}  // namespace bpfnet::loader
