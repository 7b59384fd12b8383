#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/address.h"
#include "control/model/objects.h"

namespace bpfnet::compile {

/// What every compiler must know of the node it compiles for.
struct NodeView {
  std::string name;                 ///< own node name
  std::vector<Address> addresses;   ///< assigned to this node's stack, all interfaces, loopback left out
  std::vector<Cidr> cluster_cidrs;  ///< configured ranges that are never masqueraded towards
  std::vector<Cidr> service_cidrs;  ///< configured service ranges; ServiceCIDR objects add to them
  std::vector<Cidr> node_port_addresses;        ///< S35; empty: every local address
  bool node_port_primary = false;               ///< S35, "primary": the Node's primary IPs as well
  bool policy_audit = false;                    ///< policy drops nothing on this node
  model::Denied denied = model::Denied::kDrop;  ///< of pods whose annotations do not say it
};

/// Pure. The ranges that cluster IPs come from (S32): as configured, and those of ServiceCIDR objects.
std::vector<Cidr> service_cidrs(const model::ClusterState& state, const NodeView& node);

/// Pure. Where NodePorts are open (S35), with the Node's own addresses in the place of `primary` (S65). A
/// family without any entry is open on every local address.
std::vector<Cidr> node_port_cidrs(const model::ClusterState& state, const NodeView& node);

/// A pod that lives on this node, as CNI made it. Its labels come from the Pod object of the same name
/// once that is known; a container without a Pod object (Podman, plain runtimes) has none.
struct LocalEndpoint {
  uint16_t index = 0;  ///< endpoint index, never 0
  model::ObjectName pod;
  std::vector<Address> ips;
  uint16_t net = 0;

  struct HostPort {
    uint16_t host_port = 0;       ///< of a range: the first
    uint16_t container_port = 0;  ///< of a range: the first
    model::Protocol protocol = model::Protocol::kTcp;
    std::optional<Address> host_ip;  ///< missing: every local address (C21)
    uint16_t count = 1;              ///< ports in the range
    bool operator==(const HostPort&) const = default;
  };
  std::vector<HostPort> host_ports;
};

/// Something a user must know about an object: named, placed, with the way out. Never fatal.
struct Warning {
  model::Origin origin;
  std::string text;
};

// --- services ---

struct Backend {
  Address ip;
  uint16_t port = 0;  ///< host byte order
  auto operator<=>(const Backend&) const = default;
};

/// The backends that a client may be sent to: the frontends of a service and what is published of them hold
/// one list.
using BackendList = model::SharedList<Backend>;

struct FrontendAddress {
  Address ip;         ///< scope any-local: 0.0.0.0 or ::
  uint16_t port = 0;  ///< host byte order
  uint8_t proto = 0;  ///< IPPROTO_*
  uint8_t scope = 0;  ///< enum frontend_scope
  uint16_t net = 0;
  uint8_t port_bits = 16;  ///< below 16: a block of ports, of which `port` is the first
  /// Marks a live address (S32): no port of it, and no backends.
  [[nodiscard]] bool is_marker() const { return port == 0 && proto == 0; }
  auto operator<=>(const FrontendAddress&) const = default;
};

/// One frontend with its backend lists, in a deterministic order. `internal` serves pods and host
/// processes, `external` everybody else; equal lists share one run of slots. Port 0 and protocol 0
/// mark an address as live (S32): no backends.
struct Frontend {
  std::string service;  ///< `default/web:http`, or `hostport:ns/pod` for published ports
  BackendList internal;
  BackendList external;
  uint32_t flags = 0;  ///< enum frontend_flags
  uint32_t affinity_seconds = 0;
  /// Clients that may use it (S39, S40): canonical, sorted; empty: everybody. Load-balancer VIPs only.
  std::vector<Cidr> source_ranges;
  /// FRONTEND_PORT_RANGE: first port of the whole range, which the backends' port answers.
  uint16_t range_first = 0;
  bool operator==(const Frontend&) const = default;
};

/// What a healthCheckNodePort tells (S50).
struct HealthCheck {
  uint16_t port = 0;         ///< host byte order
  uint32_t local_ready = 0;  ///< ready endpoints on this node, by distinct address
  bool operator==(const HealthCheck&) const = default;
};

struct ServiceImage {
  std::map<FrontendAddress, Frontend> frontends;
  std::map<model::ObjectName, HealthCheck> health_checks;  ///< type LoadBalancer with eTP Local only
  std::vector<Warning> warnings;
};

/// Pure. Services, slices and local host ports in; frontends out (S1-S19, S34-S41, C21).
ServiceImage compile_services(const model::ClusterState& state, const NodeView& node,
                              const std::vector<LocalEndpoint>& endpoints);

// --- policy ---

/// One entry of a policy set. `port_bits` leading bits of `port` are significant; proto 0: any protocol.
struct PolicyEntry {
  uint32_t identity = 0;  ///< IDENTITY_ANY or an identity of the same image
  uint8_t proto = 0;
  uint16_t port = 0;  ///< host byte order
  uint8_t port_bits = 0;
  auto operator<=>(const PolicyEntry&) const = default;
};

struct PolicyVerdict {
  uint32_t rule = 0;    ///< key of PolicyImage::rules; 0: no rule's, but that none allows
  uint8_t verdict = 0;  ///< enum policy_verdict
  bool operator==(const PolicyVerdict&) const = default;
};

/// What no entry is about is denied, by no rule.
struct PolicySet {
  std::map<PolicyEntry, PolicyVerdict> entries;
  bool operator==(const PolicySet&) const = default;
};

struct RuleInfo {
  std::string policy;  ///< `default/allow-web`; without a slash: a ClusterNetworkPolicy
  std::string text;    ///< `ingress[0]: from app=web to TCP 80`
  std::string tier;    ///< `Admin 10`, with the priority, `NetworkPolicy` or `Baseline 10`
  bool operator==(const RuleInfo&) const = default;
};

struct EndpointPolicy {
  uint32_t identity = 0;
  uint32_t ingress_set = 0;  ///< POLICY_SET_ALLOW_ALL, POLICY_SET_DENY_ALL, or a key of PolicyImage::sets
  uint32_t egress_set = 0;
  uint8_t flags = 0;                             ///< enum endpoint_flags
  std::vector<std::string> isolated_by_ingress;  ///< policy names, for explanations
  std::vector<std::string> isolated_by_egress;
  std::vector<std::string> audited_by_ingress;  ///< would isolate, but are in audit mode
  std::vector<std::string> audited_by_egress;
  std::vector<uint32_t> ingress_rules;  ///< keys of PolicyImage::rules, in the order they are tried
  std::vector<uint32_t> egress_rules;
  bool operator==(const EndpointPolicy&) const = default;
};

struct AddressEntry {
  uint32_t identity = 0;
  uint16_t endpoint = 0;
  uint16_t flags = 0;  ///< enum address_flags
  uint16_t node = 0;   ///< of another node and of its pods: its index; 0: not known
  bool operator==(const AddressEntry&) const = default;
};

struct CidrEntry {
  uint32_t identity = 0;
  uint32_t flags = 0;  ///< enum cidr_flags
  uint16_t node = 0;   ///< index of the other node whose pods have these addresses
  bool operator==(const CidrEntry&) const = default;
};

/// Keeps numbers stable from one compile to the next: the same identity, set or rule keeps its id, so that an
/// unchanged object causes no write, and ids come back the same after a restart. An id is never given to
/// anything else (the `next_` counters only grow), so a flow or event that still carries an old one is never
/// explained by a newer object. Texts long out of use are forgotten.
/// Owned by the agent, which keeps all members over restarts; written by compile_policy only.
struct PolicyNumbers {
  std::map<std::string, uint32_t> identities;  ///< canonical text (kind, namespace, labels, CIDR class) -> id
  std::map<std::string, uint32_t>
      sets;  ///< what decides about the contents: direction, rules, named ports -> id
  std::map<std::string, uint32_t> rules;  ///< policy + rule text -> id
  std::map<std::string, uint32_t>
      nodes;                   ///< name of another node -> index, below NODES_MAX; see number_nodes
  uint32_t next_identity = 0;  ///< 0: not known, above all ids in the map
  uint32_t next_set = 0;
  uint32_t next_rule = 0;
  uint32_t next_node = 1;
};

struct PolicyImage {
  std::map<std::pair<uint16_t, Address>, AddressEntry> addresses;  ///< {net, address}
  std::map<std::pair<uint16_t, Cidr>, CidrEntry> cidrs;
  std::map<uint32_t, PolicySet> sets;
  std::map<uint32_t, RuleInfo> rules;
  std::map<uint32_t, std::string> identities;    ///< id -> canonical text
  std::map<std::string, uint16_t> nodes;         ///< the other nodes that there are -> index
  std::map<uint16_t, EndpointPolicy> endpoints;  ///< by endpoint index
  std::vector<Warning> warnings;
};

/// Pure but for `numbers`. Everything that decides who may talk to whom, and what an address is.
PolicyImage compile_policy(const model::ClusterState& state, const NodeView& node,
                           const std::vector<LocalEndpoint>& endpoints, PolicyNumbers& numbers);

}  // namespace bpfnet::compile
