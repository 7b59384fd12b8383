#include "control/agent/notices.h"

#include <fmt/format.h>

#include <optional>

namespace bpfnet::agent {
namespace {

using sources::Kind;
using sources::Notice;

/// More at a time is for the log.
constexpr size_t kMost = 1000;

/// `Service default/web`, in any case of the first letter.
std::optional<Notice> about(std::string_view object) {
  const size_t space = object.find(' ');
  if (space == std::string_view::npos) return {};
  std::string kind_name(object.substr(0, space));
  if (kind_name.front() >= 'a' && kind_name.front() <= 'z')
    kind_name.front() = static_cast<char>(kind_name.front() - 'a' + 'A');
  object.remove_prefix(space + 1);
  for (int i = 0; i <= static_cast<int>(Kind::kClusterNetworkPolicy); ++i) {
    if (sources::to_string(static_cast<Kind>(i)) != kind_name) continue;
    const size_t slash = object.find('/');
    Notice notice;
    notice.kind = static_cast<Kind>(i);
    if (slash != std::string_view::npos) notice.object.ns = object.substr(0, slash);
    notice.object.name = object.substr(slash == std::string_view::npos ? 0 : slash + 1);
    return notice;
  }
  return {};
}

std::string_view reason_of(sources::Effect effect) {
  using enum sources::Effect;
  switch (effect) {
    case kNone:
      return "Suspicious";
    case kFieldSkipped:
    case kWithoutField:
      return "FieldIgnored";
    default:
      return "ObjectRefused";
  }
}

/// The words of a problem without the place and the object, which the Event names itself.
std::string text_of(sources::Problem problem) {
  problem.origin = {};
  problem.object.clear();
  return problem.to_string();
}

template <typename Set>
void add(Set& set, Notice notice) {
  if (set.size() >= kMost) return;
  std::string key = fmt::format("{} {} {} {}", sources::to_string(notice.kind), notice.object.to_string(),
                                notice.reason, notice.text);
  set.emplace(std::move(key), std::move(notice));
}

}  // namespace

void Notices::replace(sources::Source& source, From from, Set now) {
  Set& before = told_[from];
  for (const auto& [key, notice] : now)
    if (!before.contains(key)) source.notify(notice);
  before = std::move(now);
}

Notice Notices::of_node(std::string reason, std::string text) const {
  return {
      .kind = Kind::kNode, .object = {"", node_name_}, .reason = std::move(reason), .text = std::move(text)};
}

void Notices::tell(sources::Source& source, const std::vector<sources::Problem>& problems) {
  Set now;
  for (const sources::Problem& problem : problems) {
    auto notice = about(problem.object);
    if (!notice) continue;
    notice->reason = reason_of(problem.effect);
    notice->text = text_of(problem);
    add(now, std::move(*notice));
  }
  replace(source, From::kSource, std::move(now));
}

void Notices::tell(sources::Source& source, const apply::Problems& problems) {
  Set now;
  for (const apply::Problem& problem : problems)
    add(now, of_node("NotInPlace", fmt::format("{}: {}", problem.object, problem.message)));
  replace(source, From::kMaps, std::move(now));
}

void Notices::tell(sources::Source& source, const std::vector<compile::Warning>& services,
                   const std::vector<compile::Warning>& policies) {
  Set now;
  for (const auto* warnings : {&services, &policies}) {
    for (const compile::Warning& warning : *warnings) {
      auto notice = about(warning.text.substr(0, warning.text.find(": ")));
      if (!notice) notice = of_node({}, {});
      notice->reason = "PartlyInPlace";
      notice->text = warning.text;
      add(now, std::move(*notice));
    }
  }
  replace(source, From::kCompile, std::move(now));
}

void Notices::tell(sources::Source& source, const std::vector<health::Problem>& problems) {
  Set now;
  for (const health::Problem& problem : problems) {
    auto notice = about(problem.object);
    if (!notice) notice = of_node({}, {});
    notice->reason = problem.reason;
    notice->text = problem.text;
    add(now, std::move(*notice));
  }
  replace(source, From::kHealth, std::move(now));
}

void Notices::renew(sources::Source& source) const {
  for (const auto& [from, set] : told_)
    for (const auto& [key, notice] : set) source.notify(notice);
}

}  // namespace bpfnet::agent
