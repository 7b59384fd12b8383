#include "control/sources/catalog.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>
#include <type_traits>

namespace bpfnet::sources {
namespace {

std::string text_of(const Candidate& candidate) {
  return fmt::format("{} {}", to_string(candidate.kind), candidate.name.to_string());
}

size_t hash_of(Kind kind, const model::ObjectName& name) noexcept {
  return std::hash<model::ObjectName>{}(name)*31 + static_cast<size_t>(kind);
}

std::set<Holding> holdings_of(const Object& object) {
  std::set<Holding> holdings;
  for (const Claim& claim : claims_of(object))
    if (claim.holding) holdings.insert(*claim.holding);
  return holdings;
}

/// `shop.yaml:12`; an API server has no lines.
std::string place_of(const model::Origin& origin) {
  return origin.line == 0 ? origin.source.str() : fmt::format("{}:{}", origin.source, origin.line);
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

size_t Catalog::NameHash::operator()(const Identity& identity) const noexcept {
  return hash_of(identity.first, identity.second);
}

size_t Catalog::NameHash::operator()(const std::unique_ptr<Candidate>& candidate) const noexcept {
  return hash_of(candidate->kind, candidate->name);
}

Candidate* Catalog::add(const std::string& source, int first_line, Decoded decoded) {
  auto owned = std::make_unique<Candidate>();
  Candidate& candidate = *owned;
  candidate.kind = decoded.kind;
  candidate.name = decoded.name;
  candidate.origin.source = source;
  parts_.share(candidate.origin.source);
  candidate.arrival = arrivals_;
  candidate.serial = ++serials_;
  candidate.versions = std::make_unique<Candidate::Versions>();
  candidates_.insert(std::move(owned));
  take_version(candidate, first_line, std::move(decoded));
  return &candidate;
}

void Catalog::update(Candidate* candidate, int first_line, Decoded decoded) {
  take_version(*candidate, first_line, std::move(decoded));
}

void Catalog::take_version(Candidate& candidate, int first_line, Decoded decoded) {
  Candidate::Versions& versions = open(candidate);
  const int offset = first_line - 1;
  candidate.created = decoded.created;
  candidate.origin.line = offset + decoded.line;
  candidate.written = true;
  Effect cost = Effect::kRefused;
  if (!decoded.object && versions.wanted && !candidate.fallback) {
    cost = Effect::kLastGood;
  } else {
    candidate.fallback = !decoded.object;
    auto& version = decoded.object ? decoded.object : decoded.fallback;
    if (!decoded.object && version) {
      cost = cost_of_fallback(decoded.kind);
    }
    if (version) std::visit([&](auto& object) { object.origin = candidate.origin; }, *version);
    versions.wanted = version ? std::make_shared<const Object>(std::move(*version)) : nullptr;
  }
  for (Problem& problem : decoded.problems) {
    problem.origin = {candidate.origin.source, offset + problem.origin.line};
    if (problem.effect == Effect::kRefused) problem.effect = cost;
  }
  set(&Complaints::problems, candidate, std::move(decoded.problems));
  enlist(candidate);
}

void Catalog::set(std::vector<Problem> Complaints::*which, const Candidate& candidate,
                  std::vector<Problem> problems) {
  const auto found = complaints_.find(candidate.serial);
  if (found == complaints_.end() && problems.empty()) return;
  Complaints& complaints = found == complaints_.end() ? complaints_[candidate.serial] : found->second;
  complaints.*which = std::move(problems);
  if (complaints.problems.empty() && complaints.conflicts.empty()) complaints_.erase(candidate.serial);
}

void Catalog::collect_problems(std::vector<Problem>& into) const {
  for (const auto& [serial, complaints] : complaints_) {
    into.insert(into.end(), complaints.problems.begin(), complaints.problems.end());
    into.insert(into.end(), complaints.conflicts.begin(), complaints.conflicts.end());
  }
}

void Catalog::keep(Candidate* candidate) {
  candidate->written = false;
  set(&Complaints::problems, *candidate, {});
  enlist(*candidate);
}

void Catalog::move(Candidate* candidate, int lines) {
  if (lines == 0) return;
  candidate->origin.line += lines;
  if (const auto found = complaints_.find(candidate->serial); found != complaints_.end())
    for (Problem& problem : found->second.problems) problem.origin.line += lines;
  dirty_names_.insert({candidate->kind, candidate->name});
}

void Catalog::remove(Candidate* candidate) {
  unlist(*candidate);
  dirty_.erase(candidate);
  complaints_.erase(candidate->serial);
  const Identity identity{candidate->kind, candidate->name};
  const auto [first, last] = candidates_.equal_range(identity);
  candidates_.erase(
      std::find_if(first, last, [candidate](const auto& each) { return each.get() == candidate; }));
  dirty_names_.insert(identity);
}

// ---- what each has and wants

template <typename Visit>
auto Catalog::at_place(const Identity& identity, Visit visit) {
  const model::ObjectName& name = identity.second;
  switch (identity.first) {
    case Kind::kNamespace:
      return visit(state_.namespaces, name.name.str(), changes_.namespaces);
    case Kind::kNode:
      return visit(state_.nodes, name.name.str(), changes_.nodes);
    case Kind::kPod:
      return visit(state_.pods, name, changes_.pods);
    case Kind::kService:
      return visit(state_.services, name, changes_.services);
    case Kind::kEndpointSlice:
      return visit(state_.slices, name, changes_.slices);
    case Kind::kNetworkPolicy:
      return visit(state_.policies, name, changes_.policies);
    case Kind::kServiceCidr:
      return visit(state_.service_cidrs, name.name.str(), changes_.service_cidrs);
    case Kind::kClusterNetworkPolicy:
      break;
  }
  return visit(state_.cluster_policies, name.name.str(), changes_.cluster_policies);
}

Candidate::Versions& Catalog::open(Candidate& candidate) {
  if (!candidate.versions) {
    const auto object = at_place(
        {candidate.kind, candidate.name},
        [](const auto& map, const auto& key, auto&) { return std::make_shared<const Object>(map.at(key)); });
    candidate.versions =
        std::make_unique<Candidate::Versions>(Candidate::Versions{object, object, holdings_of(*object)});
  }
  return *candidate.versions;
}

void Catalog::close(Candidate& candidate) {
  const Candidate::Versions& versions = *candidate.versions;
  if (!versions.used || versions.used != versions.wanted) return;
  const std::set<Holding> holdings = holdings_of(*versions.used);
  for (const Holding& holding : versions.registered)
    if (!holdings.contains(holding)) unlist(candidate, holding);  // of the version before
  candidate.versions.reset();
}

void Catalog::enlist(Candidate& candidate) {
  unlist(candidate);
  Candidate::Versions& versions = *candidate.versions;
  for (const auto& version : {versions.wanted, versions.used})
    if (version) versions.registered.merge(holdings_of(*version));
  for (const Holding& holding : versions.registered) index_.emplace(holding, &candidate);
  dirty_.insert(&candidate);
  dirty_names_.insert({candidate.kind, candidate.name});
}

void Catalog::unlist(Candidate& candidate) {
  // Who waited for it may have it now.
  each_rival(candidate, [this](Candidate* rival) { dirty_.insert(rival); });
  for (const Holding& holding : std::exchange(open(candidate).registered, {})) unlist(candidate, holding);
}

void Catalog::unlist(const Candidate& candidate, const Holding& holding) {
  const auto [first, last] = index_.equal_range(holding);
  const auto found =
      std::find_if(first, last, [&candidate](const auto& each) { return each.second == &candidate; });
  if (found != last) index_.erase(found);
}

template <typename Visit>
void Catalog::each_rival(Candidate& candidate, Visit visit) {
  const auto named = candidates_.equal_range(Identity{candidate.kind, candidate.name});
  for (auto each = named.first; each != named.second; ++each)
    if (each->get() != &candidate) visit(each->get());
  for (const Holding& holding : open(candidate).registered) {
    const auto holders = index_.equal_range(holding);
    for (auto each = holders.first; each != holders.second; ++each)
      if (each->second != &candidate) visit(each->second);
  }
}

// All candidates that are connected with `start` by shared claims; nearly always itself alone.
std::vector<Candidate*> Catalog::component(Candidate* start, std::set<Candidate*>& done) {
  std::vector<Candidate*> found;
  if (!done.insert(start).second) return found;
  found.push_back(start);
  for (size_t i = 0; i < found.size(); ++i) {
    each_rival(*found[i], [&](Candidate* rival) {
      if (done.insert(rival).second) found.push_back(rival);
    });
  }
  return found;
}

// ---- who gets it

/// Who has what among the candidates of one component.
class Catalog::Holders {
 public:
  /// Null: nobody has it.
  [[nodiscard]] const Candidate* of(const Candidate& candidate, const Claim& claim) const {
    if (claim.holding) {
      const auto found = holdings_.find(*claim.holding);
      return found == holdings_.end() ? nullptr : found->second;
    }
    const auto found = names_.find({candidate.kind, candidate.name});
    return found == names_.end() ? nullptr : found->second;
  }
  [[nodiscard]] bool free_for(const Candidate& candidate, const Claim& claim) const {
    const Candidate* holder = of(candidate, claim);
    return holder == nullptr || holder == &candidate;
  }
  /// Unless somebody has it.
  void take(const Candidate& candidate, const Claim& claim) {
    if (claim.holding) {
      holdings_.emplace(*claim.holding, &candidate);
    } else {
      names_.emplace(Identity(candidate.kind, candidate.name), &candidate);
    }
  }
  void leave_all(const Candidate& candidate) {
    if (const auto name = names_.find({candidate.kind, candidate.name});
        name != names_.end() && name->second == &candidate)
      names_.erase(name);
    for (const Holding& holding : candidate.versions->registered) {
      const auto held = holdings_.find(holding);
      if (held != holdings_.end() && held->second == &candidate) holdings_.erase(held);
    }
  }

 private:
  std::map<Identity, const Candidate*> names_;
  std::unordered_map<Holding, const Candidate*, HoldingHash> holdings_;
};

void Catalog::resolve(std::vector<Candidate*> candidates) {
  // Of two Nodes with one address the machine is the newer one: it was installed anew under another name.
  const auto age = [](const Candidate* each) {
    const auto created = each->created.value_or(std::chrono::system_clock::time_point::max());
    return each->kind == Kind::kNode && each->created ? -created.time_since_epoch()
                                                      : created.time_since_epoch();
  };
  std::ranges::sort(candidates, {}, [&age](const Candidate* each) {
    return std::tuple(each->weak(), each->created ? 0 : each->arrival, std::string_view(each->origin.source),
                      each->origin.line, age(each), std::tie(each->name.ns, each->name.name), each->serial);
  });
  Holders holders;
  // What an object has and still wants it keeps, whoever else came; where age decides, who came first does
  // not.
  for (const Candidate* each : candidates) {
    const Candidate::Versions& versions = *each->versions;
    if (each->weak() || each->created || !versions.used || !versions.wanted) continue;
    const std::set<Holding> wanted = holdings_of(*versions.wanted);
    for (const Claim& claim : claims_of(*versions.used))
      if (!claim.holding || wanted.contains(*claim.holding)) holders.take(*each, claim);
  }
  for (Candidate* each : candidates) {
    set(&Complaints::conflicts, *each, choose(*each, holders));
    dirty_names_.insert({each->kind, each->name});
  }
}

// Sets the version that counts; gives what it cannot have.
std::vector<Problem> Catalog::choose(Candidate& candidate, Holders& holders) {
  Candidate::Versions& versions = *candidate.versions;
  const auto blocked = [&](const Claim& claim) {
    return !claim.separable && !holders.free_for(candidate, claim);
  };
  const auto fits = [&](const Object& version) { return std::ranges::none_of(claims_of(version), blocked); };
  std::vector<Problem> conflicts;
  const auto complain = [&](const Claim& claim, Effect effect) {
    if (candidate.weak()) return;
    const Candidate& holder = *holders.of(candidate, claim);
    const std::string place = place_of(holder.origin);
    conflicts.push_back({candidate.origin, text_of(candidate), std::string(claim.field),
                         claim.holding
                             ? fmt::format("{} belongs to {} ({}), which keeps it, expected one of its own",
                                           claim.holding->to_string(), text_of(holder), place)
                             : fmt::format("is also defined at {}, which counts", place),
                         effect});
  };

  std::shared_ptr<const Object> chosen;
  bool whole = true;
  if (versions.wanted && fits(*versions.wanted)) {
    chosen = versions.wanted;
  } else if (versions.used && fits(*versions.used)) {
    chosen = versions.used;
    whole = false;
  }
  if (versions.wanted && (!chosen || !whole)) {
    const auto claims = claims_of(*versions.wanted);
    if (const auto first = std::ranges::find_if(claims, blocked); first != claims.end())
      complain(*first, chosen ? Effect::kLastGood : Effect::kRefused);
  }
  // Claims it gave up or could not keep are free for those that follow.
  holders.leave_all(candidate);
  if (chosen) {
    std::optional<Object> stripped;
    for (const Claim& claim : claims_of(*chosen)) {
      if (holders.free_for(candidate, claim)) {
        holders.take(candidate, claim);
      } else {
        complain(claim, Effect::kFieldSkipped);
        if (!stripped) stripped = *chosen;
        give_up(*stripped, claim);
      }
    }
    if (stripped) chosen = std::make_shared<const Object>(std::move(*stripped));
  }
  versions.used = std::move(chosen);
  return conflicts;
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

// ---- the state

Candidate* Catalog::used_candidate(const Identity& identity) const {
  const auto [first, last] = candidates_.equal_range(identity);
  const auto found =
      std::find_if(first, last, [](const auto& each) { return !each->versions || each->versions->used; });
  return found == last ? nullptr : found->get();
}

template <typename Map, typename Key>
void Catalog::put(Map& map, const Key& key, typename Map::mapped_type object, std::set<Key>& changed) {
  if constexpr (std::is_same_v<typename Map::mapped_type, model::Pod>) parts_.share(object);
  const auto found = map.find(key);
  if (found == map.end()) {
    map.emplace(key, std::move(object));
  } else {
    found->second.origin = object.origin;  // line numbers alone change nothing
    if (found->second == object) return;
    found->second = std::move(object);
  }
  changed.insert(key);
  ++generation_;
}

template <typename Map, typename Key>
void Catalog::publish(Map& map, const Key& key, Candidate* winner, std::set<Key>& changed) {
  if (winner == nullptr) {
    if (map.erase(key) == 0) return;
    changed.insert(key);
    ++generation_;
  } else if (!winner->versions) {
    map.at(key).origin = winner->origin;
  } else {
    auto object = std::get<typename Map::mapped_type>(*winner->versions->used);
    object.origin = winner->origin;
    put(map, key, std::move(object), changed);
    close(*winner);
  }
}

void Catalog::publish(const Identity& identity) {
  if (identity.first == Kind::kNamespace) return publish_namespace(identity.second.name);
  Candidate* winner = used_candidate(identity);
  at_place(identity, [&](auto& map, const auto& key, auto& changed) {
    const bool before = map.contains(key);
    publish(map, key, winner, changed);
    if (is_namespaced(identity.first) && before != map.contains(key))
      count_in_namespace(identity.second.ns, before ? -1 : 1);
  });
}

void Catalog::count_in_namespace(const std::string& name, int more) {
  size_t& count = objects_in_[name];
  count += more;
  if (count == 0) objects_in_.erase(name);
  publish_namespace(name);
}

// A namespace is there if it is written down or if anything is in it.
void Catalog::publish_namespace(const std::string& name) {
  Candidate* winner = used_candidate({Kind::kNamespace, {"", name}});
  if (winner != nullptr || !objects_in_.contains(name))
    return publish(state_.namespaces, name, winner, changes_.namespaces);
  model::Namespace implied;
  implied.name = name;
  implied.labels[model::kNamespaceNameLabel] = name;
  put(state_.namespaces, name, std::move(implied), changes_.namespaces);
}

}  // namespace bpfnet::sources
