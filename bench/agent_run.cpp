#include "bench/agent_run.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "bench/statistics.h"

namespace bpfnet::bench {
namespace {

using std::chrono::steady_clock;

/// Between two looks at a map: well below what is measured, and not a burning CPU beside the agent.
constexpr std::chrono::microseconds kLook{20};
constexpr auto kChangeDeadline = std::chrono::seconds(20);

}  // namespace

double milliseconds_since(steady_clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(steady_clock::now() - begin).count();
}

double memory(pid_t pid, const std::string& field) {
  std::ifstream status(fmt::format("/proc/{}/status", pid));
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(field + ":")) return std::stod(line.substr(field.size() + 1)) / 1024;
  throw std::runtime_error(fmt::format("process {} has no {}", pid, field));
}

AgentStart start_agent(e2e::Node& node) {
  const auto begin = steady_clock::now();
  node.start();
  AgentStart result{.until_ready_ms = milliseconds_since(begin)};
  const auto status = node.api("/v1/status");
  result.read_ms = status.at("last_read_us").get<double>() / 1000;
  result.sync_ms = status.at("first_sync_us").get<double>() / 1000;
  result.writes = status.at("map_writes").get<uint64_t>();
  result.adopted = status.at("adopted").get<bool>();
  result.rss_mb = memory(node.agent().pid(), "VmRSS");
  result.peak_mb = memory(node.agent().pid(), "VmHWM");
  return result;
}

void print_start(const std::string& what, const AgentStart& start) {
  fmt::print("| {}: read and parse | {:.0f} ms |\n", what, start.read_ms);
  fmt::print("| {}: compile and publish | {:.0f} ms, {} map writes |\n", what, start.sync_ms, start.writes);
  fmt::print("| {}: from exec to ready | {:.0f} ms |\n", what, start.until_ready_ms);
  fmt::print("| {}: resident memory (peak) | {:.0f} MiB ({:.0f}) |\n", what, start.rss_mb, start.peak_mb);
}

void print_times(const std::string& what, const std::vector<double>& ms) {
  fmt::print("| {} | {:.2f} ms ({:.2f}-{:.2f}) |\n", what, median(ms), quantile(ms, 0), quantile(ms, 1));
}

int judge_restart(const std::string& bench, e2e::Node& node, const AgentStart& again) {
  if (again.adopted && again.writes == 0) return 0;
  fmt::print(stderr, "{}: the restart {} and wrote {} map entries: {}\n", bench,
             again.adopted ? "adopted the maps" : "did not adopt the maps", again.writes,
             node.api("/v1/status").at("maps").dump());
  return 1;
}

void LoneChanges::look(const std::string& what, steady_clock::time_point begin) {
  if (steady_clock::now() - begin > kChangeDeadline)
    throw std::runtime_error(fmt::format("the change of {} never came", what));
  ::usleep(static_cast<useconds_t>(kLook.count()));
}

void LoneChanges::note(steady_clock::time_point begin) {
  total_ms_.push_back(milliseconds_since(begin));
  const auto status = node_.api("/v1/status");
  read_ms_.push_back(status.at("last_read_us").get<double>() / 1000);
  sync_ms_.push_back(status.at("last_sync_us").get<double>() / 1000);
  writes_.push_back(status.at("last_sync_writes").get<double>());
}

void LoneChanges::print(const std::string& what) const {
  const auto row = [](const std::string& name, const std::vector<double>& ms) {
    fmt::print("| {} | {:.2f} ms (p99 {:.2f}, {:.2f}-{:.2f}) |\n", name, median(ms), quantile(ms, 0.99),
               quantile(ms, 0), quantile(ms, 1));
  };
  row(fmt::format("{}, file written to map: median (p99, fastest-slowest of {})", what, total_ms_.size()),
      total_ms_);
  row(fmt::format("{}: read and parse", what), read_ms_);
  row(fmt::format("{}: compile and publish, {:.0f} map writes", what, median(writes_)), sync_ms_);
  std::fflush(stdout);
}

}  // namespace bpfnet::bench
