#include "control/ipam/allocator.h"

#include <algorithm>
#include <limits>

namespace bpfnet::ipam {
namespace {

using Kind = AllocationError::Kind;

tl::unexpected<AllocationError> refuse(Kind kind, std::string message) {
  return tl::unexpected<AllocationError>(AllocationError{kind, std::move(message)});
}

bool reserved(const AddressRange& range, const Address& address) {
  return std::find(range.reserved.begin(), range.reserved.end(), address) != range.reserved.end();
}

std::string names(const RangeSet& set) {
  std::string text;
  for (const AddressRange& range : set) text += (text.empty() ? "" : ", ") + range.name;
  return text;
}

Result<PoolUsage> usage_of(const Store& store, const AddressRange& range) {
  auto used = store.count_leases(range.first, range.last);
  if (!used) return pass(used);
  return PoolUsage{range.name, range.family(), range.size(), *used};
}

std::string exhausted_message(const RangeSet& set, uint64_t used, uint64_t total) {
  return fmt::format(
      "address pool {} is exhausted: {} of {} addresses are leased; delete pods, run GC to free leaked "
      "leases, "
      "or give the node a larger --pod-cidr",
      names(set), used, total);
}

/// Chooses the addresses of one request within the store's transaction.
class Choice {
 public:
  Choice(Store::LeaseView& leases, const Allocator::Request& request)
      : leases_(leases), wanted_(request.ips) {}

  AllocationResult<Address> from(const RangeSet& set) {
    const auto wanted = std::find_if(wanted_.begin(), wanted_.end(), [&](const Address& ip) {
      return std::any_of(set.begin(), set.end(),
                         [&](const AddressRange& range) { return range.contains(ip); });
    });
    if (wanted != wanted_.end()) {
      const Address address = *wanted;
      wanted_.erase(wanted);
      return exactly(set, address);
    }
    for (const AddressRange& range : set) {
      auto address = rotate(range);
      if (!address) return refuse(Kind::kStore, address.error().message);
      if (*address) return **address;
    }
    // The caller, outside this transaction, counts and words it.
    return refuse(Kind::kExhausted, {});
  }

  /// What was asked for and lies in no range.
  [[nodiscard]] const std::vector<Address>& left_over() const { return wanted_; }

 private:
  AllocationResult<Address> exactly(const RangeSet& set, const Address& address) {
    for (const AddressRange& range : set) {
      if (!range.contains(address)) continue;
      if (reserved(range, address)) {
        return refuse(Kind::kInvalid,
                      fmt::format("requested address {} is reserved in {}", address.to_string(), range.name));
      }
    }
    auto owner = leases_.owner(address);
    if (!owner) return refuse(Kind::kStore, owner.error().message);
    if (*owner) {
      return refuse(Kind::kInvalid, fmt::format("requested address {} is leased to {}", address.to_string(),
                                                (*owner)->to_string()));
    }
    if (auto taken = leases_.take(address); !taken) return refuse(Kind::kStore, taken.error().message);
    return address;
  }

  // The first free address after the last one given; a freed one is last in line.
  Result<std::optional<Address>> rotate(const AddressRange& range) {
    auto cursor = leases_.cursor(range.name);
    if (!cursor) return pass(cursor);
    const auto next = *cursor && range.contains(**cursor) ? (*cursor)->plus(1) : std::nullopt;
    const Address start = next && range.contains(*next) ? *next : range.first;
    auto address = search(range, start, range.last);
    if (address && !*address && start != range.first) address = search(range, range.first, range.last);
    if (!address || !*address) return address;
    BPFNET_TRY(leases_.take(**address));
    BPFNET_TRY(leases_.move_cursor(range.name, **address));
    return address;
  }

  Result<std::optional<Address>> search(const AddressRange& range, Address from, const Address& last) {
    for (;;) {
      auto found = leases_.first_free(from, last);
      if (!found || !*found || !reserved(range, **found)) return found;
      const auto next = (*found)->plus(1);
      if (!next || *next > last) return std::nullopt;
      from = *next;
    }
  }

  Store::LeaseView& leases_;
  std::vector<Address> wanted_;
};

}  // namespace

void Allocator::set_pools(const std::vector<Cidr>& pools, const std::vector<Address>& reserved) {
  std::vector<RangeSet> sets;
  for (const Family family : {Family::kIpv4, Family::kIpv6}) {
    RangeSet set;
    for (const Cidr& cidr : pools) {
      if (cidr.family() != family) continue;
      AddressRange range = AddressRange::of(cidr);
      std::copy_if(reserved.begin(), reserved.end(), std::back_inserter(range.reserved),
                   [&](const Address& address) { return range.contains(address); });
      set.push_back(std::move(range));
    }
    if (!set.empty()) sets.push_back(std::move(set));
  }
  const std::scoped_lock lock(mutex_);
  pools_ = std::move(sets);
}

std::vector<RangeSet> Allocator::pools() const {
  const std::scoped_lock lock(mutex_);
  return pools_;
}

AllocationResult<std::vector<Address>> Allocator::allocate(const Request& request) {
  const std::vector<RangeSet> sets = request.ranges.empty() ? pools() : request.ranges;
  if (sets.empty()) {
    return refuse(Kind::kNoPool,
                  "this node has no pod CIDR yet: it comes with --pod-cidr or the Node object's podCIDRs");
  }
  std::vector<Address> addresses;
  AllocationError error;
  const RangeSet* full = nullptr;
  const auto choose = [&](Store::LeaseView& leases) -> Status {
    Choice choice(leases, request);
    for (const RangeSet& set : sets) {
      auto address = choice.from(set);
      if (!address) {
        error = address.error();
        if (error.kind == Kind::kExhausted) full = &set;
        return fail("{}", error.message);
      }
      addresses.push_back(*address);
    }
    if (!choice.left_over().empty()) {
      std::string all;
      for (const RangeSet& set : sets) all += (all.empty() ? "" : ", ") + names(set);
      error = {Kind::kInvalid,
               fmt::format("requested address {} fits none of the ranges {} (one address from each)",
                           choice.left_over().front().to_string(), all)};
      return fail("{}", error.message);
    }
    return ok();
  };
  auto chosen = store_.choose_addresses(request.key, request.network, choose);
  if (chosen) return addresses;
  if (full != nullptr) {
    uint64_t used = 0;
    uint64_t total = 0;
    for (const AddressRange& range : *full) {
      if (auto usage = usage_of(store_, range)) used += usage->used;
      total += range.size();
    }
    error.message = exhausted_message(*full, used, total);
  }
  if (error.message.empty()) error = {Kind::kStore, chosen.error().message};
  return tl::unexpected<AllocationError>(error);
}

Result<std::vector<PoolUsage>> Allocator::usage() const {
  std::vector<PoolUsage> usages;
  for (const RangeSet& set : pools()) {
    for (const AddressRange& range : set) {
      auto usage = usage_of(store_, range);
      if (!usage) return pass(usage);
      usages.push_back(*usage);
    }
  }
  return usages;
}

AllocationResult<void> Allocator::available() const {
  const std::vector<RangeSet> sets = pools();
  if (sets.empty()) {
    return refuse(Kind::kNoPool,
                  "this node has no pod CIDR yet: it comes with --pod-cidr or the Node object's podCIDRs");
  }
  for (const RangeSet& set : sets) {
    uint64_t used = 0;
    uint64_t total = 0;
    for (const AddressRange& range : set) {
      auto usage = usage_of(store_, range);
      if (!usage) return refuse(Kind::kStore, usage.error().message);
      used += usage->used;
      total = total > std::numeric_limits<uint64_t>::max() - usage->total
                  ? std::numeric_limits<uint64_t>::max()
                  : total + usage->total;
    }
    if (used >= total) return refuse(Kind::kExhausted, exhausted_message(set, used, total));
  }
  return {};
}

}  // namespace bpfnet::ipam
