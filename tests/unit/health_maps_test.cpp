// Metrics of the datapath's maps, over real maps without programs.
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <sstream>

#include "control/health/map_metrics.h"
#include "control/health/metric_table.h"
#include "control/health/metrics.h"
#include "maps/abi/reasons.h"
#include "maps/convert.h"
#include "tests/unit/health_client.h"
#include "tests/unit/observe_maps.h"

namespace bpfnet::health {
namespace {

class MapsMeasured : public testing::Test {
 protected:
  void SetUp() override {
    auto made = observe::test::make_maps();
    if (!made) GTEST_SKIP() << made.error().message;
    auto copy = maps::Maps::from_fds([&](const std::string& name) {
      int fd = -1;
      maps::Maps::each(*made, [&](const auto& map, const char* each) {
        if (name == each) fd = map.fd();
      });
      return fd;
    });
    ASSERT_TRUE(copy);
    maps_ = std::move(*made);
    collector_ = std::make_shared<MapMetrics>(std::move(*copy));
  }
  /// `name label,label` -> value of every sample.
  [[nodiscard]] std::map<std::string, double> samples() const {
    std::map<std::string, double> all;
    for (const auto& family : collector_->Collect()) {
      for (const auto& metric : family.metric) {
        std::string key = family.name;
        for (const auto& label : metric.label) key += " " + label.value;
        all[key] = family.type == prometheus::MetricType::Counter ? metric.counter.value : metric.gauge.value;
      }
    }
    return all;
  }
  void frontend_of(uint16_t port, uint32_t service, uint32_t flags, uint32_t count, uint32_t ext_count) {
    frontend_key key = maps::make_frontend_key(Address::parse("10.96.0.1").value(), port, 6, SCOPE_ADDRESS);
    frontend record{};
    record.service = service;
    record.flags = flags;
    record.count = count;
    record.ext_count = ext_count;
    ASSERT_TRUE(maps_.frontends.put(key, record));
  }

  maps::Maps maps_;
  std::shared_ptr<MapMetrics> collector_;
};

TEST_F(MapsMeasured, PacketsByHookAndVerdictDropsByReason) {
  constexpr uint32_t kHook = HOOK_from_pod;
  const double cpus = maps::possible_cpus();  // put() sets every CPU's
  ASSERT_TRUE(maps_.verdict_counts.put(kHook * VERDICTS_MAX + VERDICT_DROP, {.packets = 3, .bytes = 300}));
  ASSERT_TRUE(
      maps_.drop_counts.put(kHook * DROP_REASONS_MAX + DROP_POLICY_EGRESS, {.packets = 3, .bytes = 300}));
  ASSERT_TRUE(
      maps_.audit_counts.put(kHook * DROP_REASONS_MAX + DROP_POLICY_EGRESS, {.packets = 2, .bytes = 200}));
  const auto all = samples();
  EXPECT_EQ(all.at("bpfnet_audited_total from_pod policy-egress"), 2 * cpus);
  EXPECT_EQ(all.at("bpfnet_packets_total from_pod drop"), 3 * cpus);
  EXPECT_EQ(all.at("bpfnet_bytes_total from_pod drop"), 300 * cpus);
  EXPECT_EQ(all.at("bpfnet_drops_total from_pod policy-egress"), 3 * cpus);
  EXPECT_FALSE(all.contains("bpfnet_drops_total from_pod no-route"));
}

TEST_F(MapsMeasured, FlowTableAndPods) {
  flow_table table{};
  table.live = 7;
  table.expired = 5;
  table.evicted = 2;
  ASSERT_TRUE(maps_.flow_table_state.put(0, table));
  datapath_config config{};
  config.max_flows = 32;
  ASSERT_TRUE(maps_.node_config.put(0, config));
  endpoint open{};
  open.state = ENDPOINT_OPEN;
  ASSERT_TRUE(maps_.endpoints.put(3, open));
  const auto all = samples();
  EXPECT_EQ(all.at("bpfnet_flows"), 7);
  EXPECT_EQ(all.at("bpfnet_flow_table_capacity"), 32);
  EXPECT_EQ(all.at("bpfnet_flows_expired_total"), 5);
  EXPECT_EQ(all.at("bpfnet_flows_evicted_total"), 2);
  EXPECT_EQ(all.at("bpfnet_map_entries flows"), 14);
  EXPECT_EQ(all.at("bpfnet_map_capacity flows"), 64);
  EXPECT_EQ(all.at("bpfnet_endpoints open"), 1);
  EXPECT_EQ(all.at("bpfnet_endpoints closed"), 0);
}

TEST_F(MapsMeasured, TablesAreWalkedAgainAfterTheAgentHasWritten) {
  EXPECT_EQ(samples().at("bpfnet_map_entries frontends"), 0);
  frontend_of(80, 1, FRONTEND_CLUSTER_IP, 1, 1);
  EXPECT_EQ(samples().at("bpfnet_map_entries frontends"), 0);
  collector_->note(1, 9);
  const auto all = samples();
  EXPECT_EQ(all.at("bpfnet_map_entries frontends"), 1);
  EXPECT_EQ(all.at("bpfnet_map_capacity frontends"), 16);
  EXPECT_EQ(all.at("bpfnet_map_entries backend_slots"), 9);
}

TEST_F(MapsMeasured, ServicesWithoutLocalEndpointsByPolicy) {                  // S57
  frontend_of(80, 1, FRONTEND_CLUSTER_IP | FRONTEND_DROP_EMPTY, 0, 0);         // internal Local, nothing here
  frontend_of(81, 2, FRONTEND_CLUSTER_IP, 0, 0);                               // no endpoint anywhere
  frontend_of(82, 3, FRONTEND_NODE_PORT | FRONTEND_DROP_EMPTY_EXT, 2, 0);      // external Local, nothing here
  frontend_of(83, 3, FRONTEND_LOAD_BALANCER | FRONTEND_DROP_EMPTY_EXT, 2, 0);  // the same service port
  frontend_of(84, 4, FRONTEND_NODE_PORT, 2, 2);
  const auto all = samples();
  EXPECT_EQ(all.at("kubeproxy_sync_proxy_rules_no_local_endpoints_total internal"), 1);
  EXPECT_EQ(all.at("kubeproxy_sync_proxy_rules_no_local_endpoints_total external"), 1);
}

// With the maps there is every metric of the table and none besides.
TEST_F(MapsMeasured, TableAndRegistryNameTheSameMetrics) {
  Metrics metrics(std::make_shared<test::StoppedClock>(), "1");
  metrics.collect_from(std::make_shared<ProcessMetrics>());
  metrics.collect_from(collector_);
  metrics.set_problems("maps", 0);
  metrics.set_writes({{.map = "frontends"}});
  metrics.set_source({{.kind = "services"}});
  ASSERT_TRUE(maps_.verdict_counts.put(0, {.packets = 1, .bytes = 1}));
  ASSERT_TRUE(maps_.drop_counts.put(1, {.packets = 1, .bytes = 1}));
  ASSERT_TRUE(maps_.audit_counts.put(1, {.packets = 1, .bytes = 1}));
  std::set<std::string> expected;
  std::set<std::string> collected;
  for (const MetricSpec& spec : metric_table()) expected.insert(fmt::format("{} {}", spec.name, spec.labels));
  for (const auto& family : metrics.collect()) {
    std::string labels;
    for (const auto& label : family.metric.at(0).label) labels += (labels.empty() ? "" : ",") + label.name;
    collected.insert(fmt::format("{} {}", family.name, labels));
    EXPECT_EQ(family.help, metric_spec(family.name).help);
  }
  EXPECT_EQ(collected, expected);
}

}  // namespace
}  // namespace bpfnet::health
