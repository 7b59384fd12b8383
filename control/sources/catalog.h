#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "control/sources/changes.h"
#include "control/sources/claims.h"
#include "control/sources/decode.h"
#include "control/sources/shared_parts.h"

namespace bpfnet::sources {

/// One place where an object is written down. Made, changed and removed by the Catalog only.
struct Candidate {
  Kind kind = Kind::kNamespace;
  model::ObjectName name;
  model::Origin origin;
  /// Still somewhere in the text? False: its document could not be read, the last good version goes on.
  bool written = true;
  /// Its newest version only stands in for an object that was never good.
  bool fallback = false;
  /// By the API server. Says who has what two objects want, as every node sees it alike.
  std::optional<std::chrono::system_clock::time_point> created;
  uint64_t arrival = 0;
  uint64_t serial = 0;  ///< in the order of add()

  struct Versions {
    std::shared_ptr<const Object> wanted;  ///< newest good version; null: there never was one
    std::shared_ptr<const Object> used;    ///< the version that counts now; null: none does
    std::set<Holding> registered;          ///< under which the index has it
  };
  /// Null: what it wants counts, is all that it had, and stands in the state. So it is with nearly every
  /// object of a cluster, which is then there once.
  std::unique_ptr<Versions> versions;

  /// Makes way for an object that is good as it is written.
  [[nodiscard]] bool weak() const { return fallback || !written; }
};

/// Turns candidates into a ClusterState without contradictions and tells what changed.
///
/// Of two objects that want the same thing, the one that has it keeps it; if both come at once, the first in
/// the order of file names and lines gets it. Of objects of an API server the older one has it (of Nodes the
/// newer), then the first by namespace and name, whatever the order in which they come: all nodes must choose
/// alike, at every start. The other one stays at its last version that fits, or is left out; it gets what it
/// wants as soon as that is free.
class Catalog {
 public:
  Candidate* add(const std::string& source, int first_line, Decoded decoded);
  void update(Candidate* candidate, int first_line, Decoded decoded);
  /// The document of the candidate became unreadable: its last good version goes on.
  void keep(Candidate* candidate);
  void move(Candidate* candidate, int lines);
  void remove(Candidate* candidate);

  /// Settles everything done since the last call: state, generation and changes follow.
  void settle();

  [[nodiscard]] const model::ClusterState& state() const { return state_; }
  [[nodiscard]] uint64_t generation() const { return generation_; }
  /// Appends what is wrong with objects, in no useful order. Costs nothing for those that are fine.
  void collect_problems(std::vector<Problem>& into) const;
  [[nodiscard]] Changes take_changes() { return std::exchange(changes_, {}); }

 private:
  using Identity = std::pair<Kind, model::ObjectName>;
  struct NameHash {
    using is_transparent = void;
    size_t operator()(const Identity& identity) const noexcept;
    size_t operator()(const std::unique_ptr<Candidate>& candidate) const noexcept;
  };
  struct SameName {
    using is_transparent = void;
    template <typename A, typename B>
    bool operator()(const A& a, const B& b) const {
      return kind(a) == kind(b) && name(a) == name(b);
    }
    static Kind kind(const Identity& identity) { return identity.first; }
    static Kind kind(const std::unique_ptr<Candidate>& candidate) { return candidate->kind; }
    static const model::ObjectName& name(const Identity& identity) { return identity.second; }
    static const model::ObjectName& name(const std::unique_ptr<Candidate>& each) { return each->name; }
  };
  struct Complaints {
    std::vector<Problem> problems;   ///< of decoding the newest text
    std::vector<Problem> conflicts;  ///< what other objects hold already
  };
  class Holders;

  void set(std::vector<Problem> Complaints::*which, const Candidate& candidate,
           std::vector<Problem> problems);
  void take_version(Candidate& candidate, int first_line, Decoded decoded);
  /// From here on it has versions.
  Candidate::Versions& open(Candidate& candidate);
  void enlist(Candidate& candidate);
  void unlist(Candidate& candidate);
  void unlist(const Candidate& candidate, const Holding& holding);
  /// The others that have its name or want something of it.
  template <typename Visit>
  void each_rival(Candidate& candidate, Visit visit);
  std::vector<Candidate*> component(Candidate* start, std::set<Candidate*>& done);
  void resolve(std::vector<Candidate*> candidates);
  std::vector<Problem> choose(Candidate& candidate, Holders& holders);
  [[nodiscard]] Candidate* used_candidate(const Identity& identity) const;
  /// It stands in the state: what it wants need not be kept beside that.
  void close(Candidate& candidate);
  /// Calls `visit` with the map in which the state has objects of the kind, the key of the name in it, and
  /// where to note that it changed.
  template <typename Visit>
  auto at_place(const Identity& identity, Visit visit);
  void publish(const Identity& identity);
  template <typename Map, typename Key>
  void publish(Map& map, const Key& key, Candidate* winner, std::set<Key>& changed);
  template <typename Map, typename Key>
  void put(Map& map, const Key& key, typename Map::mapped_type object, std::set<Key>& changed);
  void count_in_namespace(const std::string& name, int more);
  void publish_namespace(const std::string& name);

  std::unordered_multiset<std::unique_ptr<Candidate>, NameHash, SameName> candidates_;
  std::unordered_multimap<Holding, Candidate*, HoldingHash> index_;
  std::set<Candidate*> dirty_;
  std::set<Identity> dirty_names_;
  uint64_t arrivals_ = 0;
  uint64_t serials_ = 0;
  std::map<uint64_t, Complaints> complaints_;  ///< by serial; none of objects that are fine

  SharedParts parts_;
  model::ClusterState state_;
  Changes changes_;
  uint64_t generation_ = 0;
  std::map<std::string, size_t> objects_in_;  ///< objects per namespace: each implies its namespace
};

}  // namespace bpfnet::sources
