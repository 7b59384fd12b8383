#include <gtest/gtest.h>
#include <netinet/in.h>

#include <nlohmann/json.hpp>

#include "control/observe/names.h"
#include "control/observe/table.h"
#include "control/observe/views.h"
#include "maps/abi/reasons.h"
#include "maps/convert.h"

namespace bpfnet::observe {
namespace {

using nlohmann::json;

Names some_names() {
  return Names::from_answers(
      json::parse(R"({"endpoints": [{"index": 1, "pod": "default/web"}, {"index": 2, "pod": "other/web"},
                                    {"index": 3, "containerId": "0123456789abcdef"}]})"),
      json::parse(R"({"services": [{"id": 7, "name": "default/web:http"}]})"),
      json::parse(
          R"({"rules": [{"id": 5, "policy": "default/allow", "text": "ingress[0]: from anywhere to TCP 80"}],
                      "endpoints": [{"index": 1, "isolatedByIngress": ["default/allow", "default/deny"],
                                     "auditedByIngress": ["default/trial"]},
                                    {"index": 2, "auditedByIngress": ["other/trial"]}]})"),
      json::parse(R"({"identities": [{"id": 256, "text": "pod default {app=web} ns{}"}]})"));
}

TEST(Table, ColumnsAreAlignedWithoutTrailingBlanks) {
  Table table({"A", "LONGER"});
  table.add({"wide cell", "x"});
  table.add({"y"});
  EXPECT_EQ(table.text(), "A          LONGER\nwide cell  x\ny\n");
}

TEST(Table, AgesArePlain) {
  EXPECT_EQ(age_text(119), "119 s");
  EXPECT_EQ(age_text(120), "2 min");
  EXPECT_EQ(age_text(86400), "24 h");
  EXPECT_EQ(age_text(864000), "10 d");
}

TEST(Names, NumbersHaveNames) {
  const Names names = some_names();
  EXPECT_EQ(names.problem(), "");
  EXPECT_EQ(names.service(7), "default/web:http");
  EXPECT_EQ(names.endpoint(1), "default/web");
  EXPECT_EQ(names.endpoint(3), "0123456789ab");
  EXPECT_EQ(names.rule(5), "default/allow ingress[0]: from anywhere to TCP 80");
  EXPECT_EQ(names.identity(256), "pod default {app=web} ns{}");
  EXPECT_EQ(names.isolated_by(1, true), (std::vector<std::string>{"default/allow", "default/deny"}));
  EXPECT_EQ(names.audited_by(1, true), (std::vector<std::string>{"default/trial"}));
}

TEST(Names, WhatHasNoNameIsShownByNumberAndZeroNotAtAll) {
  const Names names = Names::none("no agent");
  EXPECT_EQ(names.service(7), "service 7");
  EXPECT_EQ(names.endpoint(3), "endpoint 3");
  EXPECT_EQ(names.rule(0), "");
  EXPECT_EQ(names.identity(3), "world");
  EXPECT_EQ(names.identity(300), "identity 300");
}

TEST(Names, APodIsFoundByItsFullNameOrByAnUnambiguousShortOne) {
  const Names names = some_names();
  EXPECT_EQ(names.endpoint_of("other/web"), 2);
  EXPECT_EQ(names.endpoint_of("web"), std::nullopt);
  EXPECT_EQ(names.endpoint_of("0123456789ab"), 3);
}

TEST(Names, AnswersOfAnUnexpectedShapeCostNamesAndNothingElse) {
  const Names names = Names::from_answers(json::array(), json::parse(R"({"services": {"a": 1}})"),
                                          json::parse(R"({"rules": [7, null, {"id": "x"}]})"), json(3));
  EXPECT_EQ(names.service(7), "service 7");
}

TEST(Names, AnAgentThatIsNotThereIsTold) {
  const Names names = Names::ask("/nonexistent/bpfnet.sock");
  EXPECT_EQ(names.problem(), "no agent answers at /nonexistent/bpfnet.sock");
}

TEST(Events, ADropReadsAsASentence) {
  packet_event event{};
  event.key = maps::make_flow_key(Address::parse("10.0.2.1").value(), 4000,
                                  Address::parse("10.0.1.1").value(), 81, IPPROTO_TCP);
  event.verdict = VERDICT_DROP;
  event.reason = DROP_POLICY_INGRESS;
  event.dst_endpoint = 1;
  const View view = event_view(event, some_names());
  EXPECT_NE(
      view.text.find(" from_pod policy-ingress 10.0.2.1:4000 > 10.0.1.1:81 tcp, to default/web: ingress of "
                     "default/web: isolated by default/allow and default/deny, no rule allows TCP 81\n"),
      std::string::npos)
      << view.text;
  EXPECT_EQ(view.json.at("destination_name"), "default/web");
}

// An answer is judged as its connection: the egress that denies it is the receiver's, and the event says so.
TEST(Events, ADeniedAnswerNamesTheReceiversPolicies) {
  packet_event event{};
  event.verdict = VERDICT_DROP;
  event.reason = DROP_POLICY_INGRESS;
  event.flags = EVENT_REVERSED;
  event.src_endpoint = 1;
  const View view = event_view(event, some_names());
  EXPECT_NE(
      view.text.find("from default/web, an answer: ingress of default/web: isolated by default/allow and "
                     "default/deny"),
      std::string::npos)
      << view.text;
  EXPECT_EQ(view.json.at("flags"), nlohmann::json::array({"reversed"}));
}

TEST(Events, AnAuditSaysThatThePacketPassed) {
  packet_event event{};
  event.verdict = VERDICT_TO_ENDPOINT;
  event.reason = DROP_POLICY_INGRESS;
  event.flags = EVENT_AUDITED;
  event.dst_endpoint = 1;
  const View view = event_view(event, some_names());
  EXPECT_NE(view.text.find(" audited policy-ingress "), std::string::npos) << view.text;
  EXPECT_NE(view.text.find(": would be dropped: ingress of default/web: isolated by"), std::string::npos)
      << view.text;
  EXPECT_EQ(view.json.at("verdict"), "to-endpoint");
}

// Isolation by policies in audit mode alone: the event has no rule, the policies are named.
TEST(Events, AnAuditOfIsolationNamesThePoliciesInAuditMode) {
  packet_event event{};
  event.verdict = VERDICT_TO_ENDPOINT;
  event.reason = DROP_POLICY_INGRESS;
  event.flags = EVENT_AUDITED;
  event.dst_endpoint = 2;
  const View view = event_view(event, some_names());
  EXPECT_NE(
      view.text.find(": would be dropped: ingress of other/web: isolated by other/trial (audit mode), no "
                     "rule allows "),
      std::string::npos)
      << view.text;
  EXPECT_EQ(view.json.at("policy").at("audited_by"), json::array({"other/trial"}));
  // What is in force is dropped by itself, or let through by the audit mode of the whole node.
  event.dst_endpoint = 1;
  EXPECT_EQ(event_view(event, some_names()).text.find("trial"), std::string::npos);
}

}  // namespace
}  // namespace bpfnet::observe
