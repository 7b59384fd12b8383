#include "tests/e2e/churn_specification.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <stdexcept>

namespace bpfnet::e2e::churn {
namespace {

enum class Way { kClusterIp, kNodePort, kLoadBalancer, kExternalIp };

/// The port of a Service that an address belongs to.
struct Owner {
  const ServiceManifest* service = nullptr;
  const ServicePortManifest* port = nullptr;
  Way way = Way::kClusterIp;
};

struct Endpoint {
  HostPort at;
  std::string node;
  bool ready = false;
  bool serving = false;
  bool terminating = false;
  std::vector<std::string> for_nodes;
};
using Endpoints = std::vector<Endpoint>;

std::string upper(std::string text) {
  std::ranges::transform(text, text.begin(), [](char c) { return static_cast<char>(std::toupper(c)); });
  return text;
}

/// S1, S2.
bool counts(const ServiceManifest& service) {
  return service.type != "ExternalName" &&
         !service.labels.contains("service.kubernetes.io/service-proxy-name") &&
         !service.labels.contains("service.kubernetes.io/headless");
}

/// S12: without a cluster IP of a family a Service has nothing in it.
const Address* cluster_ip_of(const ServiceManifest& service, Family family) {
  const auto found = std::ranges::find(service.cluster_ips, family, &Address::family);
  return found == service.cluster_ips.end() ? nullptr : &*found;
}

/// S34: any address of the node that is asked, loopback among them.
bool is_of_node(const Ground& ground, const Question& question) {
  return question.to.address.is_loopback() ||
         question.to.address == ground.node_ip(question.at, question.family());
}

/// S19, S37, S41: which ways into this port of the Service lead by the address.
std::optional<Way> way_in(const ServiceManifest& service, const ServicePortManifest& port,
                          const Ground& ground, const Question& question) {
  const Address& to = question.to.address;
  if (is_of_node(ground, question)) {
    if (port.node_port != 0 && port.node_port == question.to.port) return Way::kNodePort;
    return std::nullopt;
  }
  if (port.port != question.to.port) return std::nullopt;
  if (*cluster_ip_of(service, question.family()) == to) return Way::kClusterIp;
  if (std::ranges::count(service.load_balancer_ips, to) != 0) return Way::kLoadBalancer;
  if (std::ranges::count(service.external_ips, to) != 0) return Way::kExternalIp;
  return std::nullopt;
}

std::optional<Owner> find_owner(const World& world, const Ground& ground, const Question& question) {
  std::optional<Owner> owner;
  for (const auto& [name, service] : world.services) {
    if (!counts(service) || cluster_ip_of(service, question.family()) == nullptr) continue;
    for (const auto& port : service.ports) {
      if (port.protocol != upper(question.protocol)) continue;  // S7
      const auto way = way_in(service, port, ground, question);
      if (!way) continue;
      if (owner) throw std::logic_error(question.to.to_string() + " has two owners");
      owner = Owner{&service, &port, *way};
    }
  }
  return owner;
}

/// S3-S10.
Endpoints endpoints_of(const World& world, const std::string& service, const std::string& port_name,
                       const std::string& protocol, Family family) {
  Endpoints result;
  const auto slices = world.slices.find(service);
  if (slices == world.slices.end()) return result;
  for (const auto& slice : slices->second) {
    for (const auto& port : slice.ports) {
      if (port.name != port_name || port.protocol != protocol) continue;  // S5
      for (const auto& backend : slice.backends) {
        for (const auto& ip : backend.ips) {
          if (ip.family() != family) continue;  // S4
          const Endpoint endpoint{.at = {ip, port.target},
                                  .node = backend.node,
                                  .ready = backend.ready,
                                  .serving = backend.serving.value_or(true),  // S8
                                  .terminating = backend.terminating.value_or(false),
                                  .for_nodes = backend.for_nodes};
          const auto same = std::ranges::find(result, endpoint.at, &Endpoint::at);
          if (same == result.end()) {
            result.push_back(endpoint);
          } else if (same->terminating && !endpoint.terminating) {  // S10
            *same = endpoint;
          }
        }
      }
    }
  }
  return result;
}

template <typename F>
Endpoints only(const Endpoints& endpoints, F&& wanted) {
  Endpoints result;
  std::ranges::copy_if(endpoints, std::back_inserter(result), wanted);
  return result;
}

/// The ready ones, else those that serve on their way out, else none (S13-S15).
Endpoints usable(const Endpoints& endpoints) {
  Endpoints ready = only(endpoints, [](const auto& each) { return each.ready; });
  if (!ready.empty()) return ready;
  return only(endpoints, [](const auto& each) { return each.serving && each.terminating; });
}

/// S13, S16, S17. Nodes here have no zone, so hints of zones say nothing.
Endpoints cluster_set(const Endpoints& endpoints, const std::string& node) {
  Endpoints result = usable(endpoints);
  if (result.empty() || !result.front().ready) return result;
  const auto names_node = [&](const auto& each) { return std::ranges::count(each.for_nodes, node) != 0; };
  if (std::ranges::any_of(result, [](const auto& each) { return each.for_nodes.empty(); })) return result;
  if (std::ranges::none_of(result, names_node)) return result;
  return only(result, names_node);
}

/// S9, S14.
Endpoints local_set(const Endpoints& endpoints, const std::string& node) {
  return usable(only(endpoints, [&](const auto& each) { return each.node == node; }));
}

/// S22, S23: does only the node's own set count?
bool only_local(const Owner& owner, const Question& question) {
  if (owner.way == Way::kClusterIp) return owner.service->internal_traffic_policy == "Local";
  const Client& client = *question.client;
  const bool inside = client.role == Role::kPod || (client.role == Role::kHost && client.node == question.at);
  return owner.service->external_traffic_policy == "Local" && !inside;
}

/// S39, S40.
bool source_may(const ServiceManifest& service, const Question& question) {
  bool any = false;
  for (const auto& text : service.source_ranges) {
    const Cidr range = Cidr::parse(text).value();
    if (range.family() != question.family()) continue;
    if (range.contains(question.client->ip(question.family()))) return true;
    any = true;
  }
  return !any;
}

std::string name_of(const Ground& ground, const Endpoint& endpoint) {
  const auto found = std::ranges::find(ground.servers, endpoint.at, &Server::at);
  if (found == ground.servers.end()) throw std::logic_error("nobody listens at " + endpoint.at.to_string());
  return found->name;
}

std::set<std::string> names(const Ground& ground, const Endpoints& endpoints) {
  std::set<std::string> result;
  for (const auto& each : endpoints) result.insert(name_of(ground, each));
  return result;
}

std::set<std::string> serving(const Ground& ground, const Endpoints& endpoints) {
  return names(ground, only(endpoints, [](const auto& each) { return each.serving; }));
}

/// No Service has this address and port.
Verdict of_nobody(const World& world, const Ground& ground, const Question& question) {
  Verdict verdict;
  if (is_of_node(ground, question)) {
    verdict.refused = true;  // S35: it is the host's, where nobody listens
    return verdict;
  }
  for (const auto& [name, service] : world.services) {
    const Address* ip = cluster_ip_of(service, question.family());
    if (counts(service) && ip != nullptr && *ip == question.to.address) verdict.refused = true;  // S32
  }
  const auto in_range = [&](const Cidr& each) { return each.contains(question.to.address); };
  if (!verdict.refused && std::ranges::any_of(ground.service_ranges, in_range)) verdict.silent = true;  // S32
  verdict.unspecified = !verdict.refused && !verdict.silent;
  return verdict;
}

Address of_family(const std::vector<Address>& addresses, Family family) {
  const auto found = std::ranges::find(addresses, family, &Address::family);
  if (found == addresses.end()) throw std::logic_error("no address of this family");
  return *found;
}

}  // namespace

Address Client::ip(Family family) const {
  return of_family(ips, family);
}

Address Ground::node_ip(size_t node, Family family) const {
  return of_family(node_ips.at(node), family);
}

std::string Question::to_string() const {
  return fmt::format("{} from {} to {} by node {}", protocol, client->name, to.to_string(), at);
}

std::string Verdict::to_string() const {
  std::vector<std::string> words;
  if (unspecified) words.emplace_back("anything");
  if (refused) words.emplace_back("refused");
  if (silent) words.emplace_back("silent");
  words.insert(words.end(), servers.begin(), servers.end());
  return fmt::format("{} (of {}{}; serving: {})", fmt::join(words, " or "), owner.empty() ? "nobody" : owner,
                     affinity ? ", affinity" : "", fmt::join(serving, " "));
}

Verdict specified(const World& world, const Ground& ground, const Question& question) {
  const auto owner = find_owner(world, ground, question);
  if (!owner) return of_nobody(world, ground, question);
  const Endpoints endpoints =
      endpoints_of(world, owner->service->name, owner->port->name, owner->port->protocol, question.family());
  const std::string& node = ground.nodes.at(question.at);
  Verdict verdict;
  verdict.service = owner->service->name;
  verdict.port = owner->port->name;
  verdict.owner = fmt::format("{}/{}:{}", owner->service->name, owner->port->name, owner->port->port);
  verdict.affinity = owner->service->affinity_seconds.has_value();
  verdict.ready = names(ground, only(endpoints, [](const auto& each) { return each.ready; }));
  verdict.serving = serving(ground, endpoints);
  const bool somebody = !usable(endpoints).empty();
  if (owner->way == Way::kLoadBalancer && !source_may(*owner->service, question)) {
    verdict.silent = true;
    verdict.refused = !somebody;  // S30 and S39 both hold for a Service that has nobody
    return verdict;
  }
  if (only_local(*owner, question)) {
    verdict.servers = names(ground, local_set(endpoints, node));
    verdict.silent = verdict.servers.empty() && somebody;  // S31
  } else {
    verdict.servers = names(ground, cluster_set(endpoints, node));
  }
  verdict.refused = !somebody;  // S30
  return verdict;
}

std::set<std::string> specified_serving(const World& world, const Ground& ground, const std::string& service,
                                        const std::string& port, Family family) {
  return serving(ground, endpoints_of(world, service, port, "UDP", family));
}

Address specified_source(const Ground& ground, const Question& question, const std::string& server) {
  const Client& client = *question.client;
  const Address node = ground.node_ip(question.at, question.family());
  const auto found = std::ranges::find(ground.servers, server, &Server::name);
  const bool server_is_here = found != ground.servers.end() && found->node == question.at;
  if (question.to.address.is_loopback()) return node;
  const Address own = client.ip(question.family());
  const bool itself = std::ranges::any_of(
      ground.servers, [&](const Server& each) { return each.name == server && each.at.address == own; });
  if (itself) return node;  // S27
  const bool answer_returns = server_is_here || (client.role != Role::kOutside && client.node == question.at);
  return answer_returns ? own : node;
}

}  // namespace bpfnet::e2e::churn
