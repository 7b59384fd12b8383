#pragma once

#include <compare>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "control/compile/images.h"

namespace bpfnet::compile {

/// The prefixes that policies name: ipBlocks and their exceptions. The longest one that holds an address is
/// its class: it alone decides which ipBlocks match the address, because every other prefix that holds it
/// holds its class as well.
class PrefixSet {
 public:
  /// True: it was not there yet. Whoever inserts must erase as often.
  bool insert(const Cidr& cidr);
  /// True: nobody else wants it.
  bool erase(const Cidr& cidr);
  [[nodiscard]] std::optional<Cidr> longest(const Address& address) const { return longest(address, 128); }
  /// The longest that covers `cidr`, itself included.
  [[nodiscard]] std::optional<Cidr> longest(const Cidr& cidr) const {
    return longest(cidr.address(), cidr.length());
  }
  [[nodiscard]] const std::map<Cidr, size_t>& all() const { return prefixes_; }
  [[nodiscard]] bool contains(const Cidr& cidr) const { return prefixes_.contains(cidr); }

 private:
  [[nodiscard]] std::optional<Cidr> longest(const Address& address, int at_most) const;

  std::map<Cidr, size_t> prefixes_;                   ///< how often it was inserted
  std::map<int, size_t, std::greater<>> lengths_[2];  ///< of IPv4 and IPv6, and how many prefixes have it
};

enum class IdentityKind {
  kPod,         ///< by its namespace and labels
  kUnknownPod,  ///< a pod of this node whose Pod object has not come yet: namespace known, labels not
  kContainer,   ///< a local endpoint that is no pod
  kHost,        ///< this node's own addresses
  kRemoteNode,
  kAddress,  ///< nothing but an address: matched by ipBlocks alone
};

struct NamedPort {
  std::string name;
  model::Protocol protocol = model::Protocol::kTcp;
  uint16_t port = 0;
  auto operator<=>(const NamedPort&) const = default;
};

/// Everything a policy can ask about a peer. Two addresses with the same answers share an identity.
struct Identity {
  IdentityKind kind = IdentityKind::kAddress;
  std::string ns;
  // As they were when the identity was made: objects change under their names.
  model::Labels ns_labels;              ///< kPod, kUnknownPod
  std::optional<model::Labels> labels;  ///< kPod; missing: not known
  std::optional<Cidr> cidr;             ///< class of the address; none: no policy names a prefix of it
  std::vector<NamedPort> ports;         ///< kPod: those that egress rules name (P6), sorted
  /// Texts of the selectors that find a Node with this address, among those that policies have (A9).
  std::set<std::string> nodes;
  uint32_t id = 0;
};

/// Interns identities, numbers them and counts who has them.
class IdentityTable {
 public:
  IdentityTable();

  /// Counts one more address or prefix that has the identity; numbers it if it is new. `text` from text_of().
  uint32_t acquire(Identity identity, const std::string& text, PolicyNumbers& numbers);
  void release(uint32_t id);
  /// Removes what nobody has any more, after all of a change was acquired and released. Gives those that came
  /// and those that went since the last call.
  struct Turnover {
    std::vector<Identity> born;
    std::vector<uint32_t> dead;
  };
  Turnover settle();

  [[nodiscard]] const std::vector<Identity>& all() const { return identities_; }
  [[nodiscard]] const Identity& at(uint32_t id) const { return identities_[entries_.at(id).place]; }
  [[nodiscard]] const std::map<uint32_t, std::string>& texts() const { return texts_; }

 private:
  struct Entry {
    size_t place = 0;  ///< in identities_
    size_t users = 0;
  };

  std::unordered_map<std::string, uint32_t> known_;
  std::unordered_map<uint32_t, Entry> entries_;
  std::vector<Identity> identities_;
  std::map<uint32_t, std::string> texts_;
  std::set<uint32_t> born_;
  std::set<uint32_t> unused_;  ///< candidates: they may have been taken up again
};

/// Canonical: equal texts are one identity. `ns_labels`: text of the namespace's labels.
std::string text_of(const Identity& identity, const std::string& ns_labels);

}  // namespace bpfnet::compile
