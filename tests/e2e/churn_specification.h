#pragma once

#include <set>
#include <string>
#include <vector>

#include "tests/support/cluster/cluster.h"

namespace bpfnet::e2e::churn {

/// EndpointSlices of a service, one of each family, with the same ports and backends.
struct Slices {
  std::vector<ServicePortManifest> ports;
  std::vector<BackendManifest> backends;
};

/// What an API server would hold: Services and, apart from them, the slices that name them.
struct World {
  std::map<std::string, ServiceManifest> services;  ///< by name; their `backends` are not used
  std::map<std::string, std::vector<Slices>> slices;
};

enum class Role { kPod, kHost, kOutside };

/// Who asks. `node`: where a pod or process is, or by which node an outside client reaches service addresses.
struct Client {
  std::string name;
  Role role = Role::kPod;
  size_t node = 0;
  const Netns* netns = nullptr;
  std::vector<Address> ips;
  [[nodiscard]] Address ip(Family family) const;
};

struct Server {
  std::string name;
  HostPort at;
  size_t node = 0;
};

/// What stays while services change: the nodes, and who listens where.
struct Ground {
  std::vector<std::string> nodes;
  std::vector<std::vector<Address>> node_ips;
  std::vector<Server> servers;
  std::vector<Cidr> service_ranges;
  [[nodiscard]] Address node_ip(size_t node, Family family) const;
};

/// One connection that begins. `at`: the node that finds the backend.
struct Question {
  const Client* client = nullptr;
  std::string protocol;
  HostPort to;
  size_t at = 0;
  [[nodiscard]] Family family() const { return to.address.family(); }
  [[nodiscard]] std::string to_string() const;
};

/// What may become of a connection.
struct Verdict {
  bool unspecified = false;       ///< the address is nobody's: not a matter of services
  bool refused = false;           ///< at once
  bool silent = false;            ///< nothing is heard
  std::set<std::string> servers;  ///< these may answer
  /// The Service's port that owns the address: Service, name of the port, number. Empty: none does.
  std::string service;
  std::string port;
  std::string owner;
  bool affinity = false;
  std::set<std::string> ready;    ///< its endpoints that are ready, wherever they are
  std::set<std::string> serving;  ///< its endpoints whose UDP flows stay (S46)
  [[nodiscard]] std::string to_string() const;
};

/// Services as spec/services.md states them, one connection at a time and with nothing in common with the
/// compiler or the datapath: what the random churn is held against.
Verdict specified(const World& world, const Ground& ground, const Question& question);

/// Those that serve UDP flows of a Service's port, by whatever address (S46).
std::set<std::string> specified_serving(const World& world, const Ground& ground, const std::string& service,
                                        const std::string& port, Family family);

/// The client that `server` must see (S20-S22, S27, and docs/services.md where designs differ).
Address specified_source(const Ground& ground, const Question& question, const std::string& server);

}  // namespace bpfnet::e2e::churn
