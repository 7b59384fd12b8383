#include "control/agent/tool.h"

#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/fd.h"

extern char** environ;

namespace bpfnet::agent {
namespace {

/// All three streams are files: nobody waits for a full pipe.
Fd stream(const std::string& text = "") {
  Fd fd(memfd_create("stream", MFD_CLOEXEC));
  for (size_t done = 0; fd && done < text.size();) {
    const ssize_t put = pwrite(fd.get(), text.data() + done, text.size() - done, static_cast<off_t>(done));
    if (put < 0 && errno != EINTR) fd.reset();
    if (put > 0) done += static_cast<size_t>(put);
  }
  return fd;
}

std::string text_of(const Fd& fd) {
  std::string text;
  std::array<char, 65536> chunk{};
  ssize_t got = 0;
  while ((got = pread(fd.get(), chunk.data(), chunk.size(), static_cast<off_t>(text.size()))) > 0)
    text.append(chunk.data(), static_cast<size_t>(got));
  return text;
}

}  // namespace

Result<std::optional<ToolOutput>> run_tool(const std::vector<std::string>& argv, const std::string& input) {
  const Fd in = stream(input);
  const Fd out = stream();
  const Fd err = stream();
  if (!in || !out || !err) return fail_errno(errno, "run {}: make its streams", argv.front());
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in.get(), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, out.get(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, err.get(), STDERR_FILENO);
  std::vector<std::string> words = argv;
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  pid_t pid = -1;
  const int code = posix_spawnp(&pid, argv.front().c_str(), &actions, nullptr, pointers.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (code == ENOENT) return std::optional<ToolOutput>{};
  if (code != 0) return fail_errno(code, "run {}", argv.front());
  int status = 0;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) return fail_errno(errno, "run {}: wait for its end", argv.front());
  return std::optional<ToolOutput>{
      {.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
       .out = text_of(out),
       .err = text_of(err)}};
}

}  // namespace bpfnet::agent
