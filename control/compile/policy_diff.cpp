#include "control/compile/policy_diff.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <utility>
#include <variant>

#include "maps/abi/endpoint.h"
#include "maps/abi/policy.h"

namespace bpfnet::compile {
namespace {

constexpr Direction kDirections[] = {Direction::kIngress, Direction::kEgress};

struct Peer {
  PeerChange identities;
  bool own_node = false;
  auto operator<=>(const Peer&) const = default;
};

bool is_own_node(const PolicyImage& image, const Address& address) {
  const auto known = image.addresses.find({0, address});
  return address.is_loopback() ||
         (known != image.addresses.end() && (known->second.flags & ADDRESS_LOCAL_NODE) != 0);
}

/// Everybody that one of the images can tell from others.
std::set<Peer> all_peers(const PolicyImage& before, const PolicyImage& after) {
  const AddressLookup earlier(before);
  const AddressLookup later(after);
  std::set<Peer> peers;
  for (const PolicyImage* image : {&before, &after}) {
    for (const auto& [key, entry] : image->addresses)
      peers.insert({{earlier.identity(key.second, key.first), later.identity(key.second, key.first)},
                    (entry.flags & ADDRESS_LOCAL_NODE) != 0});
    for (const auto& [key, entry] : image->cidrs)
      peers.insert({{earlier.identity(key.second, key.first), later.identity(key.second, key.first)}, false});
  }
  return peers;
}

struct SpanChange {
  PortRange span;
  PolicyVerdict before;
  PolicyVerdict after;
};

/// The part of `findings` about one protocol; what is said of all others where it is not named.
std::vector<PortFinding> about(const std::vector<PortFinding>& findings, uint8_t proto) {
  std::vector<PortFinding> part;
  for (const PortFinding& each : findings)
    if (each.proto == proto) part.push_back(each);
  if (part.empty()) part.push_back(findings.front());
  return part;
}

bool differ(const PolicyVerdict& before, const PolicyVerdict& after) {
  return passes(before) != passes(after);
}

std::vector<SpanChange> compare(const std::vector<PortFinding>& before,
                                const std::vector<PortFinding>& after) {
  std::set<uint8_t> protocols;
  for (const auto* findings : {&before, &after})
    for (const PortFinding& each : *findings) protocols.insert(each.proto);
  std::vector<SpanChange> changes;
  for (const uint8_t proto : protocols) {
    const auto earlier = about(before, proto);
    const auto later = about(after, proto);
    uint32_t first = 0;
    for (size_t i = 0, j = 0; i < earlier.size() && j < later.size();) {
      const uint16_t last = std::min(earlier[i].last, later[j].last);
      const SpanChange change{
          {proto, static_cast<uint16_t>(first), last}, earlier[i].finding.verdict, later[j].finding.verdict};
      if (differ(change.before, change.after)) {
        SpanChange* previous = changes.empty() ? nullptr : &changes.back();
        if (previous && previous->span.proto == proto && previous->span.last + 1U == first &&
            previous->before == change.before && previous->after == change.after) {
          previous->span.last = last;
        } else {
          changes.push_back(change);
        }
      }
      first = last + 1U;
      if (earlier[i].last == last) ++i;
      if (later[j].last == last) ++j;
    }
  }
  return changes;
}

using Verdicts = std::tuple<uint32_t, uint8_t, uint32_t, uint8_t>;  ///< rule and verdict before, and after
/// Peers whose verdicts change alike, by ports and verdicts.
using Groups =
    std::map<std::tuple<std::vector<PortRange>, uint32_t, uint8_t, uint32_t, uint8_t>, std::set<PeerChange>>;

void judge_peer(const PolicySet& before, const PolicySet& after, const PeerChange& peer, Groups& groups) {
  std::map<Verdicts, std::vector<PortRange>> spans;
  for (const SpanChange& each : compare(port_findings(before, peer.before), port_findings(after, peer.after)))
    spans[{each.before.rule, each.before.verdict, each.after.rule, each.after.verdict}].push_back(each.span);
  for (auto& [verdicts, ports] : spans)
    groups[std::tuple_cat(std::tuple(std::move(ports)), verdicts)].insert(peer);
}

void tell(const Groups& groups, const std::set<PeerChange>& everyone, Direction direction,
          std::vector<VerdictChange>& changes) {
  for (const auto& [group, who] : groups) {
    VerdictChange change;
    change.direction = direction;
    change.ports = std::get<0>(group);
    change.before = {std::get<1>(group), std::get<2>(group)};
    change.after = {std::get<3>(group), std::get<4>(group)};
    if (who != everyone) change.peers.assign(who.begin(), who.end());
    changes.push_back(std::move(change));
  }
}

/// The verdicts that change when an endpoint moves from one set to another; the endpoint is left open.
std::vector<VerdictChange> compare_sets(const PolicySet& before, const PolicySet& after,
                                        const std::set<Peer>& peers, Direction direction) {
  const bool same_set = before == after;
  Groups groups;
  std::set<PeerChange> judged;
  for (const Peer& peer : peers) {
    if (direction == Direction::kIngress && peer.own_node) continue;  // P13
    judged.insert(peer.identities);
    if (same_set && peer.identities.before == peer.identities.after) continue;
    judge_peer(before, after, peer.identities, groups);
  }
  Groups of_itself;
  if (!same_set)
    for (const uint32_t self : {IDENTITY_SELF, IDENTITY_SELF6})
      judge_peer(before, after, {self, self}, of_itself);
  std::vector<VerdictChange> changes;
  tell(groups, judged, direction, changes);
  tell(of_itself, {}, direction, changes);
  return changes;
}

std::vector<VerdictChange> changed_verdicts(const PolicyImage& before, const PolicyImage& after) {
  const std::set<Peer> peers = all_peers(before, after);
  std::map<std::tuple<uint32_t, uint32_t, Direction>, std::vector<VerdictChange>> known;  // sets are shared
  std::vector<VerdictChange> changes;
  for (const auto& [index, policy] : after.endpoints) {
    for (const Direction direction : kDirections) {
      const uint32_t earlier = set_of(before, index, direction);
      const uint32_t later = set_of(after, index, direction);
      const auto [found, is_new] = known.try_emplace({earlier, later, direction});
      if (is_new)
        found->second = compare_sets(entries_of(before, earlier), entries_of(after, later), peers, direction);
      for (VerdictChange change : found->second) {
        change.endpoint = index;
        changes.push_back(std::move(change));
      }
    }
  }
  return changes;
}

class FlowJudge {
 public:
  FlowJudge(const PolicyImage& before, const PolicyImage& after)
      : before_(before), after_(after), earlier_(before), later_(after) {}

  enum Verdict { kAllowed, kCut };  ///< before and after; before already
  using Outcome = std::variant<Verdict, BrokenFlow>;

  Outcome operator()(const LiveFlow& flow) const {
    const bool itself = flow.source != 0 && flow.source == flow.destination;
    if (itself && !flow.by_service) return kAllowed;  // P15, A11
    const auto identity = [&](const AddressLookup& image, const Address& peer) {
      return itself ? self_identity(peer.family()) : image.identity(peer, flow.net);
    };
    // As the datapath does it: the way out is judged first.
    for (const Direction direction : {Direction::kEgress, Direction::kIngress}) {
      const bool ingress = direction == Direction::kIngress;
      const uint16_t endpoint = ingress ? flow.destination : flow.source;
      const Address& peer = ingress ? flow.client : flow.backend;
      if (endpoint == 0 || (ingress && is_own_node(after_, peer))) continue;
      const uint32_t peer_after = identity(later_, peer);
      const Finding now = find_verdict(before_, set_of(before_, endpoint, direction),
                                       identity(earlier_, peer), flow.proto, flow.backend_port);
      const Finding then = find_verdict(after_, set_of(after_, endpoint, direction), peer_after, flow.proto,
                                        flow.backend_port);
      if (!passes(now.verdict)) return kCut;
      if (!passes(then.verdict)) return BrokenFlow{flow, direction, peer_after, now, then};
    }
    return kAllowed;
  }

 private:
  const PolicyImage& before_;
  const PolicyImage& after_;
  AddressLookup earlier_;
  AddressLookup later_;
};

}  // namespace

bool passes(const PolicyVerdict& verdict) {
  return verdict.verdict != POLICY_DENY;
}

LiveFlow LiveFlow::reversed() const {
  LiveFlow other = *this;
  std::swap(other.client, other.backend);
  std::swap(other.client_port, other.backend_port);
  std::swap(other.source, other.destination);
  other.by_service = false;
  return other;
}

PolicyDiff diff_policies(const PolicyImage& before, const PolicyImage& after,
                         const std::vector<LiveFlow>& flows) {
  const FlowJudge judge(before, after);
  PolicyDiff diff;
  for (const LiveFlow& flow : flows) {
    auto outcome = judge(flow);
    const auto* verdict = std::get_if<FlowJudge::Verdict>(&outcome);
    if (flow.picked_up && verdict != nullptr && *verdict == FlowJudge::kAllowed)
      outcome = judge(flow.reversed());
    if (const auto* broken = std::get_if<BrokenFlow>(&outcome)) diff.broken.push_back(*broken);
  }
  diff.changes = changed_verdicts(before, after);
  return diff;
}

}  // namespace bpfnet::compile
