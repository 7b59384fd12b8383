#include "control/apply/address_maps.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "maps/convert.h"

namespace bpfnet::apply {
namespace {

using compile::AddressKey;
using compile::PolicyImage;

address_key to_key(const AddressKey& where) {
  return maps::make_address_key(where.second, where.first);
}
cidr_key to_key(const std::pair<uint16_t, Cidr>& where) {
  return maps::make_cidr_key(where.second, where.first);
}

bool is_of_node(uint32_t flags) {
  return (flags & ADDRESS_LOCAL_NODE) != 0;
}

/// By prefixes alone, as the image wants them.
uint32_t identity_by_cidr(const PolicyImage& image, uint16_t net, const Address& address, int longest) {
  for (int length = std::min(longest, address.bits()); length >= 0; --length)
    if (const auto found = image.cidrs.find({net, Cidr(address, length)}); found != image.cidrs.end())
      return found->second.identity;
  return IDENTITY_WORLD;
}

}  // namespace

Status AddressMaps::adopt() {
  BPFNET_TRY(addresses_.load());
  BPFNET_TRY(cidrs_.load());
  users_.clear();
  for (const auto& [key, info] : addresses_.held()) ++users_[info.identity];
  for (const auto& [key, info] : cidrs_.held()) ++users_[info.identity];
  return ok();
}

uint32_t AddressMaps::identity_by_cidr(uint16_t net, const Address& address, int longest) const {
  for (int length = std::min(longest, address.bits()); length >= 0; --length)
    if (const cidr_info* found = cidrs_.find(maps::make_cidr_key(Cidr(address, length), net)))
      return found->identity;
  return IDENTITY_WORLD;
}

AddressMaps::Change AddressMaps::plan(const PolicyImage& image, const compile::PolicyDelta* delta) const {
  Change change;
  if (delta) {
    change.addresses = delta->addresses;
    change.cidrs = delta->cidrs;
    change.addresses.insert(waiting_addresses_.begin(), waiting_addresses_.end());
    change.cidrs.insert(waiting_cidrs_.begin(), waiting_cidrs_.end());
  } else {
    for (const auto& [where, entry] : image.addresses) change.addresses.insert(where);
    for (const auto& [key, info] : addresses_.held())
      change.addresses.insert({key.net, maps::from_abi(key.addr)});
    for (const auto& [where, entry] : image.cidrs) change.cidrs.insert(where);
    for (const auto& [key, info] : cidrs_.held()) change.cidrs.insert({key.net, maps::from_abi(key)});
  }
  const auto note = [&change](uint32_t was, uint32_t is) {
    if (was == is) return;
    change.left.insert(was);
    change.joined.insert(is);
  };
  std::erase_if(change.addresses, [&](const AddressKey& where) {
    const address_info* held = addresses_.find(to_key(where));
    const auto wanted = image.addresses.find(where);
    if (!held && wanted == image.addresses.end()) return true;
    if (held && wanted != image.addresses.end() && held->identity == wanted->second.identity &&
        held->endpoint == wanted->second.endpoint && held->flags == wanted->second.flags &&
        held->node == wanted->second.node)
      return true;
    change.node_left |= is_of_node(held ? held->flags : 0U) &&
                        !is_of_node(wanted != image.addresses.end() ? wanted->second.flags : 0U);
    const auto& [net, address] = where;
    note(held ? held->identity : identity_by_cidr(net, address, address.bits()),
         wanted != image.addresses.end() ? wanted->second.identity
                                         : apply::identity_by_cidr(image, net, address, address.bits()));
    return false;
  });
  size_t added = 0;
  std::erase_if(change.cidrs, [&](const CidrPlace& where) {
    const cidr_info* held = cidrs_.find(to_key(where));
    const auto wanted = image.cidrs.find(where);
    if (!held && wanted == image.cidrs.end()) return true;
    if (held && wanted != image.cidrs.end() && held->identity == wanted->second.identity &&
        held->flags == wanted->second.flags && held->node == wanted->second.node)
      return true;
    const auto& [net, cidr] = where;
    note(held ? held->identity : identity_by_cidr(net, cidr.address(), cidr.length() - 1),
         wanted != image.cidrs.end()
             ? wanted->second.identity
             : apply::identity_by_cidr(image, net, cidr.address(), cidr.length() - 1));
    added += !held;
    return false;
  });
  change.cidrs_fit = cidrs_.held().size() + added <= cidrs_.table().capacity();
  return change;
}

void AddressMaps::count(uint32_t was, uint32_t is) {
  if (is != 0) ++users_[is];
  const auto before = users_.find(was);
  if (before != users_.end() && --before->second == 0) users_.erase(before);
}

// An address that becomes somebody's is that before prefixes change, and one that is nobody's any more is
// that after them: else it would have, for a moment, what the prefixes say and neither state does.
void AddressMaps::apply(const Change& change, const PolicyImage& image, const std::set<uint32_t>& refused,
                        Problems& problems) {
  for (const AddressKey& where : change.addresses) waiting_addresses_.erase(where);
  for (const CidrPlace& where : change.cidrs) waiting_cidrs_.erase(where);
  put_addresses(change, image, refused, problems);
  change_cidrs(change, image, refused, problems);
  erase_addresses(change, image, problems);
  tell_what_waits(problems);
}

void AddressMaps::put_addresses(const Change& change, const PolicyImage& image,
                                const std::set<uint32_t>& refused, Problems& problems) {
  // Those of this node's pods lead packets to them: they get room first.
  std::vector<const AddressKey*> order;
  for (const AddressKey& where : change.addresses)
    if (image.addresses.contains(where)) order.push_back(&where);
  std::ranges::stable_partition(
      order, [&](const AddressKey* where) { return image.addresses.at(*where).endpoint != 0; });
  for (const AddressKey* where : order) {
    const auto& wanted = image.addresses.at(*where);
    const address_key key = to_key(*where);
    const address_info* held = addresses_.find(key);
    const uint32_t was = held ? held->identity : 0;
    address_info info{};
    info.identity = wanted.identity;
    info.endpoint = wanted.endpoint;
    info.flags = wanted.flags;
    info.node = wanted.node;
    if (refused.contains(wanted.identity)) {
      info.identity = held ? was : identity_by_cidr(where->first, where->second, where->second.bits());
      waiting_addresses_.insert(*where);
    }
    if (!held && addresses_.held().size() >= addresses_.table().capacity()) {
      waiting_addresses_.insert(*where);
      continue;
    }
    auto written = addresses_.put(key, info);
    if (!written) {
      problems.push_back({addresses_.table().name(), written.error().message});
      waiting_addresses_.insert(*where);
    } else if (*written) {
      count(was, info.identity);
    }
  }
}

// The longest new prefix first, then the shortest old one first: what lies in both sees its own alone.
void AddressMaps::change_cidrs(const Change& change, const PolicyImage& image,
                               const std::set<uint32_t>& refused, Problems& problems) {
  std::vector<const CidrPlace*> order;
  for (const CidrPlace& where : change.cidrs) order.push_back(&where);
  std::ranges::stable_sort(order, std::greater(),
                           [](const CidrPlace* each) { return each->second.length128(); });
  for (const CidrPlace* where : order) {
    const auto wanted = image.cidrs.find(*where);
    if (wanted == image.cidrs.end()) continue;
    const cidr_key key = to_key(*where);
    const cidr_info* held = cidrs_.find(key);
    const uint32_t was = held ? held->identity : 0;
    cidr_info info{};
    info.identity = wanted->second.identity;
    info.flags = wanted->second.flags;
    info.node = wanted->second.node;
    const bool keeps = refused.contains(info.identity);
    if (keeps || (!held && !change.cidrs_fit)) {
      waiting_cidrs_.insert(*where);
      if (!held) continue;
      info.identity = was;
    }
    auto written = cidrs_.put(key, info);
    if (!written) {
      problems.push_back({cidrs_.table().name(), written.error().message});
      waiting_cidrs_.insert(*where);
    } else if (*written) {
      count(was, info.identity);
    }
  }
  std::ranges::reverse(order);
  for (const CidrPlace* where : order) {
    if (image.cidrs.contains(*where)) continue;
    const cidr_key key = to_key(*where);
    const cidr_info* held = cidrs_.find(key);
    if (!held) continue;
    const uint32_t was = held->identity;
    auto erased = cidrs_.erase(key);
    if (!erased) {
      problems.push_back({cidrs_.table().name(), erased.error().message});
      waiting_cidrs_.insert(*where);
    } else {
      count(was, 0);
    }
  }
}

void AddressMaps::erase_addresses(const Change& change, const PolicyImage& image, Problems& problems) {
  for (const AddressKey& where : change.addresses) {
    if (image.addresses.contains(where)) continue;
    const address_key key = to_key(where);
    const address_info* held = addresses_.find(key);
    if (!held) continue;
    const uint32_t was = held->identity;
    auto erased = addresses_.erase(key);
    if (!erased) {
      problems.push_back({addresses_.table().name(), erased.error().message});
      waiting_addresses_.insert(where);
    } else {
      count(was, 0);
    }
  }
}

/// One line for each map: a full one may refuse thousands.
void AddressMaps::tell_what_waits(Problems& problems) const {
  if (!waiting_addresses_.empty())
    problems.push_back(
        {"addresses",
         fmt::format(
             "map {} has {} of {} entries in use: {} and {} more keep what policy took them for before; "
             "raise --max-addresses, or --max-policy-entries if the map policies is full",
             addresses_.table().name(), addresses_.held().size(), addresses_.table().capacity(),
             waiting_addresses_.begin()->second.to_string(), waiting_addresses_.size() - 1)});
  if (!waiting_cidrs_.empty())
    problems.push_back(
        {"prefixes",
         fmt::format(
             "map {} has {} of {} entries in use: {} and {} more prefixes of policies do not fit, and no "
             "pod moves to another policy before they do; raise --max-cidrs",
             cidrs_.table().name(), cidrs_.held().size(), cidrs_.table().capacity(),
             waiting_cidrs_.begin()->second.to_string(), waiting_cidrs_.size() - 1)});
}

}  // namespace bpfnet::apply
