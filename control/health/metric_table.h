#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace bpfnet::health {

enum class MetricKind { kCounter, kGauge, kHistogram };

/// One row for each metric: /metrics takes name and help from here, docs/metrics.md is this table.
struct MetricSpec {
  std::string_view name;
  MetricKind kind;
  std::string_view labels;  ///< names, separated by commas; empty: none
  std::string_view help;
};

const std::vector<MetricSpec>& metric_table();
/// The row of a metric; the name must be in the table.
const MetricSpec& metric_spec(std::string_view name);
/// The table as markdown.
std::string metric_markdown();

}  // namespace bpfnet::health
