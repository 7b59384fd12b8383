#include "tests/support/cluster/cgroup.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace bpfnet::e2e {
namespace {

/// The calling process's, below the mount point.
std::string own_cgroup() {
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("0::")) return line.substr(3);
  return "/";
}

bool enter(const std::string& path) {
  std::ofstream procs(path + "/cgroup.procs");
  procs << "0\n";
  procs.flush();
  return procs.good();
}

}  // namespace

std::string cgroup2_mount() {
  std::ifstream mounts("/proc/self/mounts");
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream fields(line);
    std::string source;
    std::string point;
    std::string type;
    if (fields >> source >> point >> type && type == "cgroup2") return point;
  }
  throw std::runtime_error("no cgroup2 is mounted here");
}

Cgroup::Cgroup(const std::string& name)
    : home_(cgroup2_mount() + own_cgroup()), path_(cgroup2_mount() + "/" + name) {
  if (::mkdir(path_.c_str(), 0755) != 0 && errno != EEXIST)
    throw std::runtime_error(fmt::format("{}: mkdir: {}", path_, std::strerror(errno)));
  if (!enter(path_)) throw std::runtime_error(path_ + ": cannot be entered");
}

Cgroup::~Cgroup() {
  if (!enter(home_)) fmt::print(stderr, "{}: cannot be entered again\n", home_);
  if (!keep_ && ::rmdir(path_.c_str()) != 0)
    fmt::print(stderr, "{}: rmdir: {}\n", path_, std::strerror(errno));
}

}  // namespace bpfnet::e2e
