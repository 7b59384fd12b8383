#pragma once

#include <optional>
#include <string>
#include <vector>

#include "control/compile/policy_text.h"
#include "control/observe/live_policy.h"
#include "control/observe/names.h"
#include "control/observe/views.h"

namespace bpfnet::observe {

/// `bpfnetctl policy verdict SRC DST PORT/PROTO` as typed.
struct VerdictQuery {
  std::string source;       ///< pod, index, address, `host` or `world`
  std::string destination;  ///< the same; the address may be a service's
  std::string port;         ///< `8080/tcp`, `icmp`
};

enum class Outcome { kAllowed, kAudited, kDenied };

struct VerdictView {
  View view;
  Outcome outcome = Outcome::kAllowed;  ///< the worst of all connections shown
};

/// Judges a connection as the datapath of this node would now, by the pinned maps. Errors: what was typed is
/// not understood or not known, with the way out.
Result<VerdictView> policy_verdict(const maps::Maps& maps, const Names& names, const VerdictQuery& query);

/// One of the ends that a query names.
struct End {
  std::string name;                ///< `default/web-0`, `world`; empty: nothing but an address
  std::optional<Address> address;  ///< missing: `world`
  Family family = Family::kIpv4;
  Party party;
};

/// All addresses of what was typed. `what`: SRC or DST, for complaints.
Result<std::vector<End>> find_ends(const maps::Maps& maps, const Names& names, const std::string& what,
                                   const std::string& text);

}  // namespace bpfnet::observe
