#include "control/agent/agent.h"

#include <sched.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "control/agent/host_files.h"
#include "control/agent/local_api.h"
#include "control/agent/numbers.h"
#include "control/agent/open_source.h"
#include "loader/defrag.h"
#include "loader/netns.h"
#include "maps/convert.h"

namespace bpfnet::agent {
namespace {

Status enter_netns(const std::string& path) {
  if (path.empty()) return ok();
  auto netns = loader::open_netns(path);
  if (!netns) return pass(netns);
  if (setns(netns->get(), CLONE_NEWNET) != 0) return fail_errno(errno, "netns {}: enter", path);
  return ok();
}

}  // namespace

namespace {

Options named(Options options) {
  if (options.node_name.empty()) options.node_name = default_node_name();
  return options;
}

}  // namespace

Agent::Agent(Options options) : options_(named(std::move(options))) {}

Agent::~Agent() {
  progress_.end();
  if (server_) server_->stop();
  worker_.stop();
}

Result<std::unique_ptr<Agent>> Agent::start(const Options& options) {
  BPFNET_TRY(enter_netns(options.netns));
  BPFNET_TRY(install_plugin(options));
  std::unique_ptr<Agent> agent(new Agent(options));
  BPFNET_TRY(agent->open_state());
  BPFNET_TRY(agent->open_datapath());
  BPFNET_TRY(agent->attach_node());
  BPFNET_TRY(agent->recover());
  BPFNET_TRY(agent->start_sockets());
  BPFNET_TRY(agent->serve());
  return agent;
}

Status Agent::open_state() {
  auto loop = EventLoop::make({SIGTERM, SIGINT}, [this](int signal) {
    spdlog::info("{}: the agent ends, the datapath goes on serving", strsignal(signal));
    loop_->stop();
  });
  if (!loop) return pass(loop);
  loop_ = std::move(*loop);

  auto state_dir = StateDir::lock(options_.state_dir);
  if (!state_dir) return pass(state_dir);
  state_dir_.emplace(std::move(*state_dir));
  auto store = ipam::Store::open(state_dir_->database());
  if (!store) return pass(store);
  store_.emplace(std::move(*store));
  allocator_.emplace(*store_);

  auto policy_numbers = load_policy_numbers(*store_);
  if (!policy_numbers) return pass(policy_numbers);
  policy_saver_.loaded(*policy_numbers);
  policies_ = Policies(std::move(*policy_numbers));
  auto service_numbers = load_service_numbers(*store_);
  if (!service_numbers) return pass(service_numbers);
  services_ = Services(std::move(*service_numbers));

  const auto begin = EventLoop::Clock::now();
  auto source = open_source(options_);
  if (!source) return pass(source);
  source_ = std::move(*source);
  note_read(begin);
  return ok();
}

Status Agent::open_datapath() {
  auto netlink = loader::Netlink::open();
  if (!netlink) return pass(netlink);
  netlink_.emplace(std::move(*netlink));
  auto monitor = loader::NetlinkMonitor::open();
  if (!monitor) return pass(monitor);
  monitor_.emplace(std::move(*monitor));

  auto links = NodeLinks::read(*netlink_);
  if (!links) return pass(links);
  links_ = std::move(*links);
  auto uplinks = find_uplinks();
  if (!uplinks) return pass(uplinks);
  uplinks_ = std::move(*uplinks);

  auto device = ensure_host_device(*netlink_, *store_, links_.largest_mtu(uplinks_));
  if (!device) return pass(device);
  host_device_ = *device;

  if (options_.routing == "overlay") {
    auto overlay = ensure_overlay_device(*netlink_, *store_, options_.overlay_port);
    if (!overlay) return pass(overlay);
    overlay_ifindex_ = *overlay;
  }

  loader::DatapathOptions datapath{.pin_dir = options_.bpffs};
  datapath.sizes.backend_states = datapath.sizes.backend_slots;  // every slot may hold a backend of its own
  BPFNET_TRY(store_->add_journal(
      {.kind = "device", .object = loader::kDefragDevice, .before = "", .after = "veth"}));
  datapath.defragment = true;
  datapath.sockets = Sockets::parse_mode(options_.sockets) != Sockets::Mode::kOff;
  datapath.sizes.addresses = options_.max_addresses;
  datapath.sizes.cidrs = options_.max_cidrs;
  datapath.sizes.policies = options_.max_policy_entries;
  datapath.config.max_flows = options_.max_flows;
  datapath.config.endpoint_flow_quota = options_.endpoint_flow_quota;
  datapath.config.timeout_tcp_established = options_.tcp_established_timeout;
  datapath.config.timeout_tcp_closing = options_.tcp_close_wait_timeout;
  datapath.config.masquerade = options_.masquerade ? 1 : 0;
  datapath.config.trace = options_.trace ? 1 : 0;
  datapath.config.host_ifindex = static_cast<uint32_t>(host_device_.host_ifindex);
  datapath.config.router_ifindex = static_cast<uint32_t>(host_device_.router_ifindex);
  std::copy(host_device_.mac.bytes.begin(), host_device_.mac.bytes.end(), datapath.config.host_mac.b);
  datapath.config.primary_uplink = uplinks_.empty() ? 0 : static_cast<uint32_t>(uplinks_.front());
  datapath.config.overlay_ifindex = static_cast<uint32_t>(overlay_ifindex_);
  datapath.config.overlay_vni = options_.overlay_vni;
  datapath.config.overlay_port = maps::to_network(options_.overlay_port);
  auto opened = loader::Datapath::open(datapath);
  if (!opened) return pass(opened);
  datapath_.emplace(std::move(*opened));
  // Only now that no program sends there any more.
  if (!has_overlay()) BPFNET_TRY(remove_overlay_device(*netlink_, *store_));
  for (const std::string& warning : datapath_->warnings()) spdlog::warn("datapath: {}", warning);
  if (!datapath_->no_defragmenter().empty())
    spdlog::warn("fragments are carried in order only: {}", datapath_->no_defragmenter());

  publisher_ = std::make_unique<apply::Publisher>(
      apply::kernel_writer(datapath_->maps()),
      apply::ServicePublisher::Options{.tick_ns = std::max<uint64_t>(1, datapath_->config().tick_ns)});
  BPFNET_TRY(publisher_->adopt());
  // Numbers that the maps hold and the database has forgotten are not given to anything else.
  const auto highest = publisher_->highest_ids();
  services_.skip_numbers(highest.service);
  policies_.skip_numbers(highest.identity, highest.set, highest.rule);
  return ok();
}

Status Agent::attach_node() {
  BPFNET_TRY(ensure_sysctls(*store_));
  auto stale = datapath_->remove_stale();
  if (!stale) return pass(stale);
  BPFNET_TRY(datapath_->attach_host(host_device_.router_ifindex));
  if (has_overlay()) BPFNET_TRY(datapath_->attach_overlay(overlay_ifindex_));
  refresh_links();
  // Named uplinks must work; found ones are tried again whenever links change.
  if (!options_.uplinks.empty() && !uplink_problems_.empty()) return fail("{}", uplink_problems_.front());
  detach_former_uplinks();
  return ok();
}

void Agent::detach_former_uplinks() {
  // Which devices are uplinks cannot be said while the default route is away or the Node is not read yet:
  // what carries traffic goes on (S60).
  if (!former_uplinks_ || !uplink_problems_.empty() || (options_.uplinks.empty() && !source_->synced()))
    return;
  const auto attachments = [this] {
    const std::lock_guard lock(datapath_mutex_);
    return datapath_->attachments();
  }();
  if (!attachments) {
    spdlog::warn("{}", attachments.error().message);
    return;
  }
  former_uplinks_ = false;
  std::map<int, std::string> former;
  for (const loader::Attachment& attachment : *attachments)
    if (attachment.hook.ends_with("_uplink") && !attached_uplinks_.contains(attachment.ifindex))
      former[attachment.ifindex] = attachment.ifname;
  for (const auto& [ifindex, name] : former) {
    spdlog::info("device {}: no uplink any more, its programs are taken off", name);
    detach(ifindex, name);
  }
}

Status Agent::recover() {
  auto manager =
      cni::EndpointManager::open({.pending_deletes = state_dir_->pending_deletes(), .default_mtu = pod_mtu_},
                                 *store_, *allocator_, *this);
  if (!manager) return pass(manager);
  manager_ = std::move(*manager);
  auto live = manager_->recover();
  if (!live) return pass(live);
  for (cni::LiveEndpoint& endpoint : *live) {
    Status attached = datapath_->attach_pod(endpoint.host_ifindex);
    if (!attached)
      spdlog::error("endpoint {}: {}", endpoint.record.key.to_string(), attached.error().message);
    endpoints_[endpoint.record.index] = std::move(endpoint);
  }
  return ok();
}

Status Agent::start_sockets() {
  auto sockets =
      Sockets::start(*datapath_, Sockets::parse_mode(options_.sockets), options_.cgroup, endpoints_);
  if (!sockets) return pass(sockets);
  sockets_.emplace(std::move(*sockets));
  spdlog::info("sockets: {}", sockets_->state());
  return ok();
}

Status Agent::serve() {
  auto server = api::Server::listen(options_.socket);
  if (!server) return pass(server);
  server_ = std::move(*server);
  register_routes(*server_, *this);

  BPFNET_TRY(start_health());
  update_pools();
  BPFNET_TRY(loop_->watch(source_->fd(), [this] { on_source(); }));
  BPFNET_TRY(loop_->watch(monitor_->fd(), [this] { on_netlink(); }));
  if (source_->synced()) {
    (void)source_->take_changes();  // all of it is compiled now
    refresh_routes();
    sync(everything());
  } else {
    spdlog::warn("{}: not read yet; what the maps hold stays as it is", source_->describe());
  }
  note_source_problems();
  server_->start();
  offer_network();
  return ok();
}

Status Agent::run() {
  // A plugin that found no socket a moment ago may have left its DEL in a file.
  worker_.post([this] { manager_->finish_pending_deletes(); });
  Status done = loop_->run();
  progress_.end();
  server_->stop();
  worker_.stop();
  return done;
}

void Agent::follow_uplinks() {
  // None for a moment: what was said of the last ones holds.
  const auto largest = links_.largest_mtu(uplinks_);
  if (!largest) return;
  const auto note = [this](const Status& done) {
    if (done) return;
    uplink_problems_.push_back(done.error().message);
    spdlog::error("{}", done.error().message);
  };
  note(datapath_->set_primary_uplink(static_cast<uint32_t>(uplinks_.front())));
  for (const int device : {host_device_.router_ifindex, host_device_.host_ifindex})
    if (const loader::Link* link = links_.find(device); link && link->mtu != *largest)
      note(netlink_->set_mtu(device, *largest));
}

Result<std::vector<int>> Agent::find_uplinks() {
  std::vector<loader::Link> defaults;
  if (options_.uplinks.empty()) {
    auto found = netlink_->default_route_devices();
    if (!found) return pass(found);
    defaults = std::move(*found);
  }
  return choose_uplinks(options_.uplinks, links_, defaults, own_node());
}

const model::Node* Agent::own_node() const {
  const auto& nodes = source_->state().nodes;
  auto found = nodes.find(options_.node_name);
  return found == nodes.end() ? nullptr : &found->second;
}

std::vector<Cidr> Agent::pod_cidrs() const {
  if (!options_.pod_cidrs.empty()) return options_.pod_cidrs;
  const model::Node* node = own_node();
  return node ? node->pod_cidrs : std::vector<Cidr>{};
}

}  // namespace bpfnet::agent
