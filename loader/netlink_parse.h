#pragma once

#include <linux/netlink.h>

#include <optional>

#include "loader/netlink.h"

// rtnetlink messages to values. nullopt: not of that type, or of a family that is not ours.
namespace bpfnet::loader {

std::optional<Link> parse_link(const nlmsghdr* header);
std::optional<InterfaceAddress> parse_address(const nlmsghdr* header);
/// Multipath routes give their first hop.
std::optional<Route> parse_route(const nlmsghdr* header);
std::optional<Neighbour> parse_neighbour(const nlmsghdr* header);

}  // namespace bpfnet::loader
