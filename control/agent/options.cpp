#include "control/agent/options.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>

namespace bpfnet::agent {

namespace fs = std::filesystem;

std::vector<Cidr> Options::default_service_cidrs() {
  return {*Cidr::parse("10.96.0.0/12"), *Cidr::parse("fd00:10:96::/112")};
}

std::string default_node_name() {
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) != 0) return "localhost";
  std::string lower(name.data());
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower;
}

Result<StateDir> StateDir::lock(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) return fail_errno(error.value(), "state directory {}: create", path);
  const std::string file = path + "/lock";
  Fd lock(open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock) return fail_errno(errno, "state directory {}: open lock", path);
  if (flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return fail_errno(errno, "state directory {}: lock", path);
    std::array<char, 32> pid{};
    [[maybe_unused]] const ssize_t got = pread(lock.get(), pid.data(), pid.size() - 1, 0);
    return fail(
        "state directory {}: another bpfnetd (pid {}) runs with it; stop it or use another --state-dir", path,
        pid.data());
  }
  const std::string pid = std::to_string(getpid());
  if (ftruncate(lock.get(), 0) != 0 || pwrite(lock.get(), pid.data(), pid.size(), 0) < 0)
    return fail_errno(errno, "state directory {}: write lock", path);
  fs::create_directories(path + "/deletes", error);
  if (error) return fail_errno(error.value(), "state directory {}: create deletes", path);
  return StateDir(path, std::move(lock));
}

Status StateDir::remove() {
  std::error_code error;
  fs::remove_all(pending_deletes(), error);
  if (error) return fail_errno(error.value(), "state directory {}: remove deletes", path_);
  for (const char* suffix :
       {"/bpfnet.db", "/bpfnet.db-wal", "/bpfnet.db-shm", "/bpfnet.db-journal", "/lock"}) {
    fs::remove(path_ + suffix, error);
    if (error) return fail_errno(error.value(), "state directory {}: remove {}", path_, suffix + 1);
  }
  if (!fs::is_empty(path_, error)) return ok();  // whatever else is there is not ours
  fs::remove(path_, error);
  // In a container the directory is a mount of the host's.
  if (error && error != std::errc::device_or_resource_busy)
    return fail_errno(error.value(), "state directory {}: remove", path_);
  return ok();
}

}  // namespace bpfnet::agent
