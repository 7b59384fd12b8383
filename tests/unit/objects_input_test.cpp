#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control/objects/input.h"
#include "control/objects/kinds.h"

namespace bpfnet::objects {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string refusal(std::string_view text, bool skip_unknown = false) {
  const auto input = read_input_text(text, "a.yaml", skip_unknown);
  return input ? "" : input.error().message;
}

constexpr const char* kServiceText =
    "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: 10.96.0.1, ports: [{port: "
    "80}]}\n";

TEST(Input, GivesWhatIsGood) {
  const auto input = read_input_text(kServiceText, "a.yaml", false);
  ASSERT_TRUE(input) << input.error().message;
  ASSERT_EQ(input->manifests.size(), 1U);
  EXPECT_EQ(input->manifests[0].text, kServiceText);
}

TEST(Input, NamesEveryMistakeAtOnceByFileLineAndField) {
  const std::string text = refusal(
      "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  ports: [{port: http}]\n---\n"
      "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec:\n  podSelectr: "
      "{}\n");
  EXPECT_THAT(text, HasSubstr("a.yaml:5: Service default/web: spec.ports[0].port: is http"));
  EXPECT_THAT(text, HasSubstr("a.yaml:11: NetworkPolicy default/p: spec.podSelectr: is not known here"));
  EXPECT_THAT(text, HasSubstr("nothing was written"));
}

TEST(Input, WhatWouldBeLeftOutIsAMistakeHere) {
  EXPECT_THAT(
      refusal("apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: 10.96.0.1, ports: "
              "[{port: 80, nodePort: 30000}]}\n"),
      HasSubstr("spec.ports[0].nodePort: is set"));
}

TEST(Input, ASyntaxErrorIsOne) {
  EXPECT_THAT(refusal("kind: [\n"), HasSubstr("a.yaml:"));
}

TEST(Input, AnObjectThatStandsTwiceIsRefusedWithBothPlaces) {
  EXPECT_THAT(refusal(std::string(kServiceText) + "---\n" + kServiceText),
              HasSubstr("a.yaml:6: Service default/web: stands at a.yaml:1 already"));
}

TEST(Input, KindsThatAreNotReadAreRefusedUnlessTheyAreToBeSkipped) {
  const std::string text =
      std::string("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n---\n") + kServiceText;
  EXPECT_THAT(refusal(text), HasSubstr("a.yaml:1: kind Deployment: bpfnet does not read it"));
  const auto input = read_input_text(text, "a.yaml", true);
  ASSERT_TRUE(input);
  EXPECT_EQ(input->manifests.size(), 1U);
  EXPECT_THAT(input->notes, ElementsAre(HasSubstr("Deployment: left out")));
}

TEST(Input, AnObjectWithoutAUsableNameIsToldOnce) {
  const std::string text = refusal("apiVersion: v1\nkind: Service\nmetadata: {}\n");
  EXPECT_THAT(text, HasSubstr("metadata.name"));
  EXPECT_THAT(text, testing::Not(HasSubstr("does not read")));
}

TEST(Input, AWarningIsANoteAndCostsNothing) {
  const auto input = read_input_text(
      "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {type: NodePort, clusterIP: "
      "10.96.0.1, ports: [{port: 80}]}\n",
      "a.yaml", false);
  ASSERT_TRUE(input) << input.error().message;
  EXPECT_THAT(input->notes, ElementsAre(HasSubstr("nodePort")));
}

TEST(Kinds, AreNamedAsKubectlNamesThem) {
  using sources::Kind;
  EXPECT_EQ(*parse_kinds("svc"), std::vector{Kind::kService});
  EXPECT_EQ(*parse_kinds("Services,NetPol"), (std::vector{Kind::kService, Kind::kNetworkPolicy}));
  EXPECT_EQ(*parse_kinds("networkpolicies.networking.k8s.io"), std::vector{Kind::kNetworkPolicy});
  EXPECT_EQ(parse_kinds("all")->size(), sources::kAllKinds.size());
  EXPECT_THAT(parse_kinds("deploy").error().message, HasSubstr("no such kind; these are: namespaces, nodes"));
  EXPECT_FALSE(parse_kinds("services.apps"));
  EXPECT_FALSE(parse_kinds(""));
}

TEST(Selections, AreKindAndNamesOrPairs) {
  EXPECT_EQ(parse_selection({"svc", "a", "b"}, "shop")->named.at(1).to_string(), "Service shop/b");
  EXPECT_EQ(parse_selection({"svc/a", "node/n"}, "shop")->named.at(1).to_string(), "Node n");
  EXPECT_TRUE(parse_selection({"svc"}, "shop")->named.empty());
  EXPECT_FALSE(parse_selection({"svc/a", "b"}, "shop"));
  EXPECT_FALSE(parse_selection({"svc", "a/b"}, "shop"));
  EXPECT_FALSE(parse_selection({"svc/"}, "shop"));
  EXPECT_FALSE(parse_selection({}, "shop"));
}

}  // namespace
}  // namespace bpfnet::objects
