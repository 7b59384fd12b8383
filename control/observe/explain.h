#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "base/result.h"
#include "control/compile/explain.h"
#include "control/observe/live_policy.h"
#include "control/observe/names.h"
#include "maps/abi/event.h"

namespace bpfnet::observe {

/// Why something was denied.
struct Explained {
  std::string text;  ///< `isolated by ..., no rule allows TCP 8081; nearest allow: 8080 from app=web`
  nlohmann::ordered_json json;
};

/// A denial by `endpoint`, `verdict` being that of its set: its rule denied it, 0: none allows it;
/// POLICY_AUDIT: policies in audit mode would. `set`: what judged it; null: not known, then nothing is said
/// of what it allows.
Explained explain_denial(const Names& names, uint16_t endpoint, const compile::Question& question,
                         const compile::PolicyVerdict& verdict, const compile::PolicySet* set);

/// What an event says about policy.
struct PolicyEvent {
  uint16_t endpoint = 0;  ///< whose policy it was
  compile::Question question;
  bool answer = false;  ///< judged as one: of a connection that the packet's receiver began
  Explained why;
};

/// For events of policy, dropped or audited; otherwise nullopt. `sets`: null where there are no maps to read.
std::optional<PolicyEvent> explain_event(const packet_event& event, const Names& names, LiveSets* sets);

}  // namespace bpfnet::observe
