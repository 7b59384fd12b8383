#include "control/health/map_metrics.h"

#include <spdlog/spdlog.h>

#include <set>

#include "control/health/metrics.h"
#include "maps/abi/reasons.h"
#include "maps/labels.h"

namespace bpfnet::health {
namespace {

using prometheus::MetricFamily;

void add_single(std::vector<MetricFamily>& out, const char* name, double value) {
  out.push_back(make_family(name));
  add_sample(out.back(), {}, value);
}

MetricFamily by_reason(const char* name, const maps::PerCpuArray<packet_count>& map) {
  MetricFamily family = make_family(name);
  const auto counts = map.sums();
  if (!counts) return family;
  for (uint32_t i = 0; i < counts->size(); ++i) {
    const packet_count& count = (*counts)[i];
    if (count.packets == 0) continue;
    add_sample(family,
               {{"hook", maps::hook_label(i / DROP_REASONS_MAX)},
                {"reason", maps::drop_reason_label(i % DROP_REASONS_MAX)}},
               static_cast<double>(count.packets));
  }
  return family;
}

}  // namespace

std::vector<MetricFamily> MapMetrics::Collect() const {
  std::vector<MetricFamily> out;
  packets(out);
  flows(out);
  endpoints(out);
  tables(out);
  return out;
}

void MapMetrics::packets(std::vector<MetricFamily>& out) const {
  auto packet_family = make_family("bpfnet_packets_total");
  auto bytes_family = make_family("bpfnet_bytes_total");
  // A pair that never happened is left out: most of them cannot.
  if (const auto counts = maps_.verdict_counts.sums()) {
    for (uint32_t i = 0; i < counts->size(); ++i) {
      const packet_count& count = (*counts)[i];
      if (count.packets == 0) continue;
      const std::vector<std::pair<std::string, std::string>> labels = {
          {"hook", maps::hook_label(i / VERDICTS_MAX)}, {"verdict", maps::verdict_label(i % VERDICTS_MAX)}};
      add_sample(packet_family, labels, static_cast<double>(count.packets));
      add_sample(bytes_family, labels, static_cast<double>(count.bytes));
    }
  }
  for (auto* family : {&packet_family, &bytes_family}) out.push_back(std::move(*family));
  out.push_back(by_reason("bpfnet_drops_total", maps_.drop_counts));
  out.push_back(by_reason("bpfnet_audited_total", maps_.audit_counts));
}

void MapMetrics::flows(std::vector<MetricFamily>& out) const {
  const auto table = maps_.flow_table_state.get(0);
  const auto config = maps_.node_config.get(0);
  if (!table || !config) return;
  add_single(out, "bpfnet_flows", static_cast<double>(table->live));
  add_single(out, "bpfnet_flow_table_capacity", config->max_flows);
  add_single(out, "bpfnet_flows_expired_total", static_cast<double>(table->expired));
  add_single(out, "bpfnet_flows_evicted_total", static_cast<double>(table->evicted));
}

void MapMetrics::endpoints(std::vector<MetricFamily>& out) const {
  uint32_t open = 0;
  uint32_t closed = 0;
  const Status read = maps_.endpoints.for_each([&](uint32_t, const endpoint& record) {
    open += record.state == ENDPOINT_OPEN;
    closed += record.state == ENDPOINT_CLOSED;
  });
  if (!read) return;
  out.push_back(make_family("bpfnet_endpoints"));
  add_sample(out.back(), {{"state", "open"}}, open);
  add_sample(out.back(), {{"state", "closed"}}, closed);
}

void MapMetrics::walk() const {
  const uint64_t writes = writes_;
  if (walked_.writes == writes) return;
  Walked walked{.writes = writes};
  const auto count = [&](const auto& map) {
    const auto entries = map.entries();
    if (entries) walked.entries[map.name()] = entries->size();
  };
  count(maps_.interfaces);
  count(maps_.addresses);
  count(maps_.cidrs);
  count(maps_.frontend_ranges);
  count(maps_.source_ranges);
  count(maps_.policies);
  if (const auto frontends = maps_.frontends.entries()) {
    walked.entries[maps_.frontends.name()] = frontends->size();
    std::set<uint32_t> internal;
    std::set<uint32_t> external;
    for (const auto& [key, record] : *frontends) {
      // The internal policy governs the cluster IP alone, the external one all the rest (S19).
      if (record.flags & FRONTEND_CLUSTER_IP) {
        if ((record.flags & FRONTEND_DROP_EMPTY) && record.count == 0) internal.insert(record.service);
      } else if ((record.flags & FRONTEND_DROP_EMPTY_EXT) && record.ext_count == 0) {
        external.insert(record.service);
      }
    }
    walked.no_local_internal = internal.size();
    walked.no_local_external = external.size();
  }
  walked_ = std::move(walked);
}

void MapMetrics::tables(std::vector<MetricFamily>& out) const {
  walk();
  auto entries = make_family("bpfnet_map_entries");
  auto capacity = make_family("bpfnet_map_capacity");
  const auto add = [&](const auto& map, double used) {
    add_sample(entries, {{"map", map.name()}}, used);
    add_sample(capacity, {{"map", map.name()}}, map.max_entries());
  };
  maps::Maps::each(maps_, [&](const auto& map, const char*) {
    const auto found = walked_.entries.find(map.name());
    if (found != walked_.entries.end()) add(map, static_cast<double>(found->second));
  });
  add(maps_.backend_slots, slots_used_);
  if (const auto table = maps_.flow_table_state.get(0))
    add(maps_.flows, 2 * static_cast<double>(table->live));
  auto no_local = make_family("kubeproxy_sync_proxy_rules_no_local_endpoints_total");
  add_sample(no_local, {{"traffic_policy", "internal"}}, static_cast<double>(walked_.no_local_internal));
  add_sample(no_local, {{"traffic_policy", "external"}}, static_cast<double>(walked_.no_local_external));
  for (auto* family : {&entries, &capacity, &no_local}) out.push_back(std::move(*family));
}

}  // namespace bpfnet::health
