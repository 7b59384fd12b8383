#include "control/observe/explain.h"

#include <netinet/in.h>

#include "maps/abi/reasons.h"
#include "maps/convert.h"
#include "maps/labels.h"

namespace bpfnet::observe {
namespace {

using compile::Direction;
using compile::NearestAllow;
using compile::Question;

std::string peer_text(const Names& names, const NearestAllow& nearest) {
  if (std::string peers = names.rule_peers(nearest.rule); !peers.empty()) return peers;
  return nearest.identity == IDENTITY_ANY ? "anywhere"
                                          : compile::short_identity(names.identity(nearest.identity));
}

nlohmann::ordered_json to_json(const Names& names, const NearestAllow& nearest, const std::string& peer) {
  return {{"protocol", maps::proto_label(nearest.proto)},
          {"first_port", nearest.first},
          {"last_port", nearest.last},
          {"identity", nearest.identity},
          {"peer", peer},
          {"rule", nearest.rule},
          {"rule_text", names.rule(nearest.rule)}};
}

/// Whether the endpoint has this address.
bool has_address(const maps::Maps& maps, uint16_t index, const addr& address) {
  if (index == 0) return false;
  const auto party = find_party(maps, maps::from_abi(address));
  return party && party->endpoint == index;
}

/// A packet of the answering side is judged as its connection was: by what the client asked for.
bool is_answer(const packet_event& event, const LiveSets* sets) {
  return sets &&
         (has_address(sets->maps(), event.dst_endpoint, event.key.saddr) ||
          has_address(sets->maps(), event.src_endpoint, event.key.daddr)) &&
         event.src_endpoint != event.dst_endpoint;
}

/// The connection as its client asked for it.
PolicyEvent as_asked(const packet_event& event, bool answer) {
  const bool ingress = event.reason == DROP_POLICY_INGRESS;
  const uint16_t port = answer                    ? event.key.sport
                        : event.backend_port != 0 ? event.backend_port
                                                  : event.key.dport;
  return {.endpoint = ingress ? event.dst_endpoint : event.src_endpoint,
          .question = {.direction = ingress ? Direction::kIngress : Direction::kEgress,
                       .identity = ingress ? event.src_identity : event.dst_identity,
                       .proto = event.key.proto,
                       .port = maps::from_network(port)},
          .answer = answer};
}

/// The same, had the other end begun it.
PolicyEvent turned_round(const packet_event& event) {
  const bool ingress = event.reason == DROP_POLICY_INGRESS;
  return {.endpoint = ingress ? event.src_endpoint : event.dst_endpoint,
          .question = {.direction = ingress ? Direction::kIngress : Direction::kEgress,
                       .identity = ingress ? event.dst_identity : event.src_identity,
                       .proto = event.key.proto,
                       .port = maps::from_network(event.key.sport)},
          .midstream = true};
}

const compile::PolicySet* set_of(LiveSets* sets, uint16_t endpoint, Direction direction) {
  if (!sets || endpoint == 0) return nullptr;
  const auto record = sets->maps().endpoints.get(endpoint);
  if (!record) return nullptr;
  const uint32_t set = direction == Direction::kIngress ? record->ingress_set : record->egress_set;
  if (set == POLICY_SET_ALLOW_ALL) return nullptr;  // opened since
  const auto found = sets->find(set);
  return found ? *found : nullptr;
}

bool denies(const compile::PolicySet* set, const Question& question) {
  return set &&
         compile::find_verdict(*set, question.identity, question.proto, question.port).verdict.verdict !=
             POLICY_ALLOW;
}

}  // namespace

Explained explain_denial(const Names& names, uint16_t endpoint, const Question& question, uint32_t rule,
                         const compile::PolicySet* set) {
  const bool ingress = question.direction == Direction::kIngress;
  compile::Denial denial{.question = question,
                         .rule = names.rule(rule),
                         .isolated_by = names.isolated_by(endpoint, ingress),
                         .nearest = {},
                         .nearest_peer = {}};
  Explained explained;
  explained.json = {{"direction", compile::to_string(question.direction)},
                    {"endpoint", endpoint},
                    {"endpoint_name", names.endpoint(endpoint)},
                    {"rule", rule},
                    {"rule_text", denial.rule},
                    {"isolated_by", denial.isolated_by},
                    {"asked", compile::connection_text(question.proto, question.port)},
                    {"nearest_allow", nullptr}};
  if (set && rule == 0) denial.nearest = compile::nearest_allow(*set, question);
  if (denial.nearest) {
    denial.nearest_peer = peer_text(names, *denial.nearest);
    explained.json["nearest_allow"] = to_json(names, *denial.nearest, denial.nearest_peer);
  }
  explained.text = compile::denial_text(denial);
  explained.json["text"] = explained.text;
  return explained;
}

std::optional<PolicyEvent> explain_event(const packet_event& event, const Names& names, LiveSets* sets) {
  if (event.reason != DROP_POLICY_INGRESS && event.reason != DROP_POLICY_EGRESS) return std::nullopt;
  PolicyEvent explained = as_asked(event, is_answer(event, sets));
  const compile::PolicySet* set = set_of(sets, explained.endpoint, explained.question.direction);
  if (sets && event.key.proto == IPPROTO_TCP && event.rule == 0 && !denies(set, explained.question)) {
    const PolicyEvent turned = turned_round(event);
    const auto* other = set_of(sets, turned.endpoint, turned.question.direction);
    if (denies(other, turned.question)) {
      explained = turned;
      set = other;
    }
  }
  explained.why = explain_denial(names, explained.endpoint, explained.question, event.rule, set);
  return explained;
}

}  // namespace bpfnet::observe
