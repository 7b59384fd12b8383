// What many pods and policies cost the agent: parsing, the cold fill of the maps, one relabelled pod, one
// changed policy, one pod added, a restart, memory.
//
// A node in a namespace of its own with pods wired by bpfnet-cni; all others are manifests. Exit status 1 if
// the restart wrote anything into a map. Usage: policy-scale [--pods N] [--policies M] ... (--help)
#include <fmt/format.h>
#include <sys/mount.h>
#include <sys/prctl.h>

#include <CLI/CLI.hpp>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "bench/agent_run.h"
#include "bench/bed.h"
#include "bench/policy_population.h"
#include "maps/convert.h"
#include "maps/maps.h"

namespace bpfnet::bench {
namespace {

using Pods = std::vector<std::unique_ptr<e2e::Pod>>;

struct Options {
  PolicyNumbers numbers;
  size_t changes = 50;
};

template <typename T>
T must(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message);
  return std::move(*result);
}

class Run {
 public:
  Run(const e2e::ClusterOptions& bed, const Options& options)
      : bed_(bed), options_(options), node_(bed, 0), population_(options.numbers, node_.name()) {
    add_idle_uplink(node_);
    node_.write_manifest("node", e2e::NodeManifest{.name = node_.name(),
                                                   .addresses = {node_.ip(Family::kIpv4)},
                                                   .pod_cidrs = node_.pod_cidrs()}
                                     .yaml());
  }

  int measure() {
    add_local_pods();
    write_manifests();
    fmt::print("| step | |\n|---|---|\n");
    print_start("cold start", start_agent(node_));
    print_population();
    maps_.emplace(must(maps::Maps::open_pinned(node_.bpffs())));
    relabel("one pod of another node relabelled", false);
    relabel("one pod of this node relabelled", true);
    change_policies();
    add_pods();
    fmt::print("| resident memory after the changes | {:.0f} MiB |\n", memory(node_.agent().pid(), "VmRSS"));
    node_.stop_agent();
    const AgentStart again = start_agent(node_);
    print_start("restart, nothing changed", again);
    return judge_restart("policy-scale", node_, again);
  }

 private:
  Address add_pod(const BenchPod& pod) {
    local_.push_back(
        std::make_unique<e2e::Pod>(node_, bed_, pod.name, e2e::PodOptions{.ns = pod.ns, .serve = false}));
    return local_.back()->ip(Family::kIpv4);
  }

  /// Before the manifests are there, so that the cold start finds pods to isolate.
  void add_local_pods() {
    node_.start();
    for (const size_t pod : population_.local_pods())
      population_.set_ip(pod, add_pod(population_.pods()[pod]));
    node_.stop_agent();
    // The maps are to be filled by the start that is measured.
    if (::umount2(node_.bpffs().c_str(), MNT_DETACH) != 0)
      throw std::runtime_error("umount " + node_.bpffs());
  }

  void write_file(const std::string& name, const std::string& text) {
    bytes_ += text.size();
    std::ofstream(node_.dir("manifests/" + name)) << text;
  }
  void write_manifests() {
    write_file("namespaces.yaml", population_.namespaces_yaml());
    for (size_t i = 0; i < population_.pod_files(); ++i)
      write_file(PolicyPopulation::pod_file_name(i), population_.pod_file(i));
    for (size_t i = 0; i < population_.policy_files(); ++i)
      write_file(PolicyPopulation::policy_file_name(i), population_.policy_file(i));
    fmt::print("{} pods ({} on the node), {} policies, {} per file, {:.1f} MB\n\n", options_.numbers.pods,
               local_.size(), options_.numbers.policies, options_.numbers.per_file,
               static_cast<double>(bytes_) / 1e6);
  }
  void print_population() {
    const auto status = node_.api("/v1/status");
    fmt::print("| identities, policy sets, endpoints | {}, {}, {} |\n", status.at("identities").get<size_t>(),
               status.at("policy_sets").get<size_t>(), status.at("endpoints").get<size_t>());
    fmt::print("| policy entries written | {} |\n",
               status.at("maps").at("policies").at("puts").get<size_t>());
    if (const auto problems = status.at("problems").get<size_t>(); problems != 0)
      fmt::print("| problems | {} |\n", problems);
    std::fflush(stdout);
  }

  [[nodiscard]] uint32_t identity_of(const Address& ip) const {
    const auto info = must(maps_->addresses.get(maps::make_address_key(ip)));
    return info ? info->identity : 0;
  }

  /// Pods all over the range get a label that nobody had.
  void relabel(const std::string& what, bool local) {
    std::vector<size_t> pods;
    for (size_t i = 0; i < population_.pods().size(); ++i)
      if (population_.pods()[i].local == local) pods.push_back(i);
    LoneChanges changes(node_);
    const size_t count = std::min(options_.changes, pods.size());
    for (size_t i = 0; i < count; ++i) {
      const size_t pod = pods[i * pods.size() / count];
      const size_t file = population_.file_of(pod);
      const std::string text = population_.pod_file(file, pod, fmt::format("v{}", i));
      const Address& ip = population_.pods()[pod].ip;
      const uint32_t before = identity_of(ip);
      changes.measure(
          population_.pods()[pod].name,
          [&] {
            e2e::write_atomically(node_.dir("manifests/" + PolicyPopulation::pod_file_name(file)), text);
          },
          [&] { return identity_of(ip) != before; });
    }
    changes.print(what);
  }

  /// Policies that isolate a pod of this node get another port.
  void change_policies() {
    LoneChanges changes(node_);
    const auto records = node_.api("/v1/endpoints").at("endpoints");
    std::set<size_t> changed;
    size_t count = 0;
    for (const size_t pod : population_.local_pods()) {
      const size_t policy = population_.policy_of(pod);
      if (policy == SIZE_MAX || !changed.insert(policy).second || ++count > options_.changes) continue;
      const BenchPod& each = population_.pods()[pod];
      uint32_t index = 0;
      for (const auto& record : records)
        if (record.at("pod") == each.ns + "/" + each.name) index = record.at("index").get<uint32_t>();
      const size_t file = population_.file_of(policy);
      const std::string text = population_.policy_file(file, policy, 1);
      const auto set_of = [&] { return must(maps_->endpoints.get(index)).ingress_set; };
      const uint32_t before = set_of();
      changes.measure(
          fmt::format("policy {}", policy),
          [&] {
            e2e::write_atomically(node_.dir("manifests/" + PolicyPopulation::policy_file_name(file)), text);
          },
          [&] { return set_of() != before; });
    }
    changes.print("one policy changed");
  }

  /// What the agent says of ADDs; the rest of each is the plugin's and the kernel's.
  void add_pods() {
    LoneChanges changes(node_);
    for (size_t i = 0; i < std::min<size_t>(options_.changes, 20); ++i) {
      const BenchPod pod{.ns = "team-00", .name = fmt::format("added-{}", i), .policy_tier = 0, .ip = {}};
      changes.measure(
          pod.name, [&] { add_pod(pod); }, [] { return true; });
    }
    changes.print("one pod added by CNI");
  }

  const e2e::ClusterOptions& bed_;
  const Options& options_;
  e2e::Node node_;
  PolicyPopulation population_;
  Pods local_;
  std::optional<maps::Maps> maps_;
  size_t bytes_ = 0;
};

int main_(int argc, char** argv) {
  Options options;
  bool smoke = false;
  std::string name = "policy-scale";
  PolicyNumbers& numbers = options.numbers;
  CLI::App app("What many pods and policies cost the agent.", "policy-scale");
  app.add_option("--pods", numbers.pods, "pods of the cluster")->capture_default_str();
  app.add_option("--local", numbers.local, "pods of the own node, among them")->capture_default_str();
  app.add_option("--policies", numbers.policies, "policies")->capture_default_str();
  app.add_option("--identities", numbers.identities, "different sets of labels")->capture_default_str();
  app.add_option("--namespaces", numbers.namespaces, "namespaces")->capture_default_str();
  app.add_option("--per-file", numbers.per_file, "objects in one file")->capture_default_str();
  app.add_option("--changes", options.changes, "lone changes measured")->capture_default_str();
  app.add_flag("--smoke", smoke, "a tiny run that shows that it works");
  app.add_option("--name", name, "in the names of namespaces and files, to run beside another one");
  CLI11_PARSE(app, argc, argv);
  if (smoke)
    options = {
        .numbers =
            {.namespaces = 10, .pods = 120, .policies = 200, .identities = 40, .local = 5, .per_file = 4},
        .changes = 3};
  if (numbers.namespaces == 0 || numbers.per_file == 0 || numbers.local == 0 || options.changes == 0 ||
      numbers.local > numbers.pods) {
    fmt::print(stderr, "policy-scale: numbers must be at least 1, and no more local pods than pods\n");
    return 2;
  }
  e2e::ClusterOptions bed = bed_options(name);
  bed.nodes = {"node-a"};
  ::prctl(PR_SET_TIMERSLACK, 1000UL, 0, 0, 0);  // 1 us: a look is not later than it was meant to be
  fmt::print("{}\n", machine_line());
  return guarded(bed, [&] { return Run(bed, options).measure(); });
}

}  // namespace
}  // namespace bpfnet::bench

int main(int argc, char** argv) {
  return bpfnet::bench::main_(argc, argv);
}
