#include "tests/support/cluster/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace bpfnet::e2e {
namespace {

constexpr int kDescriptorLimit = 1024;

[[noreturn]] void raise_errno(const std::string& what) {
  throw std::runtime_error(fmt::format("{}: {}", what, std::strerror(errno)));
}

int pidfd_open(pid_t pid) {
  return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
}

int exit_status(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/// What the child needs, made before fork(): the child of a threaded process may only make system calls.
struct Prepared {
  explicit Prepared(const Command& command) : netns(command.netns) {
    for (const auto& arg : command.argv) argv.push_back(const_cast<char*>(arg.c_str()));
    argv.push_back(nullptr);
    for (char** entry = environ; *entry != nullptr; entry++) {
      const std::string text = *entry;
      if (!command.env.contains(text.substr(0, text.find('=')))) env_text.push_back(text);
    }
    for (const auto& [key, value] : command.env) env_text.push_back(fmt::format("{}={}", key, value));
    for (auto& text : env_text) env.push_back(text.data());
    env.push_back(nullptr);
  }

  /// In the child: never returns.
  [[noreturn]] void exec(int in, int out, int err, bool survive) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    if (survive) {
      ::setsid();
    } else {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    }
    if (netns >= 0 && ::setns(netns, CLONE_NEWNET) != 0) ::_exit(126);
    if (::dup2(in, 0) < 0 || ::dup2(out, 1) < 0 || ::dup2(err, 2) < 0) ::_exit(126);
    if (::syscall(SYS_close_range, 3U, ~0U, 0U) != 0) {
      for (int fd = 3; fd < kDescriptorLimit; fd++) ::close(fd);
    }
    ::execvpe(argv[0], argv.data(), env.data());
    ::_exit(127);
  }

  int netns;
  std::vector<std::string> env_text;
  std::vector<char*> argv;
  std::vector<char*> env;
};

struct Pipe {
  Pipe() {
    int fds[2];
    if (::pipe2(fds, O_CLOEXEC) != 0) raise_errno("pipe");
    read = Fd(fds[0]);
    write = Fd(fds[1]);
  }
  Fd read;
  Fd write;
};

}  // namespace

Output run(const Command& command, milliseconds deadline) {
  Prepared prepared(command);
  Pipe in;
  Pipe out;
  Pipe err;
  const pid_t pid = ::fork();
  if (pid < 0) raise_errno("fork");
  if (pid == 0) prepared.exec(in.read.get(), out.write.get(), err.write.get(), false);
  in.read.reset();
  out.write.reset();
  err.write.reset();

  Output result;
  size_t written = 0;
  ::fcntl(in.write.get(), F_SETFL, O_NONBLOCK);
  if (command.input.empty()) in.write.reset();
  const auto end = std::chrono::steady_clock::now() + deadline;
  while (out.read || err.read) {
    pollfd polls[3] = {
        {out.read.get(), POLLIN, 0}, {err.read.get(), POLLIN, 0}, {in.write.get(), POLLOUT, 0}};
    const auto left =
        std::chrono::duration_cast<milliseconds>(end - std::chrono::steady_clock::now()).count();
    if (left <= 0 || ::poll(polls, 3, static_cast<int>(left)) == 0) {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
      throw std::runtime_error(fmt::format("{}: still running after {} ms; said: {}{}",
                                           fmt::join(command.argv, " "), deadline.count(), result.out,
                                           result.err));
    }
    const auto drain = [](const pollfd& poll, Fd& fd, std::string& text) {
      if (poll.fd < 0 || poll.revents == 0) return;
      char buffer[65536];
      const ssize_t n = ::read(fd.get(), buffer, sizeof(buffer));
      if (n > 0) text.append(buffer, static_cast<size_t>(n));
      if (n == 0) fd.reset();
    };
    drain(polls[0], out.read, result.out);
    drain(polls[1], err.read, result.err);
    if (in.write && polls[2].revents != 0) {
      const ssize_t n =
          ::write(in.write.get(), command.input.data() + written, command.input.size() - written);
      if (n > 0) written += static_cast<size_t>(n);
      if ((n < 0 && errno != EAGAIN) || written == command.input.size()) in.write.reset();
    }
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  result.status = exit_status(status);
  return result;
}

std::string check_run(const Command& command) {
  Output output = run(command);
  if (output.status != 0) {
    throw std::runtime_error(fmt::format("{}: exit {}: {}{}", fmt::join(command.argv, " "), output.status,
                                         output.out, output.err));
  }
  return std::move(output.out);
}

Child::Child(const Command& command, const std::string& log, bool survive) {
  Prepared prepared(command);
  const Fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const Fd out(::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!null || !out) raise_errno(log);
  pid_ = ::fork();
  if (pid_ < 0) raise_errno("fork");
  if (pid_ == 0) prepared.exec(null.get(), out.get(), out.get(), survive);
  pidfd_ = Fd(pidfd_open(pid_));
}

Child::Child(Child&& other) noexcept : pid_(std::exchange(other.pid_, -1)), pidfd_(std::move(other.pidfd_)) {}

Child& Child::operator=(Child&& other) noexcept {
  if (this != &other) {
    kill();
    pid_ = std::exchange(other.pid_, -1);
    pidfd_ = std::move(other.pidfd_);
  }
  return *this;
}

bool Child::running() const {
  if (pid_ <= 0) return false;
  pollfd poll{pidfd_.get(), POLLIN, 0};
  return ::poll(&poll, 1, 0) == 0;
}

void Child::signal(int number) const {
  if (pid_ > 0) ::kill(pid_, number);
}

std::optional<int> Child::wait(milliseconds deadline) {
  if (pid_ <= 0) return std::nullopt;
  pollfd poll{pidfd_.get(), POLLIN, 0};
  if (::poll(&poll, 1, static_cast<int>(deadline.count())) <= 0) return std::nullopt;
  int status = 0;
  ::waitpid(pid_, &status, 0);
  pid_ = -1;
  return exit_status(status);
}

void Child::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

void kill_leftovers(const std::string& name, const std::string& mark) {
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string pid = entry.path().filename();
    if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
    std::error_code gone;
    const auto exe = std::filesystem::read_symlink(entry.path() / "exe", gone);
    if (gone || !exe.filename().string().starts_with(name)) continue;
    const std::string cmdline = read_text(entry.path() / "cmdline");
    if (cmdline.find(mark) == std::string::npos) continue;
    const Fd pidfd(pidfd_open(std::stoi(pid)));
    ::kill(std::stoi(pid), SIGKILL);
    pollfd poll{pidfd.get(), POLLIN, 0};
    if (pidfd) ::poll(&poll, 1, 2000);
  }
}

std::string read_text(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

void write_atomically(const std::string& path, const std::string& text) {
  // A dot file: what watches the directory must not take the half-written one for a manifest.
  const std::filesystem::path target(path);
  const auto temporary = target.parent_path() / ("." + target.filename().string() + ".tmp");
  std::ofstream(temporary) << text;
  std::filesystem::rename(temporary, target);
}

void pause(milliseconds duration) {
  ::poll(nullptr, 0, static_cast<int>(duration.count()));
}

}  // namespace bpfnet::e2e
