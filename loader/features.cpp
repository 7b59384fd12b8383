#include "loader/features.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <climits>

#include "loader/tcx.h"

namespace bpfnet::loader {
namespace {

/// A program that only returns, to have something to attach with.
int load_empty_program() {
  const bpf_insn program[] = {
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0},
      {.code = BPF_JMP | BPF_EXIT},
  };
  return bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "probe", "GPL", program, 2, nullptr);
}

/// Attaching to a device that cannot be: a kernel with TCX looks for the device first, one without does not
/// know the attach type.
bool has_tcx() {
  const int program = load_empty_program();
  if (program < 0) return false;
  const int rc = bpf_link_create(program, INT_MAX, kTcxIngress, nullptr);
  close(program);
  if (rc >= 0) close(rc);
  return rc == -ENODEV;
}

bool has_helper(bpf_func_id helper) {
  return libbpf_probe_bpf_helper(BPF_PROG_TYPE_SCHED_CLS, helper, nullptr) == 1;
}

bool has_socket_hooks() {
  if (libbpf_probe_bpf_prog_type(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, nullptr) != 1) return false;
  for (const bpf_func_id helper :
       {BPF_FUNC_get_netns_cookie, BPF_FUNC_sk_storage_get, BPF_FUNC_set_retval, BPF_FUNC_skc_to_tcp6_sock})
    if (libbpf_probe_bpf_helper(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, helper, nullptr) != 1) return false;
  return true;
}

}  // namespace

bool KernelFeatures::has(std::string_view name) const {
  for (const Feature& feature : list)
    if (feature.name == name) return feature.present;
  return false;
}

Status KernelFeatures::check() const {
  std::string missing;
  for (const Feature& feature : list) {
    if (!feature.required || feature.present) continue;
    missing += fmt::format("{}{} ({})", missing.empty() ? "" : "; ", feature.name, feature.without);
  }
  if (missing.empty()) return ok();
  if (geteuid() != 0) return fail_errno(EPERM, "kernel {}: run as root; not usable: {}", release, missing);
  return fail_errno(EOPNOTSUPP, "kernel {}: bpfnet needs Linux 6.1 with BPF and BTF; missing: {}", release,
                    missing);
}

KernelFeatures probe_kernel() {
  // A missing feature makes libbpf warn; here it is an answer.
  const libbpf_print_fn_t print =
      libbpf_set_print([](libbpf_print_level, const char*, va_list) { return 0; });
  KernelFeatures features;
  utsname name{};
  if (uname(&name) == 0) features.release = name.release;
  const auto add = [&](const char* feature, bool present, bool required, const char* without) {
    features.list.push_back({feature, present, required, without});
  };
  const int program = load_empty_program();
  add("bpf", program >= 0, true, "no program can be loaded");
  if (program >= 0) close(program);
  add("btf", access("/sys/kernel/btf/vmlinux", R_OK) == 0, true,
      "CO-RE programs cannot be fitted to this kernel");
  add("ringbuf", libbpf_probe_bpf_map_type(BPF_MAP_TYPE_RINGBUF, nullptr) == 1, true, "no events");
  add("lpm-trie", libbpf_probe_bpf_map_type(BPF_MAP_TYPE_LPM_TRIE, nullptr) == 1, true,
      "no policies, no CIDRs");
  add("bpf-timer", has_helper(BPF_FUNC_timer_init), true, "flows would never expire");
  add("bpf-loop", has_helper(BPF_FUNC_loop), true, "flows would never expire");
  add("redirect-neigh", has_helper(BPF_FUNC_redirect_neigh), true, "next hops cannot be resolved");
  add("redirect-peer", has_helper(BPF_FUNC_redirect_peer), true, "no direct way into a pod");
  add("fib-lookup", has_helper(BPF_FUNC_fib_lookup), true, "no routes");
  add("sk-lookup", has_helper(BPF_FUNC_sk_lookup_tcp), true,
      "masquerade ports could clash with the host's sockets");
  add("jiffies64", has_helper(BPF_FUNC_jiffies64), true, "no clock");
  add("tcx", has_tcx(), false, "uplinks have clsact filters too, which other tools may remove");
  add("xdp", libbpf_probe_bpf_prog_type(BPF_PROG_TYPE_XDP, nullptr) == 1, false,
      "service traffic is handled at TC");
  add("cgroup-sock-addr", has_socket_hooks(), false, "services are translated packet by packet only");
  libbpf_set_print(print);
  return features;
}

}  // namespace bpfnet::loader
