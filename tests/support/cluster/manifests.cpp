#include "tests/support/cluster/manifests.h"

#include <fmt/format.h>

#include <algorithm>

namespace bpfnet::e2e {
namespace {

std::string inline_labels(const LabelMap& labels) {
  std::string text;
  for (const auto& [key, value] : labels) {
    text += fmt::format("{}{}: \"{}\"", text.empty() ? "" : ", ", key, value);
  }
  return "{" + text + "}";
}

std::string quoted_list(const std::vector<Address>& addresses) {
  std::string text;
  for (const auto& address : addresses) {
    text += fmt::format("{}\"{}\"", text.empty() ? "" : ", ", address.to_string());
  }
  return "[" + text + "]";
}

std::string metadata(const std::string& ns, const std::string& name, const LabelMap& labels) {
  std::string text = fmt::format("metadata:\n  name: {}\n", name);
  if (!ns.empty()) text += fmt::format("  namespace: {}\n", ns);
  if (!labels.empty()) text += fmt::format("  labels: {}\n", inline_labels(labels));
  return text;
}

std::string named_list(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) text += fmt::format("{}{{name: {}}}", text.empty() ? "" : ", ", name);
  return "[" + text + "]";
}

std::string endpoint(const BackendManifest& backend, const Address& ip) {
  std::string text =
      fmt::format("- addresses: [\"{}\"]\n  conditions: {{ready: {}", ip.to_string(), backend.ready);
  if (backend.serving) text += fmt::format(", serving: {}", *backend.serving);
  if (backend.terminating) text += fmt::format(", terminating: {}", *backend.terminating);
  text += "}\n";
  if (!backend.node.empty()) text += fmt::format("  nodeName: {}\n", backend.node);
  if (!backend.for_zones.empty() || !backend.for_nodes.empty()) {
    text += fmt::format("  hints: {{forZones: {}, forNodes: {}}}\n", named_list(backend.for_zones),
                        named_list(backend.for_nodes));
  }
  return text;
}

std::string slice(const ServiceManifest& service, Family family, const std::string& suffix = "") {
  std::string text = "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n";
  text += metadata(service.ns,
                   fmt::format("{}-{}{}", service.name, family == Family::kIpv4 ? "v4" : "v6", suffix),
                   {{"kubernetes.io/service-name", service.name}});
  text += fmt::format("addressType: {}\nports:\n", family == Family::kIpv4 ? "IPv4" : "IPv6");
  for (const auto& port : service.ports) {
    text +=
        fmt::format("- {{name: \"{}\", protocol: {}, port: {}}}\n", port.name, port.protocol, port.target);
  }
  std::string endpoints;
  for (const auto& backend : service.backends) {
    for (const auto& ip : backend.ips) {
      if (ip.family() != family) continue;
      endpoints += endpoint(backend, ip);
    }
  }
  return text + (endpoints.empty() ? "endpoints: []\n" : "endpoints:\n" + endpoints);
}

}  // namespace

std::string NodeManifest::yaml() const {
  std::string text = "apiVersion: v1\nkind: Node\n" + metadata("", name, labels) + "spec:\n";
  if (!pod_cidrs.empty()) {
    text += fmt::format("  podCIDR: \"{}\"\n  podCIDRs: [\"{}\"]\n", pod_cidrs.front(),
                        fmt::join(pod_cidrs, "\", \""));
  }
  text += "status:\n  addresses:\n";
  for (const auto& address : addresses) {
    text += fmt::format("  - {{type: InternalIP, address: \"{}\"}}\n", address.to_string());
  }
  return text + fmt::format("  - {{type: Hostname, address: {}}}\n", name);
}

std::string NamespaceManifest::yaml() const {
  return "apiVersion: v1\nkind: Namespace\n" + metadata("", name, labels);
}

std::string PodManifest::yaml() const {
  std::string text = "apiVersion: v1\nkind: Pod\n" + metadata(ns, name, labels);
  if (terminating) text += "  deletionTimestamp: \"2026-01-01T00:00:00Z\"\n";
  text += fmt::format("spec:\n  nodeName: {}\n  hostNetwork: {}\n  containers:\n  - name: main\n", node,
                      host_network);
  if (!ports.empty()) {
    text += "    ports:\n";
    for (const auto& port : ports) {
      text += fmt::format("    - {{name: {}, containerPort: {}, protocol: {}}}\n", port.name, port.port,
                          port.protocol);
    }
  }
  const char* by_address = ips.empty() ? "Pending" : "Running";
  text += fmt::format("status:\n  phase: {}\n", phase.empty() ? by_address : phase);
  if (!ips.empty()) {
    text += fmt::format("  podIP: \"{}\"\n  podIPs:\n", ips.front().to_string());
    for (const auto& ip : ips) text += fmt::format("  - {{ip: \"{}\"}}\n", ip.to_string());
  }
  return text;
}

std::string ServiceManifest::service_yaml() const {
  const bool node_ports = std::ranges::any_of(ports, [](const auto& port) { return port.node_port != 0; });
  const std::string kind = !type.empty()                ? type
                           : !load_balancer_ips.empty() ? "LoadBalancer"
                           : node_ports                 ? "NodePort"
                                                        : "ClusterIP";
  std::string text = "apiVersion: v1\nkind: Service\n" + metadata(ns, name, labels) + "spec:\n";
  text += fmt::format("  type: {}\n  clusterIP: \"{}\"\n  clusterIPs: {}\n  ipFamilies: [", kind,
                      cluster_ips.front().to_string(), quoted_list(cluster_ips));
  for (const auto& ip : cluster_ips) {
    text += fmt::format("{}{}", &ip == &cluster_ips.front() ? "" : ", ", ip.is_ipv4() ? "IPv4" : "IPv6");
  }
  text += "]\n";
  if (!external_traffic_policy.empty())
    text += fmt::format("  externalTrafficPolicy: {}\n", external_traffic_policy);
  if (!internal_traffic_policy.empty())
    text += fmt::format("  internalTrafficPolicy: {}\n", internal_traffic_policy);
  if (!external_ips.empty()) text += fmt::format("  externalIPs: {}\n", quoted_list(external_ips));
  if (!source_ranges.empty()) {
    text += fmt::format("  loadBalancerSourceRanges: [\"{}\"]\n", fmt::join(source_ranges, "\", \""));
  }
  if (affinity_seconds) {
    text += fmt::format(
        "  sessionAffinity: ClientIP\n  sessionAffinityConfig: {{clientIP: {{timeoutSeconds: {}}}}}\n",
        *affinity_seconds);
  }
  if (!allocate_node_ports) text += "  allocateLoadBalancerNodePorts: false\n";
  text += "  ports:\n";
  for (const auto& port : ports) {
    text += fmt::format("  - {{name: \"{}\", protocol: {}, port: {}, targetPort: {}", port.name,
                        port.protocol, port.port, port.target);
    text += port.node_port != 0 ? fmt::format(", nodePort: {}}}\n", port.node_port) : "}\n";
  }
  if (!load_balancer_ips.empty()) {
    text += "status:\n  loadBalancer:\n    ingress:\n";
    for (const auto& ip : load_balancer_ips) {
      text += fmt::format("    - {{ip: \"{}\"", ip.to_string());
      text += load_balancer_ip_mode.empty() ? "}\n" : fmt::format(", ipMode: {}}}\n", load_balancer_ip_mode);
    }
  }
  return text;
}

std::string ServiceManifest::yaml() const {
  std::string text = service_yaml();
  for (const auto& ip : cluster_ips) text += slice(*this, ip.family());
  return text;
}

std::string ServiceManifest::more_slices(const std::string& suffix,
                                         const std::vector<BackendManifest>& others) const {
  ServiceManifest other = *this;
  other.backends = others;
  std::string text;
  for (const auto& ip : cluster_ips) text += slice(other, ip.family(), suffix);
  return text;
}

}  // namespace bpfnet::e2e
