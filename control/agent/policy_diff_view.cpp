#include "control/agent/policy_diff_view.h"

#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "control/compile/explain.h"
#include "maps/abi/policy.h"
#include "maps/labels.h"

namespace bpfnet::agent {
namespace {

using compile::Direction;
using nlohmann::ordered_json;

class Names {
 public:
  explicit Names(const DiffInput& input) : input_(input) {
    for (const auto* state : {&input.current, &input.candidate.state})
      for (const auto& [name, pod] : state->pods)
        if (!pod.host_network && !pod.finished())
          for (const Address& ip : pod.ips) pods_.try_emplace(ip, name.to_string());
    for (const compile::LocalEndpoint& endpoint : input.endpoints)
      endpoints_[endpoint.index] =
          endpoint.pod.name.empty() ? fmt::format("endpoint {}", endpoint.index) : endpoint.pod.to_string();
  }

  [[nodiscard]] std::string endpoint(uint16_t index) const {
    const auto known = endpoints_.find(index);
    return known == endpoints_.end() ? fmt::format("endpoint {}", index) : known->second;
  }
  /// Of either end of a connection; the address itself where there is no other name.
  [[nodiscard]] std::string end(uint16_t index, const Address& address) const {
    if (index != 0) return endpoint(index);
    const auto known = pods_.find(address);
    return known == pods_.end() ? address.to_string() : known->second;
  }
  /// `shop app=web`, and who it is now where that changes too.
  [[nodiscard]] std::string peer(const compile::PeerChange& peer) const {
    const std::string before = identity(input_.before, peer.before);
    std::string after = identity(input_.after, peer.after);
    if (before == after || peer.before < IDENTITY_FIRST) return after;
    return fmt::format("{} (now {})", after, before);
  }

 private:
  static std::string identity(const compile::PolicyImage& image, uint32_t id) {
    const auto known = image.identities.find(id);
    return known == image.identities.end() ? fmt::format("identity {}", id)
                                           : compile::short_identity(known->second);
  }

  const DiffInput& input_;
  std::map<Address, std::string> pods_;
  std::map<uint16_t, std::string> endpoints_;
};

std::string reason(const compile::PolicyImage& image, uint16_t endpoint, const compile::Question& question,
                   const compile::PolicyVerdict& verdict) {
  if (!compile::passes(verdict)) return compile::denial_text(image, endpoint, question, verdict.rule);
  const std::string rule = compile::rule_text(image, verdict.rule);
  const std::string audited = verdict.verdict == POLICY_AUDIT ? "audit mode, else denied" : "";
  if (!audited.empty()) return rule.empty() ? audited : audited + " by " + rule;
  return rule.empty() ? "no policy denies it" : "allowed by " + rule;
}

ordered_json broken_view(const DiffInput& input, const Names& names, const compile::BrokenFlow& broken) {
  const compile::LiveFlow& flow = input.flows[broken.flow];
  const bool ingress = broken.direction == Direction::kIngress;
  const uint16_t endpoint = ingress ? flow.destination : flow.source;
  const compile::Question question{broken.direction, broken.peer, flow.proto, flow.backend_port};
  return {{"protocol", maps::proto_label(flow.proto)},
          {"source", names.end(flow.source, flow.client)},
          {"source_address", flow.client.to_string()},
          {"source_port", flow.client_port},
          {"destination", names.end(flow.destination, flow.backend)},
          {"destination_address", flow.backend.to_string()},
          {"destination_port", flow.backend_port},
          {"direction", compile::to_string(broken.direction)},
          {"pod", names.endpoint(endpoint)},
          {"reason", reason(input.after, endpoint, question, broken.after.verdict)},
          {"rule_text", compile::rule_text(input.after, broken.after.verdict.rule)}};
}

std::string closing_reason(const compile::PolicyImage& image, const compile::VerdictChange& change) {
  const std::string rule = compile::rule_text(image, change.after.rule);
  if (!rule.empty()) return "denied by " + rule;
  const auto policy = image.endpoints.find(change.endpoint);
  if (policy == image.endpoints.end()) return "no rule allows it";
  const bool ingress = change.direction == Direction::kIngress;
  return fmt::format(
      "isolated by {}, no rule allows it",
      compile::enumerate(ingress ? policy->second.isolated_by_ingress : policy->second.isolated_by_egress));
}

ordered_json change_view(const DiffInput& input, const Names& names, const compile::VerdictChange& change) {
  ordered_json ports = ordered_json::array();
  for (const compile::PortRange& span : change.ports)
    ports.push_back(compile::ports_text(span.proto, span.first, span.last, change.ports.size() == 1));
  std::set<std::string> peers;
  for (const compile::PeerChange& peer : change.peers) peers.insert(names.peer(peer));
  if (peers.empty()) peers.insert("everyone");
  const compile::PortRange& port = change.ports.front();
  const uint32_t peer = change.peers.empty() ? uint32_t{IDENTITY_ANY} : change.peers.front().after;
  const compile::Question question{change.direction, peer, port.proto, port.first};
  // Many peers and ports: what is nearest to each is not told here.
  const std::string why = compile::passes(change.after)
                              ? reason(input.after, change.endpoint, question, change.after)
                              : closing_reason(input.after, change);
  return {{"pod", names.endpoint(change.endpoint)},
          {"direction", compile::to_string(change.direction)},
          {"peers", peers},
          {"ports", ports},
          {"reason", why}};
}

}  // namespace

ordered_json diff_view(const DiffInput& input) {
  const Names names(input);
  const auto diff = compile::diff_policies(input.before, input.after, input.flows);
  ordered_json breaks = ordered_json::array();
  for (const compile::BrokenFlow& each : diff.broken) breaks.push_back(broken_view(input, names, each));
  ordered_json closes = ordered_json::array();
  ordered_json opens = ordered_json::array();
  for (const compile::VerdictChange& each : diff.changes)
    (compile::passes(each.before) ? closes : opens).push_back(change_view(input, names, each));
  ordered_json warnings = ordered_json::array();
  for (const compile::Warning& each : input.after.warnings) warnings.push_back(each.text);
  return {{"applied", input.candidate.applied},
          {"notes", input.candidate.notes},
          {"warnings", warnings},
          {"flows", input.flows.size()},
          {"breaks", breaks},
          {"closes", closes},
          {"opens", opens}};
}

}  // namespace bpfnet::agent
