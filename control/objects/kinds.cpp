#include "control/objects/kinds.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace bpfnet::objects {
namespace {

using sources::Kind;

struct Names {
  std::string_view singular;
  std::string_view plural;
  std::string_view shorter;  ///< as kubectl abbreviates it; empty: it does not
};

// In the order of Kind.
constexpr std::array<Names, sources::kAllKinds.size()> kNames = {{
    {"namespace", "namespaces", "ns"},
    {"node", "nodes", "no"},
    {"pod", "pods", "po"},
    {"service", "services", "svc"},
    {"endpointslice", "endpointslices", ""},
    {"networkpolicy", "networkpolicies", "netpol"},
    {"servicecidr", "servicecidrs", ""},
    {"clusternetworkpolicy", "clusternetworkpolicies", "cnp"},
}};

std::string lower(std::string_view text) {
  std::string result(text);
  std::ranges::transform(result, result.begin(), [](unsigned char c) { return std::tolower(c); });
  return result;
}

std::string_view group_of(Kind kind) {
  const std::string_view version = sources::api_version(kind);
  const size_t slash = version.find('/');
  return slash == std::string_view::npos ? std::string_view{} : version.substr(0, slash);
}

bool is_called(Kind kind, std::string_view word) {
  const Names& names = kNames.at(static_cast<size_t>(kind));
  if (const size_t dot = word.find('.'); dot != std::string_view::npos) {
    if (word.substr(dot + 1) != group_of(kind)) return false;
    word = word.substr(0, dot);
  }
  return word == names.singular || word == names.plural || (word == names.shorter && !word.empty());
}

std::string known_kinds() {
  std::string text;
  for (const Names& each : kNames) text += fmt::format("{}{}", text.empty() ? "" : ", ", each.plural);
  return text;
}

}  // namespace

std::string resource_name(const Key& key) {
  const std::string_view group = group_of(key.kind);
  return fmt::format("{}{}{}/{}", kNames.at(static_cast<size_t>(key.kind)).singular, group.empty() ? "" : ".",
                     group, key.name.name);
}

Result<std::vector<Kind>> parse_kinds(std::string_view text) {
  std::vector<Kind> kinds;
  while (true) {
    const size_t comma = std::min(text.find(','), text.size());
    const std::string word = lower(text.substr(0, comma));
    bool known = false;
    for (const Kind kind : sources::kAllKinds) {
      if (word != "all" && !is_called(kind, word)) continue;
      known = true;
      if (std::ranges::find(kinds, kind) == kinds.end()) kinds.push_back(kind);
    }
    if (!known) return fail("{}: bpfnet has no such kind; these are: {}", word, known_kinds());
    if (comma == text.size()) return kinds;
    text.remove_prefix(comma + 1);
  }
}

Result<Selection> parse_selection(const std::vector<std::string>& words, const std::string& ns) {
  if (words.empty()) return fail("name a kind; these are: {}", known_kinds());
  Selection selection;
  const auto add = [&](Kind kind, const std::string& name) {
    selection.named.push_back({kind, {sources::is_namespaced(kind) ? ns : "", name}});
  };
  const bool paired = words.front().find('/') != std::string::npos;
  for (const std::string& word : words) {
    const size_t slash = word.find('/');
    if (!paired && &word == &words.front()) {
      auto kinds = parse_kinds(word);
      if (!kinds) return pass(kinds);
      selection.kinds = std::move(*kinds);
    } else if (paired != (slash != std::string::npos)) {
      return fail("{}: name either KIND NAME... or KIND/NAME..., not both", word);
    } else if (!paired) {
      for (const Kind kind : selection.kinds) add(kind, word);
    } else {
      const auto kinds = parse_kinds(word.substr(0, slash));
      if (!kinds) return pass(kinds);
      if (slash + 1 == word.size()) return fail("{}: the name is missing", word);
      for (const Kind kind : *kinds) add(kind, word.substr(slash + 1));
    }
  }
  return selection;
}

}  // namespace bpfnet::objects
