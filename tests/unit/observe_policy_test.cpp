// Verdicts and explanations from the maps: `policy verdict`, `policy show`, the text of drops.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include "control/observe/policy_diff.h"
#include "control/observe/policy_show.h"
#include "control/observe/policy_verdict.h"
#include "maps/abi/policy.h"
#include "maps/abi/reasons.h"
#include "maps/convert.h"
#include "tests/support/addresses.h"
#include "tests/unit/observe_maps.h"

namespace bpfnet::observe {
namespace {

using nlohmann::json;
using testing::HasSubstr;

constexpr uint32_t kWeb = 256;
constexpr uint32_t kClient = 257;
constexpr uint32_t kSet = 16;

/// default/web (endpoint 1, 10.0.1.1) lets TCP 8080 in from app=client by rule 5 and denies it UDP by rule 6;
/// default/client (endpoint 2, 10.0.1.2) and a pod elsewhere (10.0.2.1) are such. The service 10.96.0.1:80
/// has web and the pod elsewhere behind it. The node is 192.0.2.1.
class LivePolicy : public testing::Test {
 protected:
  void SetUp() override {
    auto made = test::make_maps();
    if (!made) GTEST_SKIP() << made.error().message;
    maps = std::move(*made);
    interface host {};
    host.kind = INTERFACE_HOST;
    host.ip4 = maps::to_abi(ip("192.0.2.1"));
    ASSERT_TRUE(maps.interfaces.put(7, host));
    add_address("192.0.2.1", IDENTITY_HOST, 0, ADDRESS_LOCAL_NODE);
    add_address("10.0.2.1", kClient, 0, ADDRESS_POD);
    add_pod(1, "10.0.1.1", kWeb, kSet);
    add_pod(2, "10.0.1.2", kClient, POLICY_SET_ALLOW_ALL);
    ASSERT_TRUE(maps.cidrs.put(maps::make_cidr_key(Cidr::parse("10.96.0.0/16").value()),
                               {IDENTITY_WORLD, CIDR_SERVICE, 0, 0}));
    add_entry(kClient, IPPROTO_TCP, 8080, POLICY_ALLOW, 5);
    add_entry(kClient, IPPROTO_UDP, 53, POLICY_DENY, 6);
    frontend service{};
    service.first = service.ext_first = 2;
    service.count = 2;
    service.service = 7;
    ASSERT_TRUE(maps.frontends.put(maps::make_frontend_key(ip("10.96.0.1"), 80, IPPROTO_TCP), service));
    for (const auto& [slot, address] : {std::pair{2U, "10.0.1.1"}, {3U, "10.0.2.1"}}) {
      backend_slot record{};
      record.addr = maps::to_abi(ip(address));
      record.port = maps::to_network(8080);
      ASSERT_TRUE(maps.backend_slots.put(slot, record));
    }
  }

  void add_address(const char* address, uint32_t identity, uint16_t index, uint16_t flags) {
    ASSERT_TRUE(maps.addresses.put(maps::make_address_key(ip(address)), {identity, index, flags}));
  }
  void add_pod(uint16_t index, const char* address, uint32_t identity, uint32_t ingress_set) {
    endpoint pod{};
    pod.state = ENDPOINT_OPEN;
    pod.ip4 = maps::to_abi(ip(address));
    pod.identity = identity;
    pod.ingress_set = ingress_set;
    ASSERT_TRUE(maps.endpoints.put(index, pod));
    add_address(address, identity, index, ADDRESS_POD | ADDRESS_LOCAL_POD);
  }
  void add_entry(uint32_t identity, uint8_t proto, uint16_t port, uint8_t verdict, uint32_t rule) {
    policy_entry entry{};
    entry.rule = rule;
    entry.verdict = verdict;
    ASSERT_TRUE(maps.policies.put(maps::make_policy_key(kSet, identity, proto, port, 16), entry));
  }

  static Names named() {
    return Names::from_answers(
        json::parse(
            R"({"endpoints": [{"index": 1, "pod": "default/web"}, {"index": 2, "pod": "default/client"},
                                      {"index": 3, "pod": "other/web"}]})"),
        json::parse(R"({"services": [{"id": 7, "name": "default/web:http"}]})"),
        json::parse(
            R"({"rules": [{"id": 5, "policy": "default/x", "text": "ingress[0]: from pods app=client to TCP 8080"},
                          {"id": 6, "policy": "guard", "text": "ingress[1]: ..."}],
                "endpoints": [{"index": 1, "ingressSet": 16, "egressSet": 0,
                               "isolatedByIngress": ["default/x", "default/y"],
                               "auditedByIngress": ["default/z"]}]})"),
        json::parse(R"({"identities": [{"id": 256, "text": "pod default {app=web} ns{}"},
                                       {"id": 257, "text": "pod default {app=client} ns{}"}]})"));
  }
  static Names unnamed() { return Names::none("no agent answers at X"); }

  VerdictView verdict(const char* source, const char* destination, const char* port,
                      const Names& names = named()) {
    auto result = policy_verdict(maps, names, {source, destination, port});
    EXPECT_TRUE(result) << result.error().message;
    return result ? *result : VerdictView{};
  }
  std::string refusal(const char* source, const char* destination, const char* port,
                      const Names& names = named()) {
    auto result = policy_verdict(maps, names, {source, destination, port});
    return result ? "not refused" : result.error().message;
  }

  maps::Maps maps;
};

// Issue 4, item 3.
TEST_F(LivePolicy, AVerdictNamesTheRuleThatAllows) {
  const VerdictView allowed = verdict("default/client", "default/web", "8080/tcp");
  EXPECT_EQ(allowed.outcome, Outcome::kAllowed);
  EXPECT_EQ(allowed.view.text,
            "default/client (10.0.1.2) > default/web (10.0.1.1), TCP 8080: allowed\n"
            "  egress of default/client: allowed: no policy isolates it\n"
            "  ingress of default/web: allowed: by default/x ingress[0]: from pods app=client to TCP 8080\n");
}

TEST_F(LivePolicy, AVerdictSaysWhatIsolatesAndWhatWouldBeAllowed) {
  const VerdictView denied = verdict("10.0.1.2", "10.0.1.1", "8081/tcp");
  EXPECT_EQ(denied.outcome, Outcome::kDenied);
  EXPECT_THAT(denied.view.text,
              HasSubstr("ingress of default/web: denied: isolated by default/x and default/y, no rule allows "
                        "TCP 8081; nearest allow: 8080 from app=client\n"));
  const auto& nearest = denied.view.json.at("connections")[0].at("ingress").at("nearest_allow");
  EXPECT_EQ(nearest.at("first_port"), 8080);
  EXPECT_EQ(nearest.at("rule"), 5);
}

TEST_F(LivePolicy, AVerdictNamesTheRuleThatDenies) {
  const VerdictView denied = verdict("default/client", "default/web", "53/udp");
  EXPECT_EQ(denied.outcome, Outcome::kDenied);
  EXPECT_THAT(denied.view.text, HasSubstr("denied by guard ingress[1]: ..."));
}

TEST_F(LivePolicy, WhatAuditModeLetsThroughIsToldWithWhatWouldDenyIt) {
  add_entry(kClient, IPPROTO_TCP, 9090, POLICY_AUDIT, 6);
  const VerdictView audited = verdict("default/client", "default/web", "9090/tcp");
  EXPECT_EQ(audited.outcome, Outcome::kAudited);
  EXPECT_THAT(audited.view.text,
              HasSubstr("audited: let through by audit mode, else denied by guard ingress[1]: ..."));
  add_entry(kClient, IPPROTO_TCP, 9091, POLICY_AUDIT, 0);
  const VerdictView isolated = verdict("default/client", "default/web", "9091/tcp");
  EXPECT_THAT(isolated.view.text, HasSubstr("else isolated by default/x, default/y and default/z (audit "
                                            "mode), no rule allows TCP 9091"));
  EXPECT_EQ(isolated.view.json.at("connections")[0].at("ingress").at("audited_by"),
            json::array({"default/z"}));
}

// Audit mode of the whole node.
TEST_F(LivePolicy, AnAuditedEndpointDeniesNothingAndSaysWhatItWould) {
  endpoint pod = maps.endpoints.get(1).value();
  pod.flags = ENDPOINT_AUDITED;
  ASSERT_TRUE(maps.endpoints.put(1, pod));
  const VerdictView audited = verdict("default/client", "default/web", "8081/tcp");
  EXPECT_EQ(audited.outcome, Outcome::kAudited);
  EXPECT_THAT(audited.view.text,
              HasSubstr("audited: let through by audit mode, else isolated by default/x and "
                        "default/y, no rule allows TCP 8081"));
}

// A11: by a service a pod is subject to cluster policies even on the way to itself; what they do not name
// passes.
TEST_F(LivePolicy, APodThatReachesItselfByAServiceIsSubjectToItsOwnEntriesAlone) {
  add_entry(IDENTITY_SELF6, IPPROTO_TCP, 8080, POLICY_DENY, 6);
  EXPECT_THAT(verdict("default/web", "10.96.0.1", "80/tcp").view.text,
              HasSubstr("ingress of default/web: allowed: no policy is about it"));
  add_entry(IDENTITY_SELF, IPPROTO_TCP, 8080, POLICY_DENY, 6);
  const VerdictView denied = verdict("default/web", "10.96.0.1", "80/tcp");
  EXPECT_EQ(denied.outcome, Outcome::kDenied);
  EXPECT_THAT(denied.view.text, HasSubstr("ingress of default/web: denied: denied by guard ingress[1]"));
  EXPECT_EQ(verdict("default/web", "default/web", "8080/tcp").outcome, Outcome::kAllowed) << "P15";
}

TEST_F(LivePolicy, WithoutAnAgentNumbersStandForNames) {
  const VerdictView denied = verdict("2", "1", "8081/tcp", unnamed());
  EXPECT_EQ(denied.outcome, Outcome::kDenied);
  EXPECT_EQ(denied.view.text,
            "endpoint 2 (10.0.1.2) > endpoint 1 (10.0.1.1), TCP 8081: denied\n"
            "  egress of endpoint 2: allowed: no policy isolates it\n"
            "  ingress of endpoint 1: denied: isolated, no rule allows TCP 8081; nearest allow: 8080 from "
            "identity 257\n");
}

// P11
TEST_F(LivePolicy, OfAServicesAddressEveryBackendIsJudged) {
  const VerdictView result = verdict("default/client", "10.96.0.1", "80/tcp");
  EXPECT_EQ(result.outcome, Outcome::kAllowed);
  EXPECT_THAT(result.view.text,
              HasSubstr("10.96.0.1:80 is an address of default/web:http: policy judges the backend"));
  ASSERT_EQ(result.view.json.at("connections").size(), 2U);
  EXPECT_EQ(result.view.json.at("connections")[0].at("port"), 8080);
  EXPECT_EQ(result.view.json.at("connections")[1].at("complete"), false) << "a pod of another node";
  EXPECT_EQ(verdict("world", "10.96.0.1", "80/tcp").outcome, Outcome::kDenied) << "no backends for outside";
  const VerdictView none = verdict("default/client", "10.96.0.1", "81/tcp");
  EXPECT_EQ(none.outcome, Outcome::kDenied);
  EXPECT_THAT(none.view.text, HasSubstr("no service answers TCP 81 at 10.96.0.1: denied"));
}

// P13, P15
TEST_F(LivePolicy, TheOwnNodeAndAPodItselfAreExempt) {
  EXPECT_EQ(verdict("host", "default/web", "9/tcp").outcome, Outcome::kAllowed);
  EXPECT_EQ(verdict("default/web", "default/web", "9/tcp").outcome, Outcome::kAllowed);
  EXPECT_EQ(verdict("world", "default/web", "8080/tcp").outcome, Outcome::kDenied);
}

TEST_F(LivePolicy, AClosedEndpointLetsNothingThrough) {
  endpoint pod = maps.endpoints.get(2).value();
  pod.state = ENDPOINT_CLOSED;
  ASSERT_TRUE(maps.endpoints.put(2, pod));
  const VerdictView result = verdict("default/client", "default/web", "8080/tcp");
  EXPECT_EQ(result.outcome, Outcome::kDenied);
  EXPECT_THAT(result.view.text, HasSubstr("the endpoint is closed until its policy is in place"));
}

TEST_F(LivePolicy, WhatIsNotUnderstoodOrNotKnownIsRefusedWithTheWayOut) {
  EXPECT_THAT(refusal("default/nobody", "default/web", "80/tcp"),
              HasSubstr("SRC default/nobody: no such pod; name it as NAMESPACE/NAME"));
  EXPECT_THAT(refusal("client", "web", "80/tcp"), HasSubstr("DST web: no such pod"));
  EXPECT_THAT(
      refusal("default/web", "web", "80/tcp", unnamed()),
      HasSubstr("pods are known by name to the agent alone (no agent answers at X); give an address"));
  EXPECT_THAT(refusal("6", "default/web", "80/tcp"), HasSubstr("no endpoint has this index"));
  EXPECT_THAT(refusal("60000", "default/web", "80/tcp"), HasSubstr("no endpoint has this index"));
  EXPECT_THAT(refusal("fd00::1", "default/web", "80/tcp"), HasSubstr("no address of the same family"));
  for (const char* port : {"80", "http/tcp", "0/tcp", "65536/tcp", "80/tpc", "/tcp", "", "80/", "80/any"})
    EXPECT_THAT(refusal("default/client", "default/web", port), HasSubstr("expected")) << port;
  EXPECT_THAT(refusal("default/client", "default/web", "80/icmp"), HasSubstr("icmp has no ports"));
}

TEST_F(LivePolicy, ShowHasThePoliciesInOrderAndTheirEntries) {
  const nlohmann::ordered_json applied = nlohmann::ordered_json::parse(
      R"({"ingress": {"policies": [{"kind": "NetworkPolicy", "name": "default/x", "source": "x.yaml", "line": 3,
                                    "rules": ["ingress[0]: from pods app=client to TCP 8080"]},
                                   {"kind": "NetworkPolicy", "name": "default/y", "rules": []}],
                      "otherwise": "denied: NetworkPolicies isolate it"},
          "egress": {"policies": [], "otherwise": "allowed: no NetworkPolicy isolates it"}})");
  const auto view = endpoint_policy_view(maps, named(), 1, applied);
  ASSERT_TRUE(view);
  EXPECT_EQ(
      view->text,
      "default/web: endpoint 1, open, identity 256: pod default {app=web} ns{}\n"
      "\n"
      "ingress, in the order of judgement:\n"
      "  1. NetworkPolicy default/x (x.yaml:3)\n"
      "     ingress[0]: from pods app=client to TCP 8080\n"
      "  2. NetworkPolicy default/y\n"
      "     no rules: nothing is allowed by it\n"
      "  3. otherwise denied: NetworkPolicies isolate it\n"
      "ingress compiled to set 16:\n"
      "  PEER                           PORTS     VERDICT  RULE\n"
      "  pod default {app=client} ns{}  tcp/8080  allow    default/x ingress[0]: from pods app=client to "
      "TCP 8080\n"
      "  pod default {app=client} ns{}  udp/53    deny     guard ingress[1]: ...\n"
      "\n"
      "egress, in the order of judgement:\n"
      "  1. otherwise allowed: no NetworkPolicy isolates it\n"
      "egress compiled to open: everything is allowed, without a lookup\n");
  EXPECT_EQ(view->json.at("ingress").at("entries").size(), 2U);
  // A set that did not fit: the one before stays, and it is said.
  endpoint pod = maps.endpoints.get(1).value();
  pod.ingress_set = POLICY_SET_DENY_ALL;
  ASSERT_TRUE(maps.endpoints.put(1, pod));
  EXPECT_THAT(
      endpoint_policy_view(maps, named(), 1, applied)->text,
      HasSubstr("ingress compiled to deny-all: nothing is allowed\nthe agent wants set 16, which is not in "
                "place: `bpfnetctl status` says why\n"));
  pod.ingress_set = kSet;
  ASSERT_TRUE(maps.endpoints.put(1, pod));
  const auto alone = endpoint_policy_view(maps, unnamed(), 1, fail("no agent answers at X"));
  ASSERT_TRUE(alone);
  EXPECT_THAT(alone->text, HasSubstr("  not known: no agent answers at X\ningress compiled to set 16:\n"));
}

packet_event drop(const char* source, uint16_t source_port, const char* destination, uint16_t port) {
  packet_event event{};
  event.key = maps::make_flow_key(ip(source), source_port, ip(destination), port, IPPROTO_TCP);
  event.verdict = VERDICT_DROP;
  event.reason = DROP_POLICY_INGRESS;
  event.src_endpoint = 2;
  event.dst_endpoint = 1;
  event.src_identity = kClient;
  event.dst_identity = kWeb;
  return event;
}

// Issue 4, item 3: the example.
TEST_F(LivePolicy, ADropNamesBothEndsDirectionPoliciesAndTheNearestAllow) {
  LiveSets sets(maps);
  const View view = event_view(drop("10.0.1.2", 4000, "10.0.1.1", 8081), named(), &sets);
  EXPECT_THAT(view.text,
              HasSubstr(" policy-ingress 10.0.1.2:4000 > 10.0.1.1:8081 tcp, from default/client, to "
                        "default/web: ingress of default/web: isolated by default/x and default/y, no rule "
                        "allows TCP 8081; nearest allow: 8080 from app=client\n"));
  EXPECT_EQ(view.json.at("policy").at("direction"), "ingress");
  EXPECT_EQ(view.json.at("policy").at("endpoint_name"), "default/web");
  EXPECT_EQ(view.json.at("policy").at("nearest_allow").at("peer"), "app=client");
}

TEST_F(LivePolicy, ADropByARuleNamesTheRule) {
  packet_event event = drop("10.0.1.2", 4000, "10.0.1.1", 53);
  event.rule = 6;
  LiveSets sets(maps);
  const View view = event_view(event, named(), &sets);
  EXPECT_THAT(view.text, HasSubstr("ingress of default/web: denied by guard ingress[1]: ...\n"));
  EXPECT_EQ(view.json.at("policy").at("rule"), 6);
}

TEST_F(LivePolicy, WhatAuditModeLetThroughWouldBeDropped) {
  packet_event event = drop("10.0.1.2", 4000, "10.0.1.1", 8081);
  event.verdict = VERDICT_PASS;
  event.flags = EVENT_AUDITED;
  LiveSets sets(maps);
  EXPECT_THAT(event_view(event, named(), &sets).text,
              HasSubstr(" audited policy-ingress 10.0.1.2:4000 > 10.0.1.1:8081 tcp, from default/client, to "
                        "default/web: would be dropped: ingress of default/web: isolated by default/x"));
}

// P17: a connection is cut by whichever packet comes next, also by an answer of the server.
TEST_F(LivePolicy, ADroppedAnswerIsExplainedByWhatItsClientAskedFor) {
  packet_event event = drop("10.0.1.1", 8081, "10.0.1.2", 4000);
  event.flags = EVENT_REVERSED;
  std::swap(event.src_endpoint, event.dst_endpoint);
  std::swap(event.src_identity, event.dst_identity);
  LiveSets sets(maps);
  const View view = event_view(event, named(), &sets);
  EXPECT_THAT(view.text,
              HasSubstr("from default/web, to default/client, an answer: ingress of default/web: "));
  EXPECT_THAT(view.text, HasSubstr("no rule allows TCP 8081;"));
}

// P11
TEST_F(LivePolicy, ADropBehindAServiceIsExplainedByTheBackendsPort) {
  packet_event event = drop("10.0.1.2", 4000, "10.96.0.1", 80);
  event.backend = maps::to_abi(ip("10.0.1.1"));
  event.backend_port = maps::to_network(8081);
  event.service = 7;
  LiveSets sets(maps);
  const View view = event_view(event, named(), &sets);
  EXPECT_THAT(view.text, HasSubstr("to default/web, service default/web:http: ingress of default/web: "));
  EXPECT_THAT(view.text, HasSubstr("no rule allows TCP 8081;"));
}

TEST(PolicyDiffView, SaysWhatWouldBreakAndWhatWouldChange) {
  const DiffView diff = diff_view(nlohmann::ordered_json::parse(R"(
    {"applied": ["NetworkPolicy default/deny: added"], "notes": [], "warnings": [], "flows": 12,
     "breaks": [{"protocol": "tcp", "source": "default/client", "source_address": "10.0.1.2", "source_port": 4000,
                 "destination": "203.0.113.7", "destination_address": "203.0.113.7", "destination_port": 443,
                 "direction": "egress", "pod": "default/client", "reason": "isolated by default/deny"}],
     "closes": [{"pod": "default/client", "direction": "egress", "peers": ["everyone"], "ports": ["anything"],
                 "reason": "isolated by default/deny, no rule allows it"}],
     "opens": []})"));
  EXPECT_TRUE(diff.breaks);
  EXPECT_EQ(diff.view.text,
            "NetworkPolicy default/deny: added\n"
            "\n"
            "of 12 live connections, 1 would break\n"
            "  tcp default/client (10.0.1.2:4000) > 203.0.113.7:443\n"
            "    egress of default/client: isolated by default/deny\n"
            "\n"
            "would be denied from then on:\n"
            "  POD             DIRECTION  PEERS     PORTS     WHY\n"
            "  default/client  egress     everyone  anything  isolated by default/deny, no rule allows it\n"
            "\n"
            "nothing was written\n");
  EXPECT_FALSE(diff_view(nlohmann::ordered_json::parse(R"({"flows": 0, "breaks": []})")).breaks);
}

TEST(PolicyDiffView, FilesThatCannotBeReadAndAgentsThatAreDownAreTold) {
  EXPECT_EQ(policy_diff("/nonexistent.sock", {"/nonexistent.yaml"}).error().message,
            "/nonexistent.yaml: open: ENOENT (No such file or directory)");
  EXPECT_EQ(policy_diff("/nonexistent.sock", {"/dev/null"}).error().message,
            "no agent answers at /nonexistent.sock");
  EXPECT_THAT(
      policy_diff("/nonexistent.sock", {"/dev/zero"}).error().message,
      HasSubstr("/dev/zero: is larger than the 1024 KiB the agent takes; give the policies that change"));
}

}  // namespace
}  // namespace bpfnet::observe
