// The patterns of ClusterNetworkPolicy, alone and beside NetworkPolicies. A-numbers are those of the policy
// specification.
#include <fmt/format.h>

#include "tests/e2e/policy_patterns.h"

namespace bpfnet::e2e {
namespace {

/// About namespace x; `rules` is YAML in flow style: `ingress: [...]`.
std::string tier_policy(const std::string& tier, int priority, const std::string& rules,
                        const std::string& subject = "namespaces: {matchLabels: {team: red}}") {
  return cluster_network_policy(fmt::format("{}-{}", tier == "Admin" ? "admin" : "baseline", priority), tier,
                                priority, subject, rules);
}

const std::string kFromAll = "from: [{namespaces: {}}]";
const std::string kFromY = "from: [{namespaces: {matchLabels: {team: blue}}}]";
const std::string kFromYa =
    "from: [{pods: {namespaceSelector: {matchLabels: {team: blue}}, podSelector: {matchLabels: {app: a}}}}]";
const std::string kDenyAllOfX = network_policy("x", "deny", "podSelector: {}");

/// Whether the pods of x are called by whom `allows` says. The others of x, too, see them so.
bool y_calls(const Cell& cell) {
  return in(cell.from, "y");
}
bool ya_calls(const Cell& cell) {
  return in(cell.from, "y") && app(cell.from, "a");
}

std::vector<Pattern> order_patterns() {
  return {
      // A3, A5
      {"AdminDenyGoesBeforeNetworkPolicy",
       tier_policy("Admin", 5, "ingress: [{action: Deny, " + kFromY + "}]") +
           network_policy("x", "allow", "podSelector: {}, ingress: [{}]"),
       nullptr, into("x", [](const Cell& cell) { return !y_calls(cell); })},
      {"AdminAcceptGoesBeforeNetworkPolicy",
       tier_policy("Admin", 5, "ingress: [{action: Accept, " + kFromY + "}]") + kDenyAllOfX, nullptr,
       into("x", y_calls)},
      // A5: Accept is about one direction, the other end's ingress is still asked.
      {"AcceptedEgressIsStillDeniedByIngress",
       tier_policy("Admin", 5, "egress: [{action: Accept, to: [{namespaces: {}}]}]",
                   "namespaces: {matchLabels: {team: blue}}") +
           network_policy("y", "deny", "podSelector: {}, policyTypes: [Egress]") + kDenyAllOfX,
       out_of("y", [](const Cell& cell) { return cell.to.is_pod(); }), into("x")},
      // A5: Pass leaves the rest of the tier,
      {"PassGoesOnToNetworkPolicy",
       tier_policy("Admin", 1, "ingress: [{action: Pass, " + kFromY + "}]") +
           tier_policy("Admin", 2, "ingress: [{action: Deny, " + kFromAll + "}]") +
           network_policy("x", "allow", "podSelector: {}, ingress: [{ports: [{port: 80}]}]"),
       nullptr,
       into("x",
            [](const Cell& cell) {
              return (y_calls(cell) || !cell.from.is_pod()) && tcp(cell) && cell.port == 80;
            })},
      // and where there is no NetworkPolicy, Baseline is asked.
      {"PassGoesOnToBaseline",
       tier_policy("Admin", 1, "ingress: [{action: Pass, " + kFromY + "}]") +
           tier_policy("Admin", 2, "ingress: [{action: Deny, " + kFromAll + "}]") +
           tier_policy("Baseline", 1, "ingress: [{action: Deny, " + kFromYa + "}]"),
       nullptr,
       into("x", [](const Cell& cell) { return !cell.from.is_pod() || (y_calls(cell) && !ya_calls(cell)); })},
      // A4
      {"TheLowerPriorityGoesFirst",
       tier_policy("Admin", 20, "ingress: [{action: Deny, " + kFromY + "}]") +
           tier_policy("Admin", 10, "ingress: [{action: Accept, " + kFromYa + "}]"),
       nullptr, into("x", [](const Cell& cell) { return !y_calls(cell) || ya_calls(cell); })},
      {"RulesGoInTheirOrder",
       tier_policy("Admin", 0,
                   "ingress: [{action: Accept, " + kFromYa + "}, {action: Deny, " + kFromY +
                       "}, {action: Accept, " + kFromY + "}]"),
       nullptr, into("x", [](const Cell& cell) { return !y_calls(cell) || ya_calls(cell); })},
      // A7: whom a NetworkPolicy selects, Baseline has nothing to say about, in that direction.
      {"BaselineIsForWhomNoNetworkPolicySelects",
       tier_policy(
           "Baseline", 0,
           "ingress: [{action: Deny, " + kFromY + "}], egress: [{action: Deny, to: [{namespaces: {}}]}]") +
           network_policy("x", "allow",
                          "podSelector: {matchLabels: {app: a}}, ingress: [{ports: [{port: 80}]}]"),
       out_of("x", [](const Cell& cell) { return !cell.to.is_pod(); }),
       into("x",
            [](const Cell& cell) {
              return app(cell.to, "a") ? tcp(cell) && cell.port == 80 : !y_calls(cell);
            })},
      // A3, A5: a final Accept leaves nothing for Baseline, and neither does Pass in Baseline.
      {"WhatIsFinalIsFinal",
       tier_policy("Admin", 0, "ingress: [{action: Accept, " + kFromYa + "}]") +
           tier_policy("Baseline", 1,
                       "ingress: [{action: Pass, from: [{namespaces: {matchLabels: "
                       "{kubernetes.io/metadata.name: z}}}]}]") +
           tier_policy("Baseline", 2, "ingress: [{action: Deny, " + kFromAll + "}]"),
       nullptr,
       into("x",
            [](const Cell& cell) { return !cell.from.is_pod() || ya_calls(cell) || in(cell.from, "z"); })},
  };
}

std::vector<Pattern> traffic_patterns() {
  return {
      // A8
      {"SubjectByPods",
       tier_policy("Admin", 0, "ingress: [{action: Deny, " + kFromY + "}]",
                   "pods: {namespaceSelector: {}, podSelector: {matchLabels: {tier: back}}}"),
       nullptr, [](const Cell& cell) { return !(app(cell.to, "b") && y_calls(cell)); }},
      // A6, A9: whoever is no pod is no peer of ingress.
      {"AllNamespacesAreAllPods", tier_policy("Admin", 0, "ingress: [{action: Deny, " + kFromAll + "}]"),
       nullptr, into("x", [](const Cell& cell) { return !cell.from.is_pod(); })},
      // A9
      {"NetworksMatchPodsToo",
       tier_policy(
           "Admin", 0,
           "egress: [{action: Accept, to: [{networks: [$y/a.4/32, \"$client.6/128\"]}]}, {action: Deny, to: "
           "[{networks: [10.244.0.0/16, \"2001:db8:1::/64\"]}]}]"),
       out_of("x",
              [](const Cell& cell) {
                if (cell.to.is_pod()) return !ipv4(cell) || (in(cell.to, "y") && app(cell.to, "a"));
                return ipv4(cell) || cell.to.name == "client";
              }),
       nullptr},
      {"NodesByTheirLabels",
       tier_policy("Admin", 0, "egress: [{action: Deny, to: [{nodes: {matchLabels: {role: edge}}}]}]"),
       out_of("x", [](const Cell& cell) { return cell.to.name != "node-a"; }), nullptr},
      {"AllNodes",
       tier_policy(
           "Admin", 0,
           "egress: [{action: Accept, to: [{nodes: {matchExpressions: [{key: role, operator: "
           "DoesNotExist}]}}], "
           "protocols: [{udp: {destinationPort: {number: 80}}}]}, {action: Deny, to: [{nodes: {}}]}]"),
       out_of("x",
              [](const Cell& cell) {
                const bool node = !cell.to.is_pod() && cell.to.node >= 0;
                return !node || (cell.to.name == "node-b" && udp(cell) && cell.port == 80);
              }),
       nullptr},
      // A10
      {"ProtocolsNumbersAndRanges",
       tier_policy("Admin", 0,
                   "ingress: [{action: Deny, " + kFromAll +
                       ", protocols: [{tcp: {destinationPort: {number: 80}}}, {udp: {destinationPort: "
                       "{range: {start: 81, "
                       "end: 8080}}}}, {sctp: {destinationPort: {number: 8082}}}]}]"),
       nullptr,
       into("x",
            [](const Cell& cell) {
              const bool named = (tcp(cell) && cell.port == 80) ||
                                 (udp(cell) && cell.port >= 81 && cell.port <= 8080) ||
                                 (sctp(cell) && cell.port == 8082);
              return !cell.from.is_pod() || !named;
            })},
      {"NamedPortIsTheDestinationsWhateverItsProtocol",
       tier_policy(
           "Admin", 0,
           "egress: [{action: Deny, to: [{namespaces: {}}], protocols: [{destinationNamedPort: web}]}]"),
       out_of("x",
              [](const Cell& cell) {
                const bool web = cell.to.is_pod() && cell.port == cell.to.ports[2] &&
                                 (app(cell.to, "c") ? udp(cell) : tcp(cell));
                return !web;
              }),
       nullptr},
      // A12
      {"AnAcceptThatIsNotUnderstoodMatchesNothing",
       tier_policy("Admin", 0, "ingress: [{action: Accept, from: [{somethingNew: {}}]}]") + kDenyAllOfX,
       nullptr, into("x")},
      {"ADenyThatIsNotUnderstoodDeniesAll",
       tier_policy("Admin", 0, "ingress: [{action: Deny, from: [{somethingNew: {}}]}]"), nullptr, into("x")},
      {"APassThatIsNotUnderstoodDeniesAll",
       tier_policy("Admin", 0, "egress: [{action: Pass, to: [{somethingNew: {}}]}]"), out_of("x"), nullptr},
  };
}

}  // namespace

std::vector<Pattern> tier_patterns() {
  std::vector<Pattern> all = order_patterns();
  for (auto& each : traffic_patterns()) all.push_back(std::move(each));
  for (auto& each : all) each.tiers = true;
  return all;
}

}  // namespace bpfnet::e2e
