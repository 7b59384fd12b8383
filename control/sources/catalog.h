#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "control/sources/changes.h"
#include "control/sources/claims.h"
#include "control/sources/decode.h"

namespace bpfnet::sources {

/// One place where an object is written down. Made, changed and removed by the Catalog only.
struct Candidate {
  Kind kind = Kind::kNamespace;
  model::ObjectName name;
  model::Origin origin;
  /// Still somewhere in the text? False: its document could not be read, the last good version goes on.
  bool written = true;
  /// `wanted` only stands in for an object that was never good.
  bool fallback = false;
  std::shared_ptr<const Object> wanted;  ///< newest good version; null: there never was one
  std::shared_ptr<const Object> used;    ///< the version that counts now; null: none does
  std::vector<Problem> problems;         ///< of decoding the newest text
  std::vector<Problem> conflicts;        ///< what other objects hold already
  /// By the API server. Says who has what two objects want, as every node sees it alike.
  std::optional<std::chrono::system_clock::time_point> created;
  uint64_t arrival = 0;
  uint64_t serial = 0;                  ///< in the order of add()
  std::vector<std::string> registered;  ///< keys under which the index has it

  /// Makes way for an object that is good as it is written.
  [[nodiscard]] bool weak() const { return fallback || !written; }
};

/// Turns candidates into a ClusterState without contradictions and tells what changed.
///
/// Of two objects that want the same thing, the one that has it keeps it; if both come at once, the first in
/// the order of file names and lines gets it. Of objects of an API server the older one has it, then the
/// first by namespace and name, whatever the order in which they come: all nodes must choose alike, at every
/// start. The other one stays at its last version that fits, or is left out; it gets what it wants as soon as
/// that is free.
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

  void note_problems(const Candidate& candidate);
  void take_version(Candidate& candidate, int first_line, Decoded decoded);
  void enlist(Candidate& candidate);
  void unlist(Candidate& candidate);
  std::vector<Candidate*> component(Candidate* start, std::set<Candidate*>& done);
  void resolve(std::vector<Candidate*> candidates);
  [[nodiscard]] const Candidate* used_candidate(const Identity& identity) const;
  void publish(const Identity& identity);
  template <typename Map, typename Key>
  void publish(Map& map, const Key& key, const Candidate* winner, std::set<Key>& changed);
  void publish_namespace(const std::string& name);

  std::unordered_map<const Candidate*, std::unique_ptr<Candidate>> candidates_;
  std::unordered_map<std::string, std::vector<Candidate*>> index_;
  std::set<Candidate*> dirty_;
  std::set<Identity> dirty_names_;
  uint64_t arrivals_ = 0;
  uint64_t serials_ = 0;
  std::map<uint64_t, const Candidate*> complaining_;  ///< by serial

  model::ClusterState state_;
  Changes changes_;
  uint64_t generation_ = 0;
  std::map<std::string, size_t> objects_in_;  ///< objects per namespace: each implies its namespace
};

}  // namespace bpfnet::sources
