// The agent's half of CNI: what EndpointManager asks of it, and what it tells of itself.
#include <spdlog/spdlog.h>

#include <algorithm>

#include "control/agent/agent.h"
#include "control/compile/host_ports.h"

namespace bpfnet::agent {
namespace {

/// The frontends that must be in the maps for the endpoint's host ports.
std::vector<compile::FrontendAddress> host_port_frontends(const compile::ServiceImage& image,
                                                          const ipam::EndpointRecord& record) {
  std::vector<compile::FrontendAddress> found;
  for (const auto& [address, frontend] : image.frontends) {
    if (!(frontend.flags & FRONTEND_HOST_PORT)) continue;
    const bool ours =
        std::any_of(frontend.internal.begin(), frontend.internal.end(), [&](const auto& backend) {
          return std::find(record.ips.begin(), record.ips.end(), backend.ip) != record.ips.end();
        });
    if (ours) found.push_back(address);
  }
  return found;
}

Status ending() {
  return fail("the agent is ending; try again");
}

}  // namespace

Status Agent::ready() {
  auto is_ready = loop_->call([this] { return ready_; });
  if (!is_ready) return ending();
  if (!*is_ready) return fail("the first state is not applied yet: {} cannot be read", source_->describe());
  return ok();
}

// Attaching and detaching wait for RCU grace periods in the kernel, 10 ms each: on the caller's thread, so
// that the loop goes on. Programs without an interface record drop, so attaching first opens nothing.
Status Agent::publish(const cni::LiveEndpoint& endpoint) {
  {
    const std::lock_guard lock(datapath_mutex_);
    BPFNET_TRY(datapath_->attach_pod(endpoint.host_ifindex));  // its success is the programs' verification
  }
  std::optional<uint64_t> cookie;
  if (sockets_->on()) {
    auto found = Sockets::cookie_of(endpoint);
    if (found) cookie = *found;
    if (!found)
      spdlog::warn("endpoint {}: its sockets are not translated: {}", endpoint.record.key.to_string(),
                   found.error().message);
  }
  auto done = loop_->call([this, &endpoint, cookie] { return do_publish(endpoint, cookie); });
  return done ? *done : ending();
}

Status Agent::withdraw(const ipam::EndpointRecord& endpoint) {
  const auto ifindex = loop_->call([this, &endpoint] { return do_withdraw(endpoint); });
  if (!ifindex) return ending();
  // After the maps: until its record is free the pod's packets meet our programs.
  if (*ifindex != 0) detach(*ifindex, endpoint.host_ifname);
  return ok();
}

void Agent::detach(int ifindex, const std::string& name) {
  const std::lock_guard lock(datapath_mutex_);
  Status detached = datapath_->detach(ifindex);
  if (!detached) spdlog::warn("device {}: {}", name, detached.error().message);
}

Status Agent::verify(const cni::LiveEndpoint& endpoint) {
  {
    const std::lock_guard lock(datapath_mutex_);
    const auto attachments = datapath_->attachments();
    if (!attachments) return pass(attachments);
    for (const char* hook : {"from_pod", "to_pod"}) {
      const bool there = std::any_of(attachments->begin(), attachments->end(), [&](const auto& attachment) {
        return attachment.ifindex == endpoint.host_ifindex && attachment.hook == hook;
      });
      if (!there) return fail("device {}: program {} is not attached", endpoint.record.host_ifname, hook);
    }
  }
  auto done = loop_->call([this, &endpoint] { return verify_maps(endpoint); });
  return done ? *done : ending();
}

std::optional<std::string> Agent::port_holder(const ipam::HostPort& port) {
  auto holder = loop_->call([this, &port]() -> std::optional<std::string> {
    const auto* frontend = compile::service_holding(services_.image(), {.host_port = port.host_port,
                                                                        .container_port = port.container_port,
                                                                        .protocol = port.protocol,
                                                                        .host_ip = port.host_ip,
                                                                        .count = port.count});
    if (!frontend) return std::nullopt;
    return "Service " + frontend->service;
  });
  return holder ? *holder : std::nullopt;  // ending: the ADD fails at its next step
}

void Agent::reached(const cni::AttachmentKey& key, cni::AddStep step) {
  spdlog::debug("add {}: {}", key.to_string(), cni::to_string(step));
}

Status Agent::do_publish(const cni::LiveEndpoint& endpoint, std::optional<uint64_t> cookie) {
  if (!ready_) return fail("the first state is not applied yet");
  endpoints_[endpoint.record.index] = endpoint;
  const auto cidrs = pod_cidrs();
  const bool routed =
      std::all_of(endpoint.record.ips.begin(), endpoint.record.ips.end(), [&](const Address& ip) {
        return std::any_of(cidrs.begin(), cidrs.end(), [&](const Cidr& cidr) { return cidr.contains(ip); });
      });
  if (!routed) refresh_routes();
  sync({.services = {.host_ports = true}, .policy = true, .devices = true});
  if (cookie) {
    Status added = sockets_->add_pod(endpoint.record.index, *cookie);
    if (!added) spdlog::warn("endpoint {}: {}", endpoint.record.key.to_string(), added.error().message);
  }
  return verify_maps(endpoint);
}

Status Agent::verify_maps(const cni::LiveEndpoint& endpoint) {
  const ipam::EndpointRecord& record = endpoint.record;
  BPFNET_TRY(
      publisher_->verify_endpoint(record.index, static_cast<uint32_t>(endpoint.host_ifindex), record.ips, 0));
  if (record.host_ports.empty()) return ok();
  return publisher_->verify_frontends(host_port_frontends(services_.image(), record));
}

int Agent::do_withdraw(const ipam::EndpointRecord& record) {
  auto found = endpoints_.find(record.index);
  if (found == endpoints_.end() || found->second.record.key != record.key) return 0;
  const int ifindex = found->second.host_ifindex;
  endpoints_.erase(found);
  Status removed = sockets_->remove_pod(record.index);
  if (!removed) spdlog::warn("endpoint {}: {}", record.key.to_string(), removed.error().message);
  if (ready_) sync({.services = {.host_ports = true}, .policy = true, .devices = true});
  return ifindex;
}

void Agent::forget_vanished() {
  std::vector<ipam::EndpointRecord> gone;
  for (const auto& [index, live] : endpoints_)
    if (!links_.find(live.host_ifindex)) gone.push_back(live.record);
  if (gone.empty()) return;
  for (const ipam::EndpointRecord& record : gone) {
    spdlog::info("endpoint {}: its device {} is gone", record.key.to_string(), record.host_ifname);
    const int ifindex = do_withdraw(record);
    // Not here: it waits for the container's lock, whose holder may wait for this thread.
    worker_.post([this, ifindex, name = record.host_ifname] {
      detach(ifindex, name);
      auto forgotten = manager_->device_vanished(name);
      if (!forgotten) spdlog::warn("device {}: {}", name, forgotten.error().message);
    });
  }
}

std::optional<Snapshot> Agent::snapshot(bool images) {
  return loop_->call([this, images] { return make_snapshot(images); });
}

Snapshot Agent::make_snapshot(bool images) const {
  Snapshot s;
  s.node_name = options_.node_name;
  s.source = source_->describe();
  s.source_kinds = source_->kinds();
  s.bpffs = options_.bpffs;
  s.state_dir = options_.state_dir;
  s.version = BPFNET_VERSION;
  s.ready = ready_;
  s.adopted = datapath_->adopted();
  s.generation = generation_;
  s.syncs = syncs_;
  s.last_read_us = last_read_us_;
  s.first_sync_us = first_sync_us_;
  s.last_sync_us = last_sync_us_;
  s.last_sync_writes = last_sync_writes_;
  s.resyncs = resyncs_;
  s.resync_repairs = resync_repairs_;
  s.writes = publisher_->writes();
  s.uptime_seconds = static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - started_).count());
  s.sockets = sockets_->state();
  s.map_counts = publisher_->counts();
  for (const int uplink : uplinks_)
    if (const loader::Link* link = links_.find(uplink)) s.uplinks.push_back(link->name);
  s.addresses = addresses_;
  s.fragments = datapath_->no_defragmenter().empty()
                    ? "any order"
                    : fmt::format("in order only: {}", datapath_->no_defragmenter());
  s.pod_cidrs = pod_cidrs();
  s.slots_used = publisher_->services().slots().used();
  s.slots_capacity = publisher_->services().slots().capacity();
  s.endpoints = endpoints_;
  for (const auto& [index, live] : endpoints_)
    if (const endpoint* record = publisher_->endpoints().find(index)) s.records[index] = *record;
  s.frontends = services_.image().frontends.size();
  s.service_warnings = services_.image().warnings.size();
  if (images) {
    s.policy = policies_.copy();
    s.services = std::make_shared<compile::ServiceImage>(services_.image());
    s.service_numbers = std::make_shared<apply::ServiceNumbers>(services_.numbers());
  }
  s.policy_sets = policies_.image().sets.size();
  s.identities = policies_.image().identities.size();
  s.policy_warnings = policies_.image().warnings.size();
  s.source_problems = source_->problems();
  s.apply_problems = apply_problems_;
  s.node_problems = route_problems_;
  s.node_problems.insert(s.node_problems.end(), uplink_problems_.begin(), uplink_problems_.end());
  for (const std::string& warning : datapath_->warnings()) s.node_problems.push_back(warning);
  s.health_problems = health_->problems();
  return s;
}

}  // namespace bpfnet::agent
