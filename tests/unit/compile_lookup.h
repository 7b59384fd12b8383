#pragma once

#include "control/compile/images.h"
#include "control/compile/policy_text.h"

namespace bpfnet::compile {

/// The datapath's view of a compiled image: the lookups of the BPF programs, by longest prefix, written
/// plainly.
uint32_t identity_of(const PolicyImage& image, const Address& address);

/// What the set says of `identity`.
PolicyVerdict set_decides(const PolicyImage& image, uint32_t set, uint32_t identity, uint8_t proto,
                          uint16_t port);

/// True when the set lets `identity` through; `rule`, if given, is set to the rule that did.
bool set_allows(const PolicyImage& image, uint32_t set, uint32_t identity, uint8_t proto, uint16_t port,
                uint32_t* rule = nullptr);

/// What the endpoint's set says when it reaches itself by a service (A11).
PolicyVerdict image_decides_itself(const PolicyImage& image, uint16_t index, Direction direction,
                                   uint8_t proto, uint16_t port, Family family = Family::kIpv4);

/// The verdict of endpoint `index` about a connection from (ingress) or to (egress) `peer`.
PolicyVerdict image_decides(const PolicyImage& image, uint16_t index, Direction direction,
                            const Address& peer, uint8_t proto, uint16_t port);
bool image_allows(const PolicyImage& image, uint16_t index, Direction direction, const Address& peer,
                  uint8_t proto, uint16_t port);

}  // namespace bpfnet::compile
