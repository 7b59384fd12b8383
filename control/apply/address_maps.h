#pragma once

#include <map>
#include <set>
#include <string>

#include "base/address.h"
#include "control/apply/map_writer.h"
#include "control/apply/report.h"
#include "control/compile/images.h"
#include "control/compile/policies.h"

namespace bpfnet::apply {

/// Which identity every address has: exact addresses, and prefixes for all others. Changed in an order in
/// which each address has, at every instant, what it had or what it is to have.
class AddressMaps {
 public:
  AddressMaps(Table<address_key, address_info>& addresses, Table<cidr_key, cidr_info>& cidrs)
      : addresses_(addresses), cidrs_(cidrs) {}

  /// Reads the maps anew.
  Status adopt();

  /// What is to be looked at, and what it does to identities.
  struct Change {
    std::set<compile::AddressKey> addresses;
    std::set<std::pair<uint16_t, Cidr>> cidrs;
    /// Some address has it now and another one afterwards, or the other way round.
    std::set<uint32_t> left;
    std::set<uint32_t> joined;
    bool node_left = false;  ///< an address is this node's no more
    bool cidrs_fit = true;   ///< false: no new prefix is placed
  };
  /// `delta` null: everything is compared. What was refused before is looked at once more.
  [[nodiscard]] Change plan(const compile::PolicyImage& image, const compile::PolicyDelta* delta) const;

  /// An address that is to have one of the `refused` identities keeps the one it has.
  void apply(const Change& change, const compile::PolicyImage& image, const std::set<uint32_t>& refused,
             Problems& problems);

  [[nodiscard]] bool has(uint32_t identity) const { return users_.contains(identity); }
  /// Whether something waits for room.
  [[nodiscard]] bool waits() const { return !waiting_addresses_.empty() || !waiting_cidrs_.empty(); }
  [[nodiscard]] uint32_t highest_identity() const { return users_.empty() ? 0 : users_.rbegin()->first; }

 private:
  using CidrPlace = std::pair<uint16_t, Cidr>;

  /// By prefixes alone, as the map has them now; at most `longest` bits of the family count.
  [[nodiscard]] uint32_t identity_by_cidr(uint16_t net, const Address& address, int longest) const;
  void put_addresses(const Change& change, const compile::PolicyImage& image,
                     const std::set<uint32_t>& refused, Problems& problems);
  void change_cidrs(const Change& change, const compile::PolicyImage& image,
                    const std::set<uint32_t>& refused, Problems& problems);
  void erase_addresses(const Change& change, const compile::PolicyImage& image, Problems& problems);
  void count(uint32_t was, uint32_t is);
  void tell_what_waits(Problems& problems) const;

  Mirror<address_key, address_info> addresses_;
  Mirror<cidr_key, cidr_info> cidrs_;
  std::map<uint32_t, size_t> users_;  ///< addresses and prefixes that have each identity
  std::set<compile::AddressKey> waiting_addresses_;
  std::set<CidrPlace> waiting_cidrs_;
};

}  // namespace bpfnet::apply
