#include <algorithm>
#include <set>

#include "control/sources/decode_kinds.h"

namespace bpfnet::sources {
namespace {

using model::Service;
using model::ServiceType;

std::string_view name_of(Family family) {
  return family == Family::kIpv4 ? "IPv4" : "IPv6";
}

std::optional<Family> decode_family(const Field& field) {
  const auto choice = field.one_of({"IPv4", "IPv6"});
  if (!choice) return {};
  return *choice == 0 ? Family::kIpv4 : Family::kIpv6;
}

model::TrafficPolicy decode_traffic_policy(const Field& field) {
  const auto choice = field.one_of({"Cluster", "Local", ""});
  return choice == 1 ? model::TrafficPolicy::kLocal : model::TrafficPolicy::kCluster;
}

void decode_cluster_ips(const Field& spec, Service& service) {
  const Field families = spec["ipFamilies"];
  families.each([&](const Field& item) {
    if (const auto family = decode_family(item)) service.ip_families.push_back(*family);
  });
  const Field single = spec["clusterIP"];
  const Field list = spec["clusterIPs"];
  const auto decode_one = [&](const Field& field) {
    const auto text = field.string();
    if (!text || text->empty() || *text == "None") return;
    const auto ip = field.address();
    if (!ip) return;
    const size_t index = service.cluster_ips.size();
    if (index < service.ip_families.size() && service.ip_families[index] != ip->family()) {
      field.refuse(fmt::format("is {}, expected an {} address as ipFamilies[{}] says", ip->to_string(),
                               name_of(service.ip_families[index]), index));
    } else if (index == 1 && service.cluster_ips[0].family() == ip->family()) {
      field.refuse(fmt::format("is {}, expected an address of the other family", ip->to_string()));
    } else if (index > 1) {
      field.refuse("is one too many, expected at most one address of each family");
    }
    service.cluster_ips.push_back(*ip);
  };
  if (!list) return decode_one(single);
  list.each(decode_one);
  if (const auto text = single.string(); text && *text == "None" && !service.cluster_ips.empty()) {
    single.refuse("is \"None\", but clusterIPs has addresses, expected the first of them");
  } else if (text && !text->empty() && *text != "None") {
    const auto ip = single.address();
    if (ip && (service.cluster_ips.empty() || service.cluster_ips[0] != *ip)) {
      single.refuse(fmt::format("is {}, expected the first of clusterIPs", ip->to_string()));
    }
  }
}

void decode_ports(const Field& spec, Service& service) {
  const bool has_node_ports =
      service.type == ServiceType::kNodePort || service.type == ServiceType::kLoadBalancer;
  const Field ports = spec["ports"];
  ports.each_map([&](const Field& item) {
    model::ServicePort port;
    const Field name = item["name"];
    const Field number = item["port"];
    const Field node_port = item["nodePort"];
    const size_t mistakes = item.refusals();
    port.name = name.string().value_or("");
    port.protocol = decode_protocol(item["protocol"]);
    if (!number) number.refuse("missing, expected a number from 1 to 65535");
    port.port = decode_port(number, 1);
    if (item.refusals() != mistakes) port.port = 0;  // what it should be is unknown
    const size_t of_the_port = item.refusals();
    port.node_port = decode_port(node_port, 0);
    if (port.node_port != 0 && !has_node_ports) {
      node_port.warn("is set, expected only on services of type NodePort and LoadBalancer");
      port.node_port = 0;
    }
    for (const model::ServicePort& other : service.ports) {
      if (other.name == port.name) {
        port.port = 0;
        name.refuse(port.name.empty()
                        ? "missing, expected a name as there are several ports"
                        : fmt::format("is {}, which another port has, expected a name of its own",
                                      in_quotes(port.name)));
      }
      if (other.protocol != port.protocol) continue;
      if (other.port == port.port && port.port != 0) {
        const uint16_t taken = std::exchange(port.port, 0);
        number.refuse(fmt::format("is {} {} like another port, expected a number of its own", taken,
                                  to_string(port.protocol)));
      }
      if (other.node_port == port.node_port && port.node_port != 0) {
        node_port.refuse(fmt::format("is {} {} like another port, expected a number of its own",
                                     port.node_port, to_string(port.protocol)));
      }
    }
    if (item.refusals() != of_the_port) port.node_port = 0;
    service.ports.push_back(std::move(port));
  });
  std::erase_if(service.ports, [](const model::ServicePort& each) { return each.port == 0; });
}

// A range that cannot be read allows nobody, but it still counts as a range of its family: left out entirely,
// the last one to go would open the address to everybody (S40).
Cidr closed_range(const std::string& text) {
  return text.find(':') == std::string::npos ? Cidr(Address::from_ipv4({}), 32) : Cidr(Address(), 128);
}

void decode_externals(const Field& spec, const Field& status, Service& service) {
  const Field external_ips = spec["externalIPs"];
  external_ips.lenient().each([&](const Field& item) {
    if (const auto ip = item.address()) service.external_ips.push_back(*ip);
  });
  const Field ranges = spec["loadBalancerSourceRanges"];
  const size_t mistakes = ranges.refusals();
  ranges.each([&](const Field& strict) {
    const Field item = strict.lenient();
    const auto range = item.cidr();
    service.source_ranges.push_back(range ? *range : closed_range(item.shown()));
  });
  if (ranges.refusals() != mistakes) service.source_ranges = {closed_range("0.0.0.0"), closed_range("::")};
  const Field balancer = status.map("loadBalancer");
  const Field ingress = balancer["ingress"];
  ingress.lenient().each_map([&](const Field& item) {
    const Field ip = item["ip"];
    const auto text = ip.string();
    if (!text || text->empty()) return;  // a host name only (S37)
    const auto address = ip.address();
    const Field mode_field = item["ipMode"];
    const auto mode = mode_field.one_of({"VIP", "Proxy"});
    if (address && (mode || !mode_field)) service.load_balancer_ingress.push_back({*address, mode == 1});
  });
}

void decode_affinity(const Field& spec, Service& service) {
  if (spec["sessionAffinity"].one_of({"None", "ClientIP", ""}) != 1) return;
  const Field config = spec.map("sessionAffinityConfig");
  const Field client = config.map("clientIP");
  service.affinity = std::chrono::seconds(client["timeoutSeconds"].integer(1, 86400).value_or(10800));
}

void warn_of_missing_allocations(const Field& spec, const Service& service) {
  const Field ip = spec["clusterIP"];
  const Field ips = spec["clusterIPs"];
  if (service.type == ServiceType::kExternalName || !service.cluster_ips.empty()) {
    if (service.type != ServiceType::kNodePort) return;
    const Field ports = spec["ports"];
    ports.each_map([&](const Field& item) {
      const Field node_port = item["nodePort"];
      if (!node_port) {
        node_port.warn("missing, expected a number: no API server gives one to a manifest in a file",
                       Effect::kNone);
      }
    });
  } else if (!ip && !ips) {
    ip.warn(
        "missing, expected an address, or None: no API server gives one to a manifest in a file; "
        "the service is not served",
        Effect::kNone);
  }
}

}  // namespace

Service decode_service(const Field& root, const Metadata& metadata) {
  Service service;
  service.name = metadata.name;
  service.labels = metadata.labels;
  const Field spec = root.map("spec");
  const Field status = root.map("status");
  const auto type = spec["type"].one_of({"ClusterIP", "NodePort", "LoadBalancer", "ExternalName", ""});
  constexpr ServiceType kTypes[] = {ServiceType::kClusterIp, ServiceType::kNodePort,
                                    ServiceType::kLoadBalancer, ServiceType::kExternalName,
                                    ServiceType::kClusterIp};
  service.type = kTypes[type.value_or(0)];
  decode_cluster_ips(spec, service);
  decode_ports(spec, service);
  decode_externals(spec, status, service);
  decode_affinity(spec, service);
  service.external_traffic_policy = decode_traffic_policy(spec["externalTrafficPolicy"]);
  service.internal_traffic_policy = decode_traffic_policy(spec["internalTrafficPolicy"]);
  service.health_check_node_port = decode_port(spec["healthCheckNodePort"], 0);
  warn_of_missing_allocations(spec, service);
  return service;
}

namespace {

std::vector<std::string> decode_hints(const Field& hints, std::string_view level) {
  std::vector<std::string> names;
  const Field list = hints[level];
  list.each_map([&](const Field& item) {
    if (auto name = item["name"].string()) names.push_back(std::move(*name));
  });
  return names;
}

void decode_endpoint(const Field& item, Family family, std::vector<model::SliceEndpoint>& endpoints) {
  const size_t mistakes = item.refusals();
  const Field addresses = item["addresses"];
  std::optional<Address> first;
  bool seen = false;
  addresses.each([&](const Field& address) {
    if (std::exchange(seen, true)) return;  // addresses[0] only (S4)
    first = address.address();
    if (first && first->family() != family) {
      address.refuse(fmt::format("is {}, expected an {} address as addressType says", first->to_string(),
                                 name_of(family)));
    }
  });
  if (!first) return;  // S4
  model::SliceEndpoint endpoint;
  endpoint.ip = *first;
  const Field conditions = item.map("conditions");
  endpoint.ready = conditions["ready"].boolean().value_or(true);  // S8
  endpoint.serving = conditions["serving"].boolean().value_or(true);
  endpoint.terminating = conditions["terminating"].boolean().value_or(false);
  endpoint.node_name = item["nodeName"].string();
  if (!endpoint.node_name) {  // discovery.k8s.io/v1beta1
    const Field topology = item["topology"];
    endpoint.node_name = topology["kubernetes.io/hostname"].string();
  }
  const Field hints = item.map("hints");
  endpoint.for_zones = decode_hints(hints, "forZones");
  endpoint.for_nodes = decode_hints(hints, "forNodes");
  if (item.refusals() == mistakes) endpoints.push_back(std::move(endpoint));
}

}  // namespace

model::ServiceCidr decode_service_cidr(const Field& root, const Metadata& metadata) {
  model::ServiceCidr result;
  result.name = metadata.name.name;
  const Field spec = root.map("spec");
  const Field cidrs = spec["cidrs"];
  if (!cidrs) cidrs.refuse("missing, expected a list of CIDRs");
  cidrs.each([&](const Field& item) {
    if (const auto cidr = item.cidr()) result.cidrs.push_back(*cidr);
  });
  return result;
}

std::optional<model::EndpointSlice> decode_slice(const Field& root, const Metadata& metadata) {
  model::EndpointSlice slice;
  slice.name = metadata.name;
  slice.labels = metadata.labels;
  const Field type = root["addressType"];
  if (!type) type.refuse("missing, expected IPv4 or IPv6");
  const auto choice = type.one_of({"IPv4", "IPv6", "FQDN"});
  if (choice == 2) return {};
  slice.family = choice == 1 ? Family::kIpv6 : Family::kIpv4;
  if (const auto service = slice.labels.find("kubernetes.io/service-name"); service != slice.labels.end()) {
    slice.service = service->second;
  }
  const Field ports = root["ports"];
  ports.each_map([&](const Field& item) {
    const size_t mistakes = item.refusals();
    model::SlicePort port;
    port.name = item["name"].string().value_or("");
    port.protocol = decode_protocol(item["protocol"]);
    port.port = decode_port(item["port"], 0);
    if (port.port != 0 && item.refusals() == mistakes) slice.ports.push_back(std::move(port));  // S4
  });
  const Field object = root.map("metadata");
  const Field annotations = object["annotations"];
  const Field optional = annotations.lenient();
  slice.last_change = optional["endpoints.kubernetes.io/last-change-trigger-time"].time();  // S59
  if (!choice) return slice;
  const Field list = root["endpoints"];
  std::vector<model::SliceEndpoint> endpoints;
  list.each_map([&](const Field& item) { decode_endpoint(item, slice.family, endpoints); });
  slice.endpoints = std::move(endpoints);
  return slice;
}

}  // namespace bpfnet::sources
