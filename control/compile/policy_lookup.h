#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "control/compile/images.h"
#include "control/compile/policy_text.h"

// The datapath's lookups, done on images and sets of entries: for explanations and for what has not been
// written yet.
namespace bpfnet::compile {

/// What a set says to a connection.
struct Finding {
  PolicyVerdict verdict;      ///< POLICY_DENY by no rule when nothing was found
  bool named_peer = false;    ///< an entry of the peer's identity said so
  bool named_anyone = false;  ///< an entry of IDENTITY_ANY did
};

/// What a pod is called that reaches itself by a service (A11).
uint32_t self_identity(Family family);
bool is_self(uint32_t identity);

/// The verdict of `set` about a connection from (ingress) or to (egress) `identity`, `port` being the
/// destination's in host byte order: the peer's own entries, then those of IDENTITY_ANY, the longest prefix
/// of each. Of a pod itself (is_self) its own entries alone count, and what they do not name is allowed.
Finding find_verdict(const PolicySet& set, uint32_t identity, uint8_t proto, uint16_t port);

/// Ports with one verdict.
struct PortFinding {
  uint8_t proto = 0;  ///< 0: every protocol that no other of the list names; it has no ports
  uint16_t first = 0;
  uint16_t last = UINT16_MAX;
  Finding finding;
};

/// All that `set` says about `identity`: by protocol, then port, without a gap, each as long as it can be.
std::vector<PortFinding> port_findings(const PolicySet& set, uint32_t identity);

/// Finds who an address is in an image, at a cost that does not grow with its prefixes.
class AddressLookup {
 public:
  /// `image` must outlive it.
  explicit AddressLookup(const PolicyImage& image);

  /// IDENTITY_WORLD when nothing is known of the address.
  [[nodiscard]] uint32_t identity(const Address& address, uint16_t net = 0) const;
  /// Of addresses in `cidr` that no longer prefix and nobody has.
  [[nodiscard]] uint32_t identity(const Cidr& cidr, uint16_t net = 0) const;

 private:
  const PolicyImage& image_;
  std::vector<int> lengths_[2];  ///< of prefixes of IPv4 and IPv6, longest first
};

/// The set of an endpoint in one direction; POLICY_SET_ALLOW_ALL for one that the image does not know.
uint32_t set_of(const PolicyImage& image, uint16_t endpoint, Direction direction);

/// The verdict of one of an image's sets, also of those that have no entries.
Finding find_verdict(const PolicyImage& image, uint32_t set, uint32_t identity, uint8_t proto, uint16_t port);

/// The entries of one of an image's sets, written out also for POLICY_SET_ALLOW_ALL and POLICY_SET_DENY_ALL.
const PolicySet& entries_of(const PolicyImage& image, uint32_t set);

}  // namespace bpfnet::compile
