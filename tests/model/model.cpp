#include "tests/model/model.h"

#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>

namespace bpfnet::model_node {
namespace {

constexpr uint8_t kFin = 1;
constexpr uint8_t kSyn = 2;
constexpr uint8_t kRst = 4;
constexpr uint8_t kAck = 16;
constexpr uint32_t kIdentityHost = 1;
constexpr uint32_t kIdentityRemoteNode = 2;
constexpr uint32_t kIdentityWorld = 3;

Decision drop(int reason) {
  return {.verdict = VERDICT_DROP, .reason = reason, .out = {}, .complaint = {}};
}

bool is_echo(const Tuple& tuple) {
  return tuple.proto == IPPROTO_ICMP || tuple.proto == IPPROTO_ICMPV6;
}

bool is_syn(const Arrival& arrival) {
  return arrival.tuple.proto == IPPROTO_TCP && (arrival.tcp_flags & (kSyn | kAck | kRst | kFin)) == kSyn;
}

/// A packet that cannot begin a connection by itself.
bool is_midstream(const Arrival& arrival) {
  if (arrival.tuple.proto == IPPROTO_TCP) return !is_syn(arrival);
  return is_echo(arrival.tuple) && arrival.tuple.sport == 0;
}

bool contains(const std::vector<Cidr>& prefixes, const Address& address) {
  return std::any_of(prefixes.begin(), prefixes.end(), [&](const Cidr& c) { return c.contains(address); });
}

}  // namespace

std::string Tuple::text() const {
  return fmt::format("{}:{} > {}:{} proto {}", src.to_string(), sport, dst.to_string(), dport, proto);
}

std::string Arrival::text() const {
  static constexpr const char* kHooks[] = {"from_pod",  "to_pod",     "from_uplink", "to_uplink",
                                           "from_host", "xdp_uplink", "from_overlay"};
  return fmt::format("{}{} {} flags {:#x}", kHooks[hook], pod != 0 ? fmt::format("({})", pod) : "",
                     tuple.text(), tcp_flags);
}

Model::Party Model::party(const Address& address) const {
  Party result{.identity = kIdentityWorld};
  result.cluster = contains(state.cluster, address);
  result.service_range = contains(state.services, address);
  for (const auto& [prefix, node] : state.node_prefixes)
    if (prefix.contains(address)) result.node = node;
  if (const auto known = state.node_of.find(address); known != state.node_of.end())
    result.node = known->second;
  if (const auto remote = state.remote_pods.find(address); remote != state.remote_pods.end()) {
    result.identity = remote->second;
    result.remote_pod = true;
  }
  for (const auto& [index, pod] : state.pods) {
    if (std::find(pod.addresses.begin(), pod.addresses.end(), address) != pod.addresses.end()) {
      result.identity = pod.identity;
      result.pod = index;
    }
  }
  if (state.own_addresses.contains(address) || address.is_loopback()) {
    result.identity = kIdentityHost;
    result.own = true;
  }
  if (state.other_nodes.contains(address)) {
    result.identity = kIdentityRemoteNode;
    result.other_node = true;
  }
  return result;
}

const Service* Model::frontend(const Tuple& tuple) const {
  if (is_echo(tuple)) return nullptr;
  const auto find = [&](const std::optional<Address>& address, bool range) -> const Service* {
    for (const Service& service : state.frontends) {
      const bool here =
          address ? service.address == address : !service.address && service.family == tuple.dst.family();
      const bool port = tuple.dport >= service.port && tuple.dport - service.port < service.count;
      if (here && range == (service.count > 1) && port && service.proto == tuple.proto) return &service;
    }
    return nullptr;
  };
  if (const Service* exact = find(tuple.dst, false)) return exact;
  if (!state.own_addresses.contains(tuple.dst) && !tuple.dst.is_loopback()) return nullptr;
  for (const bool range : {false, true}) {
    if (const Service* service = range ? find(tuple.dst, range) : nullptr) return service;
    if (const Service* service = find(std::nullopt, range)) return service;
  }
  return nullptr;
}

/// Is there something to be said about a packet for an address that only a service has?
bool Model::concerns_live_address(const Tuple& tuple) const {
  const auto live = state.live.find(tuple.dst);
  return live != state.live.end() && (live->second || (is_echo(tuple) && tuple.dport == 0));
}

/// The longest match among the rules of one identity decides; only then those for every identity are asked.
/// What names the pod itself is asked alone, and denies what it names only (A11).
Model::Says Model::set_says(uint32_t set, uint32_t identity, uint8_t proto, uint16_t port) const {
  const bool self = identity == IDENTITY_SELF || identity == IDENTITY_SELF6;
  const bool open = self && set != POLICY_SET_CLOSED;
  const Says otherwise{.verdict = open ? uint8_t{POLICY_ALLOW} : uint8_t{POLICY_DENY}};
  const auto rules = state.sets.find(set);
  if (rules == state.sets.end()) return otherwise;
  for (const uint32_t who : {identity, self ? identity : 0U}) {
    const Rule* best = nullptr;
    for (const Rule& rule : rules->second) {
      const bool matches = rule.identity == who && (rule.proto == 0 || rule.proto == proto) &&
                           (rule.bits == 0 || rule.port >> (16 - rule.bits) == port >> (16 - rule.bits));
      const auto length = [](const Rule& r) { return r.proto == 0 ? -1 : int{r.bits}; };
      if (matches && (!best || length(rule) > length(*best))) best = &rule;
    }
    if (best) return {best->verdict, best->id};
  }
  return otherwise;
}

/// One direction. `reason` is also which: the pod is the source of egress, the destination of ingress.
void Model::obey(Judgement& judgement, const Pod& pod, int reason, uint32_t peer, const Tuple& reply) const {
  const uint32_t set = reason == DROP_POLICY_EGRESS ? pod.egress_set : pod.ingress_set;
  if (set == POLICY_SET_ALLOW_ALL || judgement.denies()) return;
  const Says says = set_says(set, peer, reply.proto, reply.sport);
  if (says.verdict == POLICY_DENY && !pod.audited) {
    judgement = {.reason = reason, .told = pod.rejects, .rule = says.rule};
  } else if (!judgement.audited) {
    judgement.rule = says.rule;
    if (says.verdict == POLICY_ALLOW) return;
    judgement.audited = true;
    judgement.reason = reason;
  }
}

/// May C talk to B? P3, P13, P15, P20, A11; P11: B is behind the service.
Model::Judgement Model::judge(const Tuple& original, const Tuple& reply, bool by_service) const {
  const Party client = party(original.src);
  const Party server = party(reply.src);
  const Pod* from = client.pod != 0 ? &state.pods.at(client.pod) : nullptr;
  const Pod* to = server.pod != 0 ? &state.pods.at(server.pod) : nullptr;
  if ((from && !from->open) || (to && !to->open)) return {.reason = DROP_ENDPOINT_CLOSED};
  const bool itself = from && client.pod == server.pod;
  const uint32_t self = original.src.is_ipv4() ? IDENTITY_SELF : IDENTITY_SELF6;
  Judgement judgement;
  if (itself && !by_service) return judgement;
  if (from) obey(judgement, *from, DROP_POLICY_EGRESS, itself ? self : server.identity, reply);
  if (to && !client.own) obey(judgement, *to, DROP_POLICY_INGRESS, itself ? self : client.identity, reply);
  return judgement;
}

/// Which end began a connection that was picked up in its middle cannot be known: it must be allowed both
/// ways round, or one that was cut would live on by its other end (P17).
Model::Judgement Model::judge_both_ways(const Tuple& original, const Tuple& plain, bool by_service,
                                        bool picked_up) const {
  const Judgement first = judge(original, plain, by_service);
  if (first.denies() || !picked_up) return first;
  Judgement second = judge(plain, original, false);
  second.reversed = second.denies() || (second.audited && !first.audited);
  return second.reversed ? second : first;
}

/// A reset is never answered.
Decision Model::Judgement::decide(Decision passing, const Arrival& arrival) const {
  Decision decision = denies() ? drop(reason) : std::move(passing);
  decision.reason = reason;
  decision.audited = audited;
  decision.reversed = reversed && (reason == DROP_POLICY_EGRESS || reason == DROP_POLICY_INGRESS);
  decision.rule = rule;
  decision.told = denies() && told && (arrival.tcp_flags & kRst) == 0;
  return decision;
}

/// What a local pod sends comes by its device, what others send never comes by a pod's.
/// And what another node sends comes by the overlay, from that node; a node that has it now leads it.
bool Model::enters_here(Pair& pair, bool is_reply, const Arrival& arrival) const {
  uint16_t& node = is_reply ? pair.server_node : pair.client_node;
  if (arrival.hook == HOOK_from_overlay) {
    const uint16_t sender_node = party(arrival.tuple.src).node;
    if (node != sender_node) (is_reply ? pair.forward : pair.backward) = VERDICT_TO_NODE;
    node = sender_node;
    return true;
  }
  if (state.overlay && node != 0) return false;
  const uint32_t sender = is_reply ? pair.server : pair.client;
  return arrival.hook == HOOK_from_pod ? arrival.pod == sender && sender != 0 : sender == 0;
}

void Model::remove(const Pair& pair) {
  const Tuple original = pair.original;
  const Tuple reply = pair.reply;
  flows_.erase(original);
  flows_.erase(reply);
}

void Model::advance(Pair& pair, bool is_reply, const Arrival& arrival) {
  if (pair.original.proto != IPPROTO_TCP) {
    if (is_reply) pair.state = FLOW_ESTABLISHED;
    return;
  }
  const uint8_t flags = arrival.tcp_flags;
  if (pair.state == FLOW_CLOSED) return;
  if ((flags & kRst) != 0) {
    pair.state = FLOW_CLOSED;
    return;
  }
  if ((flags & kFin) != 0) {
    (is_reply ? pair.fin_reply : pair.fin_original) = true;
    pair.state = pair.fin_reply && pair.fin_original ? FLOW_CLOSED : FLOW_CLOSING;
    return;
  }
  if ((flags & kAck) == 0) return;
  if (pair.state == FLOW_NEW && is_reply)
    pair.state = FLOW_REPLIED;
  else if (pair.state == FLOW_REPLIED && !is_reply)
    pair.state = FLOW_ESTABLISHED;
}

/// After a change of policy. A TCP connection that is cut and told of stays, closed and never allowed, where
/// only its pair knows who the other end is: that end is told too.
Model::Judgement Model::judge_again(Pair& pair, bool is_reply, bool is_syn) {
  const auto epoch = [&](uint32_t pod) { return pod == 0 ? 0 : state.pods.at(pod).epoch; };
  if (pair.client_epoch == epoch(pair.client) && pair.server_epoch == epoch(pair.server)) return {};
  Judgement judgement = judge_both_ways(pair.original, pair.reply, pair.service, pair.picked_up);
  judgement.reversed = judgement.reversed != is_reply;
  if (!judgement.denies()) {
    pair.audited = judgement.audited;
    pair.rule = judgement.rule;
    pair.client_epoch = epoch(pair.client);
    pair.server_epoch = epoch(pair.server);
  } else if (judgement.told && pair.original.proto == IPPROTO_TCP && !is_syn &&
             pair.original != pair.reply.reversed()) {
    pair.state = FLOW_CLOSED;
  } else {
    remove(pair);
  }
  return judgement;
}

/// Other nodes' pods, and from pods those nodes.
bool Model::needs_overlay(const Party& source, const Party& destination) const {
  if (!state.overlay || destination.pod != 0 || destination.own) return false;
  if (destination.other_node) return source.pod != 0;
  return destination.node != 0 || destination.remote_pod;
}

/// A direction that began natively goes by the overlay if it should.
void Model::lead(Pair& pair, bool is_reply) const {
  const Tuple out = (is_reply ? pair.original : pair.reply).reversed();
  int& verdict = is_reply ? pair.backward : pair.forward;
  if (verdict != VERDICT_TO_NEXT_HOP || !needs_overlay(party(out.src), party(out.dst))) return;
  verdict = VERDICT_TO_NODE;
  (is_reply ? pair.client_node : pair.server_node) = party(out.dst).node;
}

std::optional<Decision> Model::known_flow(const Arrival& arrival) {
  const auto found = flows_.find(arrival.tuple);
  if (found == flows_.end()) return {};
  const std::shared_ptr<Pair> pair = found->second;
  const bool is_reply = arrival.tuple == pair->reply;
  if (!enters_here(*pair, is_reply, arrival)) return drop(DROP_SPOOFED);
  const bool ended = pair->state == FLOW_CLOSED || pair->state == FLOW_CLOSING;
  if (is_syn(arrival) && ended) {
    remove(*pair);
    return {};
  }
  const Judgement judgement = judge_again(*pair, is_reply, is_syn(arrival));
  if (judgement.denies()) return judgement.decide({}, arrival);
  // Answers that are still under way arrive; the client's next packet moves the flow.
  const bool stale =
      !is_reply && pair->original.proto == IPPROTO_UDP && state.stale_backends.contains(pair->backend);
  if (stale) {
    remove(*pair);
    return {};
  }
  advance(*pair, is_reply, arrival);
  lead(*pair, is_reply);
  return judgement.decide({.verdict = is_reply ? pair->backward : pair->forward,
                           .out = (is_reply ? pair->original : pair->reply).reversed(),
                           .complaint = {}},
                          arrival);
}

/// Would a pair take the answers of this new connection to a process of the host? One that has ended is
/// forgotten.
bool Model::clashes(const Arrival& arrival) {
  const auto found = flows_.find(arrival.tuple.reversed());
  if (is_echo(arrival.tuple) || is_midstream(arrival) || found == flows_.end()) return false;
  const Pair& pair = *found->second;
  if (pair.reply != arrival.tuple.reversed()) return false;
  if (pair.state != FLOW_CLOSED) return true;
  remove(pair);
  return false;
}

/// nullopt: go on.
std::optional<Decision> Model::check_source(const Arrival& arrival) {
  const Party source = party(arrival.tuple.src);
  const Party destination = party(arrival.tuple.dst);
  const Decision pass{.verdict = VERDICT_PASS, .reason = DROP_NONE, .out = arrival.tuple, .complaint = {}};
  const Service* service = frontend(arrival.tuple);
  switch (arrival.hook) {
    case HOOK_from_pod:
      if (!state.pods.at(arrival.pod).open) return drop(DROP_ENDPOINT_CLOSED);
      if (source.pod != arrival.pod) return drop(DROP_SPOOFED);
      return {};
    case HOOK_from_uplink:
      if (destination.pod == 0 && !service && !destination.service_range &&
          !concerns_live_address(arrival.tuple) && !(destination.own && clashes(arrival)))
        return pass;
      if (source.pod != 0 || source.own) return drop(DROP_SPOOFED);
      if (state.overlay && source.node != 0 && !source.other_node) return drop(DROP_SPOOFED);
      return {};
    case HOOK_from_overlay:
      if (destination.pod == 0 && !destination.own) return drop(DROP_NO_ROUTE);
      return {};
    case HOOK_to_uplink:
      if (is_midstream(arrival)) return pass;
      if (service || concerns_live_address(arrival.tuple)) return {};
      if (flows_.contains(arrival.tuple.reversed())) return {};
      return pass;
    default:
      if (source.pod != 0) return drop(DROP_SPOOFED);
      return {};
  }
}

/// S32: what a live address answers, refuses or leaves alone.
std::optional<Decision> Model::no_frontend(const Arrival& arrival) const {
  const auto live = state.live.find(arrival.tuple.dst);
  if (live != state.live.end()) {
    if (is_echo(arrival.tuple) && !is_midstream(arrival))
      return Decision{
          .verdict = VERDICT_REPLY, .reason = DROP_NONE, .out = arrival.tuple.reversed(), .complaint = {}};
    if (live->second) return drop(DROP_NO_SERVICE);
  }
  return party(arrival.tuple.dst).service_range ? std::optional(drop(DROP_NO_SERVICE)) : std::nullopt;
}

/// V:vp becomes B:bp. S20-S23, S30-S32, S39, S42-S44.
std::optional<Decision> Model::choose(const Arrival& arrival, const Choices& choices, Target& target,
                                      std::string& complaint) {
  const Service* service = frontend(arrival.tuple);
  target.backend = {arrival.tuple.dst, arrival.tuple.dport, 0};
  if (!service) return no_frontend(arrival);
  if (is_midstream(arrival)) return drop(DROP_NO_FLOW);
  if (service->sources && !contains(*service->sources, arrival.tuple.src)) return drop(DROP_SOURCE_RANGE);
  const Party source = party(arrival.tuple.src);
  const bool inside = source.pod != 0 || source.remote_pod || source.own || arrival.tuple.src.is_loopback();
  const auto& candidates = inside ? service->inside : service->outside;
  const bool silent = inside ? service->drop_empty_inside : service->drop_empty_outside;
  if (candidates.empty()) return drop(silent ? DROP_NO_LOCAL_BACKEND : DROP_NO_BACKEND);
  const auto nth = static_cast<uint16_t>(arrival.tuple.dport - service->port);
  target.service = true;
  target.backend = candidates.front();
  target.backend.port += nth;
  if (!choices.backend) return {};
  const auto chosen = std::find_if(candidates.begin(), candidates.end(), [&](const Backend& backend) {
    return std::pair(backend.address, static_cast<uint16_t>(backend.port + nth)) == *choices.backend;
  });
  if (chosen == candidates.end()) {
    complaint = fmt::format("backend {}:{} is none of the service's", choices.backend->first.to_string(),
                            choices.backend->second);
  } else {
    target.backend = *chosen;
    target.backend.port += nth;
    if (service->affinity) {
      uint32_t& bound = affinities_[{arrival.tuple.src, service->id}];
      const bool serves = std::any_of(candidates.begin(), candidates.end(),
                                      [&](const Backend& backend) { return backend.id == bound; });
      if (serves && bound != chosen->id) complaint = "the client is bound to another backend";
      bound = chosen->id;
    }
  }
  return {};
}

/// C:cp becomes N:np. S21, S27, S28.
std::optional<Decision> Model::translate(const Arrival& arrival, const Choices& choices, const Target& target,
                                         Tuple& reply, std::string& complaint) const {
  const Tuple& tuple = arrival.tuple;
  const Party source = party(tuple.src);
  const Party backend = party(target.backend.address);
  const bool known =
      backend.pod != 0 || backend.remote_pod || backend.own || backend.other_node || backend.cluster;
  const bool here = backend.pod != 0 || backend.own;
  const bool hairpin = target.service && source.pod != 0 && tuple.src == target.backend.address;
  bool masquerade = hairpin || tuple.src.is_loopback();
  if (source.pod != 0) {
    masquerade |= !known;
  } else if (source.own) {
    masquerade |= needs_overlay(source, backend) && tuple.src != state.node_address.at(tuple.src.family());
  } else {
    masquerade |= (target.service && !here) || needs_overlay(source, backend);
  }
  reply = {target.backend.address, target.backend.port, tuple.src, tuple.sport, tuple.proto};
  if (masquerade) reply.dst = state.node_address.at(tuple.src.family());
  const bool taken = flows_.contains(reply);
  if (!masquerade && !taken) return {};
  if (is_midstream(arrival)) return drop(DROP_NO_FLOW);
  if (!choices.out) return {};
  reply.dport = choices.out->sport;
  if (reply.dport < state.first_port || reply.dport > state.last_port) {
    complaint = fmt::format("port {} is outside the range", reply.dport);
  } else if (flows_.contains(reply)) {
    complaint = fmt::format("port {} is taken", reply.dport);
  }
  return {};
}

Decision Model::new_flow(const Arrival& arrival, const Choices& choices) {
  if (const auto decided = check_source(arrival)) return *decided;
  Target target;
  Tuple reply;
  std::string complaint;
  if (const auto decided = choose(arrival, choices, target, complaint)) return *decided;
  const Tuple plain{target.backend.address, target.backend.port, arrival.tuple.src, arrival.tuple.sport,
                    arrival.tuple.proto};
  const bool picked_up = arrival.tuple.proto == IPPROTO_TCP && is_midstream(arrival);
  const Judgement judgement = judge_both_ways(arrival.tuple, plain, target.service, picked_up);
  if (judgement.denies()) return judgement.decide({}, arrival);
  // An echo reply answers a request that nobody here has seen.
  if (is_echo(arrival.tuple) && is_midstream(arrival)) return drop(DROP_NO_FLOW);
  if (const auto decided = translate(arrival, choices, target, reply, complaint)) return *decided;

  const Party client = party(arrival.tuple.src);
  const Party server = party(target.backend.address);
  auto pair = std::make_shared<Pair>();
  pair->original = arrival.tuple;
  pair->reply = reply;
  pair->client = client.pod;
  pair->server = server.pod;
  pair->client_epoch = client.pod != 0 ? state.pods.at(client.pod).epoch : 0;
  pair->server_epoch = server.pod != 0 ? state.pods.at(server.pod).epoch : 0;
  pair->backend = target.service ? target.backend.id : 0;
  pair->service = target.service;
  pair->audited = judgement.audited;
  pair->picked_up = picked_up;
  pair->rule = judgement.rule;
  pair->forward = server.pod != 0 ? VERDICT_TO_ENDPOINT : server.own ? VERDICT_TO_HOST : VERDICT_TO_NEXT_HOP;
  if (needs_overlay(client, server)) {
    pair->forward = VERDICT_TO_NODE;
    pair->server_node = server.node;
  }
  const bool host = client.own || arrival.tuple.src.is_loopback();
  pair->backward = client.pod != 0 ? VERDICT_TO_ENDPOINT : host ? VERDICT_TO_HOST : VERDICT_TO_NEXT_HOP;
  if (arrival.hook == HOOK_from_overlay) {
    pair->backward = VERDICT_TO_NODE;
    pair->client_node = client.node;
  }
  flows_[pair->original] = pair;
  flows_[pair->reply] = pair;
  advance(*pair, false, arrival);
  return judgement.decide({.verdict = pair->forward, .out = reply.reversed(), .complaint = complaint},
                          arrival);
}

Decision Model::step(const Arrival& arrival, const Choices& choices) {
  if (arrival.hook == HOOK_from_overlay && party(arrival.tuple.src).node == 0)
    return drop(DROP_FOREIGN_TUNNEL);
  if (const auto decided = known_flow(arrival)) return *decided;
  return new_flow(arrival, choices);
}

}  // namespace bpfnet::model_node
