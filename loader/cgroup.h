#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

// Programs at a cgroup: they see system calls of every process below it. Each is held by a link that is
// pinned as `<link_dir>/<program>` and so outlives its maker; other programs at the cgroup are left alone.
namespace bpfnet::loader {

/// A loaded program and where it belongs.
struct CgroupProgram {
  std::string name;
  int fd = -1;        ///< stays the caller's
  uint32_t type = 0;  ///< enum bpf_attach_type
};

/// A pinned link.
struct CgroupAttachment {
  std::string program;
  uint64_t cgroup = 0;  ///< kernel id (the directory's inode number); 0: the cgroup is gone
  uint32_t id = 0;      ///< of the program that runs
};

/// Opens a directory of a cgroup2 hierarchy. For any other the error says where this host has one.
Result<Fd> open_cgroup(const std::string& path);

/// Mounts cgroup2 at `path`, which is made, unless the path is in such a hierarchy already. A directory that
/// holds anything else is an error, which says where this host has cgroup2. True: what is there is the whole
/// machine's; false: the caller is in a cgroup namespace, whose part alone is seen.
Result<bool> ensure_cgroup2(const std::string& path);
/// Takes away what ensure_cgroup2(path) made; fine when that was nothing.
Status unmount_cgroup2(const std::string& path);

/// Attaches the programs to the cgroup. A link of an earlier run gets the new program by one update in place,
/// without a call in between that sees none; one at another cgroup is replaced. On failure none of the links
/// stays that this call has made.
Status attach_cgroup(const std::string& link_dir, const std::string& cgroup,
                     const std::vector<CgroupProgram>& programs);
/// Takes all of them off, and their directory away; fine when there are none.
Status detach_cgroup(const std::string& link_dir);
Result<std::vector<CgroupAttachment>> cgroup_attachments(const std::string& link_dir);

}  // namespace bpfnet::loader
