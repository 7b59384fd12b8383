#include "tests/model/scenario.h"

#include <fmt/format.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>

#include "maps/convert.h"
#include "maps/labels.h"
#include "tests/support/well_formed.h"

namespace bpfnet::model_node {
namespace {

using test::must;

constexpr uint32_t kFirstSet = 20;
constexpr uint32_t kSets = 6;
constexpr size_t kHistory = 40;
constexpr std::array<uint16_t, 3> kClientPorts = {1001, 1002, 1003};
constexpr uint16_t kRange = 8000;
constexpr uint8_t kRangeBits = 13;

Tuple from_key(const flow_key& key) {
  return {maps::from_abi(key.saddr), maps::from_network(key.sport), maps::from_abi(key.daddr),
          maps::from_network(key.dport), key.proto};
}

/// The tuple of a packet on the wire; nullopt when it has none.
std::optional<Tuple> tuple_of(const test::Bytes& frame) {
  const auto headers = test::well_formed(frame);
  if (!headers) return {};
  const auto word = [&](size_t at) {
    return static_cast<uint16_t>(frame[headers->l4 + at] << 8 | frame[headers->l4 + at + 1]);
  };
  Tuple tuple{headers->src, word(0), headers->dst, word(2), headers->proto};
  if (tuple.proto == IPPROTO_ICMP || tuple.proto == IPPROTO_ICMPV6) {
    const uint8_t type = frame[headers->l4];
    const bool reply = type == 0 || type == 129;
    tuple.sport = reply ? 0 : word(4);
    tuple.dport = reply ? word(4) : 0;
  }
  return tuple;
}

const char* device_of(const Arrival& arrival) {
  static constexpr const char* kPods[] = {"", "pod1", "pod2", "pod3"};
  switch (arrival.hook) {
    case HOOK_from_pod:
      return kPods[arrival.pod];
    case HOOK_from_host:
      return "bpfnet1";
    case HOOK_from_overlay:
      return "bpfnet3";
    default:
      return "uplink";
  }
}

}  // namespace

Scenario::Scenario(test::Node& node, Family family, uint64_t seed)
    : node_(node), who_(family), seed_(seed), random_(seed) {
  node_.reset();
  const Address third = who_.pick("10.1.0.40", "fd00:1::40");
  node_.add_pod({.index = 3, .addresses = {third}, .identity = 1004});
  pod_addresses_ = {who_.client, who_.server, third};
  State& state = model_.state;
  state.pods[1] = {.addresses = {who_.client}, .identity = 1001};
  state.pods[2] = {.addresses = {who_.server}, .identity = 1002};
  state.pods[3] = {.addresses = {third}, .identity = 1004};
  state.remote_pods = {{who_.remote, 1003}};
  state.own_addresses = {who_.node1};
  state.other_nodes = {who_.node2};
  for (const char* range : {"10.1.0.0/16", "10.2.0.0/16", "fd00:1::/64", "fd00:2::/64"}) {
    state.cluster.push_back(cidr(range));
  }
  for (const char* range : {"10.96.0.0/12", "fd00:10:96::/112"}) state.services.push_back(cidr(range));
  state.overlay = node_.config().overlay_port != 0;
  state.node_of = {{who_.remote, node_.other()}, {who_.node2, node_.other()}};
  for (const char* range : {"10.2.0.0/16", "fd00:2::/64"})
    state.node_prefixes.emplace_back(cidr(range), node_.other());
  state.node_address = {{family, who_.node1}};
  state.first_port = node_.config().masquerade_port_first;
  state.last_port = node_.config().masquerade_port_last;
  make_policies();
  make_services();
}

void Scenario::make_policies() {
  // The other family's name for a pod itself must be nobody's.
  const std::array<uint32_t, 8> identities = {0, 1, 2, 3, IDENTITY_SELF, IDENTITY_SELF6, 1001, 1003};
  constexpr std::array<uint8_t, 8> kVerdicts = {POLICY_ALLOW, POLICY_ALLOW, POLICY_ALLOW, POLICY_ALLOW,
                                                POLICY_ALLOW, POLICY_DENY,  POLICY_DENY,  POLICY_AUDIT};
  const std::array<uint8_t, 4> protocols = {0, IPPROTO_TCP, IPPROTO_UDP,
                                            who_.v4() ? uint8_t{1} : uint8_t{58}};
  const std::array<std::pair<uint16_t, uint8_t>, 4> ports = {{{0, 0}, {8080, 16}, {8080, 12}, {53, 16}}};
  for (uint32_t set = kFirstSet; set < kFirstSet + kSets; ++set) {
    std::set<std::tuple<uint32_t, uint8_t, uint16_t, uint8_t>> taken;
    auto& rules = model_.state.sets[set];
    for (uint64_t count = 1 + random(5); count > 0; --count) {
      Rule rule{.identity = pick(identities), .proto = pick(protocols), .verdict = pick(kVerdicts)};
      if (rule.proto == IPPROTO_TCP || rule.proto == IPPROTO_UDP)
        std::tie(rule.port, rule.bits) = pick(ports);
      if (!taken.insert({rule.identity, rule.proto, rule.port, rule.bits}).second) continue;
      rule.id = set * 100 + static_cast<uint32_t>(rules.size());
      rules.push_back(rule);
      node_.add_policy(set, rule.identity, rule.proto, rule.port, rule.bits, rule.id, rule.verdict);
    }
  }
}

std::vector<Backend> Scenario::random_backends() {
  std::vector<Address> hosts = pod_addresses_;
  hosts.push_back(who_.remote);
  hosts.push_back(who_.outside);
  hosts.push_back(who_.node1);
  std::vector<Backend> backends;
  for (uint64_t count = random(4); count > 0; --count) {
    const Backend backend{pick(hosts), static_cast<uint16_t>(chance(70) ? 8080 : 53), 0};
    if (std::find(backends.begin(), backends.end(), backend) == backends.end()) backends.push_back(backend);
  }
  return backends;
}

void Scenario::make_services() {
  struct Kind {
    std::optional<Address> address;
    uint16_t port;
    uint16_t count;
  };
  uint32_t id = 1;
  for (const Kind& kind : {Kind{who_.vip, test::kServicePort, 1}, Kind{balancer(), test::kServicePort, 1},
                           Kind{std::nullopt, test::kNodePort, 1}, Kind{std::nullopt, kRange, 8}}) {
    for (const uint8_t proto : {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP}) {
      Service service{.address = kind.address, .family = who_.family, .port = kind.port, .proto = proto};
      service.count = kind.count;
      service.id = id++;
      service.affinity = chance(40);
      service.drop_empty_inside = chance(20);
      service.drop_empty_outside = chance(50);
      write_service(service);
      model_.state.frontends.push_back(service);
    }
  }
  for (const auto& [address, flags] :
       {std::pair{who_.vip, FRONTEND_CLUSTER_IP}, std::pair{strange(), FRONTEND_CLUSTER_IP},
        std::pair{balancer(), FRONTEND_LOAD_BALANCER}}) {
    if (chance(30)) continue;
    model_.state.live[address] = flags == FRONTEND_CLUSTER_IP;
    node_.add_service(
        {.address = address, .port = 0, .proto = 0, .backends = {}, .flags = static_cast<uint32_t>(flags)});
  }
}

/// Gives the service new backends, in the maps too.
void Scenario::write_service(Service& service) {
  service.inside = random_backends();
  service.outside = chance(50) ? service.inside : random_backends();
  const auto specs = [](const std::vector<Backend>& backends) {
    std::vector<test::BackendSpec> result;
    for (const auto& backend : backends) result.push_back({backend.address, backend.port});
    return result;
  };
  uint32_t flags = service.address ? FRONTEND_CLUSTER_IP : FRONTEND_NODE_PORT;
  if (service.affinity) flags |= FRONTEND_AFFINITY;
  if (service.count > 1) flags |= FRONTEND_PORT_RANGE;
  uint32_t source_set = 0;
  service.sources.reset();
  if (service.address == balancer() && chance(40)) {
    source_set = ++source_sets_;
    service.sources.emplace();
    for (const auto& range :
         {cidr("198.51.100.0/24"), cidr("2001:db8:2::/64"), cidr("10.1.0.0/27"), cidr("fd00:1::/123")}) {
      if (chance(50)) continue;
      service.sources->push_back(range);
      node_.add_source_range(source_set, range);
    }
  }
  if (service.drop_empty_inside) flags |= FRONTEND_DROP_EMPTY;
  if (service.drop_empty_outside) flags |= FRONTEND_DROP_EMPTY_EXT;
  const uint8_t scope = service.address ? SCOPE_ADDRESS : SCOPE_ANY_LOCAL;
  uint32_t id = node_.add_service({.address = service.address.value_or(who_.any),
                                   .port = service.port,
                                   .proto = service.proto,
                                   .backends = specs(service.inside),
                                   .flags = flags,
                                   .scope = scope,
                                   .outside_backends = specs(service.outside),
                                   .id = service.id,
                                   .source_set = source_set,
                                   .affinity_ticks = 1000,
                                   .port_bits = service.count > 1 ? kRangeBits : uint8_t{16},
                                   .range_first = service.port});
  for (auto* run : {&service.inside, &service.outside}) {
    for (auto& backend : *run) {
      backend.id = id++;
      model_.state.stale_backends.erase(backend.id);
    }
  }
}

void Scenario::change_something() {
  const auto index = static_cast<uint32_t>(1 + random(3));
  Pod& pod = model_.state.pods.at(index);
  switch (random(4)) {
    case 0:
      pod.open = chance(70);
      pod.audited = chance(20);
      pod.rejects = chance(50);
      break;
    case 1: {
      Service& service = pick(model_.state.frontends);
      for (const auto* run : {&service.inside, &service.outside}) {
        for (const auto& backend : *run) {
          model_.state.stale_backends.insert(backend.id);
          must(node_.maps().backend_states.put(backend.id, {.generation = 2}));
        }
      }
      write_service(service);
      history_.push_back(
          fmt::format("service port {} proto {} has new backends", service.port, service.proto));
      return;
    }
    default: {
      constexpr uint32_t kOpen = POLICY_SET_ALLOW_ALL;
      const uint32_t shut = chance(50) ? POLICY_SET_DENY_ALL : POLICY_SET_CLOSED;
      const std::array<uint32_t, 4> choices = {kOpen, kOpen, shut,
                                               kFirstSet + static_cast<uint32_t>(random(kSets))};
      (chance(50) ? pod.ingress_set : pod.egress_set) = pick(choices);
    }
  }
  ++pod.epoch;
  node_.change_pod(index, [&](endpoint& record) {
    record.state = pod.open ? ENDPOINT_OPEN : ENDPOINT_CLOSED;
    record.flags =
        static_cast<uint8_t>((pod.rejects ? ENDPOINT_REJECTS : 0) | (pod.audited ? ENDPOINT_AUDITED : 0));
    record.ingress_set = pod.ingress_set;
    record.egress_set = pod.egress_set;
    record.epoch = pod.epoch;
  });
  history_.push_back(fmt::format("pod {}: open {} audited {} rejects {} ingress {} egress {} epoch {}", index,
                                 pod.open, pod.audited, pod.rejects, pod.ingress_set, pod.egress_set,
                                 pod.epoch));
}

/// A packet of a tuple, where its sender's packets come in.
Arrival Scenario::continued(const Tuple& tuple) {
  static constexpr std::array<uint8_t, 8> kFlags = {
      test::ACK, test::ACK, test::ACK, test::SYN | test::ACK, test::SYN | test::ACK, test::FIN | test::ACK,
      test::RST, test::SYN};
  Arrival arrival{.hook = HOOK_from_uplink, .tuple = tuple};
  const auto is_pod = [&](const Address& address) {
    return std::find(pod_addresses_.begin(), pod_addresses_.end(), address) != pod_addresses_.end();
  };
  if (is_pod(tuple.src)) {
    arrival.hook = HOOK_from_pod;
    arrival.pod = static_cast<uint32_t>(
        1 + (std::find(pod_addresses_.begin(), pod_addresses_.end(), tuple.src) - pod_addresses_.begin()));
  } else if (tuple.src == who_.node1 || tuple.src.is_loopback()) {
    const bool towards_us =
        is_pod(tuple.dst) || tuple.dst == who_.vip || tuple.dst == who_.node1 || tuple.dst.is_loopback();
    arrival.hook = towards_us ? HOOK_from_host : HOOK_to_uplink;
  }
  if (tuple.proto == IPPROTO_TCP) arrival.tcp_flags = pick(kFlags);
  if (arrival.hook == HOOK_from_uplink && model_.state.overlay && chance(tuple.src == who_.remote ? 80 : 20))
    arrival.hook = HOOK_from_overlay;
  if (chance(5)) {
    arrival.hook = HOOK_from_pod;
    arrival.pod = static_cast<uint32_t>(1 + random(3));
  }
  return arrival;
}

/// The client of a service by itself, to the process of the node that answers under this tuple.
Arrival Scenario::direct(const Tuple& answer) {
  static constexpr std::array<uint8_t, 3> kFlags = {test::SYN, test::SYN, test::ACK};
  Arrival arrival{.hook = HOOK_from_uplink, .tuple = answer.reversed()};
  if (answer.proto == IPPROTO_TCP) arrival.tcp_flags = pick(kFlags);
  return arrival;
}

Arrival Scenario::fresh() {
  const uint8_t echo = who_.v4() ? uint8_t{IPPROTO_ICMP} : uint8_t{IPPROTO_ICMPV6};
  const std::array<uint8_t, 7> protocols = {IPPROTO_TCP, IPPROTO_TCP,  IPPROTO_TCP, IPPROTO_UDP,
                                            IPPROTO_UDP, IPPROTO_SCTP, echo};
  const std::array<uint16_t, 7> ports = {
      test::kServicePort, test::kServicePort, test::kNodePort, kRange + 3, kRange + 8, 8080, 53};
  const Address unknown = who_.pick("10.96.7.7", "fd00:10:96::77");
  Arrival arrival;
  arrival.tuple = {{}, pick(kClientPorts), {}, pick(ports), pick(protocols)};
  std::vector<Address> sources;
  std::vector<Address> destinations = {who_.client, who_.server, who_.vip,  who_.vip,
                                       who_.node1,  balancer(),  strange(), pod_addresses_[2]};
  switch (random(10)) {
    case 0:
    case 1:
    case 2:
      arrival.hook = HOOK_from_uplink;
      sources = {who_.outside, who_.outside, who_.remote, who_.node2, who_.gateway, who_.client, who_.node1};
      destinations.push_back(who_.outside);
      destinations.push_back(unknown);
      if (!model_.state.overlay || chance(40)) break;
      arrival.hook = HOOK_from_overlay;
      sources.insert(sources.end(),
                     {who_.remote, who_.remote, who_.node2, who_.pick("10.2.0.31", "fd00:2::31")});
      destinations.insert(destinations.end(), {who_.client, who_.server, who_.node1, who_.remote});
      break;
    case 3:
      arrival.hook = HOOK_from_host;
      sources = {who_.node1};
      if (arrival.tuple.proto != echo && chance(30)) {
        sources = destinations = {who_.loopback};
        arrival.tuple.dport = test::kNodePort;
      }
      break;
    case 4:
      arrival.hook = HOOK_to_uplink;
      sources = {who_.node1};
      destinations = {who_.outside, who_.gateway, who_.remote, who_.node2, balancer(), strange()};
      break;
    default:
      arrival.hook = HOOK_from_pod;
      arrival.pod = static_cast<uint32_t>(1 + random(3));
      sources = {pod_addresses_[arrival.pod - 1]};
      if (chance(5)) sources = pod_addresses_;
      for (const auto& address :
           {who_.outside, who_.outside, who_.remote, who_.node2, who_.gateway, unknown}) {
        destinations.push_back(address);
      }
  }
  arrival.tuple.src = pick(sources);
  arrival.tuple.dst = pick(destinations);
  if (arrival.tuple.proto == echo) {
    arrival.tuple.dport = 0;
    if (chance(10)) std::swap(arrival.tuple.sport, arrival.tuple.dport);
  }
  static constexpr std::array<uint8_t, 5> kFlags = {test::SYN, test::SYN, test::SYN, test::ACK, test::RST};
  if (arrival.tuple.proto == IPPROTO_TCP) arrival.tcp_flags = pick(kFlags);
  return arrival;
}

Arrival Scenario::random_arrival() {
  if (model_.flows().empty() || chance(40)) return fresh();
  const Tuple& tuple = pick(model_.flows()).first;
  return tuple.src == who_.node1 && chance(20) ? direct(tuple) : continued(tuple);
}

test::Packet Scenario::packet_of(const Arrival& arrival) const {
  const Tuple& tuple = arrival.tuple;
  test::Eth eth;
  switch (arrival.hook) {
    case HOOK_from_pod:
      eth = {.dst = node_.device_mac(device_of(arrival)), .src = test::Node::pod_mac(arrival.pod)};
      break;
    case HOOK_from_overlay:
      eth = {.dst = node_.device_mac("bpfnet3"), .src = test::Node::gateway_mac()};
      break;
    case HOOK_from_host:
      eth = {.dst = node_.device_mac("bpfnet1"), .src = node_.device_mac("bpfnet0")};
      break;
    default:
      eth = {.dst = node_.device_mac("uplink"), .src = test::Node::gateway_mac()};
  }
  const test::Packet header = eth / test::Ip{.src = tuple.src, .dst = tuple.dst};
  if (tuple.proto == IPPROTO_TCP) {
    return header / test::Tcp{.sport = tuple.sport, .dport = tuple.dport, .flags = arrival.tcp_flags};
  }
  if (tuple.proto == IPPROTO_UDP) return header / test::Udp{.sport = tuple.sport, .dport = tuple.dport};
  if (tuple.proto == IPPROTO_SCTP) return header / test::Sctp{.sport = tuple.sport, .dport = tuple.dport};
  const bool reply = tuple.sport == 0;
  return header / test::Echo{.id = reply ? tuple.dport : tuple.sport, .reply = reply};
}

std::string Scenario::send(const Arrival& arrival) {
  const test::Bytes sent = packet_of(arrival).bytes();
  const auto run = must(
      node_.try_run(arrival.hook, device_of(arrival), sent,
                    {.mark = arrival.hook == HOOK_from_overlay ? node_.config().mark : 0, .light = true}));
  if (!run.event) return report("the program sent no event");
  Choices choices;
  const Address backend = maps::from_abi(run.event->backend);
  if (!backend.is_unspecified()) choices.backend = {backend, maps::from_network(run.event->backend_port)};
  const bool goes_on = run.verdict() != VERDICT_DROP;
  if (goes_on) choices.out = tuple_of(run.bytes);

  const Decision want = model_.step(arrival, choices);
  history_.push_back(fmt::format("{} -> {} {}", arrival.text(),
                                 maps::verdict_label(static_cast<uint32_t>(run.verdict())),
                                 goes_on ? (choices.out ? choices.out->text() : "?")
                                         : maps::drop_reason_label(static_cast<uint32_t>(run.reason()))));
  if (!want.complaint.empty()) return report("not allowed: " + want.complaint);
  if (run.verdict() != want.verdict || run.reason() != want.reason) {
    return report(fmt::format("the model says {} {}",
                              maps::verdict_label(static_cast<uint32_t>(want.verdict)),
                              maps::drop_reason_label(static_cast<uint32_t>(want.reason))));
  }
  // A packet that its sender hears of has become the answer; where the stack sends, silence is a redirect
  // too.
  const bool told = run.code == TC_ACT_REDIRECT && run.bytes != sent;
  if (const std::string policy = compare_policy(run, told, want); !policy.empty()) return report(policy);
  if (goes_on && choices.out != want.out) return report("the model sends " + want.out.text());
  const std::string tables = compare_tables();
  return tables.empty() ? "" : report(tables);
}

/// What is told of policy: to user space, and to the sender.
std::string Scenario::compare_policy(const test::Outcome& run, bool told, const Decision& want) {
  const int reason = run.reason();
  const int flags = (want.audited ? EVENT_AUDITED : 0) | (want.reversed ? EVENT_REVERSED : 0);
  if (run.event->flags != flags) return fmt::format("the model says event flags {}", flags);
  if (reason != DROP_POLICY_EGRESS && reason != DROP_POLICY_INGRESS) return {};
  if (run.event->rule != want.rule)
    return fmt::format("by rule {}, the model says {}", run.event->rule, want.rule);
  if (run.verdict() == VERDICT_DROP && told != want.told)
    return fmt::format("the model says that the sender is {}told", want.told ? "" : "not ");
  return {};
}

/// Every entry on both sides: keys, peers, states, endpoints.
std::string Scenario::compare_tables() const {
  std::string out;
  std::set<Tuple> seen;
  for (const auto& [key, record] : must(node_.maps().flows.entries())) {
    const Tuple tuple = from_key(key);
    seen.insert(tuple);
    const auto found = model_.flows().find(tuple);
    if (found == model_.flows().end()) {
      out += "only the program has " + tuple.text() + "\n";
      continue;
    }
    const Pair& pair = *found->second;
    const bool is_reply = (record.flags & FLOW_IS_REPLY) != 0;
    if (is_reply != (tuple == pair.reply && tuple != pair.original))
      out += "direction of " + tuple.text() + "\n";
    if (from_key(record.peer) != (tuple == pair.original ? pair.reply : pair.original)) {
      out += "peer of " + tuple.text() + " is " + from_key(record.peer).text() + "\n";
    }
    if (record.state != pair.state) {
      out += fmt::format("state of {}: program {}, model {}\n", tuple.text(),
                         maps::flow_state_label(record.state),
                         maps::flow_state_label(static_cast<uint32_t>(pair.state)));
    }
    if (record.rule != pair.rule || ((record.flags & FLOW_AUDITED) != 0) != pair.audited) {
      out += fmt::format("policy of {}: program rule {} flags {:#x}, model rule {} audited {}\n",
                         tuple.text(), record.rule, record.flags, pair.rule, pair.audited);
    }
    if (record.src_endpoint != pair.client || record.dst_endpoint != pair.server) {
      out += fmt::format("endpoints of {}: program {} {}, model {} {}\n", tuple.text(), record.src_endpoint,
                         record.dst_endpoint, pair.client, pair.server);
    }
  }
  for (const auto& [tuple, pair] : model_.flows()) {
    if (!seen.contains(tuple)) out += "only the model has " + tuple.text() + "\n";
  }
  return out;
}

std::string Scenario::report(const std::string& difference) const {
  std::string out = fmt::format("seed {} IPv{}: {}\n", seed_, who_.v4() ? 4 : 6, difference);
  for (const auto& line : history_) out += "  " + line + "\n";
  return out;
}

std::string Scenario::step() {
  if (history_.size() > kHistory) history_.pop_front();
  if (chance(6)) {
    change_something();
    return {};
  }
  return send(random_arrival());
}

}  // namespace bpfnet::model_node
