#pragma once

#include <benchmark/benchmark.h>

#include <map>
#include <string>
#include <vector>

namespace bpfnet::bench {

/// Gathers the repetitions of every benchmark; print() writes medians, spreads and ratios to the yardstick.
class Report : public benchmark::BenchmarkReporter {
 public:
  /// `order`: names in the order of the table.
  explicit Report(std::vector<std::string> order) : order_(std::move(order)) {}
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override;
  /// A table of Markdown: ns over the empty program, and how many 40-byte hash lookups that is.
  void print() const;

 private:
  std::vector<std::string> order_;
  std::map<std::string, std::vector<double>> samples_;  ///< ns per packet
};

}  // namespace bpfnet::bench
