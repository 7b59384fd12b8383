// What many services cost the agent: parsing, the cold fill of the maps, one lone change, a restart, memory.
//
// A node in a namespace of its own; its manifests are written before its agent starts. Exit status 1 if the
// restart wrote anything into a map. Usage: scale [--services N] [--endpoints M] ... (--help)
#include <fmt/format.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "bench/agent_run.h"
#include "bench/bed.h"
#include "bench/population.h"
#include "bench/statistics.h"
#include "maps/convert.h"
#include "maps/maps.h"

namespace bpfnet::bench {
namespace {

using std::chrono::steady_clock;

/// Between two looks at a map: well below what is measured, and not a burning CPU beside the agent.
constexpr std::chrono::microseconds kLook{20};
/// Lone changes are this far apart, so that none meets the clearing up after the last.
constexpr e2e::milliseconds kApart{25};
constexpr auto kChangeDeadline = std::chrono::seconds(20);

struct Options {
  size_t services = 10000;
  size_t endpoints = 10;
  size_t per_file = 10;
  size_t changes = 50;
  bool json = false;
};

struct Changes {
  std::vector<double> total_ms;  ///< from before the file is written until the map shows it
  std::vector<double> read_ms;   ///< of that, in the agent: reading and parsing
  std::vector<double> sync_ms;   ///< compiling and publishing
};

/// Takes one backend from services all over the range, one after another.
Changes change_one_by_one(e2e::Node& node, const ManifestFiles& files, size_t count) {
  auto maps = maps::Maps::open_pinned(node.bpffs());
  if (!maps) throw std::runtime_error(maps.error().message);
  Changes result;
  for (size_t i = 0; i < count; i++) {
    const size_t index = i * files.services().size() / count;
    const Service& service = files.services()[index];
    const size_t wanted = service.endpoints.size() - 1;
    const size_t file = files.file_of(index);
    const std::string text = files.text(file, index, wanted);
    const auto key = maps::make_frontend_key(service.cluster_ip, service.port, IPPROTO_TCP);
    e2e::pause(kApart);
    const auto begin = steady_clock::now();
    e2e::write_atomically(node.dir("manifests/" + files.name(file)), text);
    while (true) {
      const auto frontend = maps->frontends.get(key);
      if (!frontend) throw std::runtime_error(frontend.error().message);
      if (frontend->has_value() && (*frontend)->count == wanted) break;
      if (steady_clock::now() - begin > kChangeDeadline)
        throw std::runtime_error(fmt::format("the change of {} never came", service.name));
      ::usleep(static_cast<useconds_t>(kLook.count()));
    }
    result.total_ms.push_back(milliseconds_since(begin));
    const auto status = node.api("/v1/status");
    result.read_ms.push_back(status.at("last_read_us").get<double>() / 1000);
    result.sync_ms.push_back(status.at("last_sync_us").get<double>() / 1000);
  }
  return result;
}

int measure(const e2e::ClusterOptions& bed, const Options& options) {
  ::prctl(PR_SET_TIMERSLACK, 1000UL, 0, 0, 0);  // 1 us: a look is not later than it was meant to be
  fmt::print("{}\n", machine_line());
  e2e::Node node(bed, 0);
  add_idle_uplink(node);
  node.write_manifest("node", e2e::NodeManifest{.name = node.name(),
                                                .addresses = {node.ip(Family::kIpv4)},
                                                .pod_cidrs = node.pod_cidrs()}
                                  .yaml());
  const ManifestFiles files(make_services(options.services, options.endpoints), options.per_file,
                            options.json ? ManifestFormat::kJson : ManifestFormat::kYaml);
  size_t bytes = 0;
  for (size_t i = 0; i < files.count(); i++) {
    const std::string text = files.text(i);
    bytes += text.size();
    std::ofstream(node.dir("manifests/" + files.name(i))) << text;
  }
  fmt::print("{} services x {} endpoints in {} files of {} services, {:.1f} MB\n\n| step | |\n|---|---|\n",
             options.services, options.endpoints, files.count(), options.per_file,
             static_cast<double>(bytes) / 1e6);

  print_start("cold start", start_agent(node));
  std::fflush(stdout);
  const Changes changes = change_one_by_one(node, files, options.changes);
  print_times(
      fmt::format("one lone change, file written to map: median (fastest-slowest of {})", options.changes),
      changes.total_ms);
  print_times("... of which read and parse", changes.read_ms);
  print_times("... of which compile and publish", changes.sync_ms);
  fmt::print("| resident memory after the changes | {:.0f} MiB |\n", memory(node.agent().pid(), "VmRSS"));
  std::fflush(stdout);

  node.stop_agent();
  const AgentStart again = start_agent(node);
  print_start("restart, nothing changed", again);
  return judge_restart("scale", node, again);
}

int main_(int argc, char** argv) {
  Options options;
  bool smoke = false;
  std::string name = "scale";
  CLI::App app("What many services cost the agent.", "scale");
  app.add_option("--services", options.services, "services")->capture_default_str();
  app.add_option("--endpoints", options.endpoints, "endpoints of each service")->capture_default_str();
  app.add_option("--per-file", options.per_file, "services in one file")->capture_default_str();
  app.add_option("--changes", options.changes, "lone changes measured")->capture_default_str();
  app.add_flag("--json", options.json, "manifests in JSON instead of YAML");
  app.add_flag("--smoke", smoke, "a tiny run that shows that it works");
  app.add_option("--name", name, "in the names of namespaces and files, to run beside another one");
  CLI11_PARSE(app, argc, argv);
  if (smoke) options = {.services = 30, .endpoints = 3, .per_file = 4, .changes = 3, .json = options.json};
  if (options.endpoints == 0 || options.per_file == 0 || options.changes == 0 ||
      options.changes * options.per_file > options.services) {
    fmt::print(stderr, "scale: numbers must be at least 1, and no more changes than files\n");
    return 2;
  }
  e2e::ClusterOptions bed = bed_options(name);
  bed.nodes = {"node-a"};
  return guarded(bed, [&] { return measure(bed, options); });
}

}  // namespace
}  // namespace bpfnet::bench

int main(int argc, char** argv) {
  return bpfnet::bench::main_(argc, argv);
}
