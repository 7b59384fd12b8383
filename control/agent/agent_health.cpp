// What the agent tells the outside about itself: health, metrics, options in effect (control/health).
#include <nlohmann/json.hpp>

#include "control/agent/agent.h"

namespace bpfnet::agent {
namespace {

nlohmann::ordered_json texts(const std::vector<Cidr>& cidrs) {
  auto list = nlohmann::ordered_json::array();
  for (const Cidr& cidr : cidrs) list.push_back(cidr.to_string());
  return list;
}

}  // namespace

std::string configz(const Options& o) {
  const nlohmann::ordered_json flags = {
      {"node-name", o.node_name},
      {"source", o.source},
      {"manifests", o.manifests},
      {"kubeconfig", o.kubeconfig},
      {"api-server", o.api_server},
      {"etcd", o.etcd.endpoints},
      {"etcd-prefix", o.etcd.prefix},
      {"etcd-ca", o.etcd.ca},
      {"etcd-cert", o.etcd.certificate},
      {"etcd-key", o.etcd.key},
      {"etcd-user", o.etcd.user},
      {"etcd-password-file", o.etcd.password_file},
      {"state-dir", o.state_dir},
      {"bpffs", o.bpffs},
      {"socket", o.socket},
      {"cgroup", o.cgroup},
      {"sockets", o.sockets},
      {"netns", o.netns},
      {"cni-conf", o.cni_conf},
      {"cni-bin-dir", o.cni_bin_dir},
      {"uplink", o.uplinks},
      {"pod-cidr", texts(o.pod_cidrs)},
      {"cluster-cidr", texts(o.cluster_cidrs)},
      {"service-cidr", texts(o.service_cidrs)},
      {"nodeport-addresses",
       o.node_port_primary ? nlohmann::ordered_json({"primary"}) : texts(o.node_port_addresses)},
      {"healthz-address", o.healthz_address},
      {"metrics-address", o.metrics_address},
      {"max-flows", o.max_flows},
      {"endpoint-flow-quota", o.endpoint_flow_quota},
      {"max-policy-entries", o.max_policy_entries},
      {"max-addresses", o.max_addresses},
      {"max-cidrs", o.max_cidrs},
      {"masquerade", o.masquerade},
      {"policy-audit", o.policy_audit},
      {"policy-denied", o.policy_denied},
      {"xdp", o.xdp},
      {"routing", o.routing},
      {"overlay-port", o.overlay_port},
      {"overlay-vni", o.overlay_vni},
      {"trace", o.trace},
      {"log-level", o.log_level}};
  return nlohmann::ordered_json{{"bpfnetd", flags}}.dump(2) + "\n";
}

Status Agent::start_health() {
  auto maps = maps::Maps::open_pinned(options_.bpffs);
  if (!maps) return pass(maps);
  auto monitor = health::Monitor::start(
      {.healthz_address = options_.healthz_address,
       .metrics_address = options_.metrics_address,
       .version = BPFNET_VERSION,
       .configz = configz(options_),
       .ask_loop = [this](std::function<void()> answer) { loop_->post(std::move(answer)); },
       .eligible = publisher_->has_served()},
      std::move(*maps));
  if (!monitor) return pass(monitor);
  health_ = std::move(*monitor);
  return ok();
}

void Agent::tell_queued(const sources::Changes& changes) {
  health::Queued queued{.services = changes.services.size(), .slices = changes.slices.size(), .triggers = {}};
  for (const model::ObjectName& name : changes.slices) {
    const auto slice = source_->state().slices.find(name);
    if (slice != source_->state().slices.end() && slice->second.last_change)
      queued.triggers.push_back(*slice->second.last_change);
  }
  health_->queued(queued);
}

void Agent::tell_synced(const Dirty& dirty, EventLoop::Clock::duration took) {
  const compile::ServiceChanges& services = dirty.services;
  health_->synced({.services = services.everything || !services.services.empty() || !services.slices.empty(),
                   .full = services.everything,
                   .took = took});
  health_->set_eligible(health::node_eligible(source_->state().nodes, options_.node_name));
  health_->set_checks(services_.image().health_checks,
                      health::node_port_addresses(compile::node_port_cidrs(source_->state(), node_view()),
                                                  links_.own_addresses()));
  std::vector<health::MapWrites> writes;
  for (const auto& map : publisher_->counts())
    writes.push_back({map.name, map.counts.puts, map.counts.erases, map.counts.failures});
  health_->set_writes(std::move(writes), publisher_->services().slots().used());
  tell_problems();
}

void Agent::tell_source() {
  std::vector<health::SourceKind> kinds;
  for (const sources::KindStatus& kind : source_->kinds())
    kinds.push_back({.kind = kind.kind,
                     .current = kind.current,
                     .objects = kind.objects,
                     .events = kind.events,
                     .relists = kind.relists,
                     .failures = kind.failures});
  if (!kinds.empty()) health_->set_source(std::move(kinds));
  // The own Node may be read long before all the rest.
  if (!ready_ && publisher_->has_served() && own_node() != nullptr)
    health_->set_eligible(health::node_eligible(source_->state().nodes, options_.node_name));
}

void Agent::tell_problems() {
  notices_.tell(*source_, services_.image().warnings, policies_.image().warnings);
  notices_.tell(*source_, health_->problems());
  health_->set_problems("source", told_source_problems_.size());
  health_->set_problems("services", services_.image().warnings.size());
  health_->set_problems("policy", policies_.image().warnings.size());
  health_->set_problems("maps", apply_problems_.size());
  health_->set_problems("node",
                        route_problems_.size() + uplink_problems_.size() + datapath_->warnings().size());
}

}  // namespace bpfnet::agent
