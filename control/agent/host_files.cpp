#include "control/agent/host_files.h"

#include <spdlog/spdlog.h>

#include "control/agent/agent.h"
#include "control/cni/install.h"
#include "loader/bpffs.h"
#include "loader/cgroup.h"

namespace bpfnet::agent {

Status install_plugin(const Options& options) {
  if (options.cni_bin_dir.empty()) return ok();
  auto plugin = cni::own_plugin();
  if (!plugin) return pass(plugin);
  auto written = cni::install_plugin(*plugin, options.cni_bin_dir);
  if (!written) return pass(written);
  if (*written) spdlog::info("CNI plugin: installed in {}", options.cni_bin_dir);
  return ok();
}

Status write_cni_conf(const Options& options) {
  auto written = cni::write_conflist(
      options.cni_conf, cni::conflist_text({.socket = options.socket, .state_dir = options.state_dir}));
  if (!written) return pass(written);
  if (!*written) return ok();
  spdlog::info("CNI configuration: {} written", options.cni_conf);
  if (const std::string other = cni::earlier_conflist(options.cni_conf); !other.empty())
    spdlog::warn(
        "CNI configuration: {} stands before {}: a runtime takes the first by name; move one of them", other,
        options.cni_conf);
  return ok();
}

std::vector<std::string> remove_runtime_files(const Options& options) {
  std::vector<std::string> errors;
  const auto note = [&](const Status& removed) {
    if (!removed) errors.push_back(removed.error().message);
  };
  if (!options.cni_conf.empty()) note(cni::remove_conflist(options.cni_conf));
  if (!options.cni_bin_dir.empty()) note(cni::remove_plugin(options.cni_bin_dir));
  return errors;
}

Status prepare(const Options& options) {
  BPFNET_TRY(loader::ensure_bpffs(options.bpffs));
  if (options.sockets != "off") {
    auto whole = loader::ensure_cgroup2(options.cgroup);
    if (!whole && options.sockets == "on") return pass(whole);
    if (!whole) spdlog::warn("{}: sockets are not translated, packets are", whole.error().message);
    if (whole && !*whole)
      spdlog::warn(
          "cgroup {}: seen from a cgroup namespace: sockets of other cgroups are not translated there (run "
          "--prepare privileged)",
          options.cgroup);
  }
  return install_plugin(options);
}

void Agent::offer_network() {
  if (!ready_) return;
  std::string problem;
  if (options_.cni_conf.empty()) {
    // The configuration is somebody else's, and the addresses may be another plugin's.
  } else if (pod_cidrs().empty()) {
    // They may come with the Node object, later.
    problem = fmt::format(
        "CNI configuration: {} is not written: Node {} has no podCIDRs, and --pod-cidr is not said",
        options_.cni_conf, options_.node_name);
  } else if (const Status written = write_cni_conf(options_); !written) {
    problem = written.error().message;
  }
  if (!problem.empty() && problem != told_offer_problem_) spdlog::warn("{}", problem);
  told_offer_problem_ = problem;
  if (!problem.empty() || told_network_ready_) return;
  told_network_ready_ = true;
  source_->network_ready();
}

}  // namespace bpfnet::agent
