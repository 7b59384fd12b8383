// A map of policies that is far too small: what does not fit is refused whole and told, what was in force
// stays, and what waits is taken up when there is room (issue 4, item 5).
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/e2e/policy_world.h"

namespace bpfnet::e2e {
namespace {

using testing::HasSubstr;

constexpr uint32_t kRoom = 16;

class PolicyRoom : public testing::TestWithParam<Family> {
 protected:
  PolicyRoom() : cluster_(cluster_options({"node-a"}, {"--max-policy-entries", std::to_string(kRoom)})) {
    for (const auto* name : {"web", "friend", "other", "big"}) add_pod(name);
    cluster_.apply("self", echo_service("self", 11, {cluster_.backend("web")}).yaml());
  }
  Pod& add_pod(const std::string& name) { return cluster_.add_pod(0, name, {.labels = {{"app", name}}}); }
  /// Ingress of `app` from one peer to so many ports, each of which takes an entry; 8080 is the first.
  static std::string allow(const std::string& app, const std::string& peer, uint32_t ports) {
    std::string list;
    for (uint32_t i = 0; i < ports; i++)
      list += fmt::format("{}{{port: {}}}", i == 0 ? "" : ", ", 8080 + 2 * i);
    return network_policy("default", "of-" + app,
                          fmt::format("podSelector: {{matchLabels: {{app: {}}}}}, ingress: [{{from: "
                                      "[{{podSelector: {{matchLabels: {{app: {}}}}}}}], ports: [{}]}}]",
                                      app, peer, list));
  }
  void apply(const std::string& app, const std::string& peer, uint32_t ports) {
    cluster_.apply("policy-" + app, allow(app, peer, ports));
  }
  [[nodiscard]] HostPort target(const std::string& name) {
    return {cluster_.pod(name).ip(GetParam()), Pod::kPort};
  }
  [[nodiscard]] bool passes(const std::string& from, const HostPort& to) {
    return ask(cluster_.pod(from).netns(), "tcp", to, {.timeout = kSilence}).has_value();
  }
  /// `OBJECT: TEXT` of each.
  [[nodiscard]] std::string problems() {
    std::string text;
    const nlohmann::json answer = cluster_.node(0).api("/v1/problems");
    for (const auto& each : answer.at("problems"))
      text += each.value("object", "") + ": " + each.at("text").get<std::string>() + "\n";
    return text;
  }
  [[nodiscard]] size_t entries() { return cluster_.node(0).ctl({"map", "dump", "policies"}).size(); }

  Cluster cluster_;
};

TEST_P(PolicyRoom, WhatDoesNotFitIsRefusedWholeAndTakenUpWhenThereIsRoom) {
  apply("big", "other", 12);
  apply("web", "friend", 1);
  auto live = TcpClient::connect(cluster_.pod("friend").netns(), target("web"), {.timeout = kSilence});
  ASSERT_TRUE(worked(live));
  EXPECT_FALSE(passes("other", target("web")));
  ASSERT_EQ(entries(), 13U);
  ASSERT_EQ(problems().find("--max-policy-entries"), std::string::npos) << problems();

  // The other way round, and 8 entries: there is room for 3.
  apply("web", "other", 8);
  EXPECT_TRUE(worked(live->echo("the old set is in force")));
  EXPECT_TRUE(passes("friend", target("web")));
  EXPECT_FALSE(passes("other", target("web")));
  EXPECT_EQ(entries(), 13U) << "not even begun";
  for (const std::string& told : {problems(), cluster_.node(0).ctl_text({"status"}).out}) {
    EXPECT_THAT(told,
                HasSubstr("endpoint default/web: policies default/of-web are not enforced as they are"));
    EXPECT_THAT(told, HasSubstr(fmt::format("13 of {} are in use; raise --max-policy-entries", kRoom)));
    EXPECT_THAT(told, HasSubstr("those before them stay"));
  }
  EXPECT_THAT(cluster_.node(0).ctl_text({"policy", "show", "web"}).out,
              HasSubstr("which is not in place: `bpfnetctl status` says why"));

  // Nobody's change but another pod's makes room.
  cluster_.remove("policy-big");
  EXPECT_TRUE(eventually([&] { return problems().find("--max-policy-entries") == std::string::npos; }))
      << problems();
  EXPECT_TRUE(failed_with(live->echo("the new set is"), ETIMEDOUT));
  EXPECT_FALSE(passes("friend", target("web")));
  EXPECT_TRUE(passes("other", target("web")));
}

// P20, A11: a new pod has no policies before these, so nothing passes: not even itself by its service, which
// under a set that is merely empty does.
TEST_P(PolicyRoom, ANewPodWhosePoliciesDoNotFitIsClosedUntilTheyDo) {
  apply("big", "other", 12);
  cluster_.apply("policy-late", cluster_network_policy(
                                    "late", "Admin", 1,
                                    "pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: late}}}",
                                    "ingress: [{action: Deny, from: [{pods: {namespaceSelector: {}, "
                                    "podSelector: {matchLabels: {app: late}}}}]}]") +
                                    allow("late", "other", 8));
  Pod& late = add_pod("late");
  cluster_.apply("late", echo_service("late", 12, {cluster_.backend("late")}).yaml());
  const HostPort by_service{pick(GetParam(), "10.96.0.12", "fd00:10:96::12"), 80};
  const HostPort by_other_service{pick(GetParam(), "10.96.0.11", "fd00:10:96::11"), 80};
  EXPECT_THAT(problems(),
              HasSubstr("endpoint default/late: policies default/of-late, late are not enforced"));
  EXPECT_THAT(problems(), HasSubstr("nothing passes in that direction"));
  EXPECT_FALSE(passes("other", target("late")));
  EXPECT_FALSE(passes("late", by_service));
  EXPECT_TRUE(passes("late", target("late"))) << "P15";
  EXPECT_TRUE(passes("late", by_other_service)) << "its way out has room";
  EXPECT_TRUE(worked(ask(cluster_.node(0).netns(), "tcp", target("late")))) << "P13";
  EXPECT_THAT(cluster_.node(0).ctl_text({"policy", "show", late.name()}).out,
              HasSubstr("closed: nothing is allowed until its policies have room in the map"));

  cluster_.remove("policy-big");
  EXPECT_TRUE(eventually([&] { return passes("other", target("late")); })) << problems();
  EXPECT_FALSE(passes("late", by_service)) << "by the cluster policy, from now on";
  EXPECT_EQ(problems().find("--max-policy-entries"), std::string::npos) << problems();
}

INSTANTIATE_TEST_SUITE_P(E2e, PolicyRoom, testing::Values(Family::kIpv4, Family::kIpv6), family_name);

}  // namespace
}  // namespace bpfnet::e2e
