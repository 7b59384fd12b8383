#pragma once

#include <map>
#include <vector>

#include "control/observe/views.h"

namespace bpfnet::observe {

using SetEntries = std::vector<std::pair<policy_key, policy_entry>>;

/// The map's entries by set, in order of peers and ports.
std::map<uint32_t, SetEntries> by_set(SetEntries entries);

/// Peers, ports, verdicts and rules, indented by two.
View set_view(const SetEntries& entries, const Names& names);

/// `open`, `deny-all`, `closed` (no room for the set), `set 17`
std::string set_text(uint32_t set);

}  // namespace bpfnet::observe
