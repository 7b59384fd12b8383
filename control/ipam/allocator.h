#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/result.h"
#include "control/ipam/range.h"
#include "control/ipam/records.h"
#include "control/ipam/store.h"

namespace bpfnet::ipam {

struct PoolUsage {
  std::string name;
  Family family = Family::kIpv4;
  uint64_t total = 0;
  uint64_t used = 0;
};

/// Why no address could be given.
struct AllocationError {
  enum class Kind {
    kNoPool,     ///< no pool is known yet: try again later
    kExhausted,  ///< try again later
    kInvalid,    ///< the request cannot be met: an address outside every pool, or of another container
    kStore,
  };
  Kind kind = Kind::kStore;
  std::string message;
};

template <typename T>
class [[nodiscard]] AllocationResult : public tl::expected<T, AllocationError> {
 public:
  using tl::expected<T, AllocationError>::expected;
};

/// Gives addresses to attachments and remembers them in the store. The pools may come and change at any
/// time; leases outside the present pools stay until they are released. Thread-safe.
class Allocator {
 public:
  explicit Allocator(Store& store) : store_(store) {}

  /// One range set per family, of the prefixes in their order; `reserved` is never leased.
  void set_pools(const std::vector<Cidr>& pools, const std::vector<Address>& reserved = {});

  struct Request {
    AttachmentKey key;
    std::string network;
    std::vector<Address> ips;      ///< wanted addresses: each must lie in one of the ranges
    std::vector<RangeSet> ranges;  ///< instead of the pools, if any
  };
  /// One address from every range set (the pools: one per family), the wanted ones where given.
  /// Leases that the key already holds are let go first. Order: as the range sets, IPv4 pool first.
  AllocationResult<std::vector<Address>> allocate(const Request& request);

  /// Fine if there is nothing to release.
  Status release(const AttachmentKey& key) { return store_.remove_leases(key); }

  [[nodiscard]] Result<std::vector<PoolUsage>> usage() const;
  /// Whether an address of every family that has pools is left: the word for STATUS (C15).
  [[nodiscard]] AllocationResult<void> available() const;

 private:
  [[nodiscard]] std::vector<RangeSet> pools() const;

  Store& store_;
  mutable std::mutex mutex_;
  std::vector<RangeSet> pools_;  ///< one per family
};

}  // namespace bpfnet::ipam
