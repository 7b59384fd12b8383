// Every complaint, word for word: they are what a user has to go by.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control/sources/decode.h"

namespace bpfnet::sources {
namespace {

struct Mistake {
  const char* name;
  std::string text;
  std::vector<std::string> complaints;
};

void PrintTo(const Mistake& mistake, std::ostream* out) {
  *out << mistake.name;
}

class Complaints : public testing::TestWithParam<Mistake> {};

TEST_P(Complaints, NameLineFieldAndExpectation) {
  const DecodedText decoded = decode(GetParam().text, Format::kYaml);
  std::vector<std::string> complaints;
  const auto collect = [&](const std::vector<Problem>& problems) {
    for (Problem problem : problems) {
      problem.origin.source = "f";
      complaints.push_back(problem.to_string());
    }
  };
  collect(decoded.problems);
  for (const Decoded& object : decoded.objects) collect(object.problems);
  EXPECT_THAT(complaints, testing::ElementsAreArray(GetParam().complaints));
}

std::string service(const std::string& spec) {
  return "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n" + spec;
}
std::string pod(const std::string& rest) {
  return "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\n" + rest;
}
std::string slice(const std::string& rest) {
  return "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: web}\n" + rest;
}
std::string node(const std::string& rest) {
  return "apiVersion: v1\nkind: Node\nmetadata: {name: n}\n" + rest;
}
std::string policy(const std::string& spec) {
  return "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec:\n" + spec;
}

const std::string kIp = "  clusterIP: 10.96.0.1\n";
const std::string kRefused = "; the object is not used";
const std::string kSkipped = "; this field is left out";
const std::string kNotRead = "; not read; what stood here before stays";

INSTANTIATE_TEST_SUITE_P(
    Document, Complaints,
    testing::Values(
        Mistake{"Scalar",
                "hello\n",
                {"f:1: is not an object, expected a map with apiVersion, kind and metadata" + kNotRead}},
        Mistake{"NoKind", "apiVersion: v1\n", {"f:1: kind: missing, expected e.g. Service" + kNotRead}},
        Mistake{"NoName",
                "apiVersion: v1\nkind: Pod\nmetadata: {}\n",
                {"f:3: Pod: metadata.name: missing, expected a name" + kNotRead}},
        Mistake{"NoMetadata",
                "apiVersion: v1\nkind: Pod\n",
                {"f:1: Pod: metadata.name: missing, expected a name" + kNotRead}},
        Mistake{"BadName",
                "apiVersion: v1\nkind: Pod\nmetadata: {name: Web_1}\n",
                {"f:3: Pod: metadata.name: is \"Web_1\", expected lower-case letters, digits, '-' and '.'" +
                 kNotRead}},
        Mistake{
            "BadServiceName",
            "apiVersion: v1\nkind: Service\nmetadata: {name: a.b}\n",
            {"f:3: Service: metadata.name: is \"a.b\", expected lower-case letters, digits, '-'" + kNotRead}},
        Mistake{"NameIsNumber",
                "apiVersion: v1\nkind: Pod\nmetadata: {name: 12}\n",
                {"f:3: Pod: metadata.name: is 12, expected a string: put it in quotes" + kNotRead}},
        Mistake{"BadNamespace",
                "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: a.b}\n",
                {"f:3: Pod: metadata.namespace: is \"a.b\", expected lower-case letters, digits and '-'" +
                 kNotRead}},
        Mistake{"BadVersion",
                "apiVersion: v2\nkind: Pod\nmetadata: {name: a}\n",
                {"f:1: Pod default/a: apiVersion: is \"v2\", expected v1" + kRefused}},
        Mistake{"NoVersion",
                "kind: NetworkPolicy\nmetadata: {name: a}\n",
                {"f:1: NetworkPolicy default/a: apiVersion: is missing, expected networking.k8s.io/v1" +
                 kRefused}},
        Mistake{"KeyTwice",
                pod("spec:\n  nodeName: a\n  nodeName: b\n"),
                {"f:6: Pod default/web: spec.nodeName: is given twice, expected once" + kRefused}},
        Mistake{"LabelIsNumber",
                "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n  labels: {version: 1.10}\n",
                {"f:5: Namespace a: metadata.labels.version: is 1.10, expected a string: put it in quotes" +
                 kRefused}},
        Mistake{"LabelIsBool",
                "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n  labels: {x/y: on}\n",
                {"f:5: Namespace a: metadata.labels[\"x/y\"]: is on, expected a string: put it in quotes" +
                 kRefused}},
        Mistake{"LabelKey",
                "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n  labels: {\"a,b\": c}\n",
                {"f:5: Namespace a: metadata.labels[\"a,b\"]: is no label key, expected [prefix/]name" +
                 kRefused}},
        Mistake{"LabelValue",
                "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n  labels: {a: \"b=c\\n\"}\n",
                {"f:5: Namespace a: metadata.labels.a: is \"b=c\\x0a\", expected at most 63 letters, digits, "
                 "'-', '_' "
                 "and '.'" +
                 kRefused}},
        Mistake{"SpecIsText",
                pod("spec: [x]\n"),
                {"f:4: Pod default/web: spec: is a list, expected a map" + kRefused}},
        Mistake{
            "ListItems", "apiVersion: v1\nkind: List\nitems: x\n", {"f:3: items: is not a list" + kNotRead}},
        Mistake{"ListItemText",
                "apiVersion: v1\nkind: List\nitems:\n- x\n",
                {"f:4: items: an item is not an object with a kind" + kNotRead}}),
    [](const auto& each) { return std::string(each.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Service, Complaints,
    testing::Values(
        Mistake{
            "Type",
            service(kIp + "  type: Nodeport\n"),
            {"f:6: Service default/web: spec.type: is Nodeport, expected ClusterIP, NodePort, LoadBalancer, "
             "ExternalName" +
             kRefused}},
        Mistake{
            "ClusterIp",
            service("  clusterIP: 10.96.0.256\n"),
            {"f:5: Service default/web: spec.clusterIP: is 10.96.0.256, expected an IP address" + kRefused}},
        Mistake{"NoClusterIp",
                service("  ports: [{port: 80}]\n"),
                {"f:5: Service default/web: spec.clusterIP: missing, expected an address, or None: no API "
                 "server gives "
                 "one to a manifest in a file; the service is not served"}},
        Mistake{"ClusterIpsDisagree",
                service("  clusterIP: 10.96.0.1\n  clusterIPs: [10.96.0.2]\n"),
                {"f:5: Service default/web: spec.clusterIP: is 10.96.0.1, expected the first of clusterIPs" +
                 kRefused}},
        Mistake{"SameFamilyTwice",
                service("  clusterIPs: [10.96.0.1, 10.96.0.2]\n"),
                {"f:5: Service default/web: spec.clusterIPs[1]: is 10.96.0.2, expected an address of the "
                 "other family" +
                 kRefused}},
        Mistake{"FamilyMismatch",
                service("  clusterIP: fd00::1\n  ipFamilies: [IPv4]\n"),
                {"f:5: Service default/web: spec.clusterIP: is fd00::1, expected an IPv4 address as "
                 "ipFamilies[0] "
                 "says" +
                 kRefused}},
        Mistake{
            "PortText",
            service(kIp + "  ports:\n  - port: \"80\"\n"),
            {"f:7: Service default/web: spec.ports[0].port: is \"80\", expected a number from 1 to 65535" +
             kRefused}},
        Mistake{"PortRange",
                service(kIp + "  ports: [{port: 65536}]\n"),
                {"f:6: Service default/web: spec.ports[0].port: is 65536, expected a number from 1 to 65535" +
                 kRefused}},
        Mistake{"PortOctal",
                service(kIp + "  ports: [{port: 0120}]\n"),
                {"f:6: Service default/web: spec.ports[0].port: is 0120, expected a number from 1 to 65535" +
                 kRefused}},
        Mistake{"PortMissing",
                service(kIp + "  ports: [{name: a}]\n"),
                {"f:6: Service default/web: spec.ports[0].port: missing, expected a number from 1 to 65535" +
                 kRefused}},
        Mistake{"PortsNotAList",
                service(kIp + "  ports: {port: 80}\n"),
                {"f:6: Service default/web: spec.ports: is a map, expected a list" + kRefused}},
        Mistake{"PortEmpty",
                service(kIp + "  ports:\n  -\n"),
                {"f:7: Service default/web: spec.ports[0]: is empty, expected a value" + kRefused}},
        Mistake{
            "Protocol",
            service(kIp + "  ports: [{port: 80, protocol: tcp}]\n"),
            {"f:6: Service default/web: spec.ports[0].protocol: is tcp, expected TCP, UDP, SCTP" + kRefused}},
        Mistake{"NamelessPorts",
                service(kIp + "  ports: [{port: 80}, {port: 81}]\n"),
                {"f:6: Service default/web: spec.ports[1].name: missing, expected a name as there are "
                 "several ports" +
                 kRefused}},
        Mistake{"SameNames",
                service(kIp + "  ports: [{name: a, port: 80}, {name: a, port: 81}]\n"),
                {"f:6: Service default/web: spec.ports[1].name: is \"a\", which another port has, expected a "
                 "name of "
                 "its own" +
                 kRefused}},
        Mistake{"SamePorts",
                service(kIp + "  ports: [{name: a, port: 80}, {name: b, port: 80}]\n"),
                {"f:6: Service default/web: spec.ports[1].port: is 80 TCP like another port, expected a "
                 "number of its "
                 "own" +
                 kRefused}},
        Mistake{"SameNodePorts",
                service(kIp + "  type: NodePort\n  ports: [{name: a, port: 80, nodePort: 30080}, "
                              "{name: b, port: 81, nodePort: 30080}]\n"),
                {"f:7: Service default/web: spec.ports[1].nodePort: is 30080 TCP like another port, expected "
                 "a number "
                 "of its own" +
                 kRefused}},
        Mistake{"NodePortMissing",
                service(kIp + "  type: NodePort\n  ports: [{port: 80}]\n"),
                {"f:7: Service default/web: spec.ports[0].nodePort: missing, expected a number: no API "
                 "server gives "
                 "one to a manifest in a file"}},
        Mistake{"NodePortOnClusterIp",
                service(kIp + "  ports: [{port: 80, nodePort: 30080}]\n"),
                {"f:6: Service default/web: spec.ports[0].nodePort: is set, expected only on services of "
                 "type NodePort "
                 "and LoadBalancer" +
                 kSkipped}},
        Mistake{"ExternalIp",
                service(kIp + "  externalIPs: [203.0.113.7, 203.0.113]\n"),
                {"f:6: Service default/web: spec.externalIPs[1]: is 203.0.113, expected an IP address" +
                 kSkipped}},
        Mistake{"SourceRange",
                service(kIp + "  loadBalancerSourceRanges: [10.0.0.0/33]\n"),
                {"f:6: Service default/web: spec.loadBalancerSourceRanges[0]: is 10.0.0.0/33, expected a "
                 "CIDR such as "
                 "10.0.0.0/8 or fd00::/8" +
                 kSkipped}},
        Mistake{"Ingress",
                service(kIp + "status: {loadBalancer: {ingress: [{ip: x}]}}\n"),
                {"f:6: Service default/web: status.loadBalancer.ingress[0].ip: is x, expected an IP address" +
                 kSkipped}},
        Mistake{"TrafficPolicy",
                service(kIp + "  externalTrafficPolicy: local\n"),
                {"f:6: Service default/web: spec.externalTrafficPolicy: is local, expected Cluster, Local" +
                 kRefused}},
        Mistake{
            "Affinity",
            service(
                kIp +
                "  sessionAffinity: ClientIP\n  sessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}\n"),
            {"f:7: Service default/web: spec.sessionAffinityConfig.clientIP.timeoutSeconds: is 0, expected a "
             "number from 1 to 86400" +
             kRefused}}),
    [](const auto& each) { return std::string(each.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Others, Complaints,
    testing::Values(
        Mistake{"PodIp",
                pod("status: {podIPs: [{ip: 10.0.0}]}\n"),
                {"f:4: Pod default/web: status.podIPs[0].ip: is 10.0.0, expected an IP address" + kRefused}},
        Mistake{"PodIpMissing",
                pod("status: {podIPs: [{}]}\n"),
                {"f:4: Pod default/web: status.podIPs[0].ip: missing, expected an IP address" + kRefused}},
        Mistake{"PodIpsDisagree",
                pod("status:\n  podIP: 10.0.0.1\n  podIPs: [{ip: 10.0.0.2}]\n"),
                {"f:5: Pod default/web: status.podIP: is 10.0.0.1, expected the first of podIPs, 10.0.0.2" +
                 kRefused}},
        Mistake{"Phase",
                pod("status: {phase: Done}\n"),
                {"f:4: Pod default/web: status.phase: is Done, expected Pending, Running, Succeeded, Failed, "
                 "Unknown" +
                 kRefused}},
        Mistake{"HostNetwork",
                pod("spec: {hostNetwork: \"true\"}\n"),
                {"f:4: Pod default/web: spec.hostNetwork: is \"true\", expected true or false" + kRefused}},
        Mistake{"ContainerPort",
                pod("spec:\n  containers:\n  - ports:\n    - hostPort: 80\n"),
                {"f:7: Pod default/web: spec.containers[0].ports[0].containerPort: missing, expected a "
                 "number from 1 "
                 "to 65535" +
                 kRefused}},
        Mistake{
            "HostPort",
            pod("spec: {containers: [{ports: [{containerPort: 80, hostPort: -1}]}]}\n"),
            {"f:4: Pod default/web: spec.containers[0].ports[0].hostPort: is -1, expected a number from 0 to "
             "65535" +
             kRefused}},
        Mistake{
            "NodeCidr",
            node("spec: {podCIDRs: [10.0.0.0]}\n"),
            {"f:4: Node n: spec.podCIDRs[0]: is 10.0.0.0, expected a CIDR such as 10.0.0.0/8 or fd00::/8" +
             kRefused}},
        Mistake{"NodeCidrsDisagree",
                node("spec: {podCIDR: 10.0.0.0/24, podCIDRs: [10.0.1.0/24]}\n"),
                {"f:4: Node n: spec.podCIDR: is 10.0.0.0/24, expected the first of podCIDRs, 10.0.1.0/24" +
                 kRefused}},
        Mistake{
            "NodeAddress",
            node("status: {addresses: [{type: InternalIP, address: x}, {address: 10.0.0.1}]}\n"),
            {"f:4: Node n: status.addresses[0].address: is x, expected an IP address" + kRefused,
             "f:4: Node n: status.addresses[1].type: missing, expected InternalIP, ExternalIP or Hostname" +
                 kRefused}},
        Mistake{"SliceType",
                slice("endpoints: []\n"),
                {"f:1: EndpointSlice default/web: addressType: missing, expected IPv4 or IPv6" + kRefused}},
        Mistake{"SliceFamily",
                slice("addressType: IPv4\nendpoints:\n- addresses: [\"fd00::1\"]\n"),
                {"f:6: EndpointSlice default/web: endpoints[0].addresses[0]: is fd00::1, expected an IPv4 "
                 "address as "
                 "addressType says" +
                 kRefused}},
        Mistake{
            "SliceReady",
            slice("addressType: IPv4\nendpoints: [{addresses: [10.0.0.1], conditions: {ready: 1}}]\n"),
            {"f:5: EndpointSlice default/web: endpoints[0].conditions.ready: is 1, expected true or false" +
             kRefused}},
        Mistake{"SlicePort",
                slice("addressType: IPv4\nports: [{port: http}]\n"),
                {"f:5: EndpointSlice default/web: ports[0].port: is http, expected a number from 0 to 65535" +
                 kRefused}}),
    [](const auto& each) { return std::string(each.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Policy, Complaints,
    testing::Values(
        Mistake{
            "MisspeltFrom",
            policy("  podSelector: {}\n  ingress:\n  - form: []\n"),
            {"f:7: NetworkPolicy default/p: spec.ingress[0].form: is not known here, expected ports, from" +
             kRefused}},
        Mistake{"MisspeltSelector",
                policy("  podSelectors: {}\n"),
                {"f:5: NetworkPolicy default/p: spec.podSelectors: is not known here, expected podSelector, "
                 "policyTypes, ingress, egress" +
                 kRefused}},
        Mistake{
            "SelectorLabels",
            policy("  podSelector: {app: web}\n"),
            {"f:5: NetworkPolicy default/p: spec.podSelector.app: is not known here, expected matchLabels, "
             "matchExpressions" +
             kRefused}},
        Mistake{"PolicyType",
                policy("  podSelector: {}\n  policyTypes: [ingress]\n"),
                {"f:6: NetworkPolicy default/p: spec.policyTypes[0]: is ingress, expected Ingress, Egress" +
                 kRefused}},
        Mistake{"EmptyRule",
                policy("  podSelector: {}\n  ingress:\n  -\n"),
                {"f:7: NetworkPolicy default/p: spec.ingress[0]: is empty, expected a value" + kRefused}},
        Mistake{"EmptyPeer",
                policy("  podSelector: {}\n  ingress:\n  - from:\n    - podSelector:\n"),
                {"f:8: NetworkPolicy default/p: spec.ingress[0].from[0]: is empty, expected podSelector, "
                 "namespaceSelector or ipBlock" +
                 kRefused}},
        Mistake{
            "BlockAndSelector",
            policy("  podSelector: {}\n  egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]\n"),
            {"f:6: NetworkPolicy default/p: spec.egress[0].to[0].ipBlock: stands beside a selector, expected "
             "alone" +
             kRefused}},
        Mistake{"BlockCidr",
                policy("  podSelector: {}\n  egress: [{to: [{ipBlock: {}}]}]\n"),
                {"f:6: NetworkPolicy default/p: spec.egress[0].to[0].ipBlock.cidr: missing, expected a CIDR "
                 "such as "
                 "10.0.0.0/8 or fd00::/8" +
                 kRefused}},
        Mistake{"ExceptOutside",
                policy("  podSelector: {}\n  egress:\n  - to:\n    - ipBlock: {cidr: 10.0.0.0/8, except: "
                       "[11.0.0.0/9]}\n"),
                {"f:8: NetworkPolicy default/p: spec.egress[0].to[0].ipBlock.except[0]: is 11.0.0.0/9, "
                 "expected a part "
                 "of 10.0.0.0/8" +
                 kRefused}},
        Mistake{"ExceptWhole",
                policy("  podSelector: {}\n  egress:\n  - to:\n    - ipBlock: {cidr: 10.0.0.0/8, except: "
                       "[10.0.0.0/8]}\n"),
                {"f:8: NetworkPolicy default/p: spec.egress[0].to[0].ipBlock.except[0]: is 10.0.0.0/8, "
                 "expected a part "
                 "of 10.0.0.0/8" +
                 kRefused}},
        Mistake{"ExceptFamily",
                policy("  podSelector: {}\n  egress:\n  - to:\n    - ipBlock: {cidr: 0.0.0.0/0, except: "
                       "[\"fd00::/8\"]}\n"),
                {"f:8: NetworkPolicy default/p: spec.egress[0].to[0].ipBlock.except[0]: is fd00::/8, "
                 "expected a part "
                 "of 0.0.0.0/0" +
                 kRefused}},
        Mistake{"EndPortBelow",
                policy("  podSelector: {}\n  ingress: [{ports: [{port: 80, endPort: 79}]}]\n"),
                {"f:6: NetworkPolicy default/p: spec.ingress[0].ports[0].endPort: is 79, expected at least "
                 "port, 80" +
                 kRefused}},
        Mistake{"EndPortOfName",
                policy("  podSelector: {}\n  ingress: [{ports: [{port: http, endPort: 79}]}]\n"),
                {"f:6: NetworkPolicy default/p: spec.ingress[0].ports[0].endPort: is given without a number "
                 "in port, "
                 "expected both" +
                 kRefused}},
        Mistake{"PortName",
                policy("  podSelector: {}\n  ingress: [{ports: [{port: \"80\"}]}]\n"),
                {"f:6: NetworkPolicy default/p: spec.ingress[0].ports[0].port: is \"80\", expected a number "
                 "from 1 to "
                 "65535 or a port name" +
                 kRefused}},
        Mistake{
            "PortZero",
            policy("  podSelector: {}\n  ingress: [{ports: [{port: 0}]}]\n"),
            {"f:6: NetworkPolicy default/p: spec.ingress[0].ports[0].port: is 0, expected a number from 1 to "
             "65535" +
             kRefused}},
        Mistake{"Operator",
                policy("  podSelector: {matchExpressions: [{key: a, operator: in, values: [b]}]}\n"),
                {"f:5: NetworkPolicy default/p: spec.podSelector.matchExpressions[0].operator: is in, "
                 "expected In, "
                 "NotIn, Exists, DoesNotExist" +
                 kRefused}},
        Mistake{"NoValues",
                policy("  podSelector: {matchExpressions: [{key: a, operator: NotIn}]}\n"),
                {"f:5: NetworkPolicy default/p: spec.podSelector.matchExpressions[0].values: is empty, "
                 "expected some "
                 "values with operator NotIn" +
                 kRefused}},
        Mistake{"Values",
                policy("  podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}\n"),
                {"f:5: NetworkPolicy default/p: spec.podSelector.matchExpressions[0].values: is given, "
                 "expected no "
                 "values with operator Exists" +
                 kRefused}},
        Mistake{"NoKey",
                policy("  podSelector: {matchExpressions: [{operator: Exists}]}\n"),
                {"f:5: NetworkPolicy default/p: spec.podSelector.matchExpressions[0].key: is nothing, "
                 "expected a label "
                 "key" +
                 kRefused}}),
    [](const auto& each) { return std::string(each.param.name); });

}  // namespace
}  // namespace bpfnet::sources
