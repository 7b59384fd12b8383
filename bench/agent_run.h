#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "bench/bed.h"

namespace bpfnet::bench {

/// What the agent says after it has become ready, and what it then occupies.
struct AgentStart {
  double until_ready_ms = 0;
  double read_ms = 0;
  double sync_ms = 0;
  uint64_t writes = 0;
  bool adopted = false;
  double rss_mb = 0;
  double peak_mb = 0;
};

AgentStart start_agent(e2e::Node& node);

/// A line of /proc/PID/status in MiB.
double memory(pid_t pid, const std::string& field);

double milliseconds_since(std::chrono::steady_clock::time_point begin);

/// Rows of a Markdown table.
void print_start(const std::string& what, const AgentStart& start);
void print_times(const std::string& what, const std::vector<double>& ms);

/// Exit status of a restart that is to write nothing; tells which map it wrote to.
int judge_restart(const std::string& bench, e2e::Node& node, const AgentStart& again);

/// Lone changes, one after another: when the map showed each, and what the agent says of it.
class LoneChanges {
 public:
  explicit LoneChanges(e2e::Node& node) : node_(node) {}

  /// Calls `change`, then looks until `shown`. Waits before, so that no change meets the clearing up after
  /// the last.
  template <typename Change, typename Shown>
  void measure(const std::string& what, Change&& change, Shown&& shown) {
    e2e::pause(kApart);
    const auto begin = std::chrono::steady_clock::now();
    change();
    while (!shown()) look(what, begin);
    note(begin);
  }
  /// Three rows: in all; of that, in the agent: reading and parsing, compiling and publishing.
  void print(const std::string& what) const;

 private:
  static constexpr e2e::milliseconds kApart{150};
  static void look(const std::string& what, std::chrono::steady_clock::time_point begin);
  void note(std::chrono::steady_clock::time_point begin);

  e2e::Node& node_;
  std::vector<double> total_ms_;
  std::vector<double> read_ms_;
  std::vector<double> sync_ms_;
  std::vector<double> writes_;
};

}  // namespace bpfnet::bench
