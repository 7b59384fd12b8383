#include "control/agent/policy_candidate.h"

#include <fmt/format.h>

#include <type_traits>
#include <variant>

#include "control/sources/decode.h"

namespace bpfnet::agent {
namespace {

using sources::Effect;
using sources::Problem;

constexpr size_t kProblemsShown = 20;

/// Where objects of a kind stand in a state. Kinds without one decide nothing about policy.
auto& place_of(model::ClusterState& state, const model::NetworkPolicy&) {
  return state.policies;
}
auto& place_of(model::ClusterState& state, const model::ClusterNetworkPolicy&) {
  return state.cluster_policies;
}
auto& place_of(model::ClusterState& state, const model::Pod&) {
  return state.pods;
}
auto& place_of(model::ClusterState& state, const model::Namespace&) {
  return state.namespaces;
}
template <typename Object>
concept DecidesPolicy = requires(model::ClusterState& state, const Object& object) {
  place_of(state, object);
};

template <typename Object>
void keep_what_is_not_said(Object&, const Object&) {}

/// Who writes a pod to try seldom writes its status.
void keep_what_is_not_said(model::Pod& pod, const model::Pod& current) {
  if (pod.ips.empty()) pod.ips = current.ips;
  if (pod.node_name.empty()) pod.node_name = current.node_name;
  if (pod.phase == model::PodPhase::kPending) pod.phase = current.phase;
}

/// Of cluster-scoped kinds the name alone.
std::string as_key(const model::ObjectName& name, const std::string&) {
  return name.name;
}
const model::ObjectName& as_key(const model::ObjectName& name, const model::ObjectName&) {
  return name;
}

class Applying {
 public:
  Applying(Candidate& candidate, const CandidateText& text) : candidate_(candidate), text_(text) {}

  Status apply(sources::Decoded decoded) {
    const std::string name = fmt::format("{} {}", sources::to_string(decoded.kind), decoded.name.to_string());
    return std::visit([&](auto& object) { return apply(object, decoded, name); }, *decoded.object);
  }

 private:
  template <typename Object>
  Status apply(Object&, const sources::Decoded&, const std::string& name) {
    candidate_.notes.push_back(name + ": left out, it decides nothing about policy");
    return ok();
  }

  template <DecidesPolicy Object>
  Status apply(Object& object, const sources::Decoded& decoded, const std::string& name) {
    auto& place = place_of(candidate_.state, object);
    using Key = typename std::remove_reference_t<decltype(place)>::key_type;
    const Key& key = as_key(decoded.name, Key());
    const auto current = place.find(key);
    const bool is_new = current == place.end();
    if (text_.remove) {
      if (is_new) return fail("{}:{}: {}: there is none to delete", text_.file, decoded.line, name);
      place.erase(current);
      candidate_.applied.push_back(name + ": deleted");
      return ok();
    }
    object.origin = {text_.file, decoded.line};
    if (!is_new) keep_what_is_not_said(object, current->second);
    candidate_.applied.push_back(fmt::format("{}: {}", name, is_new ? "added" : "replaced"));
    place.insert_or_assign(key, std::move(object));
    return ok();
  }

  Candidate& candidate_;
  const CandidateText& text_;
};

/// All that keeps the file from meaning what its author meant, in one message.
Status refuse(const sources::DecodedText& decoded, const std::string& file, Candidate& candidate) {
  std::vector<Problem> problems = decoded.problems;
  for (const sources::Decoded& each : decoded.objects)
    problems.insert(problems.end(), each.problems.begin(), each.problems.end());
  std::string refusals;
  size_t count = 0;
  for (Problem& problem : problems) {
    problem.origin.source = file;
    const bool costs = problem.effect == Effect::kRefused || problem.effect == Effect::kNotRead;
    // What it costs is the same for all: the file is refused.
    problem.effect = costs ? Effect::kNone : problem.effect;
    if (!costs) {
      candidate.notes.push_back(problem.to_string());
    } else if (++count <= kProblemsShown) {
      refusals += (refusals.empty() ? "" : "\n") + problem.to_string();
    }
  }
  if (count > kProblemsShown) refusals += fmt::format("\nand {} more", count - kProblemsShown);
  if (!refusals.empty()) return fail("{}", refusals);
  return ok();
}

}  // namespace

Result<Candidate> make_candidate(model::ClusterState state, const CandidateText& text) {
  const bool json = text.file.ends_with(".json");
  auto decoded = sources::decode(text.text, json ? sources::Format::kJson : sources::Format::kYaml);
  Candidate candidate{std::move(state), {}, {}};
  BPFNET_TRY(refuse(decoded, text.file, candidate));
  Applying applying(candidate, text);
  for (sources::Decoded& each : decoded.objects)
    if (each.object) BPFNET_TRY(applying.apply(std::move(each)));
  if (candidate.applied.empty())
    return fail("{}: there is no NetworkPolicy, ClusterNetworkPolicy, Pod or Namespace in it", text.file);
  return candidate;
}

}  // namespace bpfnet::agent
