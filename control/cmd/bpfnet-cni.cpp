// The CNI plugin: a short-lived process that turns one invocation of a runtime into a request to the agent.
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string>

#include "base/fd_io.h"
#include "control/cni/plugin.h"

extern char** environ;

namespace {

std::string read_stdin() {
  std::string text;
  char buffer[16384];
  for (;;) {
    const ssize_t got = ::read(STDIN_FILENO, buffer, sizeof buffer);
    if (got > 0) text.append(buffer, static_cast<size_t>(got));
    if (got == 0 || (got < 0 && errno != EINTR)) return text;
  }
}

constexpr const char* kAbout =
    "bpfnet-cni is a CNI plugin: a container runtime runs it with CNI_COMMAND set and the network\n"
    "configuration on stdin. See docs/cni.md.\n";

}  // namespace

int main() {
  using namespace bpfnet::cni;
  const Variables variables = read_variables(environ);
  if (variables.empty() && ::isatty(STDIN_FILENO) != 0) {
    std::fputs(kAbout, stderr);
    return 2;
  }
  const PluginOutcome outcome = run_plugin(
      variables, read_stdin(), [](const NetConf& conf) { return std::make_unique<UnixAgentLink>(conf); });
  if (outcome.exit_code != 0) std::fprintf(stderr, "bpfnet-cni: %s\n", outcome.output.c_str());
  if (!bpfnet::write_fd(STDOUT_FILENO, "stdout", outcome.output + (outcome.output.empty() ? "" : "\n")))
    return 1;
  return outcome.exit_code;
}
