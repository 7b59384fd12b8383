#include "control/apply/endpoint_records.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "control/compile/policy_text.h"
#include "maps/abi/policy.h"
#include "maps/convert.h"

namespace bpfnet::apply {
namespace {

/// The record's device half.
void set_facts(endpoint& record, const EndpointFacts& facts) {
  record.ip4 = facts.ip4 ? maps::to_abi(*facts.ip4) : addr{};
  record.ip6 = facts.ip6 ? maps::to_abi(*facts.ip6) : addr{};
  record.ifindex = facts.ifindex;
  record.mac = maps::to_abi(facts.mac);
  record.host_mac = maps::to_abi(facts.host_mac);
  record.net = facts.net;
  record.mtu = facts.mtu;
}

bool same_owner(const endpoint& record, const EndpointFacts& facts) {
  endpoint other = record;
  set_facts(other, facts);
  return record.ifindex == other.ifindex && same_bytes(record.ip4, other.ip4) &&
         same_bytes(record.ip6, other.ip6) && same_bytes(record.mac, other.mac) && record.net == other.net;
}

/// Those that have a part in what an endpoint is under.
std::vector<std::string> policies_of(const compile::PolicyImage& image, const compile::EndpointPolicy& policy,
                                     compile::Direction direction) {
  const bool ingress = direction == compile::Direction::kIngress;
  std::set<std::string> names;
  for (const auto* each : {ingress ? &policy.isolated_by_ingress : &policy.isolated_by_egress,
                           ingress ? &policy.audited_by_ingress : &policy.audited_by_egress})
    names.insert(each->begin(), each->end());
  for (const uint32_t rule : ingress ? policy.ingress_rules : policy.egress_rules)
    if (const auto info = image.rules.find(rule); info != image.rules.end())
      names.insert(info->second.policy);
  return {names.begin(), names.end()};
}

constexpr uint32_t kMarkIndex = 0;

bool is_restricted(uint32_t ingress_set, uint32_t egress_set) {
  return ingress_set != POLICY_SET_ALLOW_ALL || egress_set != POLICY_SET_ALLOW_ALL;
}

}  // namespace

Status EndpointRecords::adopt() {
  BPFNET_TRY(mirror_.load());
  const endpoint* mark = mirror_.find(kMarkIndex);
  marked_ = found_mark_ = mark && (mark->flags & ENDPOINT_UNSETTLED) != 0;
  return ok();
}

void EndpointRecords::write_mark(uint8_t flags, Problems& problems) {
  endpoint record{};
  record.flags = flags;
  const auto written = mirror_.put(kMarkIndex, record);
  if (!written) problems.push_back({"endpoints", written.error().message});
  if (!written) return;
  marked_ = flags != 0;
  mark_writes_ += *written ? 1 : 0;
}

void EndpointRecords::unsettle(Problems& problems) {
  if (marked_) return;
  write_mark(ENDPOINT_UNSETTLED, problems);
}

bool EndpointRecords::restricts(const compile::PolicyImage& image) const {
  return std::ranges::any_of(image.endpoints, [this](const auto& each) {
    const endpoint* held = mirror_.find(each.first);
    return held && held->state == ENDPOINT_OPEN &&
           (is_restricted(held->ingress_set, held->egress_set) ||
            is_restricted(each.second.ingress_set, each.second.egress_set));
  });
}

void EndpointRecords::put(uint16_t index, const endpoint& record, const std::string& name,
                          Problems& problems) {
  endpoint before = record;
  if (const endpoint* held = mirror_.find(index)) {
    before.epoch = held->epoch;
    const bool in_use = held->state != ENDPOINT_FREE && record.state != ENDPOINT_FREE;
    if (in_use && record.epoch != held->epoch) unsettle(problems);
  }
  auto written = mirror_.put(index, before);
  if (written) written = mirror_.put(index, record);
  if (written) return;
  failed_ = true;
  problems.push_back({"endpoint " + name, written.error().message});
}

void EndpointRecords::close_new(const std::map<uint16_t, EndpointFacts>& facts, Problems& problems) {
  for (const auto& [index, wanted] : facts) {
    const endpoint* held = mirror_.find(index);
    if (held && held->state != ENDPOINT_FREE && same_owner(*held, wanted)) continue;
    endpoint record{};
    set_facts(record, wanted);
    record.epoch = held ? held->epoch + 1 : 1;
    record.ingress_set = POLICY_SET_DENY_ALL;
    record.egress_set = POLICY_SET_DENY_ALL;
    record.state = ENDPOINT_CLOSED;
    put(index, record, wanted.name, problems);
  }
}

uint32_t EndpointRecords::usable(uint32_t wanted, uint32_t held, bool open) const {
  if (wanted < POLICY_SET_FIRST || sets_.holds(wanted)) return wanted;
  return open ? held : static_cast<uint32_t>(POLICY_SET_CLOSED);
}

void EndpointRecords::move_to_sets(const std::map<uint16_t, EndpointFacts>& facts,
                                   const compile::PolicyImage& image, const std::set<uint32_t>& left,
                                   Problems& problems) {
  std::map<std::pair<uint32_t, uint32_t>, uint32_t> transitions;  // {wanted, held} -> set
  const auto target = [&](uint32_t wanted, uint32_t held) -> uint32_t {
    wanted = usable(wanted, held, true);
    // What these two say does not depend on identities.
    if (wanted == held || wanted == POLICY_SET_ALLOW_ALL || wanted == POLICY_SET_DENY_ALL || left.empty())
      return wanted;
    auto [made, added] = transitions.try_emplace({wanted, held}, wanted);
    if (added) {
      auto id = sets_.write_transition(wanted, held, left);
      if (id) made->second = *id;  // no room: move at once, addresses follow within microseconds
    }
    return made->second;
  };
  for (const auto& [index, policy] : image.endpoints) {
    const endpoint* held = mirror_.find(index);
    if (!held || held->state != ENDPOINT_OPEN || !facts.contains(index)) continue;
    endpoint record = *held;
    record.ingress_set = target(policy.ingress_set, held->ingress_set);
    record.egress_set = target(policy.egress_set, held->egress_set);
    if (same_bytes(record, *held)) continue;
    ++record.epoch;
    put(index, record, facts.at(index).name, problems);
  }
}

void EndpointRecords::move_identities(const compile::PolicyImage& image, const std::set<uint32_t>& refused,
                                      Problems& problems) {
  for (const auto& [index, policy] : image.endpoints) {
    const endpoint* held = mirror_.find(index);
    if (!held || held->state != ENDPOINT_OPEN || held->identity == policy.identity) continue;
    if (refused.contains(policy.identity)) continue;
    endpoint record = *held;
    record.identity = policy.identity;
    put(index, record, std::to_string(index), problems);
  }
}

void EndpointRecords::settle(const std::map<uint16_t, EndpointFacts>& facts,
                             const compile::PolicyImage& image, const Settlement& settlement,
                             Problems& problems) {
  for (const auto& [index, policy] : image.endpoints) {
    const endpoint* held = mirror_.find(index);
    auto fact = facts.find(index);
    if (!held || held->state == ENDPOINT_FREE || fact == facts.end()) continue;
    const bool open = held->state == ENDPOINT_OPEN;
    endpoint record = *held;
    set_facts(record, fact->second);
    record.identity = policy.identity;
    if (settlement.refused.contains(policy.identity))
      record.identity = open ? held->identity : static_cast<uint32_t>(IDENTITY_WORLD);
    record.ingress_set = usable(policy.ingress_set, held->ingress_set, open);
    record.egress_set = usable(policy.egress_set, held->egress_set, open);
    record.flags = policy.flags;
    record.state = ENDPOINT_OPEN;
    if (record.ingress_set != policy.ingress_set)
      tell_refusal(fact->second, policy.ingress_set, policies_of(image, policy, compile::Direction::kIngress),
                   record.ingress_set, settlement, problems);
    if (record.egress_set != policy.egress_set)
      tell_refusal(fact->second, policy.egress_set, policies_of(image, policy, compile::Direction::kEgress),
                   record.egress_set, settlement, problems);
    const bool moved = record.ingress_set != held->ingress_set || record.egress_set != held->egress_set;
    const bool concerned = sets_.names(record.ingress_set, settlement.touched) ||
                           sets_.names(record.egress_set, settlement.touched);
    // What audit mode let through is judged again when it ends, and what was the own node's when it is that
    // no more (P13).
    const bool enforced = (held->flags & ENDPOINT_AUDITED) != 0 && (record.flags & ENDPOINT_AUDITED) == 0;
    const bool exempted = settlement.node_left && record.ingress_set != POLICY_SET_ALLOW_ALL;
    // Not only open ones: a number's next owner may have been closed with the epoch of the one before.
    const bool forgotten = found_mark_ && is_restricted(record.ingress_set, record.egress_set);
    if (forgotten || (open && (moved || enforced || exempted || concerned))) ++record.epoch;
    put(index, record, fact->second.name, problems);
  }
  found_mark_ = marked_ && failed_;
  if (marked_ && !failed_) write_mark(0, problems);
  failed_ = false;
}

void EndpointRecords::tell_refusal(const EndpointFacts& facts, uint32_t set,
                                   const std::vector<std::string>& policies, uint32_t stand_in,
                                   const Settlement& settlement, Problems& problems) const {
  const auto why = settlement.refusals.find(set);
  const bool closed = stand_in == POLICY_SET_CLOSED;
  problems.push_back(
      {"endpoint " + facts.name,
       fmt::format("policies {} are not enforced as they are: {}; {}", fmt::join(policies, ", "),
                   why == settlement.refusals.end() ? "their set is not in the map policies" : why->second,
                   closed ? "nothing passes in that direction" : "those before them stay")});
}

void EndpointRecords::free_gone(const std::map<uint16_t, EndpointFacts>& facts, Problems& problems) {
  std::vector<uint32_t> gone;
  for (const auto& [index, record] : mirror_.held())
    if (record.state != ENDPOINT_FREE && !facts.contains(static_cast<uint16_t>(index))) gone.push_back(index);
  for (const uint32_t index : gone) {
    endpoint record{};
    record.state = ENDPOINT_FREE;
    record.epoch = mirror_.find(index)->epoch + 1;
    put(static_cast<uint16_t>(index), record, std::to_string(index), problems);
  }
}

std::set<uint32_t> EndpointRecords::sets_in_use() const {
  std::set<uint32_t> used;
  for (const auto& [index, record] : mirror_.held()) {
    used.insert(record.ingress_set);
    used.insert(record.egress_set);
  }
  return used;
}

}  // namespace bpfnet::apply
