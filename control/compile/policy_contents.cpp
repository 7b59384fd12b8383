#include "control/compile/policy_contents.h"

#include <algorithm>
#include <map>

#include "maps/abi/policy.h"

namespace bpfnet::compile {
namespace {

using model::PolicyAction;

constexpr int kStageShift = 62;
constexpr int kOfSomeShift = 61;
constexpr int kRuleShift = 33;
constexpr int kUncertainShift = 32;
constexpr uint64_t kRuleMask = (uint64_t{1} << (kOfSomeShift - kRuleShift)) - 1;

/// What cannot be known yet counts against the pod (P20), and so does what is not understood (A12).
PolicyAction effective(const AppliedRule& rule, bool certain) {
  return certain && !rule.fails_closed() ? rule.action : PolicyAction::kDeny;
}

}  // namespace

void SetContents::add_part(Whom whom, size_t identity, const PortSpans& ports, bool certain) {
  const AppliedRule& rule = *rules_.back().rule;
  certain &= rule.certain;
  if (ports.empty() || (!certain && rule.action == PolicyAction::kAccept)) return;
  if (ports_.empty() || ports_.back() != ports) ports_.push_back(ports);
  const bool after_everyone = rule.stage == Stage::kPolicies && whom == Whom::kIdentity;
  const Part part = static_cast<uint64_t>(rule.stage) << kStageShift |
                    uint64_t{after_everyone} << kOfSomeShift | uint64_t{rules_.size() - 1} << kRuleShift |
                    uint64_t{!certain} << kUncertainShift | uint64_t{ports_.size() - 1};
  (whom == Whom::kEveryone ? of_everyone_ : of_identity_[identity]).push_back(part);
}

void SetContents::add_named(size_t identity, bool certain) {
  const auto& named = rules_.back().rule->traffic->ports;
  const Identity& destination = identities_[identity];
  if (destination.kind == IdentityKind::kUnknownPod)
    return add_part(Whom::kIdentity, identity, whole_line(), false);
  add_part(Whom::kIdentity, identity, named_ports(named, destination.ports), certain);
}

void SetContents::add(const AppliedRule& rule, uint32_t id) {
  rules_.push_back({&rule, id});
  const model::PolicyRule& traffic = *rule.traffic;
  if (rule.fails_closed()) {
    if (rule.action != PolicyAction::kAccept) add_part(Whom::kEveryone, 0, whole_line(), true);
    return;
  }
  const bool named = names_ports(traffic.ports);
  const bool ingress = direction_ == Direction::kIngress;
  PortSpans ports = numeric_ports(traffic.ports);
  if (named && ingress && pod_) {
    const PortSpans of_pod = named_ports(traffic.ports, pod_->ports);
    ports.insert(ports.end(), of_pod.begin(), of_pod.end());
    ports = merged(std::move(ports));
  }
  const bool any_port_maybe = named && ingress && !pod_;

  if (traffic.peers.empty()) {
    add_part(Whom::kEveryone, 0, ports, true);
    if (any_port_maybe) add_part(Whom::kEveryone, 0, whole_line(), false);
    if (named && !ingress)
      for (size_t i = 0; i < identities_.size(); ++i) add_named(i, true);
  }
  for (const auto& peer : traffic.peers) {
    // P6, A10: who is meant by an address has no named ports.
    const bool by_address = peer.cidr || peer.nodes;
    for (const auto& [identity, certain] : matcher_.match(peer, rule.policy.ns)) {
      add_part(Whom::kIdentity, identity, ports, certain);
      if (any_port_maybe) add_part(Whom::kIdentity, identity, whole_line(), false);
      if (named && !ingress && !by_address) add_named(identity, certain);
    }
  }
}

PortMap SetContents::judge(const Parts& parts, bool with_audited) const {
  const bool isolated = !applicable_.isolated_by.empty() || (with_audited && !applicable_.audited_by.empty());
  const uint8_t isolation = applicable_.of_itself ? POLICY_ALLOW : POLICY_DENY;
  PortMapBuilder map;
  int stage = 0;
  const auto advance = [&](int to) {
    for (; stage < to; ++stage) {
      if (stage == static_cast<int>(Stage::kPolicies) && isolated) map.decide(whole_line(), {0, isolation});
      map.end_tier();
    }
  };
  for (const Part part : parts) {
    const auto& [rule, id] = rules_[part >> kRuleShift & kRuleMask];
    if (rule->audit && !with_audited) continue;
    advance(static_cast<int>(rule->stage));
    const PortSpans& ports = ports_[static_cast<uint32_t>(part)];
    switch (effective(*rule, (part >> kUncertainShift & 1) == 0)) {
      case PolicyAction::kAccept:
        map.decide(ports, {id, POLICY_ALLOW});
        break;
      case PolicyAction::kDeny:
        map.decide(ports, {id, POLICY_DENY});
        break;
      case PolicyAction::kPass:
        map.pass(ports);
        break;
    }
  }
  advance(static_cast<int>(Stage::kBaseline) + 1);
  return std::move(map).finish({0, POLICY_ALLOW});
}

PortMap SetContents::judge(const Parts& parts) const {
  PortMap in_force = judge(parts, false);
  const bool any_audited =
      !applicable_.audited_by.empty() ||
      std::ranges::any_of(rules_, [](const OrderedRule& each) { return each.rule->audit; });
  return any_audited ? audited(in_force, judge(parts, true)) : in_force;
}

SetContents::Parts SetContents::with_everyone(Parts parts) const {
  parts.insert(parts.end(), of_everyone_.begin(), of_everyone_.end());
  std::ranges::sort(parts);
  const auto rest = std::ranges::unique(parts);
  parts.erase(rest.begin(), rest.end());
  return parts;
}

PortMap SetContents::about(size_t identity) const {
  const auto parts = of_identity_.find(identity);
  return judge(with_everyone(parts == of_identity_.end() ? Parts{} : parts->second));
}

PolicySet SetContents::make() && {
  const PortMap everyone = judge(of_everyone_);
  std::map<Parts, std::vector<uint32_t>> groups;
  for (auto& [identity, parts] : of_identity_) {
    groups[with_everyone(std::move(parts))].push_back(identities_[identity].id);
  }
  PolicySet set;
  const auto put = [&](uint32_t identity, const PrefixVerdicts& prefixes) {
    for (const auto& [prefix, verdict] : prefixes)
      set.entries.insert_or_assign({identity, prefix.proto, prefix.port, prefix.bits}, verdict);
  };
  // What is not in the set is denied, by no rule.
  put(IDENTITY_ANY, to_prefixes(everyone, uniform({0, POLICY_DENY})));
  for (const auto& [parts, identities] : groups) {
    const PrefixVerdicts prefixes = to_prefixes(judge(parts), everyone);
    for (const uint32_t identity : identities) put(identity, prefixes);
  }
  return set;
}

}  // namespace bpfnet::compile
