#include "control/compile/policy_lookup.h"

#include <algorithm>
#include <functional>
#include <set>

#include "maps/abi/policy.h"

namespace bpfnet::compile {
namespace {

using Entry = std::pair<const PolicyEntry, PolicyVerdict>;
using Entries = std::vector<const Entry*>;

/// Those of one identity.
Entries entries_of(const PolicySet& set, uint32_t identity) {
  Entries found;
  for (auto each = set.entries.lower_bound({.identity = identity});
       each != set.entries.end() && each->first.identity == identity; ++each)
    found.push_back(&*each);
  return found;
}

/// One past the last port of an entry's prefix.
uint32_t end_of(const PolicyEntry& entry) {
  return entry.port + (1U << (16 - entry.port_bits));
}

/// By longest prefix: a port, some leading bits of it, the protocol, anything.
const Entry* find(const Entries& entries, uint8_t proto, uint16_t port) {
  const Entry* best = nullptr;
  for (const Entry* each : entries) {
    const PolicyEntry& entry = each->first;
    if (entry.proto == 0) {
      if (!best) best = each;
    } else if (entry.proto == proto && entry.port <= port && port < end_of(entry)) {
      if (!best || best->first.proto == 0 || best->first.port_bits < entry.port_bits) best = each;
    }
  }
  return best;
}

/// What a set has to say about one peer.
struct About {
  About(const PolicySet& set, uint32_t identity) {
    if (identity != IDENTITY_ANY) named = entries_of(set, identity);
    if (is_self(identity)) {
      otherwise = POLICY_ALLOW;
    } else {
      anyone = entries_of(set, IDENTITY_ANY);
    }
  }
  [[nodiscard]] Finding find(uint8_t proto, uint16_t port) const {
    if (const Entry* entry = compile::find(named, proto, port)) return {entry->second, true, false};
    if (const Entry* entry = compile::find(anyone, proto, port)) return {entry->second, false, true};
    return {{0, otherwise}, false, false};
  }

  Entries named;
  Entries anyone;
  uint8_t otherwise = POLICY_DENY;
};

bool same(const Finding& a, const Finding& b) {
  return a.verdict == b.verdict && a.named_peer == b.named_peer && a.named_anyone == b.named_anyone;
}

}  // namespace

uint32_t self_identity(Family family) {
  return family == Family::kIpv4 ? IDENTITY_SELF : IDENTITY_SELF6;
}

bool is_self(uint32_t identity) {
  return identity == IDENTITY_SELF || identity == IDENTITY_SELF6;
}

Finding find_verdict(const PolicySet& set, uint32_t identity, uint8_t proto, uint16_t port) {
  return About(set, identity).find(proto, port);
}

std::vector<PortFinding> port_findings(const PolicySet& set, uint32_t identity) {
  const About about(set, identity);
  // Where the verdict may change.
  std::map<uint8_t, std::set<uint32_t>> bounds;
  for (const Entries* entries : {&about.named, &about.anyone}) {
    for (const Entry* each : *entries) {
      const PolicyEntry& entry = each->first;
      if (entry.proto == 0) continue;
      auto& ports = bounds[entry.proto];
      ports.insert({0, entry.port, end_of(entry)});
    }
  }
  std::vector<PortFinding> findings;
  findings.push_back({.finding = about.find(0, 0)});
  for (const auto& [proto, starts] : bounds) {
    for (const uint32_t start : starts) {
      if (start > UINT16_MAX) continue;
      const auto port = static_cast<uint16_t>(start);
      const Finding finding = about.find(proto, port);
      if (findings.back().proto == proto && same(findings.back().finding, finding)) continue;
      if (findings.back().proto == proto) findings.back().last = static_cast<uint16_t>(port - 1);
      findings.push_back({proto, port, UINT16_MAX, finding});
    }
  }
  return findings;
}

AddressLookup::AddressLookup(const PolicyImage& image) : image_(image) {
  std::set<int, std::greater<>> lengths[2];
  for (const auto& [key, entry] : image.cidrs)
    lengths[key.second.family() == Family::kIpv4 ? 0 : 1].insert(key.second.length());
  for (size_t i = 0; i < 2; ++i) lengths_[i].assign(lengths[i].begin(), lengths[i].end());
}

uint32_t AddressLookup::identity(const Address& address, uint16_t net) const {
  const auto exact = image_.addresses.find({net, address});
  if (exact != image_.addresses.end()) return exact->second.identity;
  if (address.is_loopback()) return IDENTITY_HOST;
  return identity(Cidr(address, address.bits()), net);
}

uint32_t AddressLookup::identity(const Cidr& cidr, uint16_t net) const {
  for (const int length : lengths_[cidr.family() == Family::kIpv4 ? 0 : 1]) {
    if (length > cidr.length()) continue;
    const auto prefix = image_.cidrs.find({net, Cidr(cidr.address(), length)});
    if (prefix != image_.cidrs.end() && prefix->second.identity != 0) return prefix->second.identity;
  }
  return IDENTITY_WORLD;
}

uint32_t set_of(const PolicyImage& image, uint16_t endpoint, Direction direction) {
  const auto found = image.endpoints.find(endpoint);
  if (found == image.endpoints.end()) return POLICY_SET_ALLOW_ALL;
  return direction == Direction::kIngress ? found->second.ingress_set : found->second.egress_set;
}

const PolicySet& entries_of(const PolicyImage& image, uint32_t set) {
  static const PolicySet kNothing;
  static const PolicySet kEverything{{{PolicyEntry{}, PolicyVerdict{0, POLICY_ALLOW}}}};
  if (set == POLICY_SET_ALLOW_ALL) return kEverything;
  const auto found = image.sets.find(set);
  return found == image.sets.end() ? kNothing : found->second;
}

Finding find_verdict(const PolicyImage& image, uint32_t set, uint32_t identity, uint8_t proto,
                     uint16_t port) {
  return find_verdict(entries_of(image, set), identity, proto, port);
}

}  // namespace bpfnet::compile
