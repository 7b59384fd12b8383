#include "bench/bed.h"

#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <thread>

namespace bpfnet::bench {
namespace {

/// In the child: an error is told and becomes exit status 1.
int run_work(const std::function<int()>& work) {
  try {
    return work();
  } catch (const std::exception& error) {
    fmt::print(stderr, "bench: {}\n", error.what());
    return 1;
  }
}

sigset_t ending_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGCHLD}) sigaddset(&set, number);
  return set;
}

/// Also the cgroups that paths with sockets have made: empty once the processes are gone.
void remove_all(const e2e::ClusterOptions& options) {
  e2e::remove_leftovers(options);
  std::error_code none;
  std::filesystem::path mount;
  try {
    mount = e2e::cgroup2_mount();
  } catch (const std::exception&) {
    return;
  }
  for (const auto& entry : std::filesystem::directory_iterator(mount, none))
    if (entry.path().filename().string().starts_with(options.prefix)) ::rmdir(entry.path().c_str());
}

}  // namespace

e2e::ClusterOptions bed_options(const std::string& name) {
  e2e::ClusterOptions options;
  options.binaries = {
      .bpfnetd = BPFNETD_BINARY, .bpfnet_cni = BPFNET_CNI_BINARY, .bpfnetctl = BPFNETCTL_BINARY};
  options.prefix = fmt::format("bn-bench-{}-", name);
  options.run_root = fmt::format("/run/bpfnet-test-bench-{}", name);
  options.start_deadline = std::chrono::minutes(2);
  return options;
}

int guarded(const e2e::ClusterOptions& options, const std::function<int()>& work) {
  remove_all(options);
  const sigset_t ending = ending_signals();
  sigset_t before;
  sigprocmask(SIG_BLOCK, &ending, &before);
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) {
    std::perror("bench: fork");
    return 1;
  }
  if (child == 0) {
    // It dies with its guard, so that nothing goes on unguarded; by SIGINT it dies of itself.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);
    sigprocmask(SIG_SETMASK, &before, nullptr);
    const int status = run_work(work);
    std::fflush(nullptr);
    ::_exit(status);
  }
  int status = 0;
  while (::waitpid(child, &status, WNOHANG) == 0) {
    siginfo_t info{};
    if (sigwaitinfo(&ending, &info) != SIGCHLD && info.si_signo != 0) ::kill(child, SIGTERM);
  }
  remove_all(options);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void add_idle_uplink(e2e::Node& node) {
  node.netns().ip(
      fmt::format("link add eth0 type veth peer name wire\nlink set wire up\nlink set eth0 up\n"
                  "addr add {}/24 dev eth0",
                  node.ip(Family::kIpv4).to_string()));
}

double load_average() {
  double load = 0;
  return ::getloadavg(&load, 1) == 1 ? load : -1;
}

std::string machine_line() {
  utsname kernel{};
  ::uname(&kernel);
  std::string model = "unknown processor";
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);) {
    if (!line.starts_with("model name")) continue;
    model = line.substr(line.find(':') + 2);
    break;
  }
  return fmt::format("{} {}, {}, {} CPUs, load average {:.1f}", kernel.sysname, kernel.release, model,
                     std::thread::hardware_concurrency(), load_average());
}

}  // namespace bpfnet::bench
