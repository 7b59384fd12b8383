#pragma once

#include <string>
#include <vector>

#include "tests/support/cluster/cluster.h"

namespace bpfnet::e2e {

/// Options for a cluster whose nodes have real container runtimes.
ClusterOptions runtime_cluster(std::vector<std::string> nodes);

/// A command, for containers and for the host, that asks a server in a container who it is.
std::vector<std::string> ask_command(const HostPort& server);
/// The page in what that command prints; empty: none came.
std::string page_of(const std::string& answer);
/// What the server at `to` answers to a process in `netns`: `NAME saw ADDRESS`. Empty: nothing.
std::string ask_from(const Netns& netns, const HostPort& to);

/// The answer of the container called `server` to a client with this address.
std::string answer_of(const std::string& server, const Address& client);

inline constexpr Family kFamilies[] = {Family::kIpv4, Family::kIpv6};

}  // namespace bpfnet::e2e
