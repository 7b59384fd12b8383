#pragma once

#include <sys/eventfd.h>

#include <cstdint>

#include "base/fd.h"

namespace bpfnet {

/// Wakes a thread that waits with poll or epoll: readable from signal() until drain(), however often it was
/// signalled. signal() may be called from any thread and from a signal handler.
class WakeFd {
 public:
  /// Not valid() where the process may have no more descriptors; errno says why.
  WakeFd() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

  [[nodiscard]] bool valid() const { return fd_.valid(); }
  [[nodiscard]] int get() const { return fd_.get(); }
  void signal() const {
    const uint64_t one = 1;
    // Fails only when the counter is full: then whoever waits is woken anyway.
    [[maybe_unused]] const ssize_t put = ::write(fd_.get(), &one, sizeof(one));
  }
  void drain() const {
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t got = ::read(fd_.get(), &count, sizeof(count));
  }

 private:
  Fd fd_;
};

}  // namespace bpfnet
