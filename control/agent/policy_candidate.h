#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "control/model/objects.h"

namespace bpfnet::agent {

/// Manifests to try, as `bpfnetctl policy diff` sends them.
struct CandidateText {
  std::string file;     ///< its name, for complaints
  std::string text;     ///< YAML, or JSON if the name ends so
  bool remove = false;  ///< take the named objects away instead
};

/// What a state would be.
struct Candidate {
  model::ClusterState state;
  std::vector<std::string> applied;  ///< `NetworkPolicy default/deny: added`
  std::vector<std::string> notes;    ///< what was left out, and why
};

/// Pure. `state` with the file's policies, pods and namespaces added, replaced or taken away. A pod keeps the
/// addresses, node and phase it has where the file does not say them. Errors: something in the file is not
/// understood, by file, line and field.
Result<Candidate> make_candidate(model::ClusterState state, const CandidateText& text);

}  // namespace bpfnet::agent
