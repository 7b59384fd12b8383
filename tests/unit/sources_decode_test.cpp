#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>

#include "control/sources/decode.h"

namespace bpfnet::sources {
namespace {

// The one object of `text`, which must be without complaint.
template <typename T>
T only(std::string_view text, Format format = Format::kYaml) {
  DecodedText decoded = decode(text, format);
  for (const Problem& problem : decoded.problems) ADD_FAILURE() << problem.to_string();
  EXPECT_EQ(decoded.objects.size(), 1u);
  if (decoded.objects.empty()) return {};
  for (const Problem& problem : decoded.objects[0].problems) ADD_FAILURE() << problem.to_string();
  if (!decoded.objects[0].object) return {};
  return std::get<T>(*decoded.objects[0].object);
}

template <typename T>
std::string joined(const std::vector<T>& values) {
  std::string result;
  for (const T& value : values) result += (result.empty() ? "" : " ") + value.to_string();
  return result;
}

TEST(Decode, NamespaceAlwaysHasItsNameAsLabel) {  // P9
  const auto ns = only<model::Namespace>(R"(apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: blue, kubernetes.io/metadata.name: other}}
)");
  EXPECT_EQ(ns.name, "shop");
  EXPECT_EQ(ns.labels, (model::Labels{{"team", "blue"}, {"kubernetes.io/metadata.name", "shop"}}));
  EXPECT_EQ(ns.origin.line, 1);
}

TEST(Decode, Node) {
  const auto node = only<model::Node>(R"(apiVersion: v1
kind: Node
metadata: {name: node-1.example, labels: {topology.kubernetes.io/zone: a}}
spec: {podCIDR: 10.1.0.0/24, podCIDRs: [10.1.0.0/24, "fd00:1::/64"]}
status:
  addresses:
  - {type: Hostname, address: node-1}
  - {type: ExternalIP, address: 203.0.113.1}
  - {type: InternalIP, address: 192.0.2.1}
  - {type: InternalIP, address: "2001:db8::1"}
)");
  EXPECT_EQ(joined(node.pod_cidrs), "10.1.0.0/24 fd00:1::/64");
  EXPECT_EQ(joined(node.internal_ips), "192.0.2.1 2001:db8::1");
  EXPECT_EQ(joined(node.external_ips), "203.0.113.1");
  EXPECT_EQ(node.labels.at("topology.kubernetes.io/zone"), "a");
}

TEST(Decode, S55_TaintsAndTheTimeOfDeletionOfANode) {
  const auto node = only<model::Node>(R"(apiVersion: v1
kind: Node
metadata: {name: n, deletionTimestamp: "2026-01-01T00:00:00Z"}
spec: {taints: [{key: ToBeDeletedByClusterAutoscaler, effect: NoSchedule, value: "1"}, {key: other}]}
)");
  EXPECT_TRUE(node.deleting);
  EXPECT_EQ(node.taints, (std::vector<std::string>{"ToBeDeletedByClusterAutoscaler", "other"}));
  const auto plain = only<model::Node>("apiVersion: v1\nkind: Node\nmetadata: {name: n}\n");
  EXPECT_FALSE(plain.deleting);
  EXPECT_TRUE(plain.taints.empty());
}

TEST(Decode, S32_ServiceCidr) {
  const auto object = only<model::ServiceCidr>(R"(apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: kubernetes}
spec: {cidrs: [10.96.0.0/12, "fd00:10:96::/112"]}
)");
  EXPECT_EQ(object.name, "kubernetes");
  EXPECT_EQ(joined(object.cidrs), "10.96.0.0/12 fd00:10:96::/112");
  const auto bad =
      decode("apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {name: k}\nspec: {cidrs: [x]}\n",
             Format::kYaml);
  ASSERT_EQ(bad.objects.size(), 1u);
  EXPECT_FALSE(bad.objects[0].object);
}

using Nanoseconds = std::chrono::nanoseconds;

std::optional<Nanoseconds> last_change(const std::string& annotation, size_t problems = 0) {
  const auto decoded = decode(
      "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, annotations: "
      "{endpoints.kubernetes.io/last-change-trigger-time: " +
          annotation + "}}\naddressType: IPv4\n",
      Format::kYaml);
  EXPECT_EQ(decoded.objects.at(0).problems.size(), problems) << annotation;
  const auto& slice = std::get<model::EndpointSlice>(decoded.objects.at(0).object.value());
  if (!slice.last_change) return {};
  return slice.last_change->time_since_epoch();
}

TEST(Decode, S59_WhenASliceChangedLast) {
  EXPECT_EQ(last_change("\"2026-01-31T12:00:00Z\""), Nanoseconds(1769860800'000000000));
  EXPECT_EQ(last_change("2026-01-31T12:00:00.25Z"), Nanoseconds(1769860800'250000000));
  EXPECT_EQ(last_change("\"2026-01-31T12:00:00.123456789Z\""), Nanoseconds(1769860800'123456789));
  EXPECT_EQ(last_change("\"2026-01-31T13:30:00+01:30\""), Nanoseconds(1769860800'000000000));
  EXPECT_EQ(last_change("\"2024-02-29T00:00:00-00:30\""), Nanoseconds(1709166600'000000000));
  for (const char* bad :
       {"yesterday", "\"2026-02-30T00:00:00Z\"", "\"2026-01-31T12:00:00\"", "\"2026-01-31T12:00:00.Z\"",
        "\"2026-01-31T12:00:00Zz\"", "\"2026-1-31T12:00:00Z\""})
    EXPECT_FALSE(last_change(bad, 1)) << bad;
}

/// Of a Pod and of a Namespace whose annotation says `value`.
std::vector<std::optional<model::Denied>> denied(const std::string& value, size_t problems = 0) {
  std::vector<std::optional<model::Denied>> found;
  for (const char* kind : {"Pod", "Namespace"}) {
    const auto text = fmt::format(
        "apiVersion: v1\nkind: {}\nmetadata: {{name: x, annotations: {{policy.bpfnet.io/denied: {}}}}}\n",
        kind, value);
    const auto decoded = decode(text, Format::kYaml);
    EXPECT_EQ(decoded.objects.size(), 1U) << value;
    for (const auto& object : decoded.objects) {
      EXPECT_EQ(object.problems.size(), problems) << value;
      if (const auto* pod = std::get_if<model::Pod>(&*object.object)) found.push_back(pod->denied);
      if (const auto* ns = std::get_if<model::Namespace>(&*object.object)) found.push_back(ns->denied);
    }
  }
  return found;
}

TEST(Decode, WhatTheDeniedHear) {
  using Both = std::vector<std::optional<model::Denied>>;
  EXPECT_EQ(denied("reject"), (Both{model::Denied::kReject, model::Denied::kReject}));
  EXPECT_EQ(denied("drop"), (Both{model::Denied::kDrop, model::Denied::kDrop}));
  // A mistake costs the annotation, not the object.
  EXPECT_EQ(denied("refuse", 1), (Both{std::nullopt, std::nullopt}));
}

TEST(Decode, NodeWithTheOldPodCidrOnly) {
  const auto node =
      only<model::Node>("apiVersion: v1\nkind: Node\nmetadata: {name: n}\nspec: {podCIDR: 10.1.2.0/24}\n");
  EXPECT_EQ(joined(node.pod_cidrs), "10.1.2.0/24");
}

TEST(Decode, Pod) {
  const auto pod = only<model::Pod>(R"(apiVersion: v1
kind: Pod
metadata: {name: web-0, namespace: shop, labels: {app: web}}
spec:
  nodeName: node-1
  initContainers:
  - {name: migrate, ports: [{containerPort: 1}]}
  - {name: proxy, restartPolicy: Always, ports: [{name: mesh, containerPort: 15001}]}
  containers:
  - name: web
    ports:
    - {name: http, containerPort: 8080, hostPort: 80, hostIP: 192.0.2.1}
    - {containerPort: 53, protocol: UDP}
  - {name: quiet}
status: {phase: Running, podIP: 10.1.0.7, podIPs: [{ip: 10.1.0.7}, {ip: "fd00:1::7"}]}
)");
  EXPECT_EQ(pod.name.to_string(), "shop/web-0");
  EXPECT_EQ(pod.node_name, "node-1");
  EXPECT_EQ(joined(pod.ips), "10.1.0.7 fd00:1::7");
  EXPECT_EQ(pod.phase, model::PodPhase::kRunning);
  EXPECT_FALSE(pod.host_network);
  ASSERT_EQ(pod.ports.size(), 3u);
  EXPECT_EQ(pod.ports[0],
            (model::ContainerPort{"http", 8080, 80, *Address::parse("192.0.2.1"), model::Protocol::kTcp}));
  EXPECT_EQ(pod.ports[1], (model::ContainerPort{"", 53, 0, {}, model::Protocol::kUdp}));
  EXPECT_EQ(pod.ports[2].name, "mesh");
}

TEST(Decode, P22_APodThatIsTerminating) {
  EXPECT_TRUE(only<model::Pod>("apiVersion: v1\nkind: Pod\nmetadata: {name: p, deletionTimestamp: "
                               "\"2026-01-01T00:00:00Z\"}\n")
                  .deleting);
  EXPECT_FALSE(only<model::Pod>("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n").deleting);
}

TEST(Decode, PodDefaults) {
  const auto pod = only<model::Pod>(
      "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {hostNetwork: true}\nstatus: {podIP: "
      "10.0.0.1}\n");
  EXPECT_EQ(pod.name.ns, "default");
  EXPECT_EQ(pod.phase, model::PodPhase::kPending);
  EXPECT_TRUE(pod.host_network);
  EXPECT_EQ(joined(pod.ips), "10.0.0.1");
}

TEST(Decode, Service) {
  const auto service = only<model::Service>(R"(apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, labels: {a: b}}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.10
  clusterIPs: [10.96.0.10, "fd00:10:96::10"]
  ipFamilies: [IPv4, IPv6]
  ports:
  - {name: http, port: 80, targetPort: http, nodePort: 30080}
  - {name: dns, port: 53, protocol: UDP}
  externalIPs: [203.0.113.7]
  loadBalancerSourceRanges: [" 198.51.100.0/24 "]
  externalTrafficPolicy: Local
  internalTrafficPolicy: Local
  sessionAffinity: ClientIP
  healthCheckNodePort: 32000
status:
  loadBalancer:
    ingress:
    - {ip: 203.0.113.8}
    - {ip: 203.0.113.9, ipMode: Proxy}
    - {hostname: lb.example}
)");
  EXPECT_EQ(service.type, model::ServiceType::kLoadBalancer);
  EXPECT_EQ(joined(service.cluster_ips), "10.96.0.10 fd00:10:96::10");
  EXPECT_EQ(service.ip_families, (std::vector{Family::kIpv4, Family::kIpv6}));
  EXPECT_EQ(service.ports, (std::vector<model::ServicePort>{{"http", model::Protocol::kTcp, 80, 30080},
                                                            {"dns", model::Protocol::kUdp, 53, 0}}));
  EXPECT_EQ(joined(service.external_ips), "203.0.113.7");
  EXPECT_EQ(joined(service.source_ranges), "198.51.100.0/24");
  ASSERT_EQ(service.load_balancer_ingress.size(), 2u);  // S37
  EXPECT_FALSE(service.load_balancer_ingress[0].proxy_mode);
  EXPECT_TRUE(service.load_balancer_ingress[1].proxy_mode);
  EXPECT_EQ(service.external_traffic_policy, model::TrafficPolicy::kLocal);
  EXPECT_EQ(service.internal_traffic_policy, model::TrafficPolicy::kLocal);
  EXPECT_EQ(service.affinity, std::chrono::seconds(10800));  // S43
  EXPECT_EQ(service.health_check_node_port, 32000);
}

TEST(Decode, ServiceDefaultsAndHeadless) {
  const auto service = only<model::Service>(
      "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: None, ports: [{port: 80}]}\n");
  EXPECT_EQ(service.type, model::ServiceType::kClusterIp);
  EXPECT_TRUE(service.cluster_ips.empty());
  EXPECT_EQ(service.ports[0].protocol, model::Protocol::kTcp);
  EXPECT_FALSE(service.affinity);
  EXPECT_EQ(service.external_traffic_policy, model::TrafficPolicy::kCluster);
}

TEST(Decode, AddressesAreReadSloppily) {  // S11
  const auto service = only<model::Service>(R"(apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 172.30.0.041, ports: [{port: 80}], loadBalancerSourceRanges: [203.0.113.000/025]}
)");
  EXPECT_EQ(joined(service.cluster_ips), "172.30.0.41");
  EXPECT_EQ(joined(service.source_ranges), "203.0.113.0/25");
}

TEST(Decode, EndpointSlice) {
  const auto slice = only<model::EndpointSlice>(R"(apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-abc, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv6
ports:
- {name: http, port: 8080}
- {port: 53, protocol: UDP}
- {name: all}
endpoints:
- addresses: ["fd00::1", "fd00::2"]
  conditions: {ready: false, serving: true, terminating: true}
  nodeName: node-1
  zone: a
  hints: {forZones: [{name: a}, {name: b}], forNodes: [{name: node-1}]}
- addresses: ["fd00::3"]
- addresses: []
)");
  EXPECT_EQ(slice.service, "web");
  EXPECT_EQ(slice.family, Family::kIpv6);
  EXPECT_EQ(slice.ports, (std::vector<model::SlicePort>{{"http", model::Protocol::kTcp, 8080},
                                                        {"", model::Protocol::kUdp, 53}}));  // S4
  ASSERT_EQ(slice.endpoints.size(), 2u);
  const model::SliceEndpoint& first = slice.endpoints[0];
  EXPECT_EQ(first.ip.to_string(), "fd00::1");
  EXPECT_FALSE(first.ready);
  EXPECT_TRUE(first.serving);
  EXPECT_TRUE(first.terminating);
  EXPECT_EQ(first.node_name, "node-1");
  EXPECT_EQ(first.for_zones, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(first.for_nodes, (std::vector<std::string>{"node-1"}));
  EXPECT_TRUE(slice.endpoints[1].ready);  // S8
  EXPECT_TRUE(slice.endpoints[1].serving);
  EXPECT_FALSE(slice.endpoints[1].terminating);
  EXPECT_FALSE(slice.endpoints[1].node_name);  // S9
}

// discovery.k8s.io/v1beta1, as API servers before 1.21 have it.
TEST(Decode, NodeOfAnEndpointByItsTopology) {
  const auto slice = only<model::EndpointSlice>(R"(apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-abc, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 80}]
endpoints:
- addresses: [10.0.0.1]
  topology: {kubernetes.io/hostname: node-1, topology.kubernetes.io/zone: a}
- addresses: [10.0.0.2]
  nodeName: node-2
  topology: {kubernetes.io/hostname: node-1}
- addresses: [10.0.0.3]
  topology: {topology.kubernetes.io/zone: a}
)");
  ASSERT_EQ(slice.endpoints.size(), 3u);
  EXPECT_EQ(slice.endpoints[0].node_name, "node-1");
  EXPECT_EQ(slice.endpoints[1].node_name, "node-2");
  EXPECT_FALSE(slice.endpoints[2].node_name);
}

TEST(Decode, SlicesOfHostNamesAreLeftOut) {  // S4
  const DecodedText decoded =
      decode("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s}\naddressType: FQDN\n",
             Format::kYaml);
  EXPECT_TRUE(decoded.objects.empty());
  EXPECT_TRUE(decoded.problems.empty());
  EXPECT_TRUE(decoded.complete);
}

TEST(Decode, UnknownFieldsKindsAndGroupsAreIgnored) {
  EXPECT_TRUE(
      decode("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n", Format::kYaml).objects.empty());
  EXPECT_TRUE(
      decode("apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: d}\n", Format::kYaml)
          .objects.empty());
  EXPECT_TRUE(
      decode("apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: d}\n", Format::kYaml)
          .objects.empty());
  only<model::Pod>(
      "apiVersion: v1\nkind: Pod\nmetadata: {name: p, uid: x}\nspec: {novelty: [1]}\nextra: 1\n");
}

TEST(Decode, SeveralDocumentsAndEmptyOnes) {
  const DecodedText decoded = decode(
      "# only a comment\n---\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\napiVersion: "
      "v1\n"
      "kind: Namespace\nmetadata: {name: b}\n...\n",
      Format::kYaml);
  ASSERT_EQ(decoded.objects.size(), 2u);
  EXPECT_EQ(decoded.objects[0].line, 4);
  EXPECT_EQ(decoded.objects[1].name.name, "b");
  EXPECT_TRUE(decoded.problems.empty());
}

TEST(Decode, Lists) {
  const DecodedText decoded = decode(R"(apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Namespace
  metadata: {name: a}
- {apiVersion: apps/v1, kind: Deployment}
- apiVersion: networking.k8s.io/v1
  kind: NetworkPolicy
  metadata: {name: p}
  spec: {podSelector: {}}
)",
                                     Format::kYaml);
  ASSERT_EQ(decoded.objects.size(), 2u);
  EXPECT_EQ(decoded.objects[1].line, 8);
  EXPECT_EQ(decoded.objects[1].name.to_string(), "default/p");
}

TEST(Decode, ItemsOfTypedListsNeedNoKind) {
  const DecodedText decoded = decode(
      R"({"apiVersion":"v1","kind":"NamespaceList","items":[{"metadata":{"name":"a"}},{"metadata":{"name":"b"}}]})",
      Format::kJson);
  ASSERT_EQ(decoded.objects.size(), 2u);
  EXPECT_EQ(decoded.objects[1].name.name, "b");
}

TEST(Decode, Json) {
  const auto service = only<model::Service>(R"({
  "apiVersion": "v1", "kind": "Service",
  "metadata": {"name": "w\u0065b", "annotations": {"note": "\ud83d\ude00 \"quoted\" \/ \t"}},
  "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80, "targetPort": "http"}]}
})",
                                            Format::kJson);
  EXPECT_EQ(service.name.name, "web");
  EXPECT_EQ(service.ports[0].port, 80);
}

TEST(Decode, JsonInAYamlFile) {
  const auto ns = only<model::Namespace>(
      R"({"apiVersion":"v1","kind":"Namespace","metadata":{"name":"a","labels":{"e":"\u0062"}}})");
  EXPECT_EQ(ns.labels.at("e"), "b");
  EXPECT_EQ(only<model::Namespace>("{apiVersion: v1, kind: Namespace, metadata: {name: b}}").name, "b");
}

}  // namespace
}  // namespace bpfnet::sources
