#include "control/sources/catalog.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

namespace bpfnet::sources {
namespace {

std::string identity_key(Kind kind, const model::ObjectName& name) {
  return fmt::format("{} {}", to_string(kind), name.to_string());
}

/// `shop.yaml:12`; an API server has no lines.
std::string place_of(const model::Origin& origin) {
  return origin.line == 0 ? origin.source : fmt::format("{}:{}", origin.source, origin.line);
}

Effect cost_of_fallback(Kind kind) {
  switch (kind) {
    case Kind::kNetworkPolicy:
      return Effect::kIsolated;
    case Kind::kClusterNetworkPolicy:
      return Effect::kClosed;
    case Kind::kPod:
      return Effect::kMetadataOnly;
    default:
      return Effect::kWithoutField;
  }
}

}  // namespace

Candidate* Catalog::add(const std::string& source, int first_line, Decoded decoded) {
  auto owned = std::make_unique<Candidate>();
  Candidate& candidate = *owned;
  candidates_.emplace(&candidate, std::move(owned));
  candidate.kind = decoded.kind;
  candidate.name = decoded.name;
  candidate.origin.source = source;
  candidate.arrival = arrivals_;
  candidate.serial = ++serials_;
  take_version(candidate, first_line, std::move(decoded));
  return &candidate;
}

void Catalog::update(Candidate* candidate, int first_line, Decoded decoded) {
  take_version(*candidate, first_line, std::move(decoded));
}

void Catalog::take_version(Candidate& candidate, int first_line, Decoded decoded) {
  const int offset = first_line - 1;
  candidate.created = decoded.created;
  candidate.origin.line = offset + decoded.line;
  candidate.written = true;
  Effect cost = Effect::kRefused;
  if (!decoded.object && candidate.wanted && !candidate.fallback) {
    cost = Effect::kLastGood;
  } else {
    candidate.fallback = !decoded.object;
    auto& version = decoded.object ? decoded.object : decoded.fallback;
    if (!decoded.object && version) {
      cost = cost_of_fallback(decoded.kind);
    }
    if (version) std::visit([&](auto& object) { object.origin = candidate.origin; }, *version);
    candidate.wanted = version ? std::make_shared<const Object>(std::move(*version)) : nullptr;
  }
  for (Problem& problem : decoded.problems) {
    problem.origin = {candidate.origin.source, offset + problem.origin.line};
    if (problem.effect == Effect::kRefused) problem.effect = cost;
  }
  candidate.problems = std::move(decoded.problems);
  note_problems(candidate);
  enlist(candidate);
}

void Catalog::note_problems(const Candidate& candidate) {
  if (candidate.problems.empty() && candidate.conflicts.empty()) {
    complaining_.erase(candidate.serial);
  } else {
    complaining_[candidate.serial] = &candidate;
  }
}

void Catalog::collect_problems(std::vector<Problem>& into) const {
  for (const auto& [serial, candidate] : complaining_) {
    into.insert(into.end(), candidate->problems.begin(), candidate->problems.end());
    into.insert(into.end(), candidate->conflicts.begin(), candidate->conflicts.end());
  }
}

void Catalog::keep(Candidate* candidate) {
  candidate->written = false;
  candidate->problems.clear();
  note_problems(*candidate);
  enlist(*candidate);
}

void Catalog::move(Candidate* candidate, int lines) {
  if (lines == 0) return;
  candidate->origin.line += lines;
  for (Problem& problem : candidate->problems) problem.origin.line += lines;
  dirty_names_.insert({candidate->kind, candidate->name});
}

void Catalog::remove(Candidate* candidate) {
  unlist(*candidate);
  dirty_.erase(candidate);
  complaining_.erase(candidate->serial);
  dirty_names_.insert({candidate->kind, candidate->name});
  candidates_.erase(candidate);
}

void Catalog::enlist(Candidate& candidate) {
  unlist(candidate);
  std::set<std::string> keys;
  for (const auto* version : {&candidate.wanted, &candidate.used}) {
    if (!*version) continue;
    for (Claim& claim : claims_of(**version)) keys.insert(std::move(claim.key));
  }
  for (const std::string& key : keys) index_[key].push_back(&candidate);
  candidate.registered.assign(keys.begin(), keys.end());
  dirty_.insert(&candidate);
  dirty_names_.insert({candidate.kind, candidate.name});
}

void Catalog::unlist(Candidate& candidate) {
  for (const std::string& key : candidate.registered) {
    const auto found = index_.find(key);
    if (found == index_.end()) continue;
    std::erase(found->second, &candidate);
    // Who waited for it may have it now.
    dirty_.insert(found->second.begin(), found->second.end());
    if (found->second.empty()) index_.erase(found);
  }
  candidate.registered.clear();
}

// All candidates that are connected with `start` by shared claims; nearly always itself alone.
std::vector<Candidate*> Catalog::component(Candidate* start, std::set<Candidate*>& done) {
  std::vector<Candidate*> found;
  if (!done.insert(start).second) return found;
  found.push_back(start);
  for (size_t i = 0; i < found.size(); ++i) {
    for (const std::string& key : found[i]->registered) {
      const auto entry = index_.find(key);
      if (entry == index_.end() || entry->second.size() < 2) continue;
      for (Candidate* other : entry->second) {
        if (done.insert(other).second) found.push_back(other);
      }
    }
  }
  return found;
}

void Catalog::resolve(std::vector<Candidate*> candidates) {
  std::ranges::sort(candidates, {}, [](const Candidate* each) {
    const auto created = each->created.value_or(std::chrono::system_clock::time_point::max());
    return std::tuple(each->weak(), each->created ? 0 : each->arrival, std::string_view(each->origin.source),
                      each->origin.line, created, std::tie(each->name.ns, each->name.name), each->serial);
  });
  std::unordered_map<std::string, const Candidate*> holders;
  const auto free_for = [&](const Candidate* candidate, const Claim& claim) {
    const auto holder = holders.find(claim.key);
    return holder == holders.end() || holder->second == candidate;
  };
  // What an object has and still wants it keeps, whoever else came; where age decides, who came first does
  // not.
  for (const Candidate* candidate : candidates) {
    if (candidate->weak() || candidate->created || !candidate->used || !candidate->wanted) continue;
    std::set<std::string> wanted;
    for (Claim& claim : claims_of(*candidate->wanted)) wanted.insert(std::move(claim.key));
    for (const Claim& claim : claims_of(*candidate->used)) {
      if (wanted.contains(claim.key)) holders.emplace(claim.key, candidate);
    }
  }

  for (Candidate* candidate : candidates) {
    const auto blocked = [&](const Object& version) {
      return std::ranges::any_of(claims_of(version), [&](const Claim& claim) {
        return !claim.separable && !free_for(candidate, claim);
      });
    };
    std::shared_ptr<const Object> chosen;
    bool whole = true;
    if (candidate->wanted && !blocked(*candidate->wanted)) {
      chosen = candidate->wanted;
    } else if (candidate->used && !blocked(*candidate->used)) {
      chosen = candidate->used;
      whole = false;
    }
    candidate->conflicts.clear();
    const auto complain = [&](const Claim& claim, Effect effect) {
      if (candidate->weak()) return;
      const Candidate& holder = *holders.at(claim.key);
      const std::string who =
          fmt::format("{} {} ({})", to_string(holder.kind), holder.name.to_string(), place_of(holder.origin));
      candidate->conflicts.push_back(
          {candidate->origin, identity_key(candidate->kind, candidate->name), claim.field,
           claim.field.empty()
               ? fmt::format("is also defined at {}, which counts", place_of(holder.origin))
               : fmt::format("{} belongs to {}, which keeps it, expected one of its own", claim.what, who),
           effect});
    };
    if (!chosen || !whole) {
      for (const Claim& claim : candidate->wanted ? claims_of(*candidate->wanted) : std::vector<Claim>{}) {
        if (!claim.separable && !free_for(candidate, claim)) {
          complain(claim, chosen ? Effect::kLastGood : Effect::kRefused);
          break;
        }
      }
    }
    // Claims it gave up or could not keep are free for those that follow.
    for (const std::string& key : candidate->registered) {
      const auto held = holders.find(key);
      if (held != holders.end() && held->second == candidate) holders.erase(held);
    }
    if (chosen) {
      Object stripped = *chosen;
      bool lost = false;
      for (const Claim& claim : claims_of(*chosen)) {
        if (free_for(candidate, claim)) {
          holders.emplace(claim.key, candidate);
        } else {
          complain(claim, Effect::kFieldSkipped);
          give_up(stripped, claim);
          lost = true;
        }
      }
      if (lost) chosen = std::make_shared<const Object>(std::move(stripped));
    }
    candidate->used = std::move(chosen);
    note_problems(*candidate);
    dirty_names_.insert({candidate->kind, candidate->name});
  }
}

void Catalog::settle() {
  std::set<Candidate*> done;
  const std::set<Candidate*> dirty = std::exchange(dirty_, {});
  for (Candidate* candidate : dirty) {
    if (auto group = component(candidate, done); !group.empty()) resolve(std::move(group));
  }
  for (const Identity& identity : std::exchange(dirty_names_, {})) publish(identity);
  ++arrivals_;
}

const Candidate* Catalog::used_candidate(const Identity& identity) const {
  const auto claimants = index_.find(identity_key(identity.first, identity.second));
  if (claimants == index_.end()) return nullptr;
  const auto found =
      std::ranges::find_if(claimants->second, [](const Candidate* each) { return each->used != nullptr; });
  return found == claimants->second.end() ? nullptr : *found;
}

template <typename Map, typename Key>
void Catalog::publish(Map& map, const Key& key, const Candidate* winner, std::set<Key>& changed) {
  const auto found = map.find(key);
  if (winner == nullptr) {
    if (found == map.end()) return;
    map.erase(found);
  } else {
    auto object = std::get<typename Map::mapped_type>(*winner->used);
    object.origin = winner->origin;
    if (found == map.end()) {
      map.emplace(key, std::move(object));
    } else {
      found->second.origin = object.origin;  // line numbers alone change nothing
      if (found->second == object) return;
      found->second = std::move(object);
    }
  }
  changed.insert(key);
  ++generation_;
}

void Catalog::publish(const Identity& identity) {
  const model::ObjectName& name = identity.second;  // no structured binding: clang 14 cannot capture one
  const Candidate* winner = used_candidate(identity);
  const auto publish_namespaced = [&](auto& map, std::set<model::ObjectName>& changed) {
    const bool before = map.contains(name);
    publish(map, name, winner, changed);
    const bool after = map.contains(name);
    if (before == after) return;
    size_t& count = objects_in_[name.ns];
    count += after ? 1 : -1;
    if (count == 0) objects_in_.erase(name.ns);
    publish_namespace(name.ns);
  };
  switch (identity.first) {
    case Kind::kNamespace:
      return publish_namespace(name.name);
    case Kind::kNode:
      return publish(state_.nodes, name.name, winner, changes_.nodes);
    case Kind::kPod:
      return publish_namespaced(state_.pods, changes_.pods);
    case Kind::kService:
      return publish_namespaced(state_.services, changes_.services);
    case Kind::kEndpointSlice:
      return publish_namespaced(state_.slices, changes_.slices);
    case Kind::kNetworkPolicy:
      return publish_namespaced(state_.policies, changes_.policies);
    case Kind::kServiceCidr:
      return publish(state_.service_cidrs, name.name, winner, changes_.service_cidrs);
    case Kind::kClusterNetworkPolicy:
      return publish(state_.cluster_policies, name.name, winner, changes_.cluster_policies);
  }
}

// A namespace is there if it is written down or if anything is in it.
void Catalog::publish_namespace(const std::string& name) {
  const Candidate* winner = used_candidate({Kind::kNamespace, {"", name}});
  Candidate implied;
  if (winner == nullptr && objects_in_.contains(name)) {
    model::Namespace object;
    object.name = name;
    object.labels["kubernetes.io/metadata.name"] = name;
    implied.used = std::make_shared<const Object>(std::move(object));
    winner = &implied;
  }
  publish(state_.namespaces, name, winner, changes_.namespaces);
}

}  // namespace bpfnet::sources
