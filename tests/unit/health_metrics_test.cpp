// What is measured, and that table, registry and docs say the same (S57, S59).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>

#include "control/health/map_metrics.h"
#include "control/health/metric_table.h"
#include "control/health/metrics.h"
#include "tests/unit/health_client.h"

namespace bpfnet::health {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;
using testing::Not;

class Measured : public testing::Test {
 protected:
  /// The line of one sample: `name{labels} value`.
  [[nodiscard]] std::string line(const std::string& sample) const {
    std::istringstream text(metrics_.render());
    for (std::string each; std::getline(text, each);)
      if (each.rfind(sample + " ", 0) == 0) return each.substr(sample.size() + 1);
    return "missing";
  }
  std::shared_ptr<test::StoppedClock> clock_ = std::make_shared<test::StoppedClock>();
  Metrics metrics_{clock_, "1.2.3"};
};

TEST_F(Measured, SyncsByKind) {  // S57
  metrics_.synced({.full = true, .took = milliseconds(3)});
  metrics_.synced({.full = false, .took = milliseconds(100)});
  metrics_.synced({.services = false, .took = seconds(10)});
  EXPECT_EQ(line("kubeproxy_sync_proxy_rules_duration_seconds_count"), "2");
  EXPECT_EQ(line("kubeproxy_sync_proxy_rules_duration_seconds_bucket{le=\"0.004\"}"), "1");
  EXPECT_EQ(line("kubeproxy_sync_proxy_rules_duration_seconds_bucket{le=\"16.384\"}"), "2");
  EXPECT_EQ(line("kubeproxy_sync_full_proxy_rules_duration_seconds_count"), "1");
  EXPECT_EQ(line("kubeproxy_sync_partial_proxy_rules_duration_seconds_count"), "1");
  EXPECT_EQ(line("kubeproxy_sync_proxy_rules_last_timestamp_seconds"), "1700000000");
}

TEST_F(Measured, ChangesArePendingUntilTheSync) {  // S57
  clock_->advance(seconds(5));
  metrics_.queued({.services = 2, .slices = 3, .triggers = {}});
  EXPECT_EQ(line("kubeproxy_sync_proxy_rules_service_changes_pending"), "2");
  EXPECT_EQ(line("kubeproxy_sync_proxy_rules_endpoint_changes_pending"), "3");
  EXPECT_EQ(line("kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds"), "1700000005");
  metrics_.synced({});
  metrics_.queued({.services = 1, .slices = 0, .triggers = {}});
  EXPECT_EQ(line("kubeproxy_sync_proxy_rules_service_changes_pending"), "1");
  EXPECT_EQ(line("kubeproxy_sync_proxy_rules_endpoint_changes_pending"), "0");
  EXPECT_EQ(line("kubeproxy_sync_proxy_rules_service_changes_total"), "3");
  EXPECT_EQ(line("kubeproxy_sync_proxy_rules_endpoint_changes_total"), "3");
}

TEST_F(Measured, ProgrammingLatencyIsFromTheTriggerToTheMaps) {  // S59
  clock_->advance(seconds(100));
  metrics_.queued({.services = 0, .slices = 1, .triggers = {clock_->wall() - milliseconds(400)}});
  EXPECT_EQ(line("kubeproxy_network_programming_duration_seconds_count"), "0");
  clock_->advance(milliseconds(300));
  metrics_.synced({});
  metrics_.synced({});
  EXPECT_EQ(line("kubeproxy_network_programming_duration_seconds_bucket{le=\"0.5\"}"), "0");
  EXPECT_EQ(line("kubeproxy_network_programming_duration_seconds_bucket{le=\"1\"}"), "1");
  EXPECT_EQ(line("kubeproxy_network_programming_duration_seconds_bucket{le=\"300\"}"), "1");
  EXPECT_EQ(line("kubeproxy_network_programming_duration_seconds_count"), "1");
}

TEST_F(Measured, TriggersBeforeTheStartAreNotMeasured) {  // S59
  metrics_.queued({.services = 0, .slices = 1, .triggers = {clock_->wall() - seconds(1)}});
  metrics_.synced({});
  EXPECT_EQ(line("kubeproxy_network_programming_duration_seconds_count"), "0");
}

TEST_F(Measured, ClocksThatDisagreeGiveNoNegativeTime) {  // S59
  metrics_.queued({.services = 0, .slices = 1, .triggers = {clock_->wall() + seconds(7)}});
  metrics_.synced({});
  EXPECT_EQ(line("kubeproxy_network_programming_duration_seconds_sum"), "0");
  EXPECT_EQ(line("kubeproxy_network_programming_duration_seconds_count"), "1");
}

TEST_F(Measured, WhatTheAgentHandsOver) {
  metrics_.set_problems("maps", 4);
  metrics_.set_writes({{.map = "frontends", .puts = 5, .erases = 2, .failures = 1}});
  metrics_.count_healthz(503);
  EXPECT_EQ(line("bpfnet_problems{from=\"maps\"}"), "4");
  EXPECT_EQ(line("bpfnet_sync_map_writes_total{map=\"frontends\",operation=\"put\"}"), "5");
  EXPECT_EQ(line("bpfnet_sync_map_writes_total{map=\"frontends\",operation=\"erase\"}"), "2");
  EXPECT_EQ(line("bpfnet_sync_map_writes_total{map=\"frontends\",operation=\"failure\"}"), "1");
  EXPECT_EQ(line("kubeproxy_proxy_healthz_total{code=\"503\"}"), "1");
  EXPECT_EQ(line("kubeproxy_proxy_livez_total{code=\"200\"}"), "0");
  EXPECT_EQ(line("bpfnet_build_info{version=\"1.2.3\"}"), "1");
}

TEST_F(Measured, TheProcessAsTheKernelSeesIt) {
  metrics_.collect_from(std::make_shared<ProcessMetrics>());
  EXPECT_GT(std::stod(line("process_resident_memory_bytes")), 1e6);
  EXPECT_GT(std::stod(line("process_open_fds")), 2);
  EXPECT_GE(std::stod(line("process_max_fds")), std::stod(line("process_open_fds")));
  const double age =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count() -
      std::stod(line("process_start_time_seconds"));
  EXPECT_GT(age, -2);
  EXPECT_LT(age, 600);
}

TEST(MetricTable, NamesAreUniqueAndFollowTheConventions) {
  std::set<std::string_view> seen;
  for (const MetricSpec& spec : metric_table()) {
    EXPECT_TRUE(seen.insert(spec.name).second) << spec.name;
    EXPECT_EQ(spec.help.back(), '.') << spec.name;
    if (spec.kind == MetricKind::kCounter) {
      EXPECT_TRUE(spec.name.ends_with("_total")) << spec.name;
    }
  }
}

// docs/metrics.md is a page with the table in it.
TEST(MetricTable, IsWhatTheDocsSay) {
  const std::string begin = "<!-- generated: BPFNET_UPDATE_GOLDEN=1 -->\n";
  const std::string end = "<!-- end -->\n";
  const std::string path = BPFNET_DOCS_DIR "/metrics.md";
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  std::string page = text.str();
  const size_t from = page.find(begin);
  const size_t to = page.find(end);
  ASSERT_NE(from, std::string::npos);
  ASSERT_NE(to, std::string::npos);
  const std::string table = page.substr(from + begin.size(), to - from - begin.size());
  if (std::getenv("BPFNET_UPDATE_GOLDEN")) {
    page.replace(from + begin.size(), table.size(), metric_markdown());
    std::ofstream(path) << page;
  }
  EXPECT_EQ(table, metric_markdown()) << "run with BPFNET_UPDATE_GOLDEN=1 if the new table is right";
}

}  // namespace
}  // namespace bpfnet::health
