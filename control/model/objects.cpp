#include "control/model/objects.h"

#include <fmt/format.h>

#include <algorithm>

namespace bpfnet::model {

std::string ObjectName::to_string() const {
  return ns.empty() ? name.str() : fmt::format("{}/{}", ns, name);
}

std::string_view to_string(Protocol protocol) {
  switch (protocol) {
    case Protocol::kTcp:
      return "TCP";
    case Protocol::kUdp:
      return "UDP";
    case Protocol::kSctp:
      return "SCTP";
  }
  return "unknown";
}

std::string_view to_string(PolicyTier tier) {
  return tier == PolicyTier::kAdmin ? "Admin" : "Baseline";
}

std::string_view to_string(PolicyAction action) {
  switch (action) {
    case PolicyAction::kAccept:
      return "Accept";
    case PolicyAction::kDeny:
      return "Deny";
    case PolicyAction::kPass:
      return "Pass";
  }
  return "unknown";
}

std::optional<Address> Node::address(Family family) const {
  for (const auto* addresses : {&internal_ips, &external_ips}) {
    const auto found =
        std::ranges::find_if(*addresses, [&](const Address& ip) { return ip.family() == family; });
    if (found != addresses->end()) return *found;
  }
  return std::nullopt;
}

namespace {

bool holds(const SelectorRequirement& requirement, const Labels& labels) {
  const auto label = labels.find(requirement.key);
  const bool present = label != labels.end();
  switch (requirement.op) {
    case SelectorOperator::kExists:
      return present;
    case SelectorOperator::kDoesNotExist:
      return !present;
    case SelectorOperator::kIn:
      return present && requirement.values.contains(label->second);
    case SelectorOperator::kNotIn:
      return !present || !requirement.values.contains(label->second);
  }
  return false;
}

}  // namespace

bool Selector::matches(const Labels& labels) const {
  return std::ranges::all_of(requirements,
                             [&](const SelectorRequirement& each) { return holds(each, labels); });
}

Labels labels_of_namespace(const ClusterState& state, const std::string& name) {
  const auto found = state.namespaces.find(name);
  return found != state.namespaces.end() ? found->second.labels : Labels{{kNamespaceNameLabel, name}};
}

}  // namespace bpfnet::model
