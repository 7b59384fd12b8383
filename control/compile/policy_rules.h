#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "control/compile/identities.h"
#include "control/compile/port_map.h"

namespace bpfnet::compile {

/// The numeric ports of a rule (P5, P7); without any ports, everything (P4). Named ports have none of their
/// own.
PortSpans numeric_ports(const std::vector<model::PolicyPort>& ports);

/// What the named ports of a rule stand for on a pod with `of_pod` (P6): by name and protocol.
template <typename Ports>
PortSpans named_ports(const std::vector<model::PolicyPort>& ports, const Ports& of_pod) {
  PortSpans spans;
  for (const auto& named : ports)
    for (const auto& each : of_pod)
      if (!named.name.empty() && each.name == named.name && each.protocol == named.protocol && each.port != 0)
        spans.push_back(span_of(each.protocol, each.port, each.port));
  return merged(std::move(spans));
}

bool names_ports(const std::vector<model::PolicyPort>& ports);

/// Finds the identities that a peer of a rule matches; remembers what it found for each peer.
class PeerMatcher {
 public:
  struct Matched {
    size_t identity = 0;  ///< index into the identities
    bool certain = true;  ///< false: a pod whose labels are not known yet
  };

  explicit PeerMatcher(const std::vector<Identity>& identities) : identities_(identities) {}

  /// `policy_namespace`: where a podSelector alone looks (P8). `peer` must outlive the matcher.
  const std::vector<Matched>& match(const model::PolicyPeer& peer, const std::string& policy_namespace);

 private:
  const std::vector<Identity>& identities_;
  std::unordered_map<const model::PolicyPeer*, std::vector<Matched>> known_;
};

}  // namespace bpfnet::compile
