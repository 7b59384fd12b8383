#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "control/agent/event_loop.h"
#include "control/agent/host_setup.h"
#include "control/agent/node_links.h"
#include "control/agent/notices.h"
#include "control/agent/numbers.h"
#include "control/agent/options.h"
#include "control/agent/overlay.h"
#include "control/agent/policies.h"
#include "control/agent/progress.h"
#include "control/agent/quiet_time.h"
#include "control/agent/routes.h"
#include "control/agent/service_ranges.h"
#include "control/agent/services.h"
#include "control/agent/sockets.h"
#include "control/agent/state.h"
#include "control/agent/worker.h"
#include "control/api/server.h"
#include "control/apply/publisher.h"
#include "control/cni/endpoint_manager.h"
#include "control/compile/images.h"
#include "control/health/monitor.h"
#include "control/ipam/allocator.h"
#include "control/ipam/store.h"
#include "control/sources/source.h"
#include "loader/datapath.h"
#include "loader/netlink.h"

namespace bpfnet::agent {

/// One node's agent. The event loop's thread owns everything here; threads of the local API reach it by
/// EventLoop::call only. Ending it, in whatever way, leaves the datapath serving; the next start adopts.
class Agent : public cni::EndpointHooks {
 public:
  /// Enters the netns, takes the locks, adopts or sets up everything, applies the first state. Must be called
  /// before any thread is started. Errors are one line each and say what to do.
  static Result<std::unique_ptr<Agent>> start(const Options& options);
  ~Agent() override;

  /// Serves until SIGTERM or SIGINT.
  Status run();

  // cni::EndpointHooks, from API threads
  Status ready() override;
  Status publish(const cni::LiveEndpoint& endpoint) override;
  Status withdraw(const ipam::EndpointRecord& endpoint) override;
  Status verify(const cni::LiveEndpoint& endpoint) override;
  std::optional<std::string> port_holder(const ipam::HostPort& port) override;
  void reached(const cni::AttachmentKey& key, cni::AddStep step) override;

  /// From any thread. Missing: the agent is ending.
  /// `images`: with those of services and policy, which costs a copy of what changed.
  std::optional<Snapshot> snapshot(bool images = true);
  /// Compares the maps with what they should hold and puts right what somebody else changed (S61). Gives the
  /// number of entries; an empty optional: the agent is ending.
  std::optional<uint64_t> resync();
  cni::EndpointManager& manager() { return *manager_; }

  /// How far the source is, and the maps with it.
  struct Arrival {
    bool arrived = false;  ///< what the source had at the revision asked for is in the maps
    bool ready = false;
    uint64_t generation = 0;
    int64_t revision = 0;
  };
  /// From any thread: takes up what is new in the source, and waits at most `patience` until what it had at
  /// `revision` is in the maps. What was written into a directory before this call is at every revision.
  /// Missing: the agent is ending.
  std::optional<Arrival> await_source(int64_t revision, std::chrono::milliseconds patience);
  [[nodiscard]] const Options& options() const { return options_; }

  /// What policy is compiled from. Good on the loop's thread alone.
  struct PolicyInput {
    const model::ClusterState& state;
    compile::NodeView node;
    std::vector<compile::LocalEndpoint> endpoints;
    const compile::PolicyNumbers& numbers;
  };
  /// From any thread: gives what `look` makes of the input, on the loop's thread, so it must be quick.
  /// Missing: the agent is ending.
  template <typename Look>
  auto inspect_policy(Look&& look) {
    return loop_->call([this, &look] {
      return look(PolicyInput{source_->state(), node_view(), local_endpoints(), policies_.numbers()});
    });
  }
  /// Where the maps are pinned; from any thread.
  [[nodiscard]] const std::string& bpffs() const { return options_.bpffs; }

 private:
  explicit Agent(Options options);

  Status open_state();
  Status open_datapath();
  Status attach_node();
  /// A device that was an uplink of an earlier start and is none of this one: once, as soon as it can be
  /// said.
  void detach_former_uplinks();
  /// What follows from the uplinks: who speaks for the node, the MTU of the host device.
  void follow_uplinks();
  Status recover();
  Status start_sockets();
  Status serve();
  Status start_health();

  Result<std::vector<int>> find_uplinks();
  [[nodiscard]] const model::Node* own_node() const;
  [[nodiscard]] std::vector<Cidr> pod_cidrs() const;
  [[nodiscard]] compile::NodeView node_view() const;
  [[nodiscard]] std::vector<compile::LocalEndpoint> local_endpoints() const;
  [[nodiscard]] std::map<uint16_t, apply::EndpointFacts> endpoint_facts() const;
  [[nodiscard]] std::map<uint32_t, interface> interfaces() const;

  void on_source();
  [[nodiscard]] Arrival arrival(int64_t revision) const;
  /// Notes how long the manifests took that were read since `begin`.
  void note_read(EventLoop::Clock::time_point begin);
  void apply_source_changes();
  void on_netlink();
  void look_at_links();
  /// Reads links and addresses, attaches uplinks that are new. True: something the maps show may be
  /// different.
  bool refresh_links();
  void refresh_routes();
  [[nodiscard]] bool has_overlay() const { return overlay_ifindex_ != 0; }
  [[nodiscard]] Tunnels tunnels() const;
  [[nodiscard]] std::map<uint32_t, node> overlay_nodes() const;
  /// What fits into packets to other nodes: of the device, and of pods to come.
  void refresh_mtu();
  [[nodiscard]] std::string routing_text() const;
  void update_pools();
  /// Writes the CNI configuration when pods can be served, and again when somebody took it away; then tells
  /// the source that the network is there.
  void offer_network();
  /// What must be compiled anew.
  struct Dirty {
    compile::ServiceChanges services;
    bool policy = false;   ///< pods, policies, namespaces, nodes, ranges
    bool devices = false;  ///< interfaces and their addresses
    compile::PolicyChanges policies;
    [[nodiscard]] bool empty() const {
      return services_only() && services.services.empty() && services.slices.empty() &&
             !services.host_ports && !services.everything;
    }
    [[nodiscard]] bool services_only() const { return !policy && !devices; }
  };
  static Dirty everything() {
    return {
        .services = {.everything = true}, .policy = true, .devices = true, .policies = {.everything = true}};
  }
  void sync(const Dirty& dirty);
  void save_numbers_later();
  [[nodiscard]] apply::Problems publish_all();
  void note_sync(EventLoop::Clock::time_point begin, uint64_t writes_before);
  /// Changes that the next sync puts into the maps.
  void tell_queued(const sources::Changes& changes);
  void tell_synced(const Dirty& dirty, EventLoop::Clock::duration took);
  void tell_problems();
  void tell_source();
  void note_problems(apply::Problems problems);
  void note_source_problems();
  void arm_reclaim();
  void arm_resync();
  Status do_publish(const cni::LiveEndpoint& endpoint, std::optional<uint64_t> cookie);
  Status verify_maps(const cni::LiveEndpoint& endpoint);
  /// Gives the device that was the endpoint's; 0: it was not in the maps.
  int do_withdraw(const ipam::EndpointRecord& endpoint);
  void detach(int ifindex, const std::string& name);
  void forget_vanished();
  [[nodiscard]] Snapshot make_snapshot(bool images) const;
  uint64_t do_resync();

  Options options_;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  std::optional<StateDir> state_dir_;
  std::optional<ipam::Store> store_;
  std::optional<ipam::Allocator> allocator_;
  std::unique_ptr<EventLoop> loop_;
  std::optional<loader::Netlink> netlink_;
  std::optional<loader::NetlinkMonitor> monitor_;
  std::unique_ptr<sources::Source> source_;
  std::optional<loader::Datapath> datapath_;
  std::mutex datapath_mutex_;  ///< attach, detach, attachments: from the loop and from API threads
  std::unique_ptr<apply::Publisher> publisher_;
  std::optional<Sockets> sockets_;
  std::unique_ptr<cni::EndpointManager> manager_;
  std::unique_ptr<api::Server> server_;
  Worker worker_;  ///< for work that may wait for a container's lock
  std::unique_ptr<health::Monitor> health_;

  HostDevice host_device_;
  /// A veth pair is a dozen events: look once, but also while something on the host never rests.
  QuietTime netlink_quiet_{std::chrono::milliseconds(2), std::chrono::milliseconds(50)};
  NodeLinks links_;
  std::vector<int> uplinks_;
  std::map<int, std::string> attached_uplinks_;  ///< ifindex -> XDP mechanism
  NodeAddresses addresses_;
  int overlay_ifindex_ = 0;  ///< 0: routing is native
  uint32_t pod_mtu_ = 0;
  std::map<uint16_t, cni::LiveEndpoint> endpoints_;
  Services services_{apply::ServiceNumbers{}};
  Policies policies_{compile::PolicyNumbers{}};
  PolicyNumbersSaver policy_saver_;

  Progress progress_;           ///< of the source into the maps
  bool former_uplinks_ = true;  ///< may still have programs
  bool ready_ = false;
  bool told_network_ready_ = false;
  uint64_t generation_ = 0;
  uint64_t syncs_ = 0;
  uint64_t last_sync_us_ = 0;
  uint64_t first_sync_us_ = 0;
  uint64_t last_read_us_ = 0;
  uint64_t last_sync_writes_ = 0;
  uint64_t resyncs_ = 0;
  uint64_t resync_repairs_ = 0;
  apply::Problems apply_problems_;
  std::set<std::string> told_apply_problems_;
  std::set<std::string> told_source_problems_;
  std::vector<std::string> route_problems_;
  std::vector<std::string> uplink_problems_;
  std::string told_offer_problem_;
  Notices notices_{options_.node_name};
  ServiceRanges service_ranges_{options_.service_cidrs, options_.service_cidrs_guessed};
};

/// Makes a host ready for an agent that has fewer rights than the caller: mounts and the CNI plugin.
Status prepare(const Options& options);
/// Takes away everything an agent with these options ever made: the CNI configuration before all else, links,
/// maps, devices, routes, sysctls (back to what was found), the state directory. Goes on after an error; ok
/// only when nothing of ours is left.
Status cleanup(const Options& options);
/// Takes away what a kube-proxy left behind (remove_kube_proxy_rules); an agent may run meanwhile.
Status cleanup_kube_proxy(const Options& options);

}  // namespace bpfnet::agent
