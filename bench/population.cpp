#include "bench/population.h"

#include <fmt/format.h>

#include <algorithm>

namespace bpfnet::bench {
namespace {

constexpr size_t kNamespaces = 100;
constexpr size_t kServiceNodes = 250;

const Address kFirstClusterIp = Address::from_ipv4({10, 96, 1, 0});
const Address kFirstBackend = Address::from_ipv4({10, 128, 0, 1});

std::string node_of(const Endpoint& endpoint) {
  const auto octets = endpoint.ip.ipv4();
  return fmt::format("node-{}", (octets[2] * 256U + octets[3]) % kServiceNodes);
}

std::string service_yaml(const Service& s) {
  return fmt::format(
      "---\n"
      "apiVersion: v1\n"
      "kind: Service\n"
      "metadata:\n"
      "  name: {0}\n"
      "  namespace: {1}\n"
      "spec:\n"
      "  type: ClusterIP\n"
      "  clusterIP: {2}\n"
      "  clusterIPs: [{2}]\n"
      "  ipFamilies: [IPv4]\n"
      "  ports:\n"
      "  - name: {3}\n"
      "    protocol: TCP\n"
      "    port: {4}\n",
      s.name, s.ns, s.cluster_ip.to_string(), s.port_name, s.port);
}

/// Backends with one port: what one EndpointSlice can hold.
struct Slice {
  uint16_t port = 0;
  std::vector<Endpoint> endpoints;
};

/// The first `used` backends. A service without any has one empty slice.
std::vector<Slice> slices(const Service& s, size_t used) {
  std::vector<Slice> result;
  for (size_t i = 0; i < used; i++) {
    const Endpoint& endpoint = s.endpoints[i];
    auto found =
        std::find_if(result.begin(), result.end(), [&](const Slice& x) { return x.port == endpoint.port; });
    if (found == result.end())
      found = result.insert(result.end(), Slice{.port = endpoint.port, .endpoints = {}});
    found->endpoints.push_back(endpoint);
  }
  if (result.empty())
    result.push_back({.port = s.endpoints.empty() ? uint16_t{1} : s.endpoints.front().port, .endpoints = {}});
  return result;
}

std::string slice_yaml(const Service& s, const Slice& slice) {
  std::string text = fmt::format(
      "---\n"
      "apiVersion: discovery.k8s.io/v1\n"
      "kind: EndpointSlice\n"
      "metadata:\n"
      "  name: {0}-{3}\n"
      "  namespace: {1}\n"
      "  labels:\n"
      "    kubernetes.io/service-name: {0}\n"
      "addressType: IPv4\n"
      "ports:\n"
      "- name: {2}\n"
      "  protocol: TCP\n"
      "  port: {3}\n"
      "endpoints:{4}\n",
      s.name, s.ns, s.port_name, slice.port, slice.endpoints.empty() ? " []" : "");
  for (const Endpoint& endpoint : slice.endpoints) {
    text += fmt::format(
        "- addresses: [{}]\n"
        "  conditions: {{ready: true, serving: true, terminating: false}}\n"
        "  nodeName: {}\n",
        endpoint.ip.to_string(), node_of(endpoint));
  }
  return text;
}

std::string service_json(const Service& s) {
  return fmt::format(
      R"({{"apiVersion":"v1","kind":"Service","metadata":{{"name":"{0}","namespace":"{1}"}},)"
      R"("spec":{{"type":"ClusterIP","clusterIP":"{2}","clusterIPs":["{2}"],"ipFamilies":["IPv4"],)"
      R"("ports":[{{"name":"{3}","protocol":"TCP","port":{4}}}]}}}})"
      "\n",
      s.name, s.ns, s.cluster_ip.to_string(), s.port_name, s.port);
}

std::string slice_json(const Service& s, const Slice& slice) {
  std::string endpoints;
  for (const Endpoint& endpoint : slice.endpoints) {
    endpoints += fmt::format(
        R"({}{{"addresses":["{}"],"conditions":{{"ready":true,"serving":true,"terminating":false}},"nodeName":"{}"}})",
        endpoints.empty() ? "" : ",", endpoint.ip.to_string(), node_of(endpoint));
  }
  return fmt::format(
      R"({{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{{"name":"{0}-{3}",)"
      R"("namespace":"{1}","labels":{{"kubernetes.io/service-name":"{0}"}}}},"addressType":"IPv4",)"
      R"("ports":[{{"name":"{2}","protocol":"TCP","port":{3}}}],"endpoints":[{4}]}})"
      "\n",
      s.name, s.ns, s.port_name, slice.port, endpoints);
}

}  // namespace

std::vector<Service> make_services(size_t services, size_t endpoints) {
  std::vector<Service> result(services);
  for (size_t i = 0; i < services; i++) {
    Service& service = result[i];
    service.ns = fmt::format("team-{:02}", i % kNamespaces);
    service.name = fmt::format("svc-{:05}", i);
    service.port_name = "http";
    service.cluster_ip = kFirstClusterIp.plus(i).value();
    service.port = 80;
    for (size_t j = 0; j < endpoints; j++)
      service.endpoints.push_back({kFirstBackend.plus(i * endpoints + j).value(), 8080});
  }
  return result;
}

std::string manifest(const Service& service, ManifestFormat format, size_t used) {
  const bool yaml = format == ManifestFormat::kYaml;
  std::string text = yaml ? service_yaml(service) : service_json(service);
  for (const Slice& slice : slices(service, std::min(used, service.endpoints.size())))
    text += yaml ? slice_yaml(service, slice) : slice_json(service, slice);
  return text;
}

ManifestFiles::ManifestFiles(std::vector<Service> services, size_t per_file, ManifestFormat format)
    : services_(std::move(services)), per_file_(per_file), format_(format) {}

std::string ManifestFiles::name(size_t file) const {
  return fmt::format("services-{:05}.{}", file, format_ == ManifestFormat::kYaml ? "yaml" : "json");
}

std::string ManifestFiles::text(size_t file, size_t service, size_t used) const {
  std::string result;
  const size_t end = std::min(services_.size(), (file + 1) * per_file_);
  for (size_t i = file * per_file_; i < end; i++)
    result += manifest(services_[i], format_, i == service ? used : SIZE_MAX);
  return result;
}

}  // namespace bpfnet::bench
