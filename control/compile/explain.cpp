#include "control/compile/explain.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstdlib>

#include "maps/abi/policy.h"

namespace bpfnet::compile {
namespace {

std::string protocol_text(uint8_t proto) {
  switch (proto) {
    case IPPROTO_TCP:
      return "TCP";
    case IPPROTO_UDP:
      return "UDP";
    case IPPROTO_SCTP:
      return "SCTP";
    case IPPROTO_ICMP:
      return "ICMP";
    case IPPROTO_ICMPV6:
      return "ICMPv6";
    default:
      return fmt::format("protocol {}", proto);
  }
}

bool allows(const Finding& finding) {
  return finding.verdict.verdict == POLICY_ALLOW;
}

uint32_t distance(const PortFinding& ports, uint16_t port) {
  if (port < ports.first) return ports.first - port;
  return port > ports.last ? port - ports.last : 0;
}

/// The nearest by port of those that `fits` takes.
template <typename Fits>
std::optional<NearestAllow> nearest_of(const std::vector<PortFinding>& findings, const Question& question,
                                       Fits&& fits) {
  const PortFinding* best = nullptr;
  for (const PortFinding& each : findings) {
    if (!allows(each.finding) || !fits(each)) continue;
    if (!best || distance(each, question.port) < distance(*best, question.port)) best = &each;
  }
  if (!best) return std::nullopt;
  return NearestAllow{best->finding.named_peer ? question.identity : uint32_t{IDENTITY_ANY}, best->proto,
                      best->first, best->last, best->finding.verdict.rule};
}

std::optional<NearestAllow> other_peer(const PolicySet& set, const Question& question) {
  uint32_t seen = question.identity;
  for (const auto& [entry, verdict] : set.entries) {
    if (entry.identity == seen || entry.identity == question.identity || is_self(entry.identity)) continue;
    seen = entry.identity;
    // Everybody else first: it says the most.
    const Finding finding = find_verdict(set, entry.identity, question.proto, question.port);
    if (!allows(finding)) continue;
    return NearestAllow{entry.identity, question.proto, question.port, question.port, finding.verdict.rule};
  }
  return std::nullopt;
}

std::string isolated_text(const std::vector<std::string>& policies) {
  return policies.empty() ? "isolated" : "isolated by " + enumerate(policies);
}

/// Without what was asked.
Denial denial_of(const PolicyImage& image, uint16_t endpoint, Direction direction,
                 const PolicyVerdict& verdict) {
  Denial denial{.rule = rule_text(image, verdict.rule)};
  const auto found = image.endpoints.find(endpoint);
  if (found == image.endpoints.end()) return denial;
  const EndpointPolicy& policy = found->second;
  const bool ingress = direction == Direction::kIngress;
  denial.isolated_by = ingress ? policy.isolated_by_ingress : policy.isolated_by_egress;
  if (verdict.verdict == POLICY_AUDIT)
    denial.audited_by = ingress ? policy.audited_by_ingress : policy.audited_by_egress;
  return denial;
}

}  // namespace

std::vector<std::string> isolating(std::vector<std::string> in_force,
                                   const std::vector<std::string>& audited) {
  for (const std::string& name : audited) in_force.push_back(name + " (audit mode)");
  return in_force;
}

bool has_ports(uint8_t proto) {
  return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_SCTP;
}

std::optional<NearestAllow> nearest_allow(const PolicySet& set, const Question& question) {
  const auto findings = port_findings(set, question.identity);
  const auto same_protocol = [&](const PortFinding& each) { return each.proto == question.proto; };
  if (auto found = nearest_of(findings, question, [&](const PortFinding& each) {
        return same_protocol(each) && each.finding.named_peer;
      }))
    return found;
  if (auto found = other_peer(set, question)) return found;
  if (auto found = nearest_of(findings, question, same_protocol)) return found;
  return nearest_of(findings, question, [](const PortFinding&) { return true; });
}

std::string connection_text(uint8_t proto, uint16_t port) {
  return has_ports(proto) ? fmt::format("{} {}", protocol_text(proto), port) : protocol_text(proto);
}

std::string ports_text(uint8_t proto, uint16_t first, uint16_t last, bool alone) {
  if (proto == 0) return alone ? "anything" : "other protocols";
  if (!has_ports(proto) || (first == 0 && last == UINT16_MAX)) return protocol_text(proto);
  if (first == last) return fmt::format("{} {}", protocol_text(proto), first);
  return fmt::format("{} {}-{}", protocol_text(proto), first, last);
}

std::string peers_of(const std::string& rule_text) {
  // `from PEERS to PORTS`, `to PEERS on PORTS`: no name or selector ends in a blank, so the last one divides.
  const bool ingress = rule_text.find("egress[") == std::string::npos;
  const std::string_view before = ingress ? " from " : " to ";
  const std::string_view behind = ingress ? " to " : " on ";
  const size_t begin = rule_text.find(before);
  const size_t end = rule_text.rfind(behind);
  if (begin == std::string::npos || end == std::string::npos || end < begin + before.size()) return {};
  std::string peers = rule_text.substr(begin + before.size(), end - begin - before.size());
  for (size_t pods = 0; (pods = peers.find("pods ", pods)) != std::string::npos;)
    // `all pods in ...` stays.
    if (pods == 0 || peers.compare(pods - std::min<size_t>(pods, 4), 4, " or ") == 0) {
      peers.erase(pods, 5);
    } else {
      pods += 5;
    }
  return peers;
}

std::string short_identity(const std::string& text) {
  if (!text.starts_with("pod ")) return text;
  const size_t open = text.find(" {");
  const size_t close = text.find('}', open);
  if (open == std::string::npos || close == std::string::npos) return text.substr(4, text.find(" ns{") - 4);
  const std::string ns = text.substr(4, open - 4);
  const std::string labels = text.substr(open + 2, close - open - 2);
  return labels.empty() ? ns + " (no labels)" : ns + " " + labels;
}

std::string enumerate(const std::vector<std::string>& items, size_t at_most) {
  if (items.size() < 2) return items.empty() ? "" : items.front();
  if (items.size() > at_most)
    return fmt::format("{} and {} more",
                       fmt::join(items.begin(), items.begin() + static_cast<std::ptrdiff_t>(at_most), ", "),
                       items.size() - at_most);
  return fmt::format("{} and {}", fmt::join(items.begin(), items.end() - 1, ", "), items.back());
}

std::string denial_text(const Denial& denial) {
  if (!denial.rule.empty()) return "denied by " + denial.rule;
  const Question& asked = denial.question;
  std::string text = isolated_text(isolating(denial.isolated_by, denial.audited_by)) + ", no rule allows " +
                     connection_text(asked.proto, asked.port);
  if (!denial.nearest) return text;
  const NearestAllow& nearest = *denial.nearest;
  std::string ports = ports_text(nearest.proto, nearest.first, nearest.last);
  // The protocol has just been said.
  const std::string said = protocol_text(asked.proto) + " ";
  if (nearest.proto == asked.proto && ports.starts_with(said)) ports.erase(0, said.size());
  return text + fmt::format("; nearest allow: {} {} {}", ports,
                            asked.direction == Direction::kIngress ? "from" : "to", denial.nearest_peer);
}

std::string rule_text(const PolicyImage& image, uint32_t rule) {
  const auto info = image.rules.find(rule);
  return info == image.rules.end() ? "" : info->second.policy + " " + info->second.text;
}

std::string denial_text(const PolicyImage& image, uint16_t endpoint, const Question& question,
                        const PolicyVerdict& verdict) {
  Denial denial = denial_of(image, endpoint, question.direction, verdict);
  denial.question = question;
  denial.nearest = nearest_allow(entries_of(image, set_of(image, endpoint, question.direction)), question);
  if (denial.nearest) {
    const auto allowing = image.rules.find(denial.nearest->rule);
    const auto peer = image.identities.find(denial.nearest->identity);
    if (allowing != image.rules.end()) {
      denial.nearest_peer = peers_of(allowing->second.text);
    } else {
      denial.nearest_peer = peer == image.identities.end() ? "anywhere" : short_identity(peer->second);
    }
  }
  return denial_text(denial);
}

std::string denial_text(const PolicyImage& image, uint16_t endpoint, Direction direction,
                        const PolicyVerdict& verdict) {
  const Denial denial = denial_of(image, endpoint, direction, verdict);
  if (!denial.rule.empty()) return "denied by " + denial.rule;
  return isolated_text(isolating(denial.isolated_by, denial.audited_by)) + ", no rule allows it";
}

}  // namespace bpfnet::compile
