#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "control/health/map_metrics.h"
#include "control/health/metrics.h"

namespace bpfnet::health {
namespace {

/// Fields of /proc/self/stat from the third on, whose number is 3 (proc(5)).
std::vector<std::string> stat_fields() {
  std::ifstream file("/proc/self/stat");
  std::string text;
  std::getline(file, text);
  // The second is the program's name, which may contain anything but ends with the last parenthesis.
  const size_t name_end = text.rfind(')');
  std::vector<std::string> fields(3);
  if (name_end == std::string::npos) return fields;
  std::istringstream rest(text.substr(name_end + 1));
  for (std::string field; rest >> field;) fields.push_back(field);
  return fields;
}

double boot_time() {
  std::ifstream file("/proc/stat");
  for (std::string word; file >> word;) {
    double seconds = 0;
    if (word == "btime" && file >> seconds) return seconds;
  }
  return 0;
}

double open_descriptors() {
  std::error_code error;
  double count = 0;
  for (auto it = std::filesystem::directory_iterator("/proc/self/fd", error);
       !error && it != std::filesystem::directory_iterator(); it.increment(error))
    ++count;
  return count > 0 ? count - 1 : 0;  // without the one that lists
}

}  // namespace

std::vector<prometheus::MetricFamily> ProcessMetrics::Collect() const {
  constexpr size_t kUser = 14;
  constexpr size_t kSystem = 15;
  constexpr size_t kStart = 22;
  constexpr size_t kVirtual = 23;
  constexpr size_t kResident = 24;
  const auto fields = stat_fields();
  if (fields.size() <= kResident) return {};
  const auto number = [&fields](size_t field) { return std::stod(fields[field]); };
  const auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  std::vector<prometheus::MetricFamily> out;
  const auto add = [&out](const char* name, double value) {
    out.push_back(make_family(name));
    add_sample(out.back(), {}, value);
  };
  rlimit descriptors{};
  getrlimit(RLIMIT_NOFILE, &descriptors);
  add("process_cpu_seconds_total", (number(kUser) + number(kSystem)) / ticks);
  add("process_open_fds", open_descriptors());
  add("process_max_fds", static_cast<double>(descriptors.rlim_cur));
  add("process_virtual_memory_bytes", number(kVirtual));
  add("process_resident_memory_bytes", number(kResident) * static_cast<double>(sysconf(_SC_PAGESIZE)));
  add("process_start_time_seconds", boot_time() + number(kStart) / ticks);
  return out;
}

}  // namespace bpfnet::health
