#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

// The directory of pins. bpffs takes directories, pins and renames, and refuses names with dots.
namespace bpfnet::loader {

/// The source name of file systems that we mount.
inline constexpr const char* kMountSource = "bpfnet";
/// Is the topmost mount at exactly `dir` one of ours, of this file system type?
bool is_own_mount(const std::string& dir, std::string_view kind);

/// Makes `dir` (and its parents) and sees that it is on a bpffs, mounting one if it is not: at /sys/fs/bpf
/// for a directory below it, else at `dir`. Mounts of ours bear the source name `bpfnet`.
Status ensure_bpffs(const std::string& dir);
bool is_bpffs(const std::string& dir);
/// Takes away `dir` and the mounts that ensure_bpffs(dir) made, where they hold nothing any more.
Status unmount_bpffs(const std::string& dir);

/// Makes one directory; fine when it is there.
Status make_directory(const std::string& path);
/// Names in a directory, sorted; none when it is not there.
Result<std::vector<std::string>> list_directory(const std::string& path);
/// Removes a pin; fine when it is not there.
Status remove_pin(const std::string& path);
/// Removes a directory with everything below it; fine when it is not there.
Status remove_tree(const std::string& path);

/// An exclusive flock on the directory itself, which bpffs allows and a process's death releases. EBUSY, with
/// a sentence to act on, when somebody holds it.
Result<Fd> lock_directory(const std::string& dir);

/// `eth0.5`, `from_uplink` -> `eth0%2e5_from_uplink`
std::string link_pin_name(std::string_view ifname, std::string_view hook);
struct LinkPinName {
  std::string ifname;
  std::string hook;
};
/// The reverse; nullopt for a name which is none.
std::optional<LinkPinName> parse_link_pin_name(std::string_view name);

}  // namespace bpfnet::loader
