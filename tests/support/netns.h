#pragma once

#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace bpfnet::test {

/// A network namespace without a name: it is gone with the last descriptor, whatever happens to the test.
class Netns {
 public:
  static Result<Netns> create();

  /// While it lives, the calling thread is inside the namespace.
  class Inside {
   public:
    explicit Inside(const Netns& netns);
    ~Inside();
    Inside(const Inside&) = delete;
    Inside& operator=(const Inside&) = delete;

   private:
    Fd before_;
  };

  /// Runs `ip -batch` with these lines inside the namespace; fails with what `ip` printed.
  [[nodiscard]] Status ip_batch(const std::string& lines) const;
  /// Writes `value` to /proc/sys/`name` (with slashes) of the namespace.
  [[nodiscard]] Status set_sysctl(const std::string& name, const std::string& value) const;
  /// 0 if there is no such device.
  [[nodiscard]] unsigned ifindex(const std::string& device) const;
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  explicit Netns(Fd fd) : fd_(std::move(fd)) {}
  Fd fd_;
};

/// Empty when BPF programs can be loaded and namespaces made here, else the reason why not.
std::string why_no_bpf();

}  // namespace bpfnet::test
