#pragma once

#include <chrono>
#include <optional>
#include <string_view>
#include <variant>
#include <vector>

#include "control/model/objects.h"
#include "control/sources/document.h"
#include "control/sources/problem.h"

namespace bpfnet::sources {

/// One object of the cluster; the alternatives stand in the order of Kind.
using Object = std::variant<model::Namespace, model::Node, model::Pod, model::Service, model::EndpointSlice,
                            model::NetworkPolicy, model::ServiceCidr, model::ClusterNetworkPolicy>;

/// What one manifest gave. Lines are 1-based within the decoded text; origin.source is left empty.
struct Decoded {
  Kind kind = Kind::kNamespace;
  model::ObjectName name;
  int line = 0;
  std::optional<Object> object;  ///< missing: refused, `problems` says why
  /// What stands in for a refused object that has no good version, so that it fails closed: a policy isolates
  /// what it selects, a pod keeps the labels that policies select it by. A service or slice does without the
  /// fields, ports and endpoints that could not be read.
  std::optional<Object> fallback;
  std::vector<Problem> problems;
  /// When the API server made it; by decode_object() alone. In files the order of the text counts.
  std::optional<std::chrono::system_clock::time_point> created;
};

struct DecodedText {
  std::vector<Decoded> objects;
  std::vector<Problem> problems;  ///< those which no object can be named for
  bool complete = true;           ///< false: part of the text could not be read, objects may be missing
};

/// The group and version that the kind is read in: `discovery.k8s.io/v1`.
std::string_view api_version(Kind kind);

enum class Format { kYaml, kJson };

/// Decodes one object whose kind is known by where it was read, as an API server gives it: kind and
/// apiVersion are not looked at. Nothing for what is left out without a word. Pure; never throws.
DecodedText decode_object(const Value& root, Kind kind);

/// The trees of `text`. JSON in a YAML file is read as JSON. Pure; never throws.
ParsedText parse(std::string_view text, Format format);

/// Decodes the manifests of `text` (several documents, List kinds). Pure; never throws. Kinds that are not
/// read are left out without a word, and so are FQDN slices (S4).
DecodedText decode(std::string_view text, Format format);
/// The same for one parsed document, or one item of a list.
DecodedText decode(const Value& root);

}  // namespace bpfnet::sources
