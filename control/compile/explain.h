#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "control/compile/policy_lookup.h"

// Why a connection is denied, in words. Drop events, `bpfnetctl policy verdict` and `policy diff` all say it
// this way.
namespace bpfnet::compile {

/// A connection as one set judges it.
struct Question {
  Direction direction = Direction::kIngress;
  uint32_t identity = 0;  ///< of the peer
  uint8_t proto = 0;      ///< IPPROTO_*
  uint16_t port = 0;      ///< of the destination, host byte order; 0 for protocols without
};

/// What would have been let through.
struct NearestAllow {
  uint32_t identity = 0;  ///< IDENTITY_ANY: everyone
  uint8_t proto = 0;      ///< 0: protocols that the set says nothing else about
  uint16_t first = 0;
  uint16_t last = 0;
  uint32_t rule = 0;
};

/// What `set` allows that is nearest to the question, which it denies. In this order: another port for this
/// very peer, the same port for another peer, another port for everybody, another protocol for this peer;
/// ports by their distance. None: nothing that is near.
std::optional<NearestAllow> nearest_allow(const PolicySet& set, const Question& question);

/// The parts of the sentence.
struct Denial {
  Question question;
  std::string rule;                      ///< that denied it; empty: none did, but none allows it
  std::vector<std::string> isolated_by;  ///< policies; empty: not known, or none in force
  std::vector<std::string> audited_by;   ///< policies in audit mode; of what they alone would deny
  std::optional<NearestAllow> nearest;
  std::string nearest_peer;  ///< `app=web`, `anywhere`
};

/// `isolated by a/x and a/y, no rule allows TCP 8081; nearest allow: 8080 from app=web`, or `denied by RULE`.
std::string denial_text(const Denial& denial);

/// The same for a denial by an image, `verdict` as find_verdict() gave it: POLICY_AUDIT is what policies in
/// audit mode would deny.
std::string denial_text(const PolicyImage& image, uint16_t endpoint, const Question& question,
                        const PolicyVerdict& verdict);
/// The same of no port in particular: `isolated by a/x, no rule allows it`.
std::string denial_text(const PolicyImage& image, uint16_t endpoint, Direction direction,
                        const PolicyVerdict& verdict);

/// `a/x`, `a/y (audit mode)`
std::vector<std::string> isolating(std::vector<std::string> in_force,
                                   const std::vector<std::string>& audited);

/// `default/allow-web ingress[0]: ...`; empty for 0 and for what is no rule of the image.
std::string rule_text(const PolicyImage& image, uint32_t rule);

/// TCP, UDP and SCTP; the others are judged as a whole.
bool has_ports(uint8_t proto);

/// `TCP 8080`, `UDP`, `ICMP`, `protocol 47`
std::string connection_text(uint8_t proto, uint16_t port);
/// `TCP 8080`, `TCP 8000-8080`, `TCP` for all its ports, `other protocols` for 0 (`anything` if `alone`).
std::string ports_text(uint8_t proto, uint16_t first, uint16_t last, bool alone = false);

/// Whom a rule is about, of its text: `app=web or 10.0.0.0/8` of `ingress[0]: from pods app=web or 10.0.0.0/8
/// to TCP 80`; empty for a text that does not say it.
std::string peers_of(const std::string& rule_text);

/// An identity's text without what few readers ask for: `shop app=web` of
/// `pod shop {app=web} ns{...} ports{...} in 10.0.0.0/8`.
std::string short_identity(const std::string& text);

/// `a`, `a and b`, `a, b and c`; of many, the first and a number.
std::string enumerate(const std::vector<std::string>& items, size_t at_most = 8);

}  // namespace bpfnet::compile
