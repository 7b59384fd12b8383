// What the agent does when something changes: compile, publish, keep devices and routes in step.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <set>

#include "control/agent/agent.h"
#include "maps/convert.h"

namespace bpfnet::agent {
namespace {

constexpr int kNetlinkTimer = 1;
constexpr int kReclaimTimer = 2;
constexpr int kResyncTimer = 3;
/// A comparison of all maps costs milliseconds for each thousand services.
constexpr std::chrono::minutes kResyncInterval{5};
/// A full map may refuse thousands of objects at once.
constexpr size_t kProblemsLogged = 10;
constexpr uint32_t kMaxMtu = 65535;

bool same_records(const std::map<uint32_t, interface>& a, const std::map<uint32_t, interface>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x.first == y.first && apply::same_bytes(x.second, y.second);
  });
}

/// A problem is logged when it appears, not at every sync that still has it.
void log_new(std::set<std::string>& known, std::set<std::string> now, spdlog::level::level_enum level) {
  size_t fresh = 0;
  for (const std::string& text : now) {
    if (!known.contains(text) && ++fresh <= kProblemsLogged) spdlog::log(level, "{}", text);
  }
  if (fresh > kProblemsLogged)
    spdlog::log(level, "and {} more like these: GET /v1/problems names them all", fresh - kProblemsLogged);
  known = std::move(now);
}

std::optional<Address> first_of(const std::vector<Address>& ips, Family family) {
  auto found = std::find_if(ips.begin(), ips.end(), [&](const Address& ip) { return ip.family() == family; });
  return found == ips.end() ? std::nullopt : std::optional<Address>(*found);
}

}  // namespace

compile::NodeView Agent::node_view() const {
  compile::NodeView view;
  view.name = options_.node_name;
  view.addresses = links_.own_addresses();
  view.cluster_cidrs = options_.cluster_cidrs;
  for (const Cidr& cidr : pod_cidrs()) view.cluster_cidrs.push_back(cidr);
  view.service_cidrs = service_ranges_.cidrs();
  view.node_port_addresses = options_.node_port_addresses;
  view.node_port_primary = options_.node_port_primary;
  view.policy_audit = options_.policy_audit;
  view.denied = options_.policy_denied == "reject" ? model::Denied::kReject : model::Denied::kDrop;
  return view;
}

std::vector<compile::LocalEndpoint> Agent::local_endpoints() const {
  std::vector<compile::LocalEndpoint> local;
  for (const auto& [index, live] : endpoints_) {
    compile::LocalEndpoint endpoint{.index = index, .pod = live.record.pod, .ips = live.record.ips};
    for (const ipam::HostPort& port : live.record.host_ports)
      endpoint.host_ports.push_back({.host_port = port.host_port,
                                     .container_port = port.container_port,
                                     .protocol = port.protocol,
                                     .host_ip = port.host_ip,
                                     .count = port.count});
    local.push_back(std::move(endpoint));
  }
  return local;
}

std::map<uint16_t, apply::EndpointFacts> Agent::endpoint_facts() const {
  std::map<uint16_t, apply::EndpointFacts> facts;
  for (const auto& [index, live] : endpoints_) {
    const ipam::EndpointRecord& record = live.record;
    facts[index] = {.name = record.pod.name.empty() ? record.key.to_string() : record.pod.to_string(),
                    .ifindex = static_cast<uint32_t>(live.host_ifindex),
                    .mac = record.mac,
                    .host_mac = record.host_mac,
                    .ip4 = first_of(record.ips, Family::kIpv4),
                    .ip6 = first_of(record.ips, Family::kIpv6),
                    .mtu = record.mtu};
  }
  return facts;
}

std::map<uint32_t, interface> Agent::interfaces() const {
  auto records =
      interface_records(links_, uplinks_, host_device_.host_ifindex, host_device_.router_ifindex, addresses_);
  if (const loader::Link* overlay = has_overlay() ? links_.find(overlay_ifindex_) : nullptr) {
    interface record {};
    record.kind = INTERFACE_OVERLAY;
    record.mac = maps::to_abi(overlay->mac);
    record.mtu = static_cast<uint16_t>(std::min<uint32_t>(overlay->mtu, UINT16_MAX));
    records[static_cast<uint32_t>(overlay_ifindex_)] = record;
  }
  for (const auto& [index, live] : endpoints_) {
    interface record {};
    record.kind = INTERFACE_POD;
    record.endpoint = index;
    record.mac = maps::to_abi(live.record.host_mac);
    record.mtu = static_cast<uint16_t>(std::min<uint32_t>(live.record.mtu, UINT16_MAX));
    records[static_cast<uint32_t>(live.host_ifindex)] = record;
  }
  return records;
}

void Agent::on_source() {
  const auto begin = EventLoop::Clock::now();
  const bool changed = source_->process();
  tell_source();
  if (!changed) return;
  note_read(begin);
  apply_source_changes();
  note_source_problems();
  progress_.step();
}

Agent::Arrival Agent::arrival(int64_t revision) const {
  Arrival now{.ready = ready_, .generation = generation_, .revision = source_->revision()};
  now.arrived = ready_ && source_->synced() && now.revision >= revision;
  return now;
}

std::optional<Agent::Arrival> Agent::await_source(int64_t revision, std::chrono::milliseconds patience) {
  const auto deadline = EventLoop::Clock::now() + patience;
  while (true) {
    const uint64_t seen = progress_.steps();
    const auto now = loop_->call([this, revision] {
      on_source();  // events of what was written before the call are there already
      return arrival(revision);
    });
    if (!now || now->arrived || !progress_.wait_past(seen, deadline)) return now;
  }
}

void Agent::note_read(EventLoop::Clock::time_point begin) {
  last_read_us_ = static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(EventLoop::Clock::now() - begin).count());
}

void Agent::apply_source_changes() {
  if (!source_->synced()) return;
  const sources::Changes changes = source_->take_changes();
  tell_queued(changes);
  const bool ranges_changed = service_ranges_.update(source_->state(), changes.services);
  const bool cidrs_changed = ranges_changed || !changes.service_cidrs.empty();
  Dirty dirty;
  if (ready_) {
    dirty.services = {.services = changes.services, .slices = changes.slices};
    dirty.policy = !changes.pods.empty() || !changes.policies.empty() || !changes.cluster_policies.empty() ||
                   !changes.namespaces.empty() || cidrs_changed || !changes.nodes.empty();
    dirty.policies = {.pods = changes.pods,
                      .policies = changes.policies,
                      .cluster_policies = changes.cluster_policies,
                      .namespaces = changes.namespaces,
                      .nodes = !changes.nodes.empty() || cidrs_changed};
    dirty.devices = !changes.nodes.empty();
  } else {
    dirty = everything();
  }
  if (!changes.nodes.empty() || !ready_) {
    refresh_links();
    update_pools();
  }
  if (ready_ && changes.empty()) {
    generation_ = source_->generation();
    tell_synced(dirty, {});
    return;
  }
  const bool first = !ready_;
  sync(dirty);
  if (first || !changes.nodes.empty() || cidrs_changed || !route_problems_.empty()) refresh_routes();
  detach_former_uplinks();
  offer_network();
}

void Agent::on_netlink() {
  auto events = monitor_->read();
  if (!events) spdlog::error("netlink monitor: {}", events.error().message);
  loop_->set_timer(kNetlinkTimer, netlink_quiet_.event(EventLoop::Clock::now()), [this] {
    netlink_quiet_.looked();
    look_at_links();
  });
}

void Agent::look_at_links() {
  const auto addresses = links_.own_addresses();
  const bool changed = refresh_links();
  detach_former_uplinks();
  forget_vanished();
  refresh_routes();
  const bool moved = addresses != links_.own_addresses();
  if (ready_ && changed) sync({.policy = moved, .devices = true});
}

bool Agent::refresh_links() {
  const auto before = interfaces();
  const auto own_before = links_.own_addresses();
  auto links = NodeLinks::read(*netlink_);
  if (!links) {
    spdlog::error("{}", links.error().message);
    return false;
  }
  links_ = std::move(*links);
  uplink_problems_.clear();
  auto uplinks = find_uplinks();
  if (uplinks) {
    // A default route that goes away for a moment does not make its device less of an uplink.
    for (const int old : uplinks_) {
      const bool kept = std::find(uplinks->begin(), uplinks->end(), old) != uplinks->end();
      if (!kept && links_.find(old) && attached_uplinks_.contains(old)) uplinks->push_back(old);
    }
    uplinks_ = std::move(*uplinks);
  } else {
    uplink_problems_.push_back(uplinks.error().message);
  }
  std::erase_if(attached_uplinks_, [this](const auto& entry) { return !links_.find(entry.first); });
  const auto xdp = loader::parse_xdp_mode(options_.xdp);
  for (const int uplink : uplinks_) {
    if (attached_uplinks_.contains(uplink)) continue;
    const std::lock_guard lock(datapath_mutex_);
    auto attached = datapath_->attach_uplink(uplink, xdp ? *xdp : loader::XdpMode::kAuto);
    if (!attached) {
      uplink_problems_.push_back(attached.error().message);
      spdlog::error("{}", attached.error().message);
      continue;
    }
    attached_uplinks_[uplink] = *attached;
    spdlog::info("uplink {}: attached, XDP {}", links_.find(uplink)->name, *attached);
  }
  if (uplinks_.empty())
    uplink_problems_.push_back(
        "no uplink: no default route and no device holds the Node's address; pods reach "
        "this node only (name one with --uplink)");
  follow_uplinks();
  addresses_ = node_addresses(links_, uplinks_, own_node());
  refresh_mtu();
  return own_before != links_.own_addresses() || !same_records(before, interfaces());
}

Tunnels Agent::tunnels() const {
  uint32_t mtu = kMaxMtu;
  for (const int uplink : uplinks_)
    if (const loader::Link* link = links_.find(uplink)) mtu = std::min(mtu, link->mtu);
  return tunnels_to(source_->state(), policies_.image().nodes,
                    {.node_name = options_.node_name,
                     .addresses = addresses_,
                     .uplink_mtu = uplinks_.empty() ? kDefaultMtu : mtu});
}

std::map<uint32_t, node> Agent::overlay_nodes() const {
  return has_overlay() ? tunnels().records : std::map<uint32_t, node>{};
}

void Agent::refresh_mtu() {
  const loader::Link* uplink = uplinks_.empty() ? nullptr : links_.find(uplinks_.front());
  pod_mtu_ = has_overlay() ? tunnels().mtu : uplink ? uplink->mtu : kDefaultMtu;
  if (manager_) manager_->set_default_mtu(pod_mtu_);
  const loader::Link* overlay = has_overlay() ? links_.find(overlay_ifindex_) : nullptr;
  if (!overlay || overlay->mtu == pod_mtu_) return;
  if (Status set = netlink_->set_mtu(overlay_ifindex_, pod_mtu_); !set)
    spdlog::error("{}", set.error().message);
}

std::string Agent::routing_text() const {
  if (!has_overlay()) return "native";
  const Family family =
      tunnel_family(source_->state(), {.node_name = options_.node_name, .addresses = addresses_});
  return fmt::format("overlay by {}: VXLAN {}, UDP port {}, over {}", kOverlayDevice, options_.overlay_vni,
                     options_.overlay_port, family == Family::kIpv4 ? "IPv4" : "IPv6");
}

void Agent::refresh_routes() {
  if (!source_->synced()) return;
  RouteInput input{.node_name = options_.node_name,
                   .addresses = addresses_,
                   .host_ifindex = host_device_.host_ifindex,
                   .uplinks = uplinks_,
                   .pod_cidrs = pod_cidrs(),
                   .service_cidrs = compile::service_cidrs(source_->state(), node_view()),
                   .overlay_mtu = has_overlay() ? pod_mtu_ : 0,
                   .pod_ips = {}};
  for (const auto& [index, live] : endpoints_)
    input.pod_ips.insert(input.pod_ips.end(), live.record.ips.begin(), live.record.ips.end());
  std::vector<std::string> unreachable;
  auto routes = wanted_routes(input, source_->state(), links_, unreachable);
  if (!addresses_.ip6 && !speaks_ipv6())
    std::erase_if(routes, [](const auto& route) { return route.dst.family() == Family::kIpv6; });
  route_problems_ = sync_routes(*netlink_, *store_, routes);
  for (const std::string& node : unreachable)
    route_problems_.push_back(fmt::format(
        "node {}: no InternalIP of it, of a family that its podCIDRs have, is on a segment of this "
        "node's uplinks; routes to its pods are left to the network",
        node));
  if (!has_overlay()) return;
  for (const std::string& node : tunnels().unreachable)
    route_problems_.push_back(
        fmt::format("node {}: has no InternalIP of a family that this node has one of; its pods are out of "
                    "reach until its Node object names one",
                    node));
  if (!links_.find(overlay_ifindex_))
    route_problems_.push_back(
        fmt::format("device {}: is gone, and other nodes' pods are out of reach; restart "
                    "bpfnetd to have it made anew",
                    kOverlayDevice));
  constexpr uint32_t kMinIpv6 = 1280;
  if (pod_mtu_ < kMinIpv6)
    route_problems_.push_back(
        fmt::format("MTU {} is left for pods by the tunnels: IPv6 needs {}, so the uplinks "
                    "need {}",
                    pod_mtu_, kMinIpv6, kMinIpv6 + tunnel_overhead(Family::kIpv6)));
}

void Agent::update_pools() {
  allocator_->set_pools(pod_cidrs(), links_.own_addresses());
}

/// After the maps: a number that is lost with the process is above those in the maps, and given anew.
void Agent::save_numbers_later() {
  loop_->post([this] {
    if (Status saved = policy_saver_.save(*store_, policies_.numbers()); !saved)
      spdlog::error("{}", saved.error().message);
    const auto changes = services_.take_unsaved();
    if (changes.empty()) return;
    Status saved = save_service_numbers(*store_, changes, services_.numbers().next);
    if (!saved) spdlog::error("{}", saved.error().message);
  });
}

/// Pods, devices and policy change seldom enough to try again what did not fit.
apply::Problems Agent::publish_all() {
  const auto facts = endpoint_facts();
  const auto devices = interfaces();
  auto problems = publisher_->publish({.services = services_.pending(true),
                                       .policy = policies_.image(),
                                       .endpoints = facts,
                                       .interfaces = devices,
                                       .changes = policies_.pending(),
                                       .nodes = overlay_nodes()},
                                      EventLoop::Clock::now());
  policies_.published();
  return problems;
}

void Agent::sync(const Dirty& dirty) {
  const auto begin = EventLoop::Clock::now();
  const uint64_t writes = publisher_->writes();
  services_.update(source_->state(), node_view(), local_endpoints(), dirty.services);
  if (dirty.policy) policies_.update(source_->state(), node_view(), local_endpoints(), dirty.policies);
  const bool services_only = dirty.services_only() && !(dirty.empty() && publisher_->policy_waits());
  note_problems(services_only ? publisher_->publish(services_.pending(dirty.empty()), begin) : publish_all());
  services_.published(publisher_->take_forgotten_services());
  save_numbers_later();
  note_sync(begin, writes);
  tell_synced(dirty, EventLoop::Clock::now() - begin);
  arm_reclaim();
}

void Agent::note_sync(EventLoop::Clock::time_point begin, uint64_t writes_before) {
  generation_ = source_->generation();
  ++syncs_;
  last_sync_writes_ = publisher_->writes() - writes_before;
  last_sync_us_ = static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(EventLoop::Clock::now() - begin).count());
  spdlog::debug("sync {}: {} map writes in {} us", syncs_, last_sync_writes_, last_sync_us_);
  if (ready_) return;
  ready_ = true;
  first_sync_us_ = last_sync_us_;
  spdlog::info("ready");
  spdlog::default_logger()->flush();
  arm_resync();
}

std::optional<uint64_t> Agent::resync() {
  return loop_->call([this] { return do_resync(); });
}

uint64_t Agent::do_resync() {
  if (!ready_) return 0;
  const auto facts = endpoint_facts();
  const auto devices = interfaces();
  apply::Problems problems;
  const uint64_t repairs = publisher_->resync({.services = services_.pending(true),
                                               .policy = policies_.image(),
                                               .endpoints = facts,
                                               .interfaces = devices,
                                               .nodes = overlay_nodes()},
                                              EventLoop::Clock::now(), problems);
  note_problems(std::move(problems));
  ++resyncs_;
  resync_repairs_ += repairs;
  if (repairs != 0) spdlog::warn("resync: {} map entries were not as written and are right again", repairs);
  arm_reclaim();
  offer_network();
  return repairs;
}

void Agent::arm_resync() {
  loop_->set_timer(kResyncTimer, EventLoop::Clock::now() + kResyncInterval, [this] {
    do_resync();
    notices_.renew(*source_);
    arm_resync();
  });
}

void Agent::note_problems(apply::Problems problems) {
  std::set<std::string> told;
  for (const apply::Problem& problem : problems)
    told.insert(fmt::format("{}: {}", problem.object, problem.message));
  log_new(told_apply_problems_, std::move(told), spdlog::level::err);
  notices_.tell(*source_, problems);
  apply_problems_ = std::move(problems);
}

void Agent::note_source_problems() {
  std::set<std::string> told;
  const std::vector<sources::Problem> problems = source_->problems();
  for (const sources::Problem& problem : problems) told.insert(problem.to_string());
  log_new(told_source_problems_, std::move(told), spdlog::level::warn);
  notices_.tell(*source_, problems);
  tell_problems();
}

void Agent::arm_reclaim() {
  loop_->set_timer(kReclaimTimer, publisher_->deadline(), [this] {
    // Room was made: what did not fit may fit now.
    if (publisher_->reclaim(EventLoop::Clock::now()) && !apply_problems_.empty()) {
      sync({});
    } else {
      arm_reclaim();
    }
  });
}

}  // namespace bpfnet::agent
