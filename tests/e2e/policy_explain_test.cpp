// Policy explained, on live traffic: what drops say, what `policy verdict` says against what sockets see,
// what `policy diff` foretells against what happens (issue 4, items 3 and 4).
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/e2e/e2e.h"

namespace bpfnet::e2e {
namespace {

using testing::HasSubstr;

/// A NetworkPolicy of namespace default about one app; `rules` are of ingress, in YAML's flow style.
std::string policy(const std::string& name, const std::string& app, const std::string& rules) {
  return fmt::format(
      "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {}}}\n"
      "spec:\n  podSelector: {{matchLabels: {{app: {}}}}}\n  policyTypes: [Ingress]\n  ingress: {}\n",
      name, app, rules);
}
std::string from(const std::string& app, const std::string& ports = "") {
  return fmt::format("[{{from: [{{podSelector: {{matchLabels: {{app: {}}}}}}}]{}}}]", app,
                     ports.empty() ? "" : ", ports: [" + ports + "]");
}

class PolicyExplain : public TwoNodes {
 protected:
  void TearDown() override {
    if (has_cluster()) cluster().remove("policy");
    TwoNodes::TearDown();
  }
  static HostPort target(const std::string& name) { return {pod(name).ip(family()), Pod::kPort}; }
  static Output verdict(const std::string& source, const std::string& destination, const std::string& port) {
    return node_a().ctl_text({"policy", "verdict", source, destination, port});
  }
  /// `policy diff` of a text, by stdin.
  static Output diff(const std::string& text, std::vector<std::string> more = {}) {
    std::vector<std::string> args = {"policy", "diff", "--file", "-"};
    args.insert(args.end(), more.begin(), more.end());
    return run({.argv = node_a().ctl_argv(args), .input = text});
  }

  /// `drops --follow` on node-a while it lives.
  class Follower {
   public:
    explicit Follower(const std::vector<std::string>& more = {}) {
      std::vector<std::string> args = {"drops", "--follow"};
      args.insert(args.end(), more.begin(), more.end());
      child_ = Child({.argv = node_a().ctl_argv(args)}, log_);
    }
    ~Follower() {
      child_.kill();
      std::remove(log_.c_str());
    }
    [[nodiscard]] std::string text() const { return read_text(log_); }
    /// Makes traffic until it is told of; what happens before the follower reads is passed over.
    bool sees(const std::string& expected, const std::function<void()>& traffic) {
      return eventually(
          [&] {
            traffic();
            return text().find(expected) != std::string::npos;
          },
          milliseconds(20000));
    }

   private:
    std::string log_ = node_a().dir("follow.log");
    Child child_;
  };
};

TEST_P(PolicyExplain, ADropNamesEndsDirectionPoliciesAndTheNearestAllow) {
  cluster().apply("policy",
                  policy("x", "web-a", from("client-a", "{port: 8080}")) + policy("y", "web-a", "[]"));
  Follower drops;
  EXPECT_TRUE(
      drops.sees("from default/client-a, to default/web-a: ingress of default/web-a: isolated by default/x "
                 "and default/y, "
                 "no rule allows TCP 8081; nearest allow: 8080 from app=client-a\n",
                 [] {
                   (void)TcpClient::connect(pod("client-a").netns(), {pod("web-a").ip(family()), 8081},
                                            {.timeout = milliseconds(50)});
                 }))
      << drops.text();
  // A pod of the other node, through the service: what is judged is the backend's port (P11).
  EXPECT_TRUE(drops.sees(
      "from default/client-b, to default/web-a: ingress of default/web-a: isolated by default/x and "
      "default/y, "
      "no rule allows TCP 8080; nearest allow: 8080 from app=client-a\n",
      [] { (void)TcpClient::connect(pod("client-b").netns(), service(11), {.timeout = milliseconds(50)}); }))
      << drops.text();
}

// Policies come and go while somebody follows.
TEST_P(PolicyExplain, FollowingKnowsPoliciesThatCameLaterAndSpeaksJson) {
  Follower drops({"--output", "json"});
  cluster().apply("policy",
                  "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: later}\n"
                  "spec:\n  podSelector: {matchLabels: {app: client-a}}\n  egress: " +
                      fmt::format("[{{to: [{{podSelector: {{matchLabels: {{app: web-b}}}}}}]}}]\n") +
                      "  policyTypes: [Egress]\n");
  const std::string expected =
      R"("text":"isolated by default/later, no rule allows UDP 8080; nearest allow: 8080 to app=web-b")";
  ASSERT_TRUE(drops.sees(expected, [] {
    (void)ask(pod("client-a").netns(), "udp", target("web-a"), {.timeout = milliseconds(50)});
  })) << drops.text();
  const std::string text = drops.text();
  const size_t begin = text.rfind('\n', text.find(expected)) + 1;
  const auto event = nlohmann::json::parse(text.substr(begin, text.find('\n', begin) - begin));
  EXPECT_EQ(event.at("source_name"), "default/client-a");
  EXPECT_EQ(event.at("destination_name"), "default/web-a");
  EXPECT_EQ(event.at("policy").at("direction"), "egress");
  EXPECT_EQ(event.at("policy").at("isolated_by"), nlohmann::json::array({"default/later"}));
}

TEST_P(PolicyExplain, WhatAPolicyInAuditModeWouldIsolateIsToldByItsName) {
  std::string trial = policy("trial", "web-a", "[]");
  trial.replace(trial.find("{name: trial}"), 13,
                "{name: trial, annotations: {policy.bpfnet.io/mode: audit}}");
  cluster().apply("policy", trial);
  Follower drops;
  EXPECT_TRUE(drops.sees(
      "from default/client-a, to default/web-a: would be dropped: ingress of default/web-a: isolated "
      "by default/trial (audit mode), no rule allows TCP 8080\n",
      [] { EXPECT_TRUE(worked(ask(pod("client-a").netns(), "tcp", target("web-a")))); }))
      << drops.text();
  const Output told = verdict("client-a", "web-a", "8080/tcp");
  EXPECT_THAT(told.out, HasSubstr("audited: let through by audit mode, else isolated by default/trial (audit "
                                  "mode), no rule allows TCP 8080"));
  EXPECT_THAT(node_a().ctl_text({"policy", "list"}).out, HasSubstr("default/trial (audit mode)"));
  EXPECT_EQ(node_a().ctl({"policy", "show", "web-a"}).at("ingress").at("audited_by"),
            nlohmann::json::array({"default/trial"}));
}

TEST_P(PolicyExplain, VerdictsAgreeWithWhatSocketsSee) {
  const std::vector<std::string> policies = {policy("none", "nobody", "[]"), policy("deny", "web-a", "[]"),
                                             policy("a", "web-a", from("client-a")),
                                             policy("tcp", "web-a", from("client-b", "{port: 8080}")),
                                             policy("udp", "web-a", "[{ports: [{protocol: UDP}]}]")};
  for (const std::string& each : policies) {
    SCOPED_TRACE(each);
    cluster().apply("policy", each);
    for (const std::string protocol : {"tcp", "udp"}) {
      for (const std::string name : {"client-a", "client-b"}) {
        const bool passes =
            ask(pod(name).netns(), protocol, target("web-a"), {.timeout = kSilence}).has_value();
        const Output told = verdict("default/" + name, "web-a", "8080/" + protocol);
        EXPECT_EQ(told.status, passes ? 0 : 1) << told.out << told.err;
      }
    }
    const bool passes = ask(pod("client-a").netns(), "tcp", service(11), {.timeout = kSilence}).has_value();
    const Output told = verdict("client-a", service(11).address.to_string(), "80/tcp");
    EXPECT_EQ(told.status, passes ? 0 : 1) << told.out << told.err;
    EXPECT_THAT(told.out, HasSubstr("is an address of default/only-a:tcp: policy judges the backend"));
    EXPECT_EQ(verdict("host", "default/web-a", "8080/tcp").status, 0) << "P13";
  }
}

TEST_P(PolicyExplain, VerdictsNeedNoAgent) {
  cluster().apply("policy", policy("deny", "web-a", "[]"));
  node_a().kill_agent();
  const std::string web = pod("web-a").ip(family()).to_string();
  const Output denied = verdict(pod("client-a").ip(family()).to_string(), web, "8080/tcp");
  EXPECT_EQ(denied.status, 1) << denied.out << denied.err;
  EXPECT_THAT(denied.out, HasSubstr("denied: isolated, no rule allows TCP 8080"));
  EXPECT_EQ(verdict("host", web, "8080/tcp").status, 0);
  const Output unknown = verdict("default/client-a", web, "8080/tcp");
  EXPECT_EQ(unknown.status, 2);
  EXPECT_THAT(unknown.err, HasSubstr("pods are known by name to the agent alone"));
  const Output no_diff = diff(policy("deny", "web-a", "[]"));
  EXPECT_EQ(no_diff.status, 2);
  EXPECT_THAT(no_diff.err, HasSubstr("no agent answers at"));
  node_a().start();
}

TEST_P(PolicyExplain, ShowHasThePoliciesAndWhatTheyCompiledTo) {
  cluster().apply("policy",
                  policy("x", "web-a", from("client-a", "{port: 8080}")) + policy("y", "web-a", "[]"));
  const Output shown = node_a().ctl_text({"policy", "show", "web-a"});
  EXPECT_EQ(shown.status, 0) << shown.err;
  EXPECT_THAT(shown.out, HasSubstr("  1. NetworkPolicy default/x ("));
  EXPECT_THAT(shown.out, HasSubstr("     ingress[0]: from pods app=client-a to TCP 8080\n  2. NetworkPolicy "
                                   "default/y"));
  EXPECT_THAT(shown.out, HasSubstr("tcp/8080  allow    default/x ingress[0]"));
  EXPECT_THAT(shown.out, HasSubstr("egress compiled to open"));
  const auto whole = node_a().ctl({"policy", "show", "default/web-a"});
  EXPECT_EQ(whole.at("ingress").at("policies").size(), 2U);
  EXPECT_EQ(whole.at("ingress").at("entries").size(), 1U);
  const Output elsewhere = node_a().ctl_text({"policy", "show", "default/web-b"});
  EXPECT_EQ(elsewhere.status, 2);
  EXPECT_THAT(elsewhere.err, HasSubstr("it is no pod of this node"));
}

TEST_P(PolicyExplain, DiffForetellsWhichConnectionIsCut) {
  auto cut = TcpClient::connect(pod("client-a").netns(), target("web-a"), {.timeout = kSilence});
  auto remote = TcpClient::connect(pod("client-b").netns(), target("web-a"));
  auto other = TcpClient::connect(pod("client-a").netns(), target("web-b"));
  const std::vector<Result<TcpClient>*> stay = {&remote, &other};
  ASSERT_TRUE(worked(cut));
  for (auto* client : stay) ASSERT_TRUE(worked(*client));

  const std::string file = policy("only-b", "web-a", from("client-b"));
  const Output told = diff(file, {"--output", "json"});
  EXPECT_EQ(told.status, 1) << told.err;
  const auto answer = nlohmann::json::parse(told.out);
  bool foretold = false;
  for (const auto& broken : answer.at("breaks")) {
    EXPECT_EQ(broken.at("source"), "default/client-a");
    EXPECT_EQ(broken.at("destination"), "default/web-a");
    foretold |= broken.at("source_port") == cut->local().port;
  }
  EXPECT_TRUE(foretold) << told.out;
  EXPECT_THAT(diff(file).out,
              HasSubstr("ingress of default/web-a: isolated by default/only-b, no rule allows TCP "
                        "8080; nearest allow: 8080 from app=client-b"));
  // Nothing was written.
  EXPECT_TRUE(worked(cut->echo("still here")));

  cluster().apply("policy", file);
  EXPECT_TRUE(failed_with(cut->echo("after"), ETIMEDOUT));
  for (auto* client : stay) {
    EXPECT_TRUE(worked((*client)->echo("after")));
    EXPECT_EQ((*client)->retransmits(), 0U);
  }
  // Applied, it changes nothing; deleted, it breaks nothing.
  EXPECT_EQ(diff(file).status, 0);
  EXPECT_THAT(diff(file).out, HasSubstr("no verdict changes"));
  const Output deleted = diff(file, {"--delete"});
  EXPECT_EQ(deleted.status, 0);
  EXPECT_THAT(deleted.out, HasSubstr("would be let through from then on:"));
}

// A11: a pod's connection to itself by a service is the business of cluster policies.
TEST_P(PolicyExplain, DiffForetellsThatAPodIsCutFromItself) {
  auto itself = TcpClient::connect(pod("web-a").netns(), service(11), {.timeout = kSilence});
  ASSERT_TRUE(worked(itself));
  EXPECT_EQ(diff(policy("deny", "web-a", "[]")).out.find("default/web-a > default/web-a"), std::string::npos);
  const std::string guard =
      "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: guard}\n"
      "spec:\n  tier: Admin\n  priority: 1\n  subject: {pods: {namespaceSelector: {}, podSelector: "
      "{matchLabels: "
      "{app: web-a}}}}\n  ingress: [{action: Deny, from: [{namespaces: {}}]}]\n";
  const Output told = diff(guard);
  EXPECT_EQ(told.status, 1) << told.err;
  EXPECT_THAT(told.out,
              HasSubstr(fmt::format("tcp default/web-a ({}) > default/web-a",
                                    HostPort{pod("web-a").ip(family()), itself->local().port}.to_string())));
  EXPECT_THAT(told.out, HasSubstr("ingress of default/web-a: denied by guard ingress[0]"));
  EXPECT_THAT(told.out, HasSubstr("itself by a service"));
  EXPECT_TRUE(worked(itself->echo("nothing was written")));
  cluster().apply("policy", guard);
  EXPECT_TRUE(failed_with(itself->echo("after"), ETIMEDOUT));
}

TEST_P(PolicyExplain, HostileQuestionsAreAnsweredWithTheWayOut) {
  const auto expect = [](const Output& output, const std::string& says) {
    EXPECT_EQ(output.status, 2) << output.out;
    EXPECT_THAT(output.err, HasSubstr(says));
  };
  cluster().apply("other", "apiVersion: v1\nkind: Pod\nmetadata: {name: web-a, namespace: other}\n");
  expect(verdict("client-a", "web-a", "80/tcp"),
         "DST web-a: default/web-a and other/web-a are called so; name one as NAMESPACE/NAME");
  cluster().remove("other");
  expect(verdict("nobody", "web-a", "80/tcp"), "SRC nobody: no such pod");
  expect(verdict("client-a", "web-a", "80"), "expected PORT/PROTO");
  expect(verdict("client-a", "web-a", "99999/tcp"), "expected a port from 1 to 65535");
  expect(diff(""), "stdin: there is no NetworkPolicy");
  const std::string huge = node_a().dir("huge.yaml");
  write_atomically(huge, std::string(900 << 10, '\n'));  // more than a MiB with its quoting
  expect(node_a().ctl_text({"policy", "diff", "--file", huge}),
         "is larger than the 1024 KiB the agent takes");
  expect(diff(policy("bad", "web-a", "[{ports: [{port: many-ports-and-no-name}]}]")),
         "stdin:8: NetworkPolicy default/bad: spec.ingress[0].ports[0].port");
}

INSTANTIATE_TEST_SUITE_P(E2e, PolicyExplain, testing::Values(Family::kIpv4, Family::kIpv6), family_name);

}  // namespace
}  // namespace bpfnet::e2e
