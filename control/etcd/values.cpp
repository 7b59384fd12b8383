#include "control/etcd/values.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace bpfnet::etcd {
namespace {

using sources::Effect;

/// What an object of this name is when nothing of it can be read: a policy that isolates, else none at all.
sources::Decoded closed(const KeyName& name) {
  const nlohmann::json written = {{"apiVersion", sources::api_version(name.kind)},
                                  {"kind", sources::to_string(name.kind)},
                                  {"metadata", {{"name", name.name.name}, {"namespace", name.name.ns}}},
                                  {"spec", {{"unreadable", true}}}};
  const std::string text = written.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  sources::Decoded result{
      .kind = name.kind, .name = name.name, .line = 1, .object = {}, .fallback = {}, .problems = {}};
  auto decoded = sources::decode(text, sources::Format::kJson);
  if (name.kind == sources::Kind::kNetworkPolicy && decoded.objects.size() == 1 &&
      decoded.objects.front().name == name.name)
    result.fallback = std::move(decoded.objects.front().fallback);
  return result;
}

DecodedValue unreadable(const KeyName& name, int line, std::string field, std::string text) {
  DecodedValue result{.object = closed(name), .unreadable = true};
  result.object.problems.push_back(
      {{"", line},
       fmt::format("{} {}", sources::to_string(name.kind), name.name.to_string()),
       std::move(field),
       std::move(text),
       Effect::kRefused});
  return result;
}

}  // namespace

DecodedValue decode_value(const KeyName& name, std::string_view value) {
  const sources::ParsedText parsed = sources::parse(value, sources::Format::kJson);
  if (parsed.error) return unreadable(name, parsed.error->line, "", "is no JSON: " + parsed.error->text);
  if (parsed.documents.size() != 1)
    return unreadable(name, 1, "", fmt::format("holds {} objects, expected one", parsed.documents.size()));
  const sources::Value& root = *parsed.documents.front().root;
  auto decoded = sources::decode(root);
  if (decoded.objects.empty()) {
    for (const sources::Problem& problem : decoded.problems)
      return unreadable(name, problem.origin.line, problem.field, problem.text);
    const sources::Value* kind = root.find("kind");
    if (name.kind == sources::Kind::kEndpointSlice && kind != nullptr && kind->text == "EndpointSlice")
      return {.object = closed(name), .left_out = true};
    return unreadable(name, 1, "kind",
                      fmt::format("is {}, expected {}", kind == nullptr ? "missing" : kind->text,
                                  sources::to_string(name.kind)));
  }
  sources::Decoded& object = decoded.objects.front();
  if (decoded.objects.size() != 1 || object.kind != name.kind || object.name != name.name)
    return unreadable(name, object.line, "metadata",
                      fmt::format("is that of {} {}, expected what the key says",
                                  sources::to_string(object.kind), object.name.to_string()));
  return {.object = std::move(object)};
}

}  // namespace bpfnet::etcd
