// Uninstalling: the one way in which an agent's work on a host ends.
#include <sched.h>
#include <spdlog/spdlog.h>

#include <cerrno>
#include <filesystem>

#include "control/agent/agent.h"
#include "control/agent/host_files.h"
#include "control/agent/kube_proxy.h"
#include "control/agent/overlay.h"
#include "loader/cgroup.h"
#include "loader/defrag.h"
#include "loader/netns.h"

namespace bpfnet::agent {
namespace {

/// `bpn` and twelve hex digits, as control/cni names host sides.
bool is_pod_device(const std::string& name) {
  const std::string prefix = kPodDevicePrefix;
  return name.size() == prefix.size() + 12 && name.starts_with(prefix) &&
         name.find_first_not_of("0123456789abcdef", prefix.size()) == std::string::npos;
}

Status enter_netns(const Options& options) {
  if (options.netns.empty()) return ok();
  auto netns = loader::open_netns(options.netns);
  if (!netns) return pass(netns);
  if (setns(netns->get(), CLONE_NEWNET) != 0) return fail_errno(errno, "netns {}: enter", options.netns);
  return ok();
}

class Cleanup {
 public:
  explicit Cleanup(const Options& options) : options_(options) {}

  Status run() {
    auto state_dir = StateDir::lock(options_.state_dir);
    if (!state_dir) return pass(state_dir);  // an agent runs: nothing is touched
    errors_ = remove_runtime_files(options_);
    note(loader::Datapath::remove(options_.bpffs));
    note(loader::unmount_cgroup2(options_.cgroup));
    remove_devices_and_routes();
    restore(*state_dir);
    std::error_code ignored;
    std::filesystem::remove(options_.socket, ignored);
    if (errors_.empty()) note(state_dir->remove());
    if (errors_.empty()) return ok();
    std::string all;
    for (const std::string& error : errors_) all += (all.empty() ? "" : "; ") + error;
    return fail("cleanup: {}", all);
  }

 private:
  template <typename R>
  void note(const R& result) {
    if (!result) errors_.push_back(result.error().message);
  }

  void remove_devices_and_routes() {
    auto netlink = loader::Netlink::open();
    note(netlink);
    if (!netlink) return;
    auto links = netlink->links();
    note(links);
    if (links) {
      for (const loader::Link& link : *links)
        if (link.name == kHostDevice || loader::is_defrag_device(link) || is_overlay_device(link) ||
            is_pod_device(link.name))
          note(netlink->delete_link(link.name));
    }
    auto routes = netlink->routes(0);
    note(routes);
    if (!routes) return;
    for (const loader::Route& route : *routes)
      if (route.protocol == loader::kRouteProtocol) note(netlink->delete_route(route));
  }

  void restore(const StateDir& state_dir) {
    if (!std::filesystem::exists(state_dir.database())) return;
    auto store = ipam::Store::open(state_dir.database());
    note(store);
    if (!store) return;
    for (std::string& error : restore_sysctls(*store)) errors_.push_back(std::move(error));
  }

  const Options& options_;
  std::vector<std::string> errors_;
};

}  // namespace

Status cleanup(const Options& options) {
  BPFNET_TRY(enter_netns(options));
  return Cleanup(options).run();
}

Status cleanup_kube_proxy(const Options& options) {
  BPFNET_TRY(enter_netns(options));
  return remove_kube_proxy_rules();
}

}  // namespace bpfnet::agent
