#include "tests/unit/kubernetes_fixture.h"

#include <poll.h>

#include "tests/support/must.h"

namespace bpfnet::kubernetes {

using nlohmann::json;
using namespace std::chrono_literals;

json service(const std::string& name, const std::string& ip, const json& labels) {
  return {
      {"kind", "Service"},
      {"apiVersion", "v1"},
      {"metadata", {{"name", name}, {"namespace", "default"}, {"labels", labels}}},
      {"spec", {{"clusterIP", ip}, {"type", "ClusterIP"}, {"ports", {{{"port", 80}, {"protocol", "TCP"}}}}}}};
}

json slice(const std::string& name, const std::string& service, const std::vector<std::string>& ips,
           const json& labels) {
  json all = labels;
  all["kubernetes.io/service-name"] = service;
  json endpoints = json::array();
  for (const std::string& ip : ips)
    endpoints.push_back({{"addresses", {ip}}, {"conditions", {{"ready", true}}}});
  return {{"kind", "EndpointSlice"},
          {"apiVersion", "discovery.k8s.io/v1"},
          {"metadata", {{"name", name}, {"namespace", "default"}, {"labels", all}}},
          {"addressType", "IPv4"},
          {"ports", {{{"name", ""}, {"port", 8080}, {"protocol", "TCP"}}}},
          {"endpoints", endpoints}};
}

json pod(const std::string& name, const std::string& node, const std::string& ip) {
  return {{"kind", "Pod"},
          {"apiVersion", "v1"},
          {"metadata", {{"name", name}, {"namespace", "default"}, {"labels", {{"app", name}}}}},
          {"spec",
           {{"nodeName", node},
            {"containers",
             {{{"name", "c"},
               {"ports",
                {{{"containerPort", 80}, {"hostPort", 8080}}, {{"containerPort", 81}, {"name", "web"}}}}}}}}},
          {"status", {{"phase", "Running"}, {"podIP", ip}, {"podIPs", {{{"ip", ip}}}}}}};
}

json node(const std::string& name, const std::string& ip) {
  return {{"kind", "Node"},
          {"apiVersion", "v1"},
          {"metadata", {{"name", name}}},
          {"spec", {{"podCIDR", "10.244.1.0/24"}, {"podCIDRs", {"10.244.1.0/24", "fd00:10:244:1::/64"}}}},
          {"status", {{"addresses", {{{"type", "InternalIP"}, {"address", ip}}}}}}};
}

KubernetesSource::Options SourceTest::quick() {
  KubernetesSource::Options options;
  options.node_name = "node-a";
  options.times.initial = 300ms;
  options.times.missing = 100ms;
  options.seed = 7;
  return options;
}

void SourceTest::open(KubernetesSource::Options options) {
  if (options.cluster.server.empty()) options.cluster.server = server_.url();
  if (options.cluster.origin.empty()) options.cluster.origin = "test";
  source_ = test::must(KubernetesSource::start(std::move(options)));
}

bool SourceTest::until(const std::function<bool()>& holds) {
  const auto end = std::chrono::steady_clock::now() + 10s;
  while (!holds()) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    if (left <= 0ms) return false;
    pollfd ready{source_->fd(), POLLIN, 0};
    // What only the server knows is looked at now and then; everything else wakes the source.
    ::poll(&ready, 1, static_cast<int>(std::min(left, 10ms).count()));
    source_->process();
  }
  return true;
}

bool SourceTest::until_current(const std::string& kind) {
  const uint64_t version = server_.version();
  return until([&] {
    const std::string seen = status(kind).version;
    return !seen.empty() && std::stoull(seen) >= version;
  });
}

std::vector<std::string> SourceTest::services() const {
  std::vector<std::string> names;
  for (const auto& [name, each] : source_->state().services) names.push_back(name.name);
  return names;
}

sources::KindStatus SourceTest::status(const std::string& kind) const {
  for (const auto& each : source_->kinds())
    if (each.kind == kind) return each;
  return {};
}

std::vector<std::string> SourceTest::problems() const {
  std::vector<std::string> texts;
  for (const auto& each : source_->problems()) texts.push_back(each.to_string());
  return texts;
}

std::vector<std::string> SourceTest::asked(const std::string& plural) const {
  std::vector<std::string> all;
  for (const auto& request : server_.requests()) {
    if (is_watch(request, plural))
      all.push_back(request.parameter("sendInitialEvents") == "true" ? "initial" : "watch");
    if (!is_list(request, plural)) continue;
    const std::string version = request.parameter("resourceVersion");
    all.push_back(!request.parameter("continue").empty() ? "page"
                  : version.empty()                      ? "list"
                                                         : "list " + version);
  }
  return all;
}

bool is_watch(const test::HttpRequest& request, const std::string& plural) {
  return request.method == "GET" && request.path.ends_with("/" + plural) &&
         request.parameter("watch") == "true";
}

bool is_list(const test::HttpRequest& request, const std::string& plural) {
  return request.method == "GET" && request.path.ends_with("/" + plural) &&
         request.parameter("watch").empty();
}

}  // namespace bpfnet::kubernetes
