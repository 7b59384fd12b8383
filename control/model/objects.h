#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/shared_text.h"
#include "control/model/labels.h"
#include "control/model/shared_list.h"

namespace bpfnet::model {

/// Where an object was read: shown in every complaint about it. `line` is 1-based, 0 when unknown.
struct Origin {
  SharedText source;  ///< file path, or the API server's resource path
  int line = 0;
  bool operator==(const Origin&) const = default;
};

/// Namespace and name; cluster-scoped objects have an empty namespace.
struct ObjectName {
  SharedText ns;
  SharedText name;
  auto operator<=>(const ObjectName&) const = default;
  [[nodiscard]] std::string to_string() const;
};

/// IPPROTO_* of the transports that objects can name.
enum class Protocol : uint8_t { kTcp = 6, kUdp = 17, kSctp = 132 };
std::string_view to_string(Protocol protocol);

/// What those hear whom a pod's policy denies: annotation policy.bpfnet.io/denied.
enum class Denied { kDrop, kReject };

struct Namespace {
  std::string name;
  Labels labels;                 ///< always contains kubernetes.io/metadata.name (P9)
  std::optional<Denied> denied;  ///< of pods that do not say it themselves
  Origin origin;
  bool operator==(const Namespace&) const = default;
};

struct Node {
  std::string name;
  Labels labels;
  std::vector<Address> internal_ips;
  std::vector<Address> external_ips;
  std::vector<Cidr> pod_cidrs;
  std::vector<std::string> taints;  ///< keys
  bool deleting = false;            ///< metadata.deletionTimestamp is set
  Origin origin;

  /// InternalIPs then ExternalIPs, the first of `family` (S65).
  [[nodiscard]] std::optional<Address> address(Family family) const;
  bool operator==(const Node&) const = default;
};

struct ContainerPort {
  std::string name;  ///< may be empty
  uint16_t port = 0;
  uint16_t host_port = 0;
  std::optional<Address> host_ip;
  Protocol protocol = Protocol::kTcp;
  auto operator<=>(const ContainerPort&) const = default;
};

enum class PodPhase { kPending, kRunning, kSucceeded, kFailed, kUnknown };

struct Pod {
  ObjectName name;
  Labels labels;
  SharedText node_name;
  std::vector<Address> ips;
  bool host_network = false;
  PodPhase phase = PodPhase::kPending;
  bool deleting = false;  ///< metadata.deletionTimestamp is set: terminating, with network and policy (P22)
  SharedList<ContainerPort> ports;
  std::optional<Denied> denied;
  Origin origin;

  /// Succeeded and Failed pods count neither as subject nor as peer (P21).
  [[nodiscard]] bool finished() const { return phase == PodPhase::kSucceeded || phase == PodPhase::kFailed; }
  bool operator==(const Pod&) const = default;
};

enum class ServiceType { kClusterIp, kNodePort, kLoadBalancer, kExternalName };
enum class TrafficPolicy { kCluster, kLocal };

struct ServicePort {
  std::string name;
  Protocol protocol = Protocol::kTcp;
  uint16_t port = 0;
  uint16_t node_port = 0;  ///< 0: none
  bool operator==(const ServicePort&) const = default;
};

struct LoadBalancerIngress {
  Address ip;
  bool proxy_mode = false;  ///< ipMode: Proxy programs nothing (S37)
  bool operator==(const LoadBalancerIngress&) const = default;
};

/// A port of one of a Service's external addresses.
struct ExternalPort {
  Address ip;
  uint16_t port = 0;
  Protocol protocol = Protocol::kTcp;
  bool operator==(const ExternalPort&) const = default;
};

struct Service {
  ObjectName name;
  ServiceType type = ServiceType::kClusterIp;
  std::vector<Address> cluster_ips;  ///< empty for headless services
  std::vector<Family> ip_families;
  std::vector<ServicePort> ports;
  std::vector<Address> external_ips;
  std::vector<LoadBalancerIngress> load_balancer_ingress;
  std::vector<ExternalPort> withheld;  ///< of both lists what another Service has; not in its text
  std::vector<Cidr> source_ranges;
  TrafficPolicy external_traffic_policy = TrafficPolicy::kCluster;
  TrafficPolicy internal_traffic_policy = TrafficPolicy::kCluster;
  std::optional<std::chrono::seconds> affinity;  ///< sessionAffinity: ClientIP and its timeout
  uint16_t health_check_node_port = 0;
  Labels labels;
  Origin origin;
  bool operator==(const Service&) const = default;
};

struct SliceEndpoint {
  Address ip;  ///< addresses[0] (S4)
  bool ready = true;
  bool serving = true;
  bool terminating = false;
  std::optional<SharedText> node_name;
  SharedList<std::string> for_zones;
  SharedList<std::string> for_nodes;
  bool operator==(const SliceEndpoint&) const = default;
};

struct SlicePort {
  std::string name;
  Protocol protocol = Protocol::kTcp;
  uint16_t port = 0;
  bool operator==(const SlicePort&) const = default;
};

struct EndpointSlice {
  ObjectName name;
  std::string service;  ///< kubernetes.io/service-name; empty: belongs to none (S4)
  Family family = Family::kIpv4;
  std::vector<SlicePort> ports;
  SharedList<SliceEndpoint> endpoints;
  Labels labels;
  /// Annotation endpoints.kubernetes.io/last-change-trigger-time (S59).
  std::optional<std::chrono::system_clock::time_point> last_change;
  Origin origin;
  bool operator==(const EndpointSlice&) const = default;
};

/// A range that cluster IPs are allocated from (S32).
struct ServiceCidr {
  std::string name;
  std::vector<Cidr> cidrs;
  Origin origin;
  bool operator==(const ServiceCidr&) const = default;
};

enum class SelectorOperator { kIn, kNotIn, kExists, kDoesNotExist };

struct SelectorRequirement {
  std::string key;
  SelectorOperator op = SelectorOperator::kExists;
  std::set<std::string> values;
  bool operator==(const SelectorRequirement&) const = default;
};

/// A label selector; empty selects everything. matchLabels are kept as kIn requirements.
struct Selector {
  std::vector<SelectorRequirement> requirements;
  [[nodiscard]] bool matches(const Labels& labels) const;
  bool operator==(const Selector&) const = default;
};

struct PolicyPeer {
  std::optional<Selector> pods;
  std::optional<Selector> namespaces;
  std::optional<Cidr> cidr;  ///< ipBlock, or one of networks (A9); excludes the selectors
  std::vector<Cidr> except;
  std::optional<Selector> nodes;  ///< by the labels of Nodes: their addresses (A9); excludes all others
  bool operator==(const PolicyPeer&) const = default;
};

struct PolicyPort {
  Protocol protocol = Protocol::kTcp;
  std::optional<uint16_t> port;  ///< missing together with `name`: every port of the protocol (P5)
  std::optional<uint16_t> end_port;
  std::string name;  ///< a named port (P6), else empty
  bool operator==(const PolicyPort&) const = default;
};

/// One ingress or egress rule. Empty `peers`: every peer; empty `ports`: every port and protocol (P4).
struct PolicyRule {
  std::vector<PolicyPeer> peers;
  std::vector<PolicyPort> ports;
  bool operator==(const PolicyRule&) const = default;
};

struct NetworkPolicy {
  ObjectName name;
  Selector pods;
  bool isolates_ingress = true;
  bool isolates_egress = false;
  std::vector<PolicyRule> ingress;
  std::vector<PolicyRule> egress;
  bool audit = false;  ///< what it alone would deny is let through and told
  Origin origin;
  bool operator==(const NetworkPolicy&) const = default;
};

enum class PolicyTier { kAdmin, kBaseline };
std::string_view to_string(PolicyTier tier);
enum class PolicyAction { kAccept, kDeny, kPass };
std::string_view to_string(PolicyAction action);

struct ClusterPolicyRule {
  std::string name;  ///< may be empty
  PolicyAction action = PolicyAction::kDeny;
  PolicyRule traffic;  ///< what it is about; never without peers
  /// It holds something that is not understood (A12), whatever else `traffic` says: Accept matches nothing,
  /// Deny and Pass deny everything.
  bool fails_closed = false;
  bool operator==(const ClusterPolicyRule&) const = default;
};

/// Cluster-scoped, of the group policy.networking.k8s.io.
struct ClusterNetworkPolicy {
  std::string name;
  PolicyTier tier = PolicyTier::kAdmin;
  int priority = 0;    ///< lower goes first (A4)
  PolicyPeer subject;  ///< `namespaces`, `pods` or both (A8)
  std::vector<ClusterPolicyRule> ingress;
  std::vector<ClusterPolicyRule> egress;
  bool audit = false;  ///< as in NetworkPolicy
  Origin origin;
  bool operator==(const ClusterNetworkPolicy&) const = default;
};

/// The wanted network state, as plain values. Sources write it, compilers read it.
struct ClusterState {
  std::map<std::string, Namespace> namespaces;
  std::map<std::string, Node> nodes;
  std::map<ObjectName, Pod> pods;
  std::map<ObjectName, Service> services;
  std::map<ObjectName, EndpointSlice> slices;
  std::map<ObjectName, NetworkPolicy> policies;
  std::map<std::string, ClusterNetworkPolicy> cluster_policies;
  std::map<std::string, ServiceCidr> service_cidrs;
};

/// One that the state does not have has its name by label all the same (P9).
Labels labels_of_namespace(const ClusterState& state, const std::string& name);

}  // namespace bpfnet::model

template <>
struct std::hash<bpfnet::model::ObjectName> {
  size_t operator()(const bpfnet::model::ObjectName& name) const noexcept {
    const std::hash<bpfnet::SharedText> of_text;
    return of_text(name.ns) * 31 + of_text(name.name);
  }
};
