#include "control/compile/policy_text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cctype>
#include <vector>

namespace bpfnet::compile {
namespace {

std::string to_text(const model::SelectorRequirement& requirement) {
  const std::string values = fmt::format("{}", fmt::join(requirement.values, ","));
  switch (requirement.op) {
    case model::SelectorOperator::kIn:
      if (requirement.values.size() == 1)
        return fmt::format("{}={}", requirement.key, *requirement.values.begin());
      return fmt::format("{} in ({})", requirement.key, values);
    case model::SelectorOperator::kNotIn:
      return fmt::format("{} notin ({})", requirement.key, values);
    case model::SelectorOperator::kExists:
      return requirement.key;
    case model::SelectorOperator::kDoesNotExist:
      return "!" + requirement.key;
  }
  return requirement.key;
}

template <typename Items, typename ToText>
std::string join_texts(const Items& items, std::string_view separator, ToText&& text_of) {
  std::vector<std::string> texts;
  for (const auto& item : items) texts.push_back(text_of(item));
  return fmt::format("{}", fmt::join(texts, separator));
}

}  // namespace

std::string escape(std::string_view raw) {
  std::string text;
  for (const char c : raw) {
    if (std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.' || c == '/') {
      text += c;
    } else {
      text += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return text;
}

std::string_view to_string(Direction direction) {
  return direction == Direction::kIngress ? "ingress" : "egress";
}

std::string to_text(const model::Selector& selector) {
  return join_texts(selector.requirements, ",", [](const auto& each) { return to_text(each); });
}

std::string to_text(const model::PolicyPeer& peer) {
  if (peer.cidr) {
    std::string text = peer.cidr->to_string();
    if (!peer.except.empty()) {
      text += " except";
      for (const Cidr& except : peer.except) text += " " + except.to_string();
    }
    return text;
  }
  if (peer.nodes) return peer.nodes->requirements.empty() ? "all nodes" : "nodes " + to_text(*peer.nodes);
  std::string text = "all pods";
  if (peer.pods && !peer.pods->requirements.empty()) text = "pods " + to_text(*peer.pods);
  if (peer.namespaces)
    text += peer.namespaces->requirements.empty() ? " in all namespaces"
                                                  : " in namespaces " + to_text(*peer.namespaces);
  return text;
}

std::string to_text(const model::PolicyPort& port) {
  const auto proto = model::to_string(port.protocol);
  if (!port.name.empty()) return fmt::format("{} {}", proto, port.name);
  if (!port.port) return std::string(proto);
  if (port.end_port && *port.end_port != *port.port)
    return fmt::format("{} {}-{}", proto, *port.port, *port.end_port);
  return fmt::format("{} {}", proto, *port.port);
}

namespace {

/// `from pods app=web to TCP 80`
std::string traffic_text(const model::PolicyRule& rule, Direction direction) {
  const auto text_of = [](const auto& each) { return compile::to_text(each); };
  const std::string peers = rule.peers.empty() ? "anywhere" : join_texts(rule.peers, " or ", text_of);
  const std::string ports = rule.ports.empty() ? "any port" : join_texts(rule.ports, ", ", text_of);
  if (direction == Direction::kIngress) return fmt::format("from {} to {}", peers, ports);
  return fmt::format("to {} on {}", peers, ports);
}

}  // namespace

std::string to_text(const model::PolicyRule& rule, Direction direction, size_t index) {
  return fmt::format("{}[{}]: {}", to_string(direction), index, traffic_text(rule, direction));
}

std::string to_text(const model::ClusterPolicyRule& rule, Direction direction, size_t index) {
  std::string text = fmt::format("{}[{}]", to_string(direction), index);
  if (!rule.name.empty()) text += " " + escape(rule.name);
  if (rule.fails_closed) {
    const bool accept = rule.action == model::PolicyAction::kAccept;
    return text + (accept ? ": Accept nothing" : ": Deny everything") + " (not understood)";
  }
  return fmt::format("{}: {} {}", text, model::to_string(rule.action), traffic_text(rule.traffic, direction));
}

std::string to_text(const model::Labels& labels) {
  std::string text;
  for (const auto& [key, value] : labels) {
    if (!text.empty()) text += ',';
    text += escape(key) + '=' + escape(value);
  }
  return text;
}

}  // namespace bpfnet::compile
