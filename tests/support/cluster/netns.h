#pragma once

#include <future>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>

#include "base/fd.h"

namespace bpfnet::e2e {

/// A named network namespace (/run/netns/NAME) with its loopback up; removed with the object.
class Netns {
 public:
  /// Throws std::runtime_error if it cannot be made. One of the same name is removed first.
  explicit Netns(std::string name);
  Netns(Netns&&) = default;
  Netns(const Netns&) = delete;
  ~Netns();

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] std::string path() const { return "/run/netns/" + name_; }
  [[nodiscard]] int fd() const { return fd_.get(); }

  /// Runs `ip` commands, one a line. Throws with ip's words.
  void ip(std::string_view lines) const;
  /// The output of one `ip` command.
  [[nodiscard]] std::string ip_show(std::string_view command) const;
  void sysctl(const std::string& key, const std::string& value) const;
  [[nodiscard]] std::string sysctl(const std::string& key) const;

  /// Runs `f` on a thread inside the namespace; sockets it makes stay there and may be used from outside.
  template <typename F>
  auto in(F&& f) const {
    std::packaged_task<std::invoke_result_t<F>()> task([&] {
      enter();
      return f();
    });
    auto result = task.get_future();
    std::thread(std::ref(task)).join();
    return result.get();
  }

  /// Leaves the namespace in place when the object goes.
  void keep() { keep_ = true; }

 private:
  void enter() const;
  std::string name_;
  Fd fd_;
  bool keep_ = false;
};

/// Removes every named namespace whose name starts with `prefix`.
void remove_netns(std::string_view prefix);

}  // namespace bpfnet::e2e
