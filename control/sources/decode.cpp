#include "control/sources/decode.h"

#include <array>
#include <functional>
#include <set>

#include "control/sources/decode_kinds.h"
#include "control/sources/timestamp.h"

namespace bpfnet::sources {
namespace {

struct KindInfo {
  std::string_view name;
  std::string_view api_version;
  bool namespaced;
};

// In the order of Kind.
constexpr std::array<KindInfo, 8> kKinds = {{
    {"Namespace", "v1", false},
    {"Node", "v1", false},
    {"Pod", "v1", true},
    {"Service", "v1", true},
    {"EndpointSlice", "discovery.k8s.io/v1", true},
    {"NetworkPolicy", "networking.k8s.io/v1", true},
    {"ServiceCIDR", "networking.k8s.io/v1", false},
    {"ClusterNetworkPolicy", "policy.networking.k8s.io/v1alpha2", false},
}};

const KindInfo& info(Kind kind) {
  return kKinds.at(static_cast<size_t>(kind));
}

std::string_view group_of(std::string_view api_version) {
  const size_t slash = api_version.find('/');
  return slash == std::string_view::npos ? std::string_view{} : api_version.substr(0, slash);
}

// Other groups have kinds of the same names (Calico's NetworkPolicy, Knative's Service): not ours.
bool is_foreign(std::string_view api_version) {
  const std::string_view group = group_of(api_version);
  return !group.empty() && group != "extensions" && group != "apps" && !group.ends_with(".k8s.io");
}

const Value* first_duplicate(const Value& value, std::string& path) {
  if (!value.has_duplicate_keys) return nullptr;
  for (size_t i = 0; i < value.items.size(); ++i) {
    std::string inner = fmt::format("{}[{}]", path, i);
    if (const Value* found = first_duplicate(*value.items[i], inner)) return path = inner, found;
  }
  std::set<std::string_view> seen;
  for (const auto& [key, entry] : value.entries) {
    std::string inner = path.empty() ? key : fmt::format("{}.{}", path, key);
    if (!seen.insert(key).second) return path = inner, entry;
    if (const Value* found = first_duplicate(*entry, inner)) return path = inner, found;
  }
  return nullptr;
}

class Decoder {
 public:
  Decoder(DecodedText& result, std::string_view text) : result_(result), text_(text) {}

  void document(const Value& root) {
    if (root.kind == Value::Kind::kNull) return;
    if (root.kind != Value::Kind::kMap) {
      return unreadable(root.line, "", "is not an object, expected a map with apiVersion, kind and metadata");
    }
    const Value* kind = root.find("kind");
    if (kind == nullptr || kind->text.empty())
      return unreadable(root.line, "kind", "missing, expected e.g. Service");
    if (const Value* items = root.find("items"); kind->text.ends_with("List") && items != nullptr) {
      return list(root, *items, std::string_view(kind->text).substr(0, kind->text.size() - 4));
    }
    const Value* version = root.find("apiVersion");
    object(root, kind->text, version == nullptr ? "" : version->text);
  }

  void known(const Value& root, Kind kind) { object(root, kind, info(kind).api_version); }

 private:
  // Items of a typed list (ServiceList) may leave kind and apiVersion to the list.
  void list(const Value& root, const Value& items, std::string_view item_kind) {
    if (items.kind == Value::Kind::kNull) return;
    if (items.kind != Value::Kind::kList) return unreadable(items.line, "items", "is not a list");
    const Value* list_version = root.find("apiVersion");
    for (const Value* item : items.items) {
      const Value* kind = item->find("kind");
      const Value* version = item->find("apiVersion");
      if (version == nullptr) version = list_version;
      const std::string_view name =
          kind != nullptr && !kind->text.empty() ? std::string_view(kind->text) : item_kind;
      if (item->kind != Value::Kind::kMap || name.empty()) {
        unreadable(item->line, "items", "an item is not an object with a kind");
      } else {
        object(*item, name, version == nullptr ? "" : version->text);
      }
    }
  }

  void object(const Value& root, std::string_view kind_name, std::string_view api_version) {
    if (const auto kind = kind_of(kind_name, api_version)) object(root, *kind, api_version);
  }

  void object(const Value& root, Kind kind, std::string_view api_version) {
    Findings findings;
    const Field field(root, findings);
    if (api_version != info(kind).api_version) {
      const Field version = field["apiVersion"];
      version.refuse(fmt::format("is {}, expected {}",
                                 api_version.empty() ? "missing" : in_quotes(api_version),
                                 info(kind).api_version));
    }
    std::string path;
    if (const Value* duplicate = first_duplicate(root, path)) {
      findings.refused = true;
      findings.problems.push_back(
          {{"", duplicate->line}, "", path, "is given twice, expected once", Effect::kRefused});
    }
    const bool ambiguous = findings.refused;
    const std::optional<Metadata> metadata = read_metadata(field, kind, root.line);
    if (!metadata) {
      for (Problem& problem : findings.problems) {
        problem.effect = Effect::kNotRead;
        problem.object = to_string(kind);
        result_.problems.push_back(std::move(problem));
      }
      result_.complete = false;
      return;
    }
    Decoded decoded{kind, metadata->name, root.line, {}, {}, {}, {}};
    if (!decode_kind(field, *metadata, decoded)) return;
    if (findings.refused) {
      decoded.fallback = fallback(root, kind, *metadata, ambiguous, std::move(decoded.object));
      decoded.object.reset();
    }
    for (Problem& problem : findings.problems)
      problem.object = fmt::format("{} {}", to_string(kind), metadata->name.to_string());
    decoded.problems = std::move(findings.problems);
    for (auto* each : {&decoded.object, &decoded.fallback}) {
      if (*each) std::visit([&](auto& value) { value.origin.line = root.line; }, **each);
    }
    result_.objects.push_back(std::move(decoded));
  }

  // False: left out on purpose.
  static bool decode_kind(const Field& root, const Metadata& metadata, Decoded& decoded) {
    switch (decoded.kind) {
      case Kind::kNamespace:
        decoded.object = decode_namespace(root, metadata);
        break;
      case Kind::kNode:
        decoded.object = decode_node(root, metadata);
        break;
      case Kind::kPod:
        decoded.object = decode_pod(root, metadata);
        break;
      case Kind::kService:
        decoded.object = decode_service(root, metadata);
        break;
      case Kind::kEndpointSlice: {
        auto slice = decode_slice(root, metadata);
        if (!slice) return false;
        decoded.object = std::move(*slice);
        break;
      }
      case Kind::kNetworkPolicy:
        decoded.object = decode_policy(root, metadata);
        break;
      case Kind::kServiceCidr:
        decoded.object = decode_service_cidr(root, metadata);
        break;
      case Kind::kClusterNetworkPolicy:
        decoded.object = decode_cluster_policy(root, metadata);
        break;
    }
    return true;
  }

  /// `ambiguous`: it is not certain what the object is or which of two values is meant. `partial`: what was
  /// readable of it.
  static std::optional<Object> fallback(const Value& root, Kind kind, const Metadata& metadata,
                                        bool ambiguous, std::optional<Object> partial) {
    Findings unused;
    // Labels decide whether they count at all (S2, S3).
    if ((kind == Kind::kService || kind == Kind::kEndpointSlice) && metadata.labels_readable && !ambiguous)
      return partial;
    if (kind == Kind::kNetworkPolicy) return closed_policy(Field(root, unused), metadata);
    if (kind == Kind::kClusterNetworkPolicy) return closed_cluster_policy(Field(root, unused), metadata);
    if (kind == Kind::kPod && metadata.labels_readable) {
      model::Pod pod;
      pod.name = metadata.name;
      pod.labels = metadata.labels;
      return pod;
    }
    return {};
  }

  std::optional<Metadata> read_metadata(const Field& root, Kind kind, int line) {
    const Field field = root.map("metadata");
    const Field name_field = field["name"];
    const Field namespace_field = field["namespace"];
    const Field labels_field = field["labels"];
    Metadata metadata;
    if (info(kind).namespaced) {
      metadata.name.ns = "default";
      if (namespace_field) {
        const auto ns = namespace_field.string();
        if (!ns) return {};
        if (!is_dns_label(*ns)) {
          namespace_field.refuse(
              fmt::format("is {}, expected lower-case letters, digits and '-'", in_quotes(*ns)));
          return {};
        }
        metadata.name.ns = *ns;
      }
    }
    const auto name = name_field.string();
    const bool valid = name && (kind == Kind::kNamespace || kind == Kind::kService ? is_dns_label(*name)
                                                                                   : is_dns_subdomain(*name));
    if (!valid) {
      if (!name_field) name_field.refuse("missing, expected a name");
      if (name)
        name_field.refuse(fmt::format("is {}, expected lower-case letters, digits, '-'{}", in_quotes(*name),
                                      kind == Kind::kNamespace || kind == Kind::kService ? "" : " and '.'"));
      // A policy must isolate even if it cannot be named.
      if (kind != Kind::kNetworkPolicy && kind != Kind::kClusterNetworkPolicy) return {};
    }
    metadata.name.name = valid ? *name : unnamed(line);
    const size_t refusals = root.refusals();
    metadata.labels = decode_labels(labels_field);
    metadata.labels_readable = root.refusals() == refusals;
    return metadata;
  }

  // Two with the same name have the same text, so that nothing is lost if only one of them counts.
  [[nodiscard]] std::string unnamed(int line) const {
    return fmt::format("unnamed-{:x}-{}", std::hash<std::string_view>{}(text_), line);
  }

  void unreadable(int line, std::string field, std::string text) {
    result_.problems.push_back({{"", line}, "", std::move(field), std::move(text), Effect::kNotRead});
    result_.complete = false;
  }

  DecodedText& result_;
  std::string_view text_;
};

}  // namespace

std::string_view to_string(Kind kind) {
  return info(kind).name;
}

std::string_view api_version(Kind kind) {
  return info(kind).api_version;
}

DecodedText decode_object(const Value& root, Kind kind) {
  DecodedText result;
  if (root.kind != Value::Kind::kMap) return result;
  Decoder(result, "").known(root, kind);
  const Value* metadata = root.find("metadata");
  const Value* created = metadata ? metadata->find("creationTimestamp") : nullptr;
  if (created)
    for (Decoded& each : result.objects) each.created = parse_time(created->text);
  return result;
}

bool is_namespaced(Kind kind) {
  return info(kind).namespaced;
}

std::optional<Kind> kind_of(std::string_view kind, std::string_view api_version) {
  for (const Kind each : kAllKinds)
    if (info(each).name == kind && !is_foreign(api_version)) return each;
  return std::nullopt;
}

// yaml-cpp gets JSON's escapes wrong. A flow map such as {a: b} is not JSON.
ParsedText parse(std::string_view text, Format format) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  const bool maybe_json = format == Format::kJson || (first != std::string_view::npos && text[first] == '{');
  ParsedText parsed = maybe_json ? parse_json(text) : parse_yaml(text);
  if (parsed.error && format == Format::kYaml && maybe_json) parsed = parse_yaml(text);
  return parsed;
}

DecodedText decode(const Value& root) {
  DecodedText result;
  Decoder(result, {}).document(root);
  return result;
}

DecodedText decode(std::string_view text, Format format) {
  DecodedText result;
  const ParsedText parsed = parse(text, format);

  Decoder decoder(result, text);
  for (const Document& document : parsed.documents) decoder.document(*document.root);
  if (parsed.error) {
    result.problems.push_back({{"", parsed.error->line}, "", "", parsed.error->text, Effect::kNotRead});
    result.complete = false;
  }
  return result;
}

}  // namespace bpfnet::sources
