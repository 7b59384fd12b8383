#pragma once

#include <string>

namespace bpfnet::e2e {

/// A cgroup2 of a run's own. The process is in it while the object lives, and with it every socket that its
/// threads make in any namespace, and the children it starts: programs of the agents at this cgroup see them,
/// and nobody else on the machine.
class Cgroup {
 public:
  /// Throws std::runtime_error where there is no cgroup2.
  explicit Cgroup(const std::string& name);
  ~Cgroup();
  Cgroup(const Cgroup&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }
  /// Leaves the directory in place.
  void keep() { keep_ = true; }

 private:
  std::string home_;
  std::string path_;
  bool keep_ = false;
};

/// Where the machine has cgroup2. Throws if nowhere.
std::string cgroup2_mount();

}  // namespace bpfnet::e2e
