#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/address.h"
#include "base/result.h"
#include "control/ipam/records.h"

namespace bpfnet::ipam {

/// The durable state of one node: leases, endpoints, blobs of other rooms and the journal of host changes,
/// in SQLite (WAL). Every call is one transaction: a process killed at any point leaves all of it or nothing
/// of it, and what has returned stays. Thread-safe. One process at a time: a second one fails to open.
class Store {
 public:
  /// Opens or makes `path` (its directory must exist). Fails if another process holds it or if it was
  /// written by a newer version.
  static Result<Store> open(const std::string& path);
  Store(Store&&) noexcept;
  Store& operator=(Store&&) noexcept;
  ~Store();

  // --- endpoints ---

  /// Every endpoint, ordered by index.
  [[nodiscard]] Result<std::vector<EndpointRecord>> endpoints() const;
  [[nodiscard]] Result<std::optional<EndpointRecord>> endpoint(const AttachmentKey& key) const;
  /// Inserts or replaces the endpoint; gives `record.index` a number if it is 0 (rotating, so that a freed
  /// one is not reused at once). Fails if all 4095 are taken.
  Status put_endpoint(EndpointRecord& record);
  Status set_endpoint_state(const AttachmentKey& key, EndpointState state);
  /// Removes the endpoint and its leases in one transaction; fine if there are none.
  Status remove_endpoint(const AttachmentKey& key);

  // --- leases ---

  struct Lease {
    Address address;
    std::string network;
    AttachmentKey key;
    bool operator==(const Lease&) const = default;
  };
  [[nodiscard]] Result<std::vector<Lease>> leases() const;
  [[nodiscard]] Result<std::vector<Address>> leases_of(const AttachmentKey& key) const;
  Status remove_leases(const AttachmentKey& key);
  [[nodiscard]] Result<uint64_t> count_leases(const Address& first, const Address& last) const;

  /// What choose_addresses hands to its callback: the view of the leases within the transaction.
  class LeaseView {
   public:
    virtual ~LeaseView() = default;
    [[nodiscard]] virtual Result<std::optional<AttachmentKey>> owner(const Address& address) const = 0;
    /// The first address in [from, last] without a lease.
    [[nodiscard]] virtual Result<std::optional<Address>> first_free(const Address& from,
                                                                    const Address& last) const = 0;
    /// Where the rotation of the range called `range` stands.
    [[nodiscard]] virtual Result<std::optional<Address>> cursor(const std::string& range) const = 0;
    virtual Status take(const Address& address) = 0;
    virtual Status move_cursor(const std::string& range, const Address& address) = 0;
  };
  /// Runs `choose` in one write transaction; what it takes becomes leases of `key`. An error undoes all.
  Status choose_addresses(const AttachmentKey& key, const std::string& network,
                          const std::function<Status(LeaseView&)>& choose);

  // --- blobs by name, such as the policy numbers ---

  [[nodiscard]] Result<std::optional<std::string>> get(std::string_view name) const;
  /// Those whose names begin with `prefix`, by the rest of the name. The prefix ends in `/`.
  [[nodiscard]] Result<std::map<std::string, std::string>> list(std::string_view prefix) const;
  Status put(std::string_view name, std::string_view value);
  Status erase(std::string_view name);
  /// Many at once, in one transaction: all of them or, on an error, none. A missing value erases.
  Status put_all(const std::map<std::string, std::optional<std::string>>& changes);

  // --- journal of host changes ---

  /// Oldest first.
  [[nodiscard]] Result<std::vector<JournalEntry>> journal() const;
  /// Adds the change; if {kind, object} is there already its `before` is kept.
  Status add_journal(const JournalEntry& entry);
  Status remove_journal(std::string_view kind, std::string_view object);

 private:
  struct Impl;
  explicit Store(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace bpfnet::ipam
