#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "control/objects/manifest.h"

namespace bpfnet::objects {

/// What kubectl calls an object of the kind: `networkpolicy.networking.k8s.io/web`.
std::string resource_name(const Key& key);

/// The kinds that a person names: `service`, `svc,netpol`, `networkpolicies.networking.k8s.io`, `all`; in any
/// case.
Result<std::vector<sources::Kind>> parse_kinds(std::string_view text);

/// What `get` and `delete` are about.
struct Selection {
  std::vector<sources::Kind> kinds;
  std::vector<Key> named;  ///< empty: all of `kinds`
};
/// `KIND[,KIND] [NAME...]` or `KIND/NAME ...`; namespaced ones are those of `ns`.
Result<Selection> parse_selection(const std::vector<std::string>& words, const std::string& ns);

}  // namespace bpfnet::objects
