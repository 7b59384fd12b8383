#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "control/model/objects.h"

namespace bpfnet::sources {

/// The kinds of objects that a source delivers.
enum class Kind {
  kNamespace,
  kNode,
  kPod,
  kService,
  kEndpointSlice,
  kNetworkPolicy,
  kServiceCidr,
  kClusterNetworkPolicy
};
inline constexpr std::array kAllKinds = {
    Kind::kNamespace,     Kind::kNode,          Kind::kPod,         Kind::kService,
    Kind::kEndpointSlice, Kind::kNetworkPolicy, Kind::kServiceCidr, Kind::kClusterNetworkPolicy};
std::string_view to_string(Kind kind);
/// `discovery.k8s.io/v1`: the only one that is read.
std::string_view api_version(Kind kind);
bool is_namespaced(Kind kind);
/// What a manifest with this `kind` and `apiVersion` is; nullopt: nothing that is read here. A wrong version
/// of the right group is still the kind (decoding refuses it).
std::optional<Kind> kind_of(std::string_view kind, std::string_view api_version);

/// What a mistake costs.
enum class Effect {
  kNone,          ///< the object counts as it stands; something in it will not do what its author expects
  kFieldSkipped,  ///< this field (or list item) alone is left out
  kRefused,       ///< the object is not used at all
  kLastGood,      ///< the object's last good version stays in use
  kIsolated,      ///< a policy that was never good: the pods it selects are isolated, nothing is allowed
  kClosed,        ///< a cluster policy that was never good: what it may deny is denied, the rest is left out
  kWithoutField,  ///< an object that was never good: it counts without this field
  kMetadataOnly,  ///< a pod that was never good: known by name and labels only
  kNotRead,       ///< a whole document or file could not be read; what it held before stays
};

/// Something a user must know about what a source was given. Never fatal: everything else is applied.
struct Problem {
  model::Origin origin;
  std::string object;  ///< `Service default/web`; empty when the object could not be named
  std::string field;   ///< `spec.ports[0].port`; empty when the problem is not one field's
  std::string text;    ///< what is wrong and what is expected
  Effect effect = Effect::kNone;

  /// `web.yaml:7: Service default/web: spec.ports[0].port: "http" is a string, expected a number from 1 to
  /// 65535; the last good version stays`
  [[nodiscard]] std::string to_string() const;
  bool operator==(const Problem&) const = default;
};

}  // namespace bpfnet::sources
