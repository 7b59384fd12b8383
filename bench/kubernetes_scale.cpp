// What a large cluster costs an agent that has its state from an API server: 10,000 Services, as many
// EndpointSlices and 50,000 Pods listed, decoded and in the maps; and what it occupies then.
//
// The API server is that of the tests, in this process. Exit status 1 if the figures are above those of issue
// 5 (10 s, 400 MiB at the most, 150 MiB afterwards) in a run of that size.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "bench/agent_run.h"
#include "bench/bed.h"
#include "bench/statistics.h"
#include "maps/convert.h"
#include "maps/maps.h"

namespace bpfnet::bench {
namespace {

using nlohmann::json;
using std::chrono::steady_clock;

struct Options {
  size_t services = 10000;
  size_t pods = 50000;
  bool lists = false;  ///< without WatchList
  bool judge = false;
};

std::string pod_ip(size_t i) {
  return fmt::format("10.{}.{}.{}", 128 + i / 62500, i / 250 % 250, 1 + i % 250);
}

/// With all that a controller and a kubelet write: 4 KB.
json pod(size_t i, size_t apps) {
  const std::string ip = pod_ip(i);
  json fields = json::object();
  for (int f = 0; f < 24; ++f)
    fields[fmt::format("f:field-{}", f)] = {{"f:inner", json::object()}, {".", json::object()}};
  return {{"kind", "Pod"},
          {"apiVersion", "v1"},
          {"metadata",
           {{"name", fmt::format("app-{}-6f7c9d8b5-{:05x}", i % apps, i)},
            {"namespace", fmt::format("team-{}", i % apps % 100)},
            {"labels",
             {{"app", fmt::format("app-{}", i % apps)},
              {"pod-template-hash", fmt::format("{:08x}", i % apps)},
              {"tier", "backend"}}},
            {"annotations", {{"prometheus.io/scrape", "true"}}},
            {"ownerReferences",
             json::array(
                 {{{"kind", "ReplicaSet"}, {"name", "x"}, {"uid", "6a1e5b8e-0000-0000-0000-000000000000"}}})},
            {"managedFields",
             json::array({{{"manager", "kubelet"}, {"operation", "Update"}, {"fieldsV1", fields}}})}}},
          {"spec",
           {{"nodeName", fmt::format("node-{}", i % 1000)},
            {"serviceAccountName", "default"},
            {"volumes", json::array({{{"name", "kube-api-access"}, {"projected", {{"defaultMode", 420}}}}})},
            {"containers",
             json::array(
                 {{{"name", "main"},
                   {"image", "registry.example/team/app:1.2.3"},
                   {"ports", json::array({{{"name", "http"}, {"containerPort", 8080}, {"protocol", "TCP"}}})},
                   {"env", json::array({{{"name", "A"}, {"value", "some value"}},
                                        {{"name", "B"}, {"value", "another value"}}})},
                   {"resources", {{"limits", {{"cpu", "1"}, {"memory", "1Gi"}}}}},
                   {"volumeMounts",
                    json::array({{{"name", "kube-api-access"}, {"mountPath", "/var/run/secrets"}}})}}})}}},
          {"status",
           {{"phase", "Running"},
            {"podIP", ip},
            {"podIPs", json::array({{{"ip", ip}}})},
            {"conditions", json::array({{{"type", "Ready"}, {"status", "True"}},
                                        {{"type", "Initialized"}, {"status", "True"}}})},
            {"containerStatuses", json::array({{{"name", "main"}, {"ready", true}, {"restartCount", 0}}})}}}};
}

std::string service_ip(size_t i) {
  return fmt::format("10.{}.{}.{}", 97, i / 250, 1 + i % 250);
}

json service(size_t i) {
  return {{"kind", "Service"},
          {"apiVersion", "v1"},
          {"metadata", {{"name", fmt::format("app-{}", i)}, {"namespace", fmt::format("team-{}", i % 100)}}},
          {"spec",
           {{"clusterIP", service_ip(i)},
            {"clusterIPs", json::array({service_ip(i)})},
            {"ipFamilies", json::array({"IPv4"})},
            {"type", "ClusterIP"},
            {"selector", {{"app", fmt::format("app-{}", i)}}},
            {"ports",
             json::array({{{"name", "http"}, {"port", 80}, {"protocol", "TCP"}, {"targetPort", 8080}}})}}}};
}

json slice(size_t i, const Options& options, size_t used = SIZE_MAX) {
  json endpoints = json::array();
  for (size_t p = i; p < options.pods && endpoints.size() < used; p += options.services)
    endpoints.push_back({{"addresses", json::array({pod_ip(p)})},
                         {"conditions", {{"ready", true}, {"serving", true}, {"terminating", false}}},
                         {"nodeName", fmt::format("node-{}", p % 1000)},
                         {"targetRef", {{"kind", "Pod"}, {"name", "x"}, {"namespace", "y"}}},
                         {"zone", "zone-a"}});
  return {{"kind", "EndpointSlice"},
          {"apiVersion", "discovery.k8s.io/v1"},
          {"metadata",
           {{"name", fmt::format("app-{}-abcde", i)},
            {"namespace", fmt::format("team-{}", i % 100)},
            {"labels", {{"kubernetes.io/service-name", fmt::format("app-{}", i)}}}}},
          {"addressType", "IPv4"},
          {"ports", json::array({{{"name", "http"}, {"port", 8080}, {"protocol", "TCP"}}})},
          {"endpoints", endpoints}};
}

void row(const std::string& what, const std::string& value) {
  fmt::print("| {} | {} |\n", what, value);
  std::fflush(stdout);
}

int measure(const e2e::ClusterOptions& bed, const Options& options) {
  fmt::print("{}\n", machine_line());
  e2e::Node node(bed, 0);
  add_idle_uplink(node);
  auto api = std::make_shared<e2e::ApiMirror>(node.netns(), "127.0.0.1");
  node.use_api(api);
  test::ApiServer& server = api->server();
  server.set_watch_list(!options.lists);
  server.put_all(test::objects_of_manifest(e2e::NodeManifest{
      .name = node.name(), .addresses = {node.ip(Family::kIpv4)}, .pod_cidrs = node.pod_cidrs()}
                                               .yaml()));
  size_t bytes = 0;
  const auto put = [&](const json& object) {
    bytes += object.dump().size();
    server.put(object);
  };
  for (size_t i = 0; i < options.services; ++i) {
    put(service(i));
    put(slice(i, options));
  }
  for (size_t i = 0; i < options.pods; ++i) put(pod(i, 2000));
  fmt::print("{} Services, {} EndpointSlices, {} Pods, {:.0f} MB of JSON, {}\n\n| step | |\n|---|---|\n",
             options.services, options.services, options.pods, static_cast<double>(bytes) / 1e6,
             options.lists ? "lists" : "WatchList");

  const AgentStart start = start_agent(node);
  row("cold start: from exec to all in the maps", fmt::format("{:.0f} ms", start.until_ready_ms));
  row("... of which compile and publish",
      fmt::format("{:.0f} ms, {} map writes", start.sync_ms, start.writes));
  row("... resident memory at the most", fmt::format("{:.0f} MiB", start.peak_mb));

  auto maps = maps::Maps::open_pinned(node.bpffs());
  if (!maps) throw std::runtime_error(maps.error().message);
  std::vector<double> times;
  const size_t changes = std::min<size_t>(50, options.services);
  for (size_t i = 0; i < changes; ++i) {
    const size_t which = i * options.services / changes;
    const auto key = maps::make_frontend_key(Address::parse(service_ip(which)).value(), 80, IPPROTO_TCP);
    const auto before = maps->frontends.get(key).value();
    e2e::pause(e2e::milliseconds(25));
    const auto begin = steady_clock::now();
    server.put(slice(which, options, 1));
    while (maps->frontends.get(key).value()->first == before->first) {
      if (milliseconds_since(begin) > 20000) throw std::runtime_error("a change never came");
      ::usleep(20);
    }
    times.push_back(milliseconds_since(begin));
  }
  print_times(fmt::format("one changed slice, from the API server to the map: median (fastest-slowest of {})",
                          times.size()),
              times);
  e2e::pause(e2e::milliseconds(3000));
  const double steady = memory(node.agent().pid(), "VmRSS");
  row("resident memory afterwards", fmt::format("{:.0f} MiB", steady));

  node.stop_agent();
  const AgentStart again = start_agent(node);
  row("restart, nothing changed: from exec to ready",
      fmt::format("{:.0f} ms, {} map writes", again.until_ready_ms, again.writes));
  if (options.judge && (start.until_ready_ms > 10000 || start.peak_mb > 400 || steady > 150)) return 1;
  return judge_restart("kubernetes-scale", node, again);
}

int main_(int argc, char** argv) {
  Options options;
  bool smoke = false;
  std::string name = "kube";
  CLI::App app("What a large cluster costs an agent on an API server.", "kubernetes-scale");
  app.add_option("--services", options.services, "Services, each with a slice")
      ->capture_default_str()
      ->check(CLI::Range(1, 60000));
  app.add_option("--pods", options.pods, "Pods of 1,000 nodes")
      ->capture_default_str()
      ->check(CLI::Range(1, 60000));
  app.add_flag("--lists", options.lists, "lists in pages instead of WatchList");
  app.add_flag("--judge", options.judge, "fail above 10 s, 400 MiB, 150 MiB");
  app.add_flag("--smoke", smoke, "a tiny run that shows that it works");
  app.add_option("--name", name, "in the names of namespaces and files, to run beside another one");
  CLI11_PARSE(app, argc, argv);
  if (smoke) options = {.services = 20, .pods = 60, .lists = options.lists};
  e2e::ClusterOptions bed = bed_options(name);
  bed.nodes = {"node-a"};
  return guarded(bed, [&] { return measure(bed, options); });
}

}  // namespace
}  // namespace bpfnet::bench

int main(int argc, char** argv) {
  return bpfnet::bench::main_(argc, argv);
}
