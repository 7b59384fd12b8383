// The patterns of NetworkPolicy. P-numbers are those of the policy specification.
#include "tests/e2e/policy_patterns.h"

namespace bpfnet::e2e {
namespace {

/// For most patterns: a policy of namespace x about all its pods, for ingress alone.
std::string ingress_of_x(const std::string& rules) {
  return network_policy("x", "test", "podSelector: {}, policyTypes: [Ingress], ingress: " + rules);
}
std::string egress_of_x(const std::string& rules) {
  return network_policy("x", "test", "podSelector: {}, policyTypes: [Egress], egress: " + rules);
}

}  // namespace

std::vector<Pattern> isolation_patterns() {
  return {
      {"NoPolicyAllowsAll", "", nullptr, nullptr},
      // P1, P4, P25. Replies of what x's pods begin themselves pass (P16), in this and all that follow.
      {"DenyAllIngress", network_policy("x", "test", "podSelector: {}"), nullptr, into("x")},
      // P2
      {"DenyAllEgressNamesItsType", network_policy("x", "test", "podSelector: {}, policyTypes: [Egress]"),
       out_of("x"), nullptr},
      {"DenyAllBothWays", network_policy("x", "test", "podSelector: {}, policyTypes: [Ingress, Egress]"),
       out_of("x"), into("x")},
      // P2: a list without rules is no reason to isolate for egress,
      {"EmptyEgressListIsolatesForIngressAlone", network_policy("x", "test", "podSelector: {}, egress: []"),
       nullptr, into("x")},
      // but rules are.
      {"EgressRulesIsolateForEgressToo",
       network_policy("x", "test", "podSelector: {}, egress: [{ports: [{port: 80}]}]"),
       out_of("x", [](const Cell& cell) { return tcp(cell) && cell.port == 80; }), into("x")},
      // P4
      {"OneEmptyRuleAllowsAll", ingress_of_x("[{}]"), nullptr, nullptr},
      {"EmptyPeersAndPortsAreEverybodyAndEverything", ingress_of_x("[{from: [], ports: []}]"), nullptr,
       nullptr},
      // P3
      {"AllowAllBesideDenyAllAllows", network_policy("x", "deny", "podSelector: {}") + ingress_of_x("[{}]"),
       nullptr, nullptr},
      // P1: whom no policy selects is not isolated.
      {"OnlySelectedPodsAreIsolated", network_policy("x", "test", "podSelector: {matchLabels: {app: a}}"),
       nullptr, [](const Cell& cell) { return !(in(cell.to, "x") && app(cell.to, "a")); }},
      // P9: NotIn selects pods without the label, too.
      {"SubjectByNotIn",
       network_policy("x", "test",
                      "podSelector: {matchExpressions: [{key: tier, operator: NotIn, values: [front]}]}"),
       nullptr, [](const Cell& cell) { return !in(cell.to, "x") || app(cell.to, "a"); }},
      // P3: x's egress and y's ingress both decide.
      {"EgressOfTheSourceAndIngressOfTheDestination",
       network_policy(
           "x", "test",
           "podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: "
           "{team: blue}}}]}]") +
           network_policy("y", "test",
                          "podSelector: {}, ingress: [{from: [{podSelector: {}}], ports: [{port: "
                          "80}]}, {ports: [{port: 81, protocol: UDP}]}]"),
       out_of("x", [](const Cell& cell) { return in(cell.to, "y"); }),
       into("y",
            [](const Cell& cell) {
              return (in(cell.from, "y") && tcp(cell) && cell.port == 80) || (udp(cell) && cell.port == 81);
            })},
  };
}

std::vector<Pattern> peer_patterns() {
  return {
      // P8
      {"PodSelectorMeansTheOwnNamespace", ingress_of_x("[{from: [{podSelector: {matchLabels: {app: b}}}]}]"),
       nullptr, into("x", [](const Cell& cell) { return in(cell.from, "x") && app(cell.from, "b"); })},
      {"EmptyPodSelectorIsTheOwnNamespace", ingress_of_x("[{from: [{podSelector: {}}]}]"), nullptr,
       into("x", [](const Cell& cell) { return in(cell.from, "x"); })},
      {"NamespaceSelectorIsAllItsPods",
       ingress_of_x("[{from: [{namespaceSelector: {matchLabels: {team: blue}}}]}]"), nullptr,
       into("x", [](const Cell& cell) { return in(cell.from, "y"); })},
      {"EmptyNamespaceSelectorIsAllPodsAndNobodyElse", ingress_of_x("[{from: [{namespaceSelector: {}}]}]"),
       nullptr, into("x", [](const Cell& cell) { return cell.from.is_pod(); })},
      {"BothSelectorsInOneItemAreAnd",
       ingress_of_x(
           "[{from: [{namespaceSelector: {matchLabels: {team: blue}}, podSelector: {matchLabels: {app: "
           "c}}}]}]"),
       nullptr, into("x", [](const Cell& cell) { return in(cell.from, "y") && app(cell.from, "c"); })},
      {"TwoItemsAreOr",
       ingress_of_x(
           "[{from: [{namespaceSelector: {matchLabels: {team: blue}}}, {podSelector: {matchLabels: {app: "
           "c}}}]}]"),
       nullptr,
       into("x",
            [](const Cell& cell) {
              return in(cell.from, "y") || (in(cell.from, "x") && app(cell.from, "c"));
            })},
      // P9
      {"NamespaceByItsName",
       ingress_of_x("[{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: z}}}]}]"),
       nullptr, into("x", [](const Cell& cell) { return in(cell.from, "z"); })},
      {"NotInMatchesWhoLacksTheLabel",
       ingress_of_x("[{from: [{namespaceSelector: {matchExpressions: [{key: team, operator: NotIn, values: "
                    "[red]}]}}]}]"),
       nullptr, into("x", [](const Cell& cell) { return in(cell.from, "y") || in(cell.from, "z"); })},
      {"DoesNotExist",
       ingress_of_x(
           "[{from: [{namespaceSelector: {matchExpressions: [{key: team, operator: DoesNotExist}]}}]}]"),
       nullptr, into("x", [](const Cell& cell) { return in(cell.from, "z"); })},
      {"ExistsAndIn",
       ingress_of_x(
           "[{from: [{namespaceSelector: {matchExpressions: [{key: team, operator: Exists}]}, podSelector: "
           "{matchExpressions: [{key: app, operator: In, values: [a, c]}, {key: tier, operator: "
           "Exists}]}}]}]"),
       nullptr,
       into("x",
            [](const Cell& cell) {
              return (in(cell.from, "x") || in(cell.from, "y")) && app(cell.from, "a");
            })},
      // P23
      {"NobodyMatchesIsNobodyMayCall",
       ingress_of_x("[{from: [{podSelector: {matchLabels: {app: nobody}}}]}]"), nullptr, into("x")},
      // P25: selectors are about both families; P11: what is judged is the pod behind the ClusterIP.
      {"EgressToPods",
       egress_of_x("[{to: [{namespaceSelector: {matchLabels: {team: blue}}, podSelector: {matchLabels: {app: "
                   "b}}}]}]"),
       out_of("x", [](const Cell& cell) { return in(cell.to, "y") && app(cell.to, "b"); }), nullptr},
      // P3: what two policies allow is their union, and not the peers of one at the ports of the other.
      {"PoliciesAddUp",
       network_policy("x", "one",
                      "podSelector: {}, ingress: [{from: [{podSelector: {}}], ports: [{port: 80}]}]") +
           network_policy(
               "x", "two",
               "podSelector: {matchLabels: {app: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: "
               "{team: blue}}}], ports: [{port: 81}]}]") +
           network_policy("y", "other", "podSelector: {}, ingress: [{}]"),
       nullptr,
       into("x",
            [](const Cell& cell) {
              return tcp(cell) && ((in(cell.from, "x") && cell.port == 80) ||
                                   (in(cell.from, "y") && app(cell.to, "a") && cell.port == 81));
            })},
  };
}

std::vector<Pattern> port_patterns() {
  return {
      // P5
      {"PortWithoutProtocolIsTcp", ingress_of_x("[{ports: [{port: 80}]}]"), nullptr,
       into("x", [](const Cell& cell) { return tcp(cell) && cell.port == 80; })},
      {"ProtocolAloneIsAllItsPorts", ingress_of_x("[{ports: [{protocol: TCP}]}]"), nullptr, into("x", tcp)},
      // P24
      {"UdpAloneOpensNoTcp", ingress_of_x("[{ports: [{protocol: UDP}]}]"), nullptr, into("x", udp)},
      {"SctpAloneOpensNoTcp", ingress_of_x("[{ports: [{protocol: SCTP}]}]"), nullptr, into("x", sctp)},
      {"SctpPort", egress_of_x("[{ports: [{protocol: SCTP, port: 81}]}]"),
       out_of("x", [](const Cell& cell) { return sctp(cell) && cell.port == 81; }), nullptr},
      {"UdpPort", egress_of_x("[{ports: [{protocol: UDP, port: 80}]}]"),
       out_of("x", [](const Cell& cell) { return udp(cell) && cell.port == 80; }), nullptr},
      {"SeveralPorts",
       ingress_of_x("[{ports: [{port: 80}, {protocol: UDP, port: 81}, {protocol: SCTP, port: 8082}]}]"),
       nullptr,
       into("x",
            [](const Cell& cell) {
              return (tcp(cell) && cell.port == 80) || (udp(cell) && cell.port == 81) ||
                     (sctp(cell) && cell.port == 8082);
            })},
      // P6: 8080 of pod a, 8082 of pod b; pod c has the name for UDP and stays closed for TCP.
      {"NamedPortIsTheDestinationsAndOfItsProtocol", ingress_of_x("[{ports: [{port: web}]}]"), nullptr,
       into("x",
            [](const Cell& cell) {
              return tcp(cell) && cell.port == cell.to.ports[2] && !app(cell.to, "c");
            })},
      {"NamedPortOfUdp", ingress_of_x("[{ports: [{port: web, protocol: UDP}]}]"), nullptr,
       into("x", [](const Cell& cell) { return udp(cell) && cell.port == 8080 && app(cell.to, "c"); })},
      {"NamedPortOfEachDestinationOfEgress",
       egress_of_x("[{to: [{namespaceSelector: {}}], ports: [{port: web}]}]"),
       out_of("x",
              [](const Cell& cell) {
                return cell.to.is_pod() && tcp(cell) && cell.port == cell.to.ports[2] && !app(cell.to, "c");
              }),
       nullptr},
      {"UnknownNameOfAPortMatchesNothing", ingress_of_x("[{ports: [{port: nothing}]}]"), nullptr, into("x")},
      {"NamedPortNeverMatchesAnIpBlock",
       egress_of_x(
           "[{to: [{ipBlock: {cidr: 0.0.0.0/0}}, {ipBlock: {cidr: \"::/0\"}}], ports: [{port: web}]}]"),
       out_of("x"), nullptr},
      // P7
      {"EndPortIsInclusive", ingress_of_x("[{ports: [{port: 81, endPort: 8080}]}]"), nullptr,
       into("x", [](const Cell& cell) { return tcp(cell) && cell.port >= 81 && cell.port <= 8080; })},
      {"EndPortOfOnePort", ingress_of_x("[{ports: [{protocol: UDP, port: 80, endPort: 80}]}]"), nullptr,
       into("x", [](const Cell& cell) { return udp(cell) && cell.port == 80; })},
      // P11: services lead 81 to 80 and 80 to 81.
      {"EgressPortIsTheBackends", egress_of_x("[{to: [{namespaceSelector: {}}], ports: [{port: 81}]}]"),
       out_of("x", [](const Cell& cell) { return cell.to.is_pod() && tcp(cell) && cell.port == 81; }),
       nullptr},
  };
}

std::vector<Pattern> block_patterns() {
  return {
      // P10
      {"IpBlockMatchesPods",
       ingress_of_x("[{from: [{ipBlock: {cidr: $y/a.4/32}}, {ipBlock: {cidr: \"$y/b.6/128\"}}]}]"), nullptr,
       into("x",
            [](const Cell& cell) { return in(cell.from, "y") && app(cell.from, ipv4(cell) ? "a" : "b"); })},
      {"AllOfIpv4IsNotIpv6", ingress_of_x("[{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]"), nullptr,
       into("x", ipv4)},
      {"AllOfIpv6IsNotIpv4", egress_of_x("[{to: [{ipBlock: {cidr: \"::/0\"}}]}]"),
       out_of("x", [](const Cell& cell) { return !ipv4(cell); }), nullptr},
      {"ExceptTakesAway",
       egress_of_x("[{to: [{ipBlock: {cidr: 10.244.0.0/16, except: [$y/a.4/32, $z/a.4/32]}}]}]"),
       out_of("x",
              [](const Cell& cell) {
                return ipv4(cell) && cell.to.is_pod() &&
                       !((in(cell.to, "y") || in(cell.to, "z")) && app(cell.to, "a"));
              }),
       nullptr},
      {"ExceptTakesAwayFromItsOwnItemAlone",
       egress_of_x(
           "[{to: [{ipBlock: {cidr: 10.244.0.0/16, except: [$y/a.4/32, $z/a.4/32]}}, {namespaceSelector: "
           "{matchLabels: {team: blue}}}]}]"),
       out_of("x",
              [](const Cell& cell) {
                return in(cell.to, "y") ||
                       (ipv4(cell) && cell.to.is_pod() && !(in(cell.to, "z") && app(cell.to, "a")));
              }),
       nullptr},
      {"ExceptOfOnePolicyIsAllowedByAnother",
       ingress_of_x("[{from: [{ipBlock: {cidr: \"fd00:10:244::/48\", except: [\"$y/b.6/128\"]}}]}]") +
           network_policy("x", "again",
                          "podSelector: {}, ingress: [{from: [{ipBlock: {cidr: \"$y/b.6/128\"}}], ports: "
                          "[{port: 80}]}]"),
       nullptr,
       into("x",
            [](const Cell& cell) {
              if (ipv4(cell) || !cell.from.is_pod()) return false;
              return !(in(cell.from, "y") && app(cell.from, "b")) || (tcp(cell) && cell.port == 80);
            })},
      // P12: with externalTrafficPolicy Local the client's own address decides; nodes are nobody's pods.
      {"IpBlockOfAClientOutside",
       ingress_of_x("[{from: [{ipBlock: {cidr: $client.4/32}}, {ipBlock: {cidr: \"$client.6/128\"}}]}]"),
       nullptr, into("x", [](const Cell& cell) { return cell.from.name == "client"; })},
      {"ExceptOfAClientOutside",
       ingress_of_x("[{from: [{ipBlock: {cidr: 192.0.2.0/24, except: [$client.4/32]}}]}]"), nullptr,
       into(
           "x",
           [](const Cell& cell) { return ipv4(cell) && !cell.from.is_pod() && cell.from.name != "client"; })},
      // P13, P14: another node counts as its address.
      {"IpBlockOfANode",
       ingress_of_x("[{from: [{ipBlock: {cidr: $node-b.4/32}}, {ipBlock: {cidr: \"$node-b.6/128\"}}]}]"),
       nullptr, into("x", [](const Cell& cell) { return cell.from.name == "node-b"; })},
      {"EgressToANodeAndToAClientOutside",
       egress_of_x(
           "[{to: [{ipBlock: {cidr: $node-a.4/32}}], ports: [{protocol: UDP}]}, {to: [{ipBlock: {cidr: "
           "\"$client.6/128\"}}]}]"),
       out_of("x",
              [](const Cell& cell) {
                return (cell.to.name == "node-a" && ipv4(cell) && udp(cell)) ||
                       (cell.to.name == "client" && !ipv4(cell));
              }),
       nullptr},
      // P11: a rule about the addresses of services opens nothing.
      {"IpBlockOfTheServiceRangeOpensNothing",
       egress_of_x("[{to: [{ipBlock: {cidr: 10.96.0.0/12}}, {ipBlock: {cidr: \"fd00:10:96::/112\"}}]}]"),
       out_of("x"), nullptr},
  };
}

}  // namespace bpfnet::e2e
