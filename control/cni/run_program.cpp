#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "control/cni/delegate.h"

extern char** environ;

namespace bpfnet::cni {
namespace {

tl::unexpected<CniError> io_error(const std::string& program, const char* operation, int code) {
  return refuse(ErrorCode::kIo, "run {}: {}: {}", program, operation, errno_name(code));
}

/// This process's environment with the CNI variables replaced.
std::vector<std::string> environment_with(const Variables& variables) {
  std::vector<std::string> all;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text(*entry);
    if (!variables.contains(text.substr(0, text.find('=')))) all.push_back(text);
  }
  for (const auto& [name, value] : variables) all.push_back(fmt::format("{}={}", name, value));
  return all;
}

/// spawn, tried again while a package manager still writes the file (C18).
int spawn(pid_t& pid, const std::string& program, const posix_spawn_file_actions_t& actions,
          std::vector<std::string>& environment) {
  std::vector<char*> envp;
  for (std::string& entry : environment) envp.push_back(entry.data());
  envp.push_back(nullptr);
  std::string name = program;
  char* argv[] = {name.data(), nullptr};
  int code = ETXTBSY;
  for (int attempt = 0; code == ETXTBSY && attempt < 20; ++attempt) {
    if (attempt > 0) ::poll(nullptr, 0, 10);
    code = ::posix_spawn(&pid, program.c_str(), &actions, nullptr, argv, envp.data());
  }
  return code;
}

std::string read_all(int fd) {
  std::string text;
  char buffer[4096];
  for (;;) {
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got > 0) text.append(buffer, static_cast<size_t>(got));
    if (got == 0 || (got < 0 && errno != EINTR)) return text;
  }
}

}  // namespace

CniResult<ProgramOutput> run_program(const std::string& program, const Variables& variables,
                                     std::string_view input) {
  // A file, not a pipe: the program may write before it has read everything.
  const Fd in(::memfd_create("stdin", MFD_CLOEXEC));
  if (!in || ::write(in.get(), input.data(), input.size()) != static_cast<ssize_t>(input.size()) ||
      ::lseek(in.get(), 0, SEEK_SET) != 0) {
    return io_error(program, "stdin", errno);
  }
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return io_error(program, "pipe", errno);
  const Fd out(ends[0]);
  Fd child_out(ends[1]);

  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, in.get(), STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, child_out.get(), STDOUT_FILENO);
  std::vector<std::string> environment = environment_with(variables);
  pid_t pid = -1;
  const int code = spawn(pid, program, actions, environment);
  ::posix_spawn_file_actions_destroy(&actions);
  if (code != 0) return io_error(program, "spawn", code);
  child_out.reset();

  ProgramOutput result;
  result.output = read_all(out.get());
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return io_error(program, "wait", errno);
  }
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

}  // namespace bpfnet::cni
