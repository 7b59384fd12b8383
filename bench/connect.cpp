// TCP connect-request-close through a ClusterIP with few and with many services: ours, beside the rules that
// kube-proxy would write and beside plain forwarding.
//
// All paths stand at the same time, each in namespaces of its own; client and servers share one CPU. A
// repetition goes over all paths in random order, a short burst each, so that noise hits all alike; ratios
// are taken within a repetition. Usage: connect [--sizes 10,1000,10000] ... (--help)
#include <fmt/format.h>
#include <sched.h>
#include <sys/prctl.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <random>
#include <thread>

#include "bench/bed.h"
#include "bench/paths_to_service.h"
#include "bench/statistics.h"

namespace bpfnet::bench {
namespace {

struct Options {
  std::vector<size_t> sizes = {10, 1000, 10000};
  size_t endpoints = 2;
  size_t repetitions = 60;
  size_t burst = 200;
  bool kube_proxy = true;
};

/// One path and the median of each of its bursts, microseconds.
struct Measured {
  std::unique_ptr<PathToService> path;
  std::vector<double> p50;
};

void pin_to_last_cpu() {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(std::max(1U, std::thread::hardware_concurrency()) - 1, &set);
  if (::sched_setaffinity(0, sizeof(set), &set) != 0)
    throw std::runtime_error("the process cannot be pinned");
}

std::vector<Measured> make_paths(const e2e::ClusterOptions& bed, const Options& options) {
  std::vector<Measured> all;
  const auto add = [&](Mode mode, size_t services) {
    fmt::print(stderr, "{}, {} services ...", mode_name(mode), services);
    all.push_back({.path = make_path(bed, all.size(), mode, services, options.endpoints), .p50 = {}});
    fmt::print(stderr, " {:.1f} s\n", all.back().path->load_ms() / 1000);
  };
  add(Mode::kForwarding, 1);
  for (const Mode mode :
       {Mode::kBpfnet, Mode::kBpfnetSockets, Mode::kIptablesLegacy, Mode::kIptablesNft, Mode::kNftables})
    for (const size_t size : options.sizes)
      if (options.kube_proxy || mode == Mode::kBpfnet || mode == Mode::kBpfnetSockets) add(mode, size);
  return all;
}

void measure(std::vector<Measured>& all, const Options& options) {
  std::vector<Measured*> order;
  for (Measured& one : all) order.push_back(&one);
  std::mt19937 random(1);
  for (size_t i = 0; i < options.repetitions; i++) {
    std::shuffle(order.begin(), order.end(), random);
    for (Measured* one : order) {
      const PathToService& path = *one->path;
      path.enter();
      one->p50.push_back(median(path.client().in([&] { return round_trips(path.target(), options.burst); })));
    }
  }
}

const Measured* find(const std::vector<Measured>& all, Mode mode, size_t services) {
  const auto found = std::find_if(all.begin(), all.end(), [&](const Measured& one) {
    return one.path->mode() == mode && one.path->services() == services;
  });
  return found == all.end() ? nullptr : &*found;
}

std::vector<double> ratios(const Measured& of, const Measured& to) {
  std::vector<double> result;
  for (size_t i = 0; i < of.p50.size(); i++) result.push_back(of.p50[i] / to.p50[i]);
  return result;
}

/// `median (10 %-90 %)`
std::string spread(const std::vector<double>& sample, int digits) {
  return fmt::format("{0:.{3}f} ({1:.{3}f}-{2:.{3}f})", median(sample), quantile(sample, 0.1),
                     quantile(sample, 0.9), digits);
}

void print(const std::vector<Measured>& all, const Options& options) {
  fmt::print("| path | services | p50, us | of plain forwarding | of bpfnet, same size | loading, s |\n");
  fmt::print("|---|---:|---:|---:|---:|---:|\n");
  for (const Measured& one : all) {
    const PathToService& path = *one.path;
    const Measured* ours = find(all, Mode::kBpfnet, path.services());
    const bool floor = path.mode() == Mode::kForwarding;
    fmt::print("| {} | {} | {} | {} | {} | {} |\n", mode_name(path.mode()),
               floor ? "" : std::to_string(path.services()), spread(one.p50, 1),
               floor ? "" : spread(ratios(one, all.front()), 2),
               floor || ours == nullptr || ours == &one ? "" : spread(ratios(one, *ours), 2),
               floor ? "" : fmt::format("{:.1f}", path.load_ms() / 1000));
  }
  fmt::print("\nEach figure: median of {} repetitions (10 %-90 % of them), {} connections each.\n",
             options.repetitions, options.burst);
}

/// What the figures are held against: ours does not grow with the services, and is below kube-proxy
/// everywhere.
void print_aims(const std::vector<Measured>& all, const Options& options) {
  double least = 1e9;
  double most = 0;
  for (const size_t size : options.sizes) {
    const double p50 = median(find(all, Mode::kBpfnet, size)->p50);
    least = std::min(least, p50);
    most = std::max(most, p50);
  }
  fmt::print("bpfnet's p50s are within {:.1f} % of each other (aim: 5 %).\n", (most / least - 1) * 100);
  for (const Mode mode : {Mode::kIptablesLegacy, Mode::kIptablesNft, Mode::kNftables}) {
    for (const size_t size : options.sizes) {
      const Measured* theirs = find(all, mode, size);
      if (theirs != nullptr && median(ratios(*theirs, *find(all, Mode::kBpfnet, size))) <= 1)
        fmt::print("Missed: {} is not slower than bpfnet with {} services.\n", mode_name(mode), size);
    }
  }
}

int run(const e2e::ClusterOptions& bed, const Options& options) {
  ::prctl(PR_SET_TIMERSLACK, 1000UL, 0, 0, 0);
  fmt::print("{}\n", machine_line());
  auto all = make_paths(bed, options);
  pin_to_last_cpu();
  for (Measured& one : all) {
    one.path->serve();
    one.path->prove();
  }
  measure(all, options);
  fmt::print("{} endpoints a service, one client, one CPU; load average after the run {:.1f}\n\n",
             options.endpoints, load_average());
  print(all, options);
  print_aims(all, options);
  return 0;
}

int main_(int argc, char** argv) {
  Options options;
  bool smoke = false;
  std::string name = "connect";
  CLI::App app("Connections through a ClusterIP, beside kube-proxy's rules.", "connect");
  app.add_option("--sizes", options.sizes, "numbers of services")->delimiter(',')->capture_default_str();
  app.add_option("--endpoints", options.endpoints, "endpoints of each service")->capture_default_str();
  app.add_option("--repetitions", options.repetitions, "repetitions over all paths")->capture_default_str();
  app.add_option("--burst", options.burst, "connections of one repetition")->capture_default_str();
  app.add_flag("!--without-kube-proxy", options.kube_proxy,
               "bpfnet and plain forwarding alone: no iptables, no nft");
  app.add_flag("--smoke", smoke, "a tiny run that shows that it works");
  app.add_option("--name", name, "in the names of namespaces and files, to run beside another one");
  CLI11_PARSE(app, argc, argv);
  if (smoke)
    options = {
        .sizes = {2, 5}, .endpoints = 2, .repetitions = 2, .burst = 5, .kube_proxy = options.kube_proxy};
  const bool positive =
      std::all_of(options.sizes.begin(), options.sizes.end(), [](size_t size) { return size > 0; });
  if (!positive || options.endpoints == 0 || options.repetitions == 0 || options.burst == 0) {
    fmt::print(stderr, "connect: numbers must be at least 1\n");
    return 2;
  }
  const e2e::ClusterOptions bed = bed_options(name);
  return guarded(bed, [&] { return run(bed, options); });
}

}  // namespace
}  // namespace bpfnet::bench

int main(int argc, char** argv) {
  return bpfnet::bench::main_(argc, argv);
}
