#include "control/health/metric_table.h"

#include <fmt/format.h>

#include <stdexcept>

namespace bpfnet::health {
namespace {

constexpr auto kCounter = MetricKind::kCounter;
constexpr auto kGauge = MetricKind::kGauge;
constexpr auto kHistogram = MetricKind::kHistogram;

const char* text(MetricKind kind) {
  switch (kind) {
    case kCounter:
      return "counter";
    case kGauge:
      return "gauge";
    case kHistogram:
      return "histogram";
  }
  return "";
}

}  // namespace

const std::vector<MetricSpec>& metric_table() {
  static const std::vector<MetricSpec> table = {
      // kube-proxy's names, where the meaning is the same (S57)
      {"kubeproxy_sync_proxy_rules_duration_seconds", kHistogram, "",
       "Time one sync of services took: compile and write the maps."},
      {"kubeproxy_sync_full_proxy_rules_duration_seconds", kHistogram, "",
       "The same, of syncs of everything: at start and when the node itself changed."},
      {"kubeproxy_sync_partial_proxy_rules_duration_seconds", kHistogram, "",
       "The same, of syncs of what changed."},
      {"kubeproxy_network_programming_duration_seconds", kHistogram, "",
       "From the trigger time that an EndpointSlice carries to its backends in the maps."},
      {"kubeproxy_sync_proxy_rules_last_timestamp_seconds", kGauge, "",
       "Unix time of the last sync of services."},
      {"kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds", kGauge, "",
       "Unix time at which a change of services was last seen."},
      {"kubeproxy_sync_proxy_rules_endpoint_changes_total", kCounter, "", "Changes of EndpointSlices seen."},
      {"kubeproxy_sync_proxy_rules_endpoint_changes_pending", kGauge, "",
       "Changes of EndpointSlices seen and not yet in the maps."},
      {"kubeproxy_sync_proxy_rules_service_changes_total", kCounter, "", "Changes of Services seen."},
      {"kubeproxy_sync_proxy_rules_service_changes_pending", kGauge, "",
       "Changes of Services seen and not yet in the maps."},
      {"kubeproxy_sync_proxy_rules_no_local_endpoints_total", kGauge, "traffic_policy",
       "Service ports with a Local traffic policy, endpoints elsewhere and none on this node."},
      {"kubeproxy_proxy_healthz_total", kCounter, "code", "Answers of /healthz by HTTP status."},
      {"kubeproxy_proxy_livez_total", kCounter, "code", "Answers of /livez by HTTP status."},
      // the datapath: read from the maps at every scrape
      {"bpfnet_packets_total", kCounter, "hook,verdict", "Packets by hook and what became of them."},
      {"bpfnet_bytes_total", kCounter, "hook,verdict", "Their bytes, from the IP header on."},
      {"bpfnet_drops_total", kCounter, "hook,reason", "Packets dropped, by hook and reason."},
      {"bpfnet_audited_total", kCounter, "hook,reason",
       "Packets that began a connection which policy in audit mode would have dropped; none was."},
      {"bpfnet_flows", kGauge, "", "Connections in the flow table."},
      {"bpfnet_flow_table_capacity", kGauge, "", "Connections the flow table holds (--max-flows)."},
      {"bpfnet_flows_expired_total", kCounter, "", "Connections forgotten after their idle time."},
      {"bpfnet_flows_evicted_total", kCounter, "", "Connections forgotten early to make room."},
      {"bpfnet_endpoints", kGauge, "state", "Pods of this node; closed: its policy is not in place yet."},
      {"bpfnet_map_entries", kGauge, "map", "Entries of a map that can be full."},
      {"bpfnet_map_capacity", kGauge, "map", "Entries the map has room for."},
      // the agent
      {"bpfnet_sync_map_writes_total", kCounter, "map,operation",
       "Map entries put and erased by the agent, and attempts that failed."},
      {"bpfnet_source_current", kGauge, "kind",
       "1: changes of this kind arrive now (--source kubernetes, etcd)."},
      {"bpfnet_source_objects", kGauge, "kind", "Objects of the kind that the source has."},
      {"bpfnet_source_events_total", kCounter, "kind", "Changes of objects that came from the source."},
      {"bpfnet_source_relists_total", kCounter, "kind", "Full lists after the first: the history was gone."},
      {"bpfnet_source_failures_total", kCounter, "kind", "Requests and watches that failed."},
      {"bpfnet_problems", kGauge, "from", "What GET /v1/problems shows, by origin."},
      {"bpfnet_build_info", kGauge, "version", "1; the version of this agent is the label."},
      {"process_cpu_seconds_total", kCounter, "", "CPU time of the agent, user and system."},
      {"process_open_fds", kGauge, "", "Open file descriptors of the agent."},
      {"process_max_fds", kGauge, "", "Most file descriptors the agent may open."},
      {"process_virtual_memory_bytes", kGauge, "", "Virtual memory of the agent."},
      {"process_resident_memory_bytes", kGauge, "", "Resident memory of the agent."},
      {"process_start_time_seconds", kGauge, "", "Unix time at which the agent started."},
  };
  return table;
}

const MetricSpec& metric_spec(std::string_view name) {
  for (const MetricSpec& spec : metric_table())
    if (spec.name == name) return spec;
  throw std::logic_error(fmt::format("metric {} is not in the table", name));
}

std::string metric_markdown() {
  std::string markdown = "| metric | type | labels | meaning |\n|---|---|---|---|\n";
  for (const MetricSpec& spec : metric_table())
    markdown += fmt::format("| `{}` | {} | {} | {} |\n", spec.name, text(spec.kind), spec.labels, spec.help);
  return markdown;
}

}  // namespace bpfnet::health
