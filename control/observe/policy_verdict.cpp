#include "control/observe/policy_verdict.h"

#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <charconv>

#include "control/observe/explain.h"
#include "control/observe/service_backends.h"
#include "control/observe/table.h"
#include "maps/abi/policy.h"
#include "maps/convert.h"
#include "maps/labels.h"

namespace bpfnet::observe {
namespace {

using compile::Direction;
using compile::has_ports;
using nlohmann::ordered_json;

struct Port {
  uint8_t proto = 0;
  uint16_t port = 0;
};

Result<Port> parse_port(const std::string& text) {
  const size_t slash = text.find('/');
  const std::string number = slash == std::string::npos ? "" : text.substr(0, slash);
  const std::string protocol = slash == std::string::npos ? text : text.substr(slash + 1);
  std::string lower = protocol;
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return std::tolower(c); });
  const bool numeric =
      !text.empty() && std::ranges::all_of(text, [](unsigned char c) { return std::isdigit(c); });
  const auto proto = numeric ? std::nullopt : maps::proto_from_label(lower);
  if (!proto || *proto == 0)
    return fail(
        "{}: expected PORT/PROTO with the protocol tcp, udp or sctp, such as 8080/tcp, or one without ports, "
        "such as icmp",
        text);
  if (!has_ports(*proto)) {
    if (slash != std::string::npos) return fail("{}: {} has no ports; give it alone", text, lower);
    return Port{*proto, 0};
  }
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), port);
  if (number.empty() || error != std::errc{} || end != number.data() + number.size() || port == 0)
    return fail("{}: expected a port from 1 to 65535 before the protocol, such as 8080/{}", text, lower);
  return Port{*proto, port};
}

/// The judgement of one end.
struct Half {
  Outcome outcome = Outcome::kAllowed;
  bool elsewhere = false;  ///< another node judges it
  std::string text;
  ordered_json json;
};

struct Judge {
  const maps::Maps& maps;
  const Names& names;
  LiveSets sets;
  Port port;
};

std::string_view label(Outcome outcome) {
  switch (outcome) {
    case Outcome::kAllowed:
      return "allowed";
    case Outcome::kAudited:
      return "audited";
    case Outcome::kDenied:
      return "denied";
  }
  return "";
}

Half make_half(Outcome outcome, std::string reason) {
  Half half{outcome, false, fmt::format("{}: {}", label(outcome), reason), {}};
  half.json = {{"verdict", label(outcome)}, {"reason", std::move(reason)}};
  return half;
}

/// An end that is no pod of this node.
Half not_judged(const Party& party) {
  Half half;
  half.elsewhere = (party.flags & ADDRESS_POD) != 0;
  half.text = half.elsewhere ? "not judged here, but on that pod's own node" : "not judged, it is no pod";
  half.json = {{"verdict", half.elsewhere ? "elsewhere" : "none"}, {"reason", half.text}};
  return half;
}

std::string name_of(const End& end) {
  if (!end.name.empty()) return end.name;
  return end.address ? end.address->to_string() : "world";
}

/// `default/web-0 (10.0.1.7)`
std::string full_name(const End& end) {
  if (end.name.empty() || !end.address) return name_of(end);
  return fmt::format("{} ({})", end.name, end.address->to_string());
}

Result<Half> judge_set(Judge& judge, const End& own, const endpoint& record, Direction direction,
                       uint32_t peer) {
  const uint32_t set = direction == Direction::kIngress ? record.ingress_set : record.egress_set;
  if (set == POLICY_SET_ALLOW_ALL) return make_half(Outcome::kAllowed, "no policy isolates it");
  const auto verdict = find_verdict(judge.maps, set, peer, judge.port.proto, judge.port.port);
  if (!verdict) return pass(verdict);
  const std::string rule = judge.names.rule(verdict->rule);
  if (verdict->verdict == POLICY_ALLOW) {
    Half half = make_half(Outcome::kAllowed, rule.empty() ? "no policy is about it" : "by " + rule);
    half.json["rule"] = verdict->rule;
    half.json["rule_text"] = rule;
    return half;
  }
  auto entries = judge.sets.find(set);
  if (!entries) return pass(entries);
  const Explained why = explain_denial(
      judge.names, own.party.endpoint,
      {.direction = direction, .identity = peer, .proto = judge.port.proto, .port = judge.port.port},
      *verdict, *entries);
  const bool audited = verdict->verdict == POLICY_AUDIT || (record.flags & ENDPOINT_AUDITED) != 0;
  Half half = audited ? make_half(Outcome::kAudited, "let through by audit mode, else " + why.text)
                      : make_half(Outcome::kDenied, why.text);
  for (const char* field : {"rule", "rule_text", "isolated_by", "audited_by", "nearest_allow"})
    half.json[field] = why.json.at(field);
  return half;
}

/// As stages/policy.h judges it.
Result<Half> judge_end(Judge& judge, const End& own, const End& other, Direction direction, bool by_service) {
  if (own.party.endpoint == 0) return not_judged(own.party);
  auto record = judge.maps.endpoints.get(own.party.endpoint);
  if (!record) return pass(record);
  if (record->state != ENDPOINT_OPEN)
    return make_half(Outcome::kDenied, "the endpoint is closed until its policy is in place");
  const bool itself = own.party.endpoint == other.party.endpoint;
  if (itself && !by_service) return make_half(Outcome::kAllowed, "a pod that reaches itself is exempt (P15)");
  if (direction == Direction::kIngress && (other.party.flags & ADDRESS_LOCAL_NODE) != 0)
    return make_half(Outcome::kAllowed, "its own node is always let in (P13)");
  // A11: by a service a pod is subject to cluster policies, also on the way to itself.
  const uint32_t peer = itself ? compile::self_identity(own.family) : other.party.identity;
  return judge_set(judge, own, *record, direction, peer);
}

ordered_json to_json(const Names& names, const End& end) {
  return {{"name", end.name},
          {"address", end.address ? end.address->to_string() : ""},
          {"endpoint", end.party.endpoint},
          {"identity", end.party.identity},
          {"identity_text", names.identity(end.party.identity)}};
}

/// Adds a connection that was judged. `more`: what is known of it besides.
void add(VerdictView& result, const Judge& judge, const End& source, const End& destination,
         const std::string& service, Outcome outcome, const std::string& text, const ordered_json& more) {
  result.outcome = std::max(result.outcome, outcome);
  result.view.text += text;
  ordered_json json = {{"verdict", label(outcome)},
                       {"source", to_json(judge.names, source)},
                       {"destination", to_json(judge.names, destination)},
                       {"protocol", maps::proto_label(judge.port.proto)},
                       {"port", judge.port.port},
                       {"service", service}};
  json.update(more);
  result.view.json["connections"].push_back(std::move(json));
}

Status judge_connection(Judge& judge, const End& source, const End& destination, VerdictView& result,
                        const std::string& service, bool by_service) {
  auto egress = judge_end(judge, source, destination, Direction::kEgress, by_service);
  if (!egress) return pass(egress);
  auto ingress = judge_end(judge, destination, source, Direction::kIngress, by_service);
  if (!ingress) return pass(ingress);
  const Outcome outcome = std::max(egress->outcome, ingress->outcome);
  const bool complete = !egress->elsewhere && !ingress->elsewhere;
  const std::string text =
      fmt::format("{} > {}, {}: {}{}\n  egress of {}: {}\n  ingress of {}: {}\n", full_name(source),
                  full_name(destination), compile::connection_text(judge.port.proto, judge.port.port),
                  label(outcome), complete || outcome == Outcome::kDenied ? "" : " by this node",
                  name_of(source), egress->text, name_of(destination), ingress->text);
  add(result, judge, source, destination, service, outcome, text,
      {{"complete", complete}, {"egress", egress->json}, {"ingress", ingress->json}});
  return ok();
}

/// What never comes so far as to be judged.
void refuse(const Judge& judge, const End& source, const End& destination, const std::string& service,
            const std::string& reason, VerdictView& result) {
  add(result, judge, source, destination, service, Outcome::kDenied, reason + ": denied\n",
      {{"complete", true}, {"reason", reason}});
}

/// P11: what policy judges is the backend.
Status judge_service(Judge& judge, const End& source, const End& destination, const ServiceBackends& service,
                     VerdictView& result) {
  const std::string name = judge.names.service(service.service);
  const std::string head =
      fmt::format("{} is an address of {}", socket_text(destination.address->to_string(), judge.port.port),
                  name.empty() ? "a service" : name);
  if (service.backends.empty()) {
    refuse(judge, source, destination, name,
           fmt::format("{}, which has no backend for {}", head, name_of(source)), result);
    return ok();
  }
  result.view.text += head + ": policy judges the backend, by its address and port (P11)\n";
  const Port asked = judge.port;
  for (const auto& [backend, port] : service.backends) {
    auto end = find_ends(judge.maps, judge.names, "backend", backend.to_string());
    if (!end) return pass(end);
    judge.port.port = port;
    BPFNET_TRY(judge_connection(judge, source, end->front(), result, name, true));
  }
  judge.port = asked;
  return ok();
}

Status judge_pair(Judge& judge, const End& source, const End& destination, VerdictView& result) {
  if (!destination.address) return judge_connection(judge, source, destination, result, "", false);
  const bool inside = (source.party.flags & (ADDRESS_POD | ADDRESS_LOCAL_NODE)) != 0;
  const bool local = (destination.party.flags & ADDRESS_LOCAL_NODE) != 0;
  auto service =
      find_service(judge.maps, *destination.address, judge.port.proto, judge.port.port, inside, local);
  if (!service) return pass(service);
  if (*service) return judge_service(judge, source, destination, **service, result);
  const auto cluster_ip = is_cluster_ip(judge.maps, *destination.address);
  if (!cluster_ip) return pass(cluster_ip);
  if ((destination.party.cidr_flags & CIDR_SERVICE) == 0 && !*cluster_ip)
    return judge_connection(judge, source, destination, result, "", false);
  refuse(
      judge, source, destination, "",
      fmt::format("no service answers {} at {}", compile::connection_text(judge.port.proto, judge.port.port),
                  destination.address->to_string()),
      result);
  return ok();
}

}  // namespace

Result<VerdictView> policy_verdict(const maps::Maps& maps, const Names& names, const VerdictQuery& query) {
  auto port = parse_port(query.port);
  if (!port) return pass(port);
  auto sources = find_ends(maps, names, "SRC", query.source);
  if (!sources) return pass(sources);
  auto destinations = find_ends(maps, names, "DST", query.destination);
  if (!destinations) return pass(destinations);
  VerdictView result;
  result.view.json = {{"verdict", ""}, {"connections", ordered_json::array()}};
  Judge judge{maps, names, LiveSets(maps), *port};
  for (const End& source : *sources)
    for (const End& destination : *destinations)
      if (source.family == destination.family) BPFNET_TRY(judge_pair(judge, source, destination, result));
  if (result.view.json.at("connections").empty())
    return fail("{} and {} have no address of the same family", query.source, query.destination);
  result.view.json["verdict"] = label(result.outcome);
  return result;
}

}  // namespace bpfnet::observe
