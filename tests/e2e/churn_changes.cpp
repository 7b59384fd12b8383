#include "tests/e2e/churn_changes.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <utility>

#include "tests/e2e/churn_pools.h"
#include "tests/e2e/three_nodes.h"

namespace bpfnet::e2e::churn {
namespace {

constexpr std::array kNames = {"s1", "s2", "s3", "s4"};
constexpr std::array<uint16_t, 2> kPorts = {80, 81};
/// Pod::kPort, and a second one in each pod.
constexpr std::array<uint16_t, 2> kTargets = {Pod::kPort, 9090};
constexpr auto kProxyLabel = "service.kubernetes.io/service-proxy-name";

std::string flip(std::string& policy) {
  policy = policy == "Local" ? "" : "Local";
  return policy.empty() ? "Cluster" : policy;
}

}  // namespace

Changes::Changes(uint64_t seed, std::vector<std::string> nodes, std::vector<BackendManifest> backends,
                 std::vector<Client> clients)
    : random_(seed), nodes_(std::move(nodes)), backends_(std::move(backends)), clients_(std::move(clients)) {}

std::vector<Step> Changes::next(const World& world) {
  struct Weighed {
    Change change;
    int weight;
  };
  static constexpr std::array kChanges = {
      Weighed{&Changes::create, 5},         Weighed{&Changes::remove, 2},
      Weighed{&Changes::replace, 2},        Weighed{&Changes::policies, 4},
      Weighed{&Changes::other_backends, 5}, Weighed{&Changes::one_backend, 8},
      Weighed{&Changes::target_port, 2},    Weighed{&Changes::service_port, 2},
      Weighed{&Changes::protocol, 2},       Weighed{&Changes::affinity, 3},
      Weighed{&Changes::type, 2},           Weighed{&Changes::ranges, 2},
      Weighed{&Changes::hints, 2},          Weighed{&Changes::pass_address, 3},
      Weighed{&Changes::other_proxy, 1}};
  std::vector<int> weights;
  for (const auto& each : kChanges) weights.push_back(each.weight);
  std::discrete_distribution<size_t> which(weights.begin(), weights.end());
  while (true) {
    Steps steps = (this->*kChanges.at(which(random_)).change)(world);
    if (!steps.empty()) return steps;
  }
}

std::optional<std::string> Changes::some_service(const World& world) {
  if (world.services.empty()) return std::nullopt;
  return std::next(world.services.begin(), static_cast<ptrdiff_t>(below(world.services.size())))->first;
}

Changes::Steps Changes::create(const World& world) {
  const std::string name = kNames.at(below(kNames.size()));
  if (world.services.contains(name)) return {};
  Steps steps;
  World next = world;
  const auto add_slices = [&] {
    next.slices[name] = random_slices();
    steps.push_back({next, fmt::format("{}: slices appear", name), name});
  };
  const bool slices_first = chance(50);
  if (slices_first) add_slices();
  next.services[name] = random_service(next, name);
  steps.push_back({next, fmt::format("{}: Service is created", name), name});
  if (!slices_first) add_slices();
  return steps;
}

Changes::Steps Changes::remove(const World& world) {
  const auto name = some_service(world);
  if (!name) return {};
  Steps steps;
  World next = world;
  const auto remove_slices = [&] {
    if (next.slices.erase(*name) != 0) steps.push_back({next, fmt::format("{}: slices go", *name), *name});
  };
  const bool slices_first = chance(50);
  if (slices_first) remove_slices();
  next.services.erase(*name);
  steps.push_back({next, fmt::format("{}: Service is deleted", *name), *name});
  // The slices may wait for the next Service of the name.
  if (!slices_first && chance(70)) remove_slices();
  return steps;
}

Changes::Steps Changes::replace(const World& world) {
  const auto name = some_service(world);
  if (!name) return {};
  Steps steps;
  World next = world;
  const auto slices = random_slices();
  next.services.erase(*name);
  if (chance(50)) steps.push_back({next, fmt::format("{}: Service is deleted for another", *name), *name});
  next.services[*name] = random_service(next, *name);
  steps.push_back({next, fmt::format("{}: Service is another", *name), *name});
  next.slices[*name] = slices;
  steps.push_back({next, fmt::format("{}: slices of the other Service", *name), *name});
  return steps;
}

Changes::Steps Changes::edit_service(const World& world,
                                     const std::function<std::string(ServiceManifest&)>& edit) {
  const auto name = some_service(world);
  if (!name) return {};
  World next = world;
  const std::string words = edit(next.services.at(*name));
  if (words.empty()) return {};
  return {{next, fmt::format("{}: {}", *name, words), *name}};
}

Changes::Steps Changes::edit_slices(const World& world, const std::function<std::string(Slices&)>& edit) {
  const auto name = some_service(world);
  if (!name || !world.slices.contains(*name)) return {};
  World next = world;
  Slices first = next.slices.at(*name).front();
  const std::string words = edit(first);
  if (words.empty()) return {};
  next.slices.at(*name) = with_companion(first);
  return {{next, fmt::format("{}: {}", *name, words), *name}};
}

Changes::Steps Changes::other_backends(const World& world) {
  return edit_slices(world, [&](Slices& slices) {
    slices.backends = random_slices().front().backends;
    return "other backends";
  });
}

Changes::Steps Changes::one_backend(const World& world) {
  return edit_slices(world, [&](Slices& slices) {
    const BackendManifest& one = backends_.at(below(backends_.size()));
    // Some stand in the slices of one family alone. Nothing says which of two entries of one address counts,
    // but where one is terminating (S10), which companions try.
    const auto same = [&](const BackendManifest& each) {
      return std::ranges::find_first_of(each.ips, one.ips) != each.ips.end();
    };
    const auto found = std::ranges::find_if(slices.backends, same);
    if (found == slices.backends.end()) {
      slices.backends.push_back(one);
      return fmt::format("backend {} added", one.ips.front().to_string());
    }
    if (chance(30)) {
      slices.backends.erase(found);
      return fmt::format("backend {} removed", one.ips.front().to_string());
    }
    return fmt::format("backend {} {}", one.ips.front().to_string(), random_condition(*found));
  });
}

Changes::Steps Changes::target_port(const World& world) {
  return edit_slices(world, [&](Slices& slices) {
    const uint16_t target = kTargets.at(below(kTargets.size()));
    for (auto& port : slices.ports) port.target = target;
    return fmt::format("target port {}", target);
  });
}

Changes::Steps Changes::service_port(const World& world) {
  return edit_service(world, [&](ServiceManifest& service) {
    auto& port = service.ports.at(below(service.ports.size()));
    port.port = port.port == kPorts[0] ? kPorts[1] : kPorts[0];
    return fmt::format("port {} is {}", port.name, port.port);
  });
}

Changes::Steps Changes::protocol(const World& world) {
  return edit_service(world, [&](ServiceManifest& service) -> std::string {
    if (service.ports.size() == 2) {
      service.ports.erase(service.ports.begin() + static_cast<ptrdiff_t>(below(2)));
      return fmt::format("{} alone", service.ports.front().name);
    }
    ServicePortManifest other = service.ports.front();
    const bool tcp = other.name == "udp";
    other.name = tcp ? "tcp" : "udp";
    other.protocol = tcp ? "TCP" : "UDP";
    service.ports.push_back(other);
    return fmt::format("{} too", other.name);
  });
}

Changes::Steps Changes::policies(const World& world) {
  return edit_service(world, [&](ServiceManifest& service) {
    if (chance(50)) return "internalTrafficPolicy " + flip(service.internal_traffic_policy);
    return "externalTrafficPolicy " + flip(service.external_traffic_policy);
  });
}

Changes::Steps Changes::affinity(const World& world) {
  return edit_service(world, [&](ServiceManifest& service) {
    service.affinity_seconds = service.affinity_seconds ? std::nullopt : std::optional<int>(10800);
    return service.affinity_seconds ? "affinity on" : "affinity off";
  });
}

Changes::Steps Changes::type(const World& world) {
  return edit_service(world, [&](ServiceManifest& service) {
    if (chance(20)) {
      service.type = service.type.empty() ? "ExternalName" : "";
      return service.type.empty() ? "no ExternalName any more" : "ExternalName";
    }
    random_type(world, service);
    return "other type or addresses";
  });
}

Changes::Steps Changes::ranges(const World& world) {
  return edit_service(world, [&](ServiceManifest& service) -> std::string {
    if (service.load_balancer_ips.empty()) return "";
    if (!service.source_ranges.empty() && chance(40)) {
      service.source_ranges.clear();
      return "no source ranges";
    }
    static constexpr std::array kRanges = {"0.0.0.0/0", "::/0", "10.244.0.0/16", "fd00:10:244::/48",
                                           "192.0.2.0/24"};
    service.source_ranges.clear();
    for (size_t i = 0; i <= below(3); i++) {
      const auto& ips = clients_.at(below(clients_.size())).ips;
      const Address& ip = ips.at(below(ips.size()));
      service.source_ranges.push_back(chance(40) ? kRanges.at(below(kRanges.size()))
                                                 : fmt::format("{}/{}", ip.to_string(), ip.bits()));
    }
    return fmt::format("source ranges {}", fmt::join(service.source_ranges, " "));
  });
}

/// An address leaves one Service, and is the next moment another's.
Changes::Steps Changes::pass_address(const World& world) {
  struct Kind {
    const char* name;
    std::vector<Address> ServiceManifest::*of;
  };
  static constexpr std::array kKinds = {Kind{"cluster IP", &ServiceManifest::cluster_ips},
                                        Kind{"load balancer", &ServiceManifest::load_balancer_ips},
                                        Kind{"externalIP", &ServiceManifest::external_ips}};
  const auto from = some_service(world);
  const auto to = some_service(world);
  if (!from || from == to) return {};
  const size_t kind = below(kKinds.size() + 1);
  if (kind == kKinds.size()) return pass_node_port(world, *from, *to);
  World next = world;
  ServiceManifest& giver = next.services.at(*from);
  auto& gives = giver.*kKinds.at(kind).of;
  auto& takes = next.services.at(*to).*kKinds.at(kind).of;
  if (gives.empty() || gives.size() != takes.size() || gives.front().family() != takes.front().family())
    return {};
  const std::vector<Address> passed = std::exchange(gives, {});
  if (giver.cluster_ips.empty()) {
    for (const auto& fresh : unused_cluster_ips(world, random_()))
      if (std::ranges::count(passed, fresh.family(), &Address::family) != 0) gives.push_back(fresh);
  }
  if (giver.load_balancer_ips.empty()) giver.source_ranges.clear();
  const std::string what = fmt::format("{} {}", kKinds.at(kind).name, passed.front().to_string());
  Steps steps = {{next, fmt::format("{}: its {} goes", *from, what), *from}};
  takes = passed;
  steps.push_back({next, fmt::format("{}: takes {}", *to, what), *to});
  return steps;
}

Changes::Steps Changes::pass_node_port(const World& world, const std::string& from, const std::string& to) {
  World next = world;
  ServiceManifest& giver = next.services.at(from);
  ServiceManifest& taker = next.services.at(to);
  const uint16_t port = giver.ports.front().node_port;
  if (port == 0 || taker.ports.front().node_port == 0) return {};
  for (auto& each : giver.ports) each.node_port = unused_node_port(world, 0);
  Steps steps = {{next, fmt::format("{}: its NodePort {} goes", from, port), from}};
  for (auto& each : taker.ports) each.node_port = port;
  steps.push_back({next, fmt::format("{}: takes NodePort {}", to, port), to});
  return steps;
}

Changes::Steps Changes::hints(const World& world) {
  return edit_slices(world, [&](Slices& slices) {
    const bool clear = chance(50);
    for (auto& backend : slices.backends) {
      backend.for_nodes.clear();
      // Now and then one without a hint, which turns all of them off.
      if (!clear && !chance(10)) backend.for_nodes = {nodes_.at(below(nodes_.size()))};
    }
    return clear ? "no hints" : "hints";
  });
}

Changes::Steps Changes::other_proxy(const World& world) {
  return edit_service(world, [&](ServiceManifest& service) -> std::string {
    if (service.labels.erase(kProxyLabel) != 0) return "ours again";
    service.labels[kProxyLabel] = "other";
    return "another proxy's";
  });
}

ServiceManifest Changes::random_service(const World& world, const std::string& name) {
  ServiceManifest service;
  service.name = name;
  service.cluster_ips = unused_cluster_ips(world, random_());
  if (chance(10)) service.cluster_ips.erase(service.cluster_ips.begin() + static_cast<ptrdiff_t>(below(2)));
  const uint16_t port = kPorts.at(below(kPorts.size()));
  if (!chance(10)) service.ports.push_back({"tcp", "TCP", port, Pod::kPort, 0});
  if (service.ports.empty() || !chance(10)) service.ports.push_back({"udp", "UDP", port, Pod::kPort, 0});
  if (chance(30)) service.external_traffic_policy = "Local";
  if (chance(20)) service.internal_traffic_policy = "Local";
  if (chance(30)) service.affinity_seconds = 10800;
  random_type(world, service);
  return service;
}

void Changes::random_type(const World& world, ServiceManifest& service) {
  service.type.clear();
  service.load_balancer_ips.clear();
  service.external_ips.clear();
  service.source_ranges.clear();
  const bool balancer = chance(50);
  // A load balancer may do without NodePorts (S41).
  service.allocate_node_ports = !balancer || !chance(20);
  const bool node_ports = balancer ? service.allocate_node_ports : chance(60);
  const uint16_t port = node_ports ? unused_node_port(world, random_()) : uint16_t{0};
  for (auto& each : service.ports) each.node_port = port;
  if (balancer) service.load_balancer_ips = unused_load_balancers(world, random_());
  if (chance(40)) service.external_ips = unused_external_ips(world, random_());
}

std::vector<Slices> Changes::random_slices() {
  const uint16_t target = kTargets.at(below(kTargets.size()));
  Slices slices{.ports = {{"tcp", "TCP", 0, target, 0}, {"udp", "UDP", 0, target, 0}}, .backends = {}};
  for (BackendManifest backend : backends_) {
    if (chance(45)) continue;
    if (chance(35)) random_condition(backend);
    if (chance(10))
      backend.ips.erase(backend.ips.begin() + static_cast<ptrdiff_t>(below(backend.ips.size())));
    if (chance(4)) backend.node.clear();
    slices.backends.push_back(backend);
  }
  return with_companion(slices);
}

/// Now and then a second pair of slices: other ports (S6), or some of the endpoints once more (S10).
std::vector<Slices> Changes::with_companion(const Slices& first) {
  std::vector<Slices> result = {first};
  if (!chance(25)) return result;
  Slices second = first;
  if (chance(50)) {
    for (auto& port : second.ports) port.target = port.target == kTargets[0] ? kTargets[1] : kTargets[0];
  } else {
    std::erase_if(second.backends, [&](const auto&) { return chance(40); });
    for (auto& backend : second.backends) {
      if (!backend.ready || chance(50)) continue;
      backend.ready = false;
      backend.serving = chance(50);
      backend.terminating = true;
    }
  }
  result.push_back(second);
  return result;
}

std::string Changes::random_condition(BackendManifest& backend) {
  backend.ready = false;
  backend.serving.reset();
  backend.terminating.reset();
  switch (below(5)) {
    case 0:
    case 1:
      backend.ready = true;
      return "ready";
    case 2:
      backend.serving = chance(50);
      return *backend.serving ? "not ready, serving" : "not ready";
    case 3:
      backend.serving = true;
      backend.terminating = true;
      return "terminating, serving";
    default:
      backend.serving = false;
      backend.terminating = true;
      return "terminating";
  }
}

}  // namespace bpfnet::e2e::churn
