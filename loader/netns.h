#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "base/fd.h"
#include "base/result.h"

namespace bpfnet::loader {

/// The network namespace behind a path (`/run/netns/x`, `/proc/PID/ns/net`). Fails when the file is no netns.
Result<Fd> open_netns(const std::string& path);
/// The calling thread's.
Result<Fd> current_netns();
/// A fresh one without a name; it lives as long as a descriptor or a device peer of it. The calling thread
/// stays where it is.
Result<Fd> new_netns();
/// Identifies a netns in this kernel (inode of its nsfs file): equal numbers, same netns.
Result<uint64_t> netns_id(int netns_fd);

/// The cookie by which BPF programs know the calling thread's netns; never given out twice while this kernel
/// runs.
Result<uint64_t> netns_cookie();

/// Puts the calling thread into another netns until the end of the scope. A thread that cannot go back ends
/// the process: going on in the wrong namespace would configure somebody else's network.
class NetnsGuard {
 public:
  static Result<NetnsGuard> enter(int netns_fd);
  NetnsGuard(NetnsGuard&&) = default;
  NetnsGuard& operator=(NetnsGuard&&) = delete;
  ~NetnsGuard();

 private:
  explicit NetnsGuard(Fd home) : home_(std::move(home)) {}
  Fd home_;
};

/// Runs `work` in the netns, on the calling thread, and gives its result (a Result<T> or Status).
template <typename Work>
auto in_netns(int netns_fd, Work&& work) -> decltype(work()) {
  auto guard = NetnsGuard::enter(netns_fd);
  if (!guard) return pass(guard);
  return work();
}

}  // namespace bpfnet::loader
