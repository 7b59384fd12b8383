#include "bench/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace bpfnet::bench {
namespace {

double quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(std::lround(q * static_cast<double>(values.size() - 1)))];
}

}  // namespace

void Report::ReportRuns(const std::vector<Run>& runs) {
  for (const Run& run : runs) {
    if (run.run_type != Run::RT_Iteration || run.error_occurred) {
      if (run.error_occurred) fmt::print(stderr, "{}: {}\n", run.run_name.function_name, run.error_message);
      continue;
    }
    samples_[run.run_name.function_name].push_back(run.GetAdjustedRealTime());
  }
}

void Report::print() const {
  if (!samples_.contains("empty_tc") || !samples_.contains("lookup_tc")) return;
  const auto median = [&](const std::string& name) { return quantile(samples_.at(name), 0.5); };
  fmt::print("| path | ns, median | spread | over empty | of one lookup |\n|---|---:|---:|---:|---:|\n");
  for (const auto& name : order_) {
    if (!samples_.contains(name)) continue;
    const std::string kind = name.find("xdp") != std::string::npos ? "xdp" : "tc";
    // What comes by a tunnel is given it by the frame, and that is none of the program's time.
    const bool by_tunnel = name.find("from_overlay") != std::string::npos || name.ends_with("_tunnel");
    const double empty =
        median(by_tunnel && samples_.contains("empty_tunnel") ? "empty_tunnel" : "empty_" + kind);
    const double lookup = median("lookup_" + kind) - median("empty_" + kind);
    const auto& samples = samples_.at(name);
    fmt::print("| {} | {:.1f} | {:.1f}-{:.1f} | {:.1f} | {:.2f} |\n", name, median(name),
               quantile(samples, 0), quantile(samples, 1), median(name) - empty,
               (median(name) - empty) / lookup);
  }
}

}  // namespace bpfnet::bench
