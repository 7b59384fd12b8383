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

constexpr const char* kItself = "itself by a service";

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
    if (compile::is_self(id))
      return fmt::format("{} over {}", kItself, id == IDENTITY_SELF ? "IPv4" : "IPv6");
    const auto known = image.identities.find(id);
    return known == image.identities.end() ? fmt::format("identity {}", id)
                                           : compile::short_identity(known->second);
  }

  const DiffInput& input_;
  std::map<Address, std::string> pods_;
  std::map<uint16_t, std::string> endpoints_;
};

/// Of all the peers and ports of a change: what is nearest to each is not told here.
std::string reason(const compile::PolicyImage& image, const compile::VerdictChange& change) {
  if (change.after.verdict == POLICY_ALLOW) {
    const std::string rule = compile::rule_text(image, change.after.rule);
    return rule.empty() ? "no policy denies it" : "allowed by " + rule;
  }
  const std::string denial = compile::denial_text(image, change.endpoint, change.direction, change.after);
  return compile::passes(change.after) ? "let through by audit mode, else " + denial : denial;
}

ordered_json broken_view(const DiffInput& input, const Names& names, const compile::BrokenFlow& broken) {
  const compile::LiveFlow& flow = broken.flow;
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
          {"reason", compile::denial_text(input.after, endpoint, question, broken.after.verdict)},
          {"rule_text", compile::rule_text(input.after, broken.after.verdict.rule)}};
}

/// Of a pod itself both families together, if they are alike.
std::set<std::string> peers_text(const Names& names, const compile::VerdictChange& change) {
  if (change.peers.empty()) return {"everyone"};
  std::set<std::string> texts;
  for (const compile::PeerChange& peer : change.peers) texts.insert(names.peer(peer));
  return compile::is_self(change.peers.front().after) && change.peers.size() > 1
             ? std::set<std::string>{kItself}
             : texts;
}

ordered_json change_view(const DiffInput& input, const Names& names, const compile::VerdictChange& change) {
  ordered_json ports = ordered_json::array();
  for (const compile::PortRange& span : change.ports)
    ports.push_back(compile::ports_text(span.proto, span.first, span.last, change.ports.size() == 1));
  return {{"pod", names.endpoint(change.endpoint)},
          {"direction", compile::to_string(change.direction)},
          {"peers", peers_text(names, change)},
          {"ports", ports},
          {"reason", reason(input.after, change)}};
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
