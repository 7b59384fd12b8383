#include "control/sources/decode_kinds.h"

namespace bpfnet::sources {

using model::Labels;

model::Protocol decode_protocol(const Field& field) {
  const auto choice = field.one_of({"TCP", "UDP", "SCTP"});
  constexpr model::Protocol kProtocols[] = {model::Protocol::kTcp, model::Protocol::kUdp,
                                            model::Protocol::kSctp};
  return kProtocols[choice.value_or(0)];
}

uint16_t decode_port(const Field& field, int64_t low) {
  return static_cast<uint16_t>(field.integer(low, 65535).value_or(0));
}

Labels decode_labels(const Field& field) {
  Labels::Map labels;
  field.each_entry([&](const std::string& key, const Field& entry) {
    if (!is_label_key(key)) return entry.refuse("is no label key, expected [prefix/]name");
    if (!entry) return void(labels.emplace(key, ""));
    const auto value = entry.string();
    if (value && !is_label_value(*value)) {
      return entry.refuse(
          fmt::format("is {}, expected at most 63 letters, digits, '-', '_' and '.'", in_quotes(*value)));
    }
    labels.emplace(key, value.value_or(""));
  });
  return labels;
}

namespace {

/// An annotation is no part of what the API server has checked: a mistake costs it alone.
std::optional<model::Denied> decode_denied(const Field& root) {
  const Field object = root.map("metadata");
  const Field annotations = object["annotations"];
  const Field optional = annotations.lenient();
  const Field denied = optional["policy.bpfnet.io/denied"];
  const auto choice = denied.one_of({"drop", "reject"});
  if (!choice) return std::nullopt;
  return *choice == 0 ? model::Denied::kDrop : model::Denied::kReject;
}

}  // namespace

model::Namespace decode_namespace(const Field& root, const Metadata& metadata) {
  model::Namespace result;
  result.name = metadata.name.name;
  result.labels = metadata.labels;
  result.labels[model::kNamespaceNameLabel] = result.name;  // P9: whatever the manifest says
  result.denied = decode_denied(root);
  return result;
}

model::Node decode_node(const Field& root, const Metadata& metadata) {
  model::Node node;
  node.name = metadata.name.name;
  node.labels = metadata.labels;
  const Field spec = root.map("spec");
  const Field status = root.map("status");
  const Field object = root.map("metadata");
  node.deleting = static_cast<bool>(object["deletionTimestamp"]);
  const Field taints = spec["taints"];
  taints.lenient().each_map([&](const Field& item) {
    if (auto key = item["key"].string()) node.taints.push_back(std::move(*key));
  });
  const Field cidrs = spec["podCIDRs"];
  const Field cidr = spec["podCIDR"];
  cidrs.each([&](const Field& item) {
    if (const auto value = item.cidr()) node.pod_cidrs.push_back(*value);
  });
  if (const auto value = cidr.cidr()) {
    if (!cidrs) node.pod_cidrs.push_back(*value);
    if (!node.pod_cidrs.empty() && node.pod_cidrs.front() != *value) {
      cidr.refuse(fmt::format("is {}, expected the first of podCIDRs, {}", value->to_string(),
                              node.pod_cidrs.front().to_string()));
    }
  }
  const Field addresses = status["addresses"];
  addresses.each_map([&](const Field& item) {
    const Field type = item["type"];
    const Field address = item["address"];
    const auto name = type.string();
    if (!name) {
      if (!type) type.refuse("missing, expected InternalIP, ExternalIP or Hostname");
      return;
    }
    if (*name != "InternalIP" && *name != "ExternalIP") return;
    if (!address) return address.refuse("missing, expected an IP address");
    if (const auto ip = address.address()) {
      (*name == "InternalIP" ? node.internal_ips : node.external_ips).push_back(*ip);
    }
  });
  return node;
}

namespace {

void decode_container(const Field& container, std::vector<model::ContainerPort>& into) {
  const Field ports = container["ports"];
  ports.each_map([&](const Field& item) {
    model::ContainerPort port;
    const Field number = item["containerPort"];
    const Field host_ip = item["hostIP"];
    if (!number) number.refuse("missing, expected a number from 1 to 65535");
    port.port = decode_port(number, 1);
    port.host_port = decode_port(item["hostPort"], 0);
    port.protocol = decode_protocol(item["protocol"]);
    port.name = item["name"].string().value_or("");
    if (const auto text = host_ip.string(); text && !text->empty()) port.host_ip = host_ip.address();
    into.push_back(std::move(port));
  });
}

}  // namespace

model::Pod decode_pod(const Field& root, const Metadata& metadata) {
  model::Pod pod;
  pod.name = metadata.name;
  pod.labels = metadata.labels;
  pod.denied = decode_denied(root);
  const Field spec = root.map("spec");
  const Field status = root.map("status");
  const Field object = root.map("metadata");
  pod.deleting = static_cast<bool>(object["deletionTimestamp"]);
  pod.node_name = spec["nodeName"].string().value_or("");
  pod.host_network = spec["hostNetwork"].boolean().value_or(false);
  const Field containers = spec["containers"];
  const Field init_containers = spec["initContainers"];
  std::vector<model::ContainerPort> ports;
  containers.each_map([&](const Field& container) { decode_container(container, ports); });
  init_containers.each_map([&](const Field& container) {  // sidecars serve ports as long as the pod lives
    const Field restart = container["restartPolicy"];
    if (restart && restart.string() == "Always") decode_container(container, ports);
  });
  pod.ports = std::move(ports);
  const Field phase = status["phase"];
  using enum model::PodPhase;
  constexpr model::PodPhase kPhases[] = {kPending, kRunning, kSucceeded, kFailed, kUnknown, kPending};
  pod.phase = kPhases[phase.one_of({"Pending", "Running", "Succeeded", "Failed", "Unknown", ""}).value_or(0)];

  const Field ips = status["podIPs"];
  const Field first = status["podIP"];
  ips.each_map([&](const Field& item) {
    const Field ip = item["ip"];
    if (!ip) return ip.refuse("missing, expected an IP address");
    if (const auto address = ip.address()) pod.ips.push_back(*address);
  });
  if (const auto text = first.string(); text && !text->empty()) {
    const auto address = first.address();
    if (address && !ips) pod.ips.push_back(*address);
    if (address && !pod.ips.empty() && pod.ips.front() != *address) {
      first.refuse(fmt::format("is {}, expected the first of podIPs, {}", address->to_string(),
                               pod.ips.front().to_string()));
    }
  }
  return pod;
}

}  // namespace bpfnet::sources
