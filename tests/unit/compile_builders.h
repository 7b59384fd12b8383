#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "control/compile/images.h"
#include "maps/abi/service.h"
#include "tests/support/addresses.h"

// Short words for cluster objects, so that a test reads as the case it is about.
namespace bpfnet::compile::test {

inline model::ObjectName name(std::string ns, std::string object) {
  return {std::move(ns), std::move(object)};
}

inline model::SliceEndpoint endpoint(std::string_view address, std::string node = "here") {
  model::SliceEndpoint endpoint;
  endpoint.ip = ip(address);
  endpoint.node_name = std::move(node);
  return endpoint;
}
inline model::SliceEndpoint not_ready(model::SliceEndpoint endpoint) {
  endpoint.ready = endpoint.serving = false;
  return endpoint;
}
inline model::SliceEndpoint draining(model::SliceEndpoint endpoint) {
  endpoint.ready = false;
  endpoint.terminating = true;
  return endpoint;
}

inline Backend backend(std::string_view address, uint16_t port) {
  return {ip(address), port};
}
inline FrontendAddress at(std::string_view address, uint16_t port,
                          model::Protocol protocol = model::Protocol::kTcp) {
  return {ip(address), port, static_cast<uint8_t>(protocol), SCOPE_ADDRESS, 0};
}
inline FrontendAddress any_local(uint16_t port, std::string_view any = "0.0.0.0",
                                 model::Protocol protocol = model::Protocol::kTcp) {
  return {ip(any), port, static_cast<uint8_t>(protocol), SCOPE_ANY_LOCAL, 0};
}

/// A node named `here` in zone-a, and `web`: a Service with clusterIP 10.96.0.1 and one TCP port 80.
struct Cluster {
  model::ClusterState state;
  NodeView node;
  std::vector<LocalEndpoint> endpoints;

  Cluster() {
    node.name = "here";
    node.addresses = {ip("192.0.2.1"), ip("2001:db8::1")};
    model::Node self;
    self.name = "here";
    self.labels = {{"topology.kubernetes.io/zone", "zone-a"}};
    state.nodes["here"] = self;
  }

  model::Service& web() {
    auto& service = state.services[name("default", "web")];
    if (service.name.name.empty()) {
      service.name = name("default", "web");
      service.cluster_ips = {ip("10.96.0.1")};
      service.ports = {{"", model::Protocol::kTcp, 80, 0}};
    }
    return service;
  }

  /// A slice of `web` whose port 8080 bears the Service port's name.
  model::EndpointSlice& slice(const std::string& slice_name,
                              std::vector<model::SliceEndpoint> endpoints_of_it,
                              Family family = Family::kIpv4) {
    auto& slice = state.slices[name("default", slice_name)];
    slice.name = name("default", slice_name);
    slice.service = "web";
    slice.family = family;
    slice.ports = {{"", model::Protocol::kTcp, 8080}};
    slice.endpoints = std::move(endpoints_of_it);
    return slice;
  }

  [[nodiscard]] ServiceImage services() const { return compile_services(state, node, endpoints); }
};

}  // namespace bpfnet::compile::test
