#include "tests/unit/compile_lookup.h"

#include "maps/abi/policy.h"

namespace bpfnet::compile {
namespace {

/// Longest prefix over the 16 bytes of the address, whatever its family: as the kernel's trie does.
std::optional<uint32_t> longest_prefix(const PolicyImage& image, const Address& address) {
  const auto covers = [&](const Cidr& cidr) {
    for (int bit = 0; bit < cidr.length128(); ++bit) {
      const auto byte = static_cast<size_t>(bit / 8);
      const int mask = 0x80 >> (bit % 8);
      if ((cidr.address().bytes()[byte] & mask) != (address.bytes()[byte] & mask)) return false;
    }
    return true;
  };
  std::optional<uint32_t> found;
  int longest = -1;
  for (const auto& [key, entry] : image.cidrs) {
    if (key.first != 0 || key.second.length128() <= longest || !covers(key.second)) continue;
    longest = key.second.length128();
    found = entry.identity;
  }
  return found;
}

std::optional<PolicyVerdict> find_entry(const PolicySet& set, uint32_t identity, uint8_t proto,
                                        uint16_t port) {
  for (int bits = 16; bits >= 0; --bits) {
    const auto prefix = static_cast<uint16_t>(bits == 0 ? 0 : port & (0xffff << (16 - bits)));
    const auto found = set.entries.find({identity, proto, prefix, static_cast<uint8_t>(bits)});
    if (found != set.entries.end()) return found->second;
  }
  const auto any = set.entries.find({identity, 0, 0, 0});
  return any == set.entries.end() ? std::nullopt : std::optional(any->second);
}

}  // namespace

uint32_t identity_of(const PolicyImage& image, const Address& address) {
  const auto exact = image.addresses.find({0, address});
  if (exact != image.addresses.end()) return exact->second.identity;
  return longest_prefix(image, address).value_or(IDENTITY_WORLD);
}

PolicyVerdict set_decides(const PolicyImage& image, uint32_t set, uint32_t identity, uint8_t proto,
                          uint16_t port) {
  if (set == POLICY_SET_ALLOW_ALL) return {0, POLICY_ALLOW};
  if (set == POLICY_SET_DENY_ALL) return {0, POLICY_DENY};
  for (const uint32_t each : {identity, static_cast<uint32_t>(IDENTITY_ANY)})
    if (const auto found = find_entry(image.sets.at(set), each, proto, port)) return *found;
  return {0, POLICY_DENY};
}

PolicyVerdict image_decides_itself(const PolicyImage& image, uint16_t index, Direction direction,
                                   uint8_t proto, uint16_t port, Family family) {
  const EndpointPolicy& endpoint = image.endpoints.at(index);
  const uint32_t set = direction == Direction::kIngress ? endpoint.ingress_set : endpoint.egress_set;
  const uint32_t self = family == Family::kIpv4 ? IDENTITY_SELF : IDENTITY_SELF6;
  if (!image.sets.contains(set)) return {0, POLICY_ALLOW};
  return find_entry(image.sets.at(set), self, proto, port).value_or(PolicyVerdict{0, POLICY_ALLOW});
}

bool set_allows(const PolicyImage& image, uint32_t set, uint32_t identity, uint8_t proto, uint16_t port,
                uint32_t* rule) {
  const PolicyVerdict decided = set_decides(image, set, identity, proto, port);
  if (rule) *rule = decided.rule;
  return decided.verdict != POLICY_DENY;
}

PolicyVerdict image_decides(const PolicyImage& image, uint16_t index, Direction direction,
                            const Address& peer, uint8_t proto, uint16_t port) {
  const EndpointPolicy& endpoint = image.endpoints.at(index);
  const uint32_t set = direction == Direction::kIngress ? endpoint.ingress_set : endpoint.egress_set;
  return set_decides(image, set, identity_of(image, peer), proto, port);
}

bool image_allows(const PolicyImage& image, uint16_t index, Direction direction, const Address& peer,
                  uint8_t proto, uint16_t port) {
  return image_decides(image, index, direction, peer, proto, port).verdict != POLICY_DENY;
}

}  // namespace bpfnet::compile
