#pragma once

#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "maps/maps.h"
#include "tests/e2e/e2e.h"
#include "tests/support/cluster/prober.h"

namespace bpfnet::e2e {

/// Who takes part in the matrix: nine pods, the two nodes, one client outside.
struct Party {
  std::string name;  ///< `x/a`, `node-a`, `client`
  std::string ns;    ///< of pods; empty for hosts
  LabelMap labels;
  int node = -1;  ///< the pod's node, or the node that it is; -1: outside
  std::array<Address, 2> ips;
  std::array<uint16_t, 3> ports;  ///< 80, 81 and the one that has a name
  std::vector<PodPort> port_names;
  size_t number = 0;  ///< its place in the world, and in the Prober

  [[nodiscard]] bool is_pod() const { return !ns.empty(); }
  [[nodiscard]] const Address& ip(Family family) const { return ips.at(family == Family::kIpv4 ? 0 : 1); }
};

enum class Way { kDirect, kClusterIp, kNodePort };

/// One cell of the matrix. `port` is the one that the destination listens at, whatever was dialled.
struct Cell {
  const Party& from;
  const Party& to;
  Way way = Way::kDirect;
  uint8_t proto = 0;
  uint16_t port = 0;
  HostPort dialled;
  [[nodiscard]] std::string to_string() const;
};

enum class Verdict { kAllowed, kDeniedByEgress, kDeniedByIngress, kNotAsked };

/// Whether policy allows a connection in one direction.
using Allows = std::function<bool(const Cell&)>;

/// What should become of a cell: `egress` is asked about pods that call, `ingress` about pods that are
/// called. A pod's own node is always let in (P13), a pod always reaches itself (P15), by NetworkPolicy also
/// through its service. `tiers`: there are ClusterNetworkPolicies, for which that way (A11) is left to tests
/// of its own.
Verdict expected(const Cell& cell, const Allows& egress, const Allows& ingress, bool tiers = false);

/// Three namespaces x, y, z with pods a, b, c each, spread over two nodes, all serving three ports by three
/// protocols and both families, each with a ClusterIP and a NodePort (externalTrafficPolicy Local) of its
/// own.
///   labels      app: the pod's name; tier: front (a), back (b), none (c). team: red (x), blue (y), none (z)
///   nodes       node-a has the label role: edge
///   port names  web: TCP 8080 (a), TCP 8082 (b), UDP 8080 (c)
///   services    80 -> 81, 81 -> 80, 90 -> the named port: what is dialled is never what policies judge (P11)
class PolicyWorld {
 public:
  explicit PolicyWorld(ClusterOptions options = cluster_options());

  [[nodiscard]] Cluster& cluster() { return cluster_; }
  [[nodiscard]] const Party& party(const std::string& name) const;
  [[nodiscard]] const std::vector<std::unique_ptr<Party>>& parties() const { return parties_; }
  /// The labels of a namespace, but for its name.
  [[nodiscard]] const LabelMap& namespace_labels(const std::string& ns) const { return namespaces_.at(ns); }
  void label_pod(const std::string& name, const LabelMap& labels);
  void label_namespace(const std::string& ns, const LabelMap& labels);
  /// Replaces all policies. `$NAME.4` and `$NAME.6` stand for a party's addresses.
  void policies(const std::string& yaml);
  /// Tries every cell and compares it with what is expected, also by the counts of drops in each direction.
  testing::AssertionResult holds(const std::function<Verdict(const Cell&)>& verdict);

 private:
  struct Complaints;
  void check(const Cell& cell, Verdict want, const ProbeOutcome& outcome, Complaints& complaints) const;
  void write_namespaces();
  void add_pod(const std::string& ns, const std::string& name, int node);
  void add_host(const std::string& name, const Host& host, int node);
  [[nodiscard]] std::string services_of(const Party& party);
  void add_cells(const Party& from, const Party& to);
  [[nodiscard]] uint64_t drops(uint32_t reason) const;

  Cluster cluster_;
  std::vector<maps::Maps> maps_;
  std::map<std::string, LabelMap> namespaces_;
  std::vector<std::unique_ptr<Party>> parties_;
  std::vector<std::vector<Cell>> cells_;  ///< by who calls
  Prober prober_;
  int version_ = 0;
};

/// A NetworkPolicy; `spec` is YAML in flow style, without its braces.
std::string network_policy(const std::string& ns, const std::string& name, const std::string& spec);

/// A ClusterNetworkPolicy; `subject` and `rules` (`ingress: [...], egress: [...]`) are YAML in flow style.
std::string cluster_network_policy(const std::string& name, const std::string& tier, int priority,
                                   const std::string& subject, const std::string& rules);

}  // namespace bpfnet::e2e
