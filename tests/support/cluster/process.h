#pragma once

#include <sys/types.h>

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"

namespace bpfnet::e2e {

using std::chrono::milliseconds;

/// How a process is started. Everything is inherited where nothing is said.
struct Command {
  std::vector<std::string> argv;
  std::string input;                       ///< its stdin
  std::map<std::string, std::string> env;  ///< set on top of the inherited environment
  int netns = -1;                          ///< network namespace it starts in, by descriptor
};

struct Output {
  int status = 0;  ///< exit status, or 128 + signal
  std::string out;
  std::string err;
};

/// Runs to the end. Throws std::runtime_error if it cannot be started or takes longer than `deadline`.
Output run(const Command& command, milliseconds deadline = milliseconds(30000));

/// As run(); throws with the process's own words if it fails.
std::string check_run(const Command& command);

/// A process that runs beside the test; ended (SIGKILL, by pid) with its object unless `detach`ed.
class Child {
 public:
  Child() = default;
  /// stdout and stderr are appended to `log`. With `survive` it outlives the caller, else it dies with it.
  Child(const Command& command, const std::string& log, bool survive = false);
  Child(Child&& other) noexcept;
  Child& operator=(Child&& other) noexcept;
  ~Child() { kill(); }

  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] bool running() const;
  void signal(int number) const;
  /// Exit status (128 + signal), or nullopt at the deadline.
  std::optional<int> wait(milliseconds deadline);
  /// SIGKILL, and waits for the end.
  void kill();
  void detach() { pid_ = -1; }

 private:
  pid_t pid_ = -1;
  Fd pidfd_;
};

/// Ends processes left by an earlier run: those whose executable is called `name` and whose command line
/// mentions `mark`.
void kill_leftovers(const std::string& name, const std::string& mark);

/// Calls `check` every few milliseconds until it is true; false at the deadline.
template <typename F>
bool eventually(F&& check, milliseconds deadline = milliseconds(5000));

std::string read_text(const std::string& path);
/// Writes beside the file and renames, as editors and kubelets do.
void write_atomically(const std::string& path, const std::string& text);

/// Waits for `duration` on nothing but the clock; the pause between two looks of a poll.
void pause(milliseconds duration);

template <typename F>
bool eventually(F&& check, milliseconds deadline) {
  const auto end = std::chrono::steady_clock::now() + deadline;
  while (true) {
    if (check()) return true;
    if (std::chrono::steady_clock::now() >= end) return false;
    pause(milliseconds(5));
  }
}

}  // namespace bpfnet::e2e
