#include "tests/support/apiserver/resources.h"

namespace bpfnet::test {

std::string Resource::root() const {
  return (version == "v1" ? "/api/" : "/apis/") + version;
}

const std::vector<Resource>& known_resources() {
  static const std::vector<Resource> kAll = {
      {"Namespace", "v1", "namespaces", false},
      {"Node", "v1", "nodes", false},
      {"Pod", "v1", "pods", true},
      {"Service", "v1", "services", true},
      {"Event", "v1", "events", true},
      {"EndpointSlice", "discovery.k8s.io/v1", "endpointslices", true},
      {"NetworkPolicy", "networking.k8s.io/v1", "networkpolicies", true},
      {"ServiceCIDR", "networking.k8s.io/v1", "servicecidrs", false},
      {"ClusterNetworkPolicy", "policy.networking.k8s.io/v1alpha2", "clusternetworkpolicies", false},
  };
  return kAll;
}

const Resource* resource_of_kind(std::string_view kind) {
  for (const Resource& each : known_resources())
    if (each.kind == kind) return &each;
  return nullptr;
}

std::optional<Target> parse_target(const std::string& path) {
  for (const Resource& resource : known_resources()) {
    if (!path.starts_with(resource.root() + "/")) continue;
    std::vector<std::string> parts;
    for (size_t at = resource.root().size() + 1; at <= path.size();) {
      const size_t end = std::min(path.find('/', at), path.size());
      parts.push_back(path.substr(at, end - at));
      at = end + 1;
    }
    Target target{.resource = &resource, .ns = {}, .name = {}, .subresource = {}};
    size_t at = 0;
    if (parts.size() >= 3 && parts[0] == "namespaces" && parts[2] == resource.plural && resource.namespaced) {
      target.ns = parts[1];
      at = 2;
    }
    if (parts[at] != resource.plural) continue;
    if (resource.kind == "Namespace" && parts.size() > 2 && parts[2] != "status") continue;  // what is in one
    if (parts.size() > at + 1) target.name = parts[at + 1];
    if (parts.size() > at + 2) target.subresource = parts[at + 2];
    if (parts.size() > at + 3) continue;
    return target;
  }
  return {};
}

}  // namespace bpfnet::test
