#include "control/observe/explain.h"

#include "maps/abi/reasons.h"
#include "maps/convert.h"
#include "maps/labels.h"

namespace bpfnet::observe {
namespace {

using compile::Direction;
using compile::NearestAllow;
using compile::Question;
using NoNames = std::vector<std::string>;

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

/// Whose policy it was, and what that was asked.
PolicyEvent asked_by(const packet_event& event) {
  const bool ingress = event.reason == DROP_POLICY_INGRESS;
  const bool answer = (event.flags & EVENT_REVERSED) != 0;
  const bool of_receiver = ingress != answer;
  const uint16_t port = answer                    ? event.key.sport
                        : event.backend_port != 0 ? event.backend_port
                                                  : event.key.dport;
  const bool itself = event.src_endpoint != 0 && event.src_endpoint == event.dst_endpoint;
  return {.endpoint = of_receiver ? event.dst_endpoint : event.src_endpoint,
          .question = {.direction = ingress ? Direction::kIngress : Direction::kEgress,
                       .identity = itself ? compile::self_identity(maps::from_abi(event.key.saddr).family())
                                   : of_receiver ? event.src_identity
                                                 : event.dst_identity,
                       .proto = event.key.proto,
                       .port = maps::from_network(port)},
          .answer = answer};
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

/// Whether the whole node lets through what is denied, or a policy in audit mode would deny it, the event
/// does not say: the set does, and else whether anything in force isolates the pod.
compile::PolicyVerdict verdict_of(const packet_event& event, const Names& names, const PolicyEvent& asked,
                                  const compile::PolicySet* set) {
  compile::PolicyVerdict verdict{event.rule, POLICY_DENY};
  if ((event.flags & EVENT_AUDITED) == 0) return verdict;
  const Question& question = asked.question;
  const bool audited =
      set ? compile::find_verdict(*set, question.identity, question.proto, question.port).verdict.verdict ==
                POLICY_AUDIT
          : names.isolated_by(asked.endpoint, question.direction == Direction::kIngress).empty();
  if (audited) verdict.verdict = POLICY_AUDIT;
  return verdict;
}

}  // namespace

Explained explain_denial(const Names& names, uint16_t endpoint, const Question& question,
                         const compile::PolicyVerdict& verdict, const compile::PolicySet* set) {
  const bool ingress = question.direction == Direction::kIngress;
  const bool audited = verdict.verdict == POLICY_AUDIT;
  compile::Denial denial{.question = question,
                         .rule = names.rule(verdict.rule),
                         .isolated_by = names.isolated_by(endpoint, ingress),
                         .audited_by = audited ? names.audited_by(endpoint, ingress) : NoNames{},
                         .nearest = {},
                         .nearest_peer = {}};
  Explained explained;
  explained.json = {{"direction", compile::to_string(question.direction)},
                    {"endpoint", endpoint},
                    {"endpoint_name", names.endpoint(endpoint)},
                    {"rule", verdict.rule},
                    {"rule_text", denial.rule},
                    {"isolated_by", denial.isolated_by},
                    {"audited_by", denial.audited_by},
                    {"asked", compile::connection_text(question.proto, question.port)},
                    {"nearest_allow", nullptr}};
  if (set && verdict.rule == 0) denial.nearest = compile::nearest_allow(*set, question);
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
  PolicyEvent explained = asked_by(event);
  const compile::PolicySet* set = set_of(sets, explained.endpoint, explained.question.direction);
  explained.why = explain_denial(names, explained.endpoint, explained.question,
                                 verdict_of(event, names, explained, set), set);
  return explained;
}

}  // namespace bpfnet::observe
