#include "tests/e2e/policy_world.h"

#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <stdexcept>

namespace bpfnet::e2e {
namespace {

constexpr std::array<uint8_t, 3> kProtocols = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP};
constexpr std::array<Family, 2> kFamilies = {Family::kIpv4, Family::kIpv6};
/// By the place of the pod's port: what its service is dialled at.
constexpr std::array<uint16_t, 3> kServicePorts = {81, 80, 90};
constexpr int kFirstService = 100;
constexpr uint16_t kFirstNodePort = 30300;

const char* protocol_name(uint8_t proto) {
  return proto == IPPROTO_TCP ? "TCP" : proto == IPPROTO_UDP ? "UDP" : "SCTP";
}

std::string verdict_name(Verdict verdict) {
  switch (verdict) {
    case Verdict::kAllowed:
      return "allowed";
    case Verdict::kDeniedByEgress:
      return "denied by egress";
    case Verdict::kDeniedByIngress:
      return "denied by ingress";
    case Verdict::kNotAsked:
      break;
  }
  return "";
}

LabelMap pod_labels(const std::string& name) {
  LabelMap labels = {{"app", name}};
  if (name == "a") labels["tier"] = "front";
  if (name == "b") labels["tier"] = "back";
  return labels;
}

/// Names of pods are unique in a Cluster, whatever their namespace.
std::string pod_name(const Party& party) {
  std::string name = party.name;
  std::ranges::replace(name, '/', '-');
  return name;
}

/// The address of the nth party's service.
Address service_ip(size_t number, Family family) {
  const auto service = echo_service("any", kFirstService + static_cast<int>(number), {});
  return service.cluster_ips.at(family == Family::kIpv4 ? 0 : 1);
}

uint16_t node_port(size_t number, size_t place) {
  return static_cast<uint16_t>(kFirstNodePort + number * 3 + place);
}

}  // namespace

/// What was wrong: the first of it in words.
struct PolicyWorld::Complaints {
  size_t count = 0;
  std::string text;

  void add(const std::string& what) {
    constexpr size_t kShown = 12;
    if (++count <= kShown) text += "\n  " + what;
  }
  [[nodiscard]] testing::AssertionResult result() const {
    if (count == 0) return testing::AssertionSuccess();
    return testing::AssertionFailure() << count << " cells are wrong:" << text;
  }
};

std::string Cell::to_string() const {
  const char* ways[] = {"directly", "by ClusterIP", "by NodePort"};
  return fmt::format("{} -> {} {} {} ({}, {})", from.name, to.name, protocol_name(proto), port,
                     dialled.address.is_ipv4() ? "IPv4" : "IPv6", ways[static_cast<int>(way)]);
}

Verdict expected(const Cell& cell, const Allows& egress, const Allows& ingress, bool tiers) {
  if (&cell.from == &cell.to)
    return tiers && cell.way == Way::kClusterIp ? Verdict::kNotAsked : Verdict::kAllowed;
  if (cell.from.is_pod() && egress && !egress(cell)) return Verdict::kDeniedByEgress;
  const bool own_node = !cell.from.is_pod() && cell.from.node == cell.to.node;
  if (cell.to.is_pod() && !own_node && ingress && !ingress(cell)) return Verdict::kDeniedByIngress;
  return Verdict::kAllowed;
}

std::string network_policy(const std::string& ns, const std::string& name, const std::string& spec) {
  return fmt::format(
      "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {}, namespace: {}}}\n"
      "spec: {{{}}}\n",
      name, ns, spec);
}

std::string cluster_network_policy(const std::string& name, const std::string& tier, int priority,
                                   const std::string& subject, const std::string& rules) {
  return fmt::format(
      "---\napiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: "
      "{}}}\n"
      "spec: {{tier: {}, priority: {}, subject: {{{}}}, {}}}\n",
      name, tier, priority, subject, rules);
}

PolicyWorld::PolicyWorld(ClusterOptions options)
    : cluster_(std::move(options)),
      namespaces_({{"x", {{"team", "red"}}}, {"y", {{"team", "blue"}}}, {"z", {}}}) {
  write_namespaces();
  int count = 0;
  for (const auto& [ns, labels] : namespaces_) {
    for (const auto* name : {"a", "b", "c"}) add_pod(ns, name, count++ % 2);
  }
  std::string services;
  for (const auto& party : parties_) services += services_of(*party);
  cluster_.apply("services", services);
  cluster_.label_node(0, {{"role", "edge"}});
  add_host("node-a", cluster_.node(0).host(), 0);
  add_host("node-b", cluster_.node(1).host(), 1);
  add_host("client", cluster_.network().client(), -1);
  for (size_t i = 0; i < cluster_.nodes(); i++) {
    auto maps = maps::Maps::open_pinned(cluster_.node(i).bpffs());
    if (!maps) throw std::runtime_error(maps.error().message);
    maps_.push_back(std::move(*maps));
  }
  for (const auto& from : parties_) {
    cells_.emplace_back();
    for (const auto& to : parties_) add_cells(*from, *to);
  }
}

void PolicyWorld::add_pod(const std::string& ns, const std::string& name, int node) {
  auto party = std::make_unique<Party>();
  party->name = ns + "/" + name;
  party->ns = ns;
  party->labels = pod_labels(name);
  party->node = node;
  party->ports = {80, 81, static_cast<uint16_t>(name == "b" ? 8082 : 8080)};
  party->port_names = {{"web", party->ports[2], name == "c" ? "UDP" : "TCP"}};
  const Pod& pod =
      cluster_.add_pod(static_cast<size_t>(node), pod_name(*party),
                       {.ns = ns, .labels = party->labels, .serve = false, .ports = party->port_names});
  party->ips = {pod.ip(Family::kIpv4), pod.ip(Family::kIpv6)};
  party->number = prober_.add(pod.netns(), {party->ports.begin(), party->ports.end()});
  parties_.push_back(std::move(party));
}

void PolicyWorld::add_host(const std::string& name, const Host& host, int node) {
  auto party = std::make_unique<Party>();
  party->name = name;
  party->node = node;
  party->ips = {host.ip(Family::kIpv4), host.ip(Family::kIpv6)};
  party->ports = {80, 81, 8080};
  party->number = prober_.add(host.netns(), {party->ports.begin(), party->ports.end()});
  parties_.push_back(std::move(party));
}

std::string PolicyWorld::services_of(const Party& party) {
  ServiceManifest service;
  service.ns = party.ns;
  service.name = pod_name(party);
  for (const auto family : kFamilies) service.cluster_ips.push_back(service_ip(party.number, family));
  for (size_t place = 0; place < party.ports.size(); place++) {
    for (const uint8_t proto : kProtocols) {
      service.ports.push_back({fmt::format("{}-{}", protocol_name(proto), place), protocol_name(proto),
                               kServicePorts[place], party.ports[place], node_port(party.number, place)});
    }
  }
  service.external_traffic_policy = "Local";
  service.backends = {cluster_.backend(pod_name(party))};
  return "---\n" + service.yaml();
}

void PolicyWorld::add_cells(const Party& from, const Party& to) {
  const bool outside = from.node < 0;
  std::vector<Way> ways;
  if (outside && to.is_pod()) ways = {Way::kNodePort};
  if (!outside && to.is_pod()) ways = {Way::kDirect, Way::kClusterIp};
  if (from.is_pod() && !to.is_pod()) ways = {Way::kDirect};
  for (const Way way : ways) {
    for (const Family family : kFamilies) {
      for (size_t place = 0; place < to.ports.size(); place++) {
        HostPort dialled{to.ip(family), to.ports[place]};
        if (way == Way::kClusterIp) dialled = {service_ip(to.number, family), kServicePorts[place]};
        if (way == Way::kNodePort) {
          dialled = {cluster_.node(static_cast<size_t>(to.node)).ip(family), node_port(to.number, place)};
        }
        for (const uint8_t proto : kProtocols)
          cells_.back().push_back({from, to, way, proto, to.ports[place], dialled});
      }
    }
  }
}

void PolicyWorld::write_namespaces() {
  std::string text;
  for (const auto& [name, labels] : namespaces_) text += "---\n" + NamespaceManifest{name, labels}.yaml();
  cluster_.apply("namespaces", text);
}

void PolicyWorld::label_namespace(const std::string& ns, const LabelMap& labels) {
  namespaces_.at(ns) = labels;
  write_namespaces();
}

void PolicyWorld::label_pod(const std::string& name, const LabelMap& labels) {
  parties_.at(party(name).number)->labels = labels;
  cluster_.label_pod(pod_name(party(name)), labels);
}

const Party& PolicyWorld::party(const std::string& name) const {
  const auto found = std::ranges::find_if(parties_, [&](const auto& party) { return party->name == name; });
  if (found == parties_.end()) throw std::out_of_range("no party " + name);
  return **found;
}

void PolicyWorld::policies(const std::string& yaml) {
  std::string text = yaml;
  for (const auto& party : parties_) {
    for (const auto family : kFamilies) {
      const std::string name = fmt::format("${}.{}", party->name, family == Family::kIpv4 ? 4 : 6);
      for (size_t at = text.find(name); at != std::string::npos; at = text.find(name, at)) {
        text.replace(at, name.size(), party->ip(family).to_string());
      }
    }
  }
  // Each version differs from the one before, also where two mean the same: agents then tell when it is in
  // place.
  text += "---\n" + NamespaceManifest{"version", {{"number", std::to_string(++version_)}}}.yaml();
  cluster_.apply("policies", text);
}

uint64_t PolicyWorld::drops(uint32_t reason) const {
  uint64_t sum = 0;
  for (const auto& maps : maps_) {
    for (uint32_t hook = 0; hook < HOOKS_MAX; hook++) {
      const auto count = maps.drop_counts.sum(hook * DROP_REASONS_MAX + reason);
      if (!count) throw std::runtime_error(count.error().message);
      sum += count->packets;
    }
  }
  return sum;
}

testing::AssertionResult PolicyWorld::holds(const std::function<Verdict(const Cell&)>& verdict) {
  Complaints complaints;
  for (const auto& row : cells_) {
    std::vector<std::pair<const Cell*, Verdict>> cells;
    std::vector<PartyProbe> probes;
    std::vector<uint64_t> denied(2);
    for (const auto& cell : row) {
      const Verdict want = verdict(cell);
      if (want == Verdict::kNotAsked) continue;
      cells.emplace_back(&cell, want);
      // A socket that talks to a service and to its backend directly is not what is tested here.
      const size_t lane = cell.way == Way::kClusterIp ? 1 : 0;
      probes.push_back({.from = cell.from.number, .proto = cell.proto, .to = cell.dialled, .lane = lane});
      denied[0] += want == Verdict::kDeniedByEgress ? 1 : 0;
      denied[1] += want == Verdict::kDeniedByIngress ? 1 : 0;
    }
    const auto round = prober_.run(probes, [&] {
      return std::vector{drops(DROP_POLICY_EGRESS), drops(DROP_POLICY_INGRESS)};
    });
    const size_t before = complaints.count;
    for (size_t i = 0; i < cells.size(); i++)
      check(*cells[i].first, cells[i].second, round.outcomes[i], complaints);
    if (complaints.count == before && round.dropped != denied) {
      complaints.add(fmt::format("from {}: dropped by egress and ingress policy {}, should be {}",
                                 row.front().from.name, fmt::join(round.dropped, " and "),
                                 fmt::join(denied, " and ")));
    }
  }
  return complaints.result();
}

void PolicyWorld::check(const Cell& cell, Verdict want, const ProbeOutcome& outcome,
                        Complaints& complaints) const {
  if (outcome.refused != 0) complaints.add(cell.to_string() + ": " + errno_name(outcome.refused));
  if (outcome.answered != (want == Verdict::kAllowed)) {
    complaints.add(fmt::format("{}: {}, should be {}", cell.to_string(),
                               outcome.answered ? "answered" : "dropped", verdict_name(want)));
  } else if (outcome.by.value_or(cell.to.number) != cell.to.number) {
    complaints.add(cell.to_string() + ": " + parties_.at(*outcome.by)->name + " answered");
  }
}

}  // namespace bpfnet::e2e
