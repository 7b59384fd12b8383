#include "tests/support/netns.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <stdexcept>

namespace bpfnet::test {
namespace {

Fd current_netns() {
  return Fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
}

}  // namespace

Result<Netns> Netns::create() {
  const Fd before = current_netns();
  if (!before) return fail_errno(errno, "open the current netns");
  if (::unshare(CLONE_NEWNET) != 0) return fail_errno(errno, "unshare a netns");
  Fd created = current_netns();
  if (::setns(before.get(), CLONE_NEWNET) != 0) return fail_errno(errno, "return to the first netns");
  return Netns(std::move(created));
}

Netns::Inside::Inside(const Netns& netns) : before_(current_netns()) {
  if (::setns(netns.fd(), CLONE_NEWNET) != 0) throw std::runtime_error("setns: " + errno_name(errno));
}

Netns::Inside::~Inside() {
  if (::setns(before_.get(), CLONE_NEWNET) != 0) std::abort();
}

Status Netns::ip_batch(const std::string& lines) const {
  const Inside inside(*this);
  FILE* pipe = ::popen("ip -batch - 2>&1 >/dev/null", "w");
  if (!pipe) return fail_errno(errno, "start ip");
  std::fwrite(lines.data(), 1, lines.size(), pipe);
  const int status = ::pclose(pipe);
  if (status != 0) return fail("ip -batch ended with status {}", WEXITSTATUS(status));
  return ok();
}

Status Netns::set_sysctl(const std::string& name, const std::string& value) const {
  const Inside inside(*this);
  std::ofstream file("/proc/sys/" + name);
  file << value << std::flush;
  if (!file) return fail("sysctl {}: cannot be written", name);
  return ok();
}

unsigned Netns::ifindex(const std::string& device) const {
  const Inside inside(*this);
  return ::if_nametoindex(device.c_str());
}

std::string why_no_bpf() {
  if (::geteuid() != 0) return "not root";
  const bpf_insn program[] = {
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0},
      {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};
  const Fd loaded(bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "probe", "GPL", program, 2, nullptr));
  if (!loaded) return "BPF programs cannot be loaded: " + errno_name(errno);
  if (const auto netns = Netns::create(); !netns) return netns.error().message;
  return {};
}

}  // namespace bpfnet::test
