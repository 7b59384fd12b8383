// What a mistake costs while the agent runs: the last good version goes on.
#include <gmock/gmock.h>

#include "tests/unit/sources_directory.h"

namespace bpfnet::sources {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const model::ObjectName kWeb{"default", "web"};
const model::ObjectName kPolicy{"default", "p"};

std::string policy(const std::string& rule) {
  return "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec:\n  podSelector: "
         "{matchLabels: {app: web}}\n  ingress:\n  - " +
         rule + "\n";
}

class LastGood : public testing::Test {
 protected:
  void write(const std::string& name, std::string_view text) {
    directory.write(name, text);
    EXPECT_TRUE(source.poll(std::chrono::seconds(10)));
  }
  std::string cluster_ip(const model::ObjectName& name = kWeb) {
    const auto found = source.state().services.find(name);
    return found == source.state().services.end() ? "none" : found->second.cluster_ips.at(0).to_string();
  }

  ManifestDirectory directory;
  FileSource source = open_source(directory);
};

TEST_F(LastGood, RefusedObjectStaysAndIsNamed) {
  write("a.yaml", service("web", "10.96.0.1"));
  const uint64_t generation = source.generation();
  write("a.yaml", service("web", "10.96.0.1", "http"));
  EXPECT_EQ(source.state().services.at(kWeb).ports.at(0).port, 80);
  EXPECT_EQ(source.generation(), generation);
  EXPECT_THAT(complaints(source),
              ElementsAre("a.yaml:6: Service default/web: spec.ports[0].port: is http, expected a "
                          "number from 1 to 65535; its last good version stays"));
  write("a.yaml", service("web", "10.96.0.1", "8080"));
  EXPECT_EQ(source.state().services.at(kWeb).ports.at(0).port, 8080);
  EXPECT_THAT(complaints(source), IsEmpty());
}

TEST_F(LastGood, ClusterPolicyStaysAndItsChangesAreTold) {
  const auto policy = [](const std::string& action) {
    return "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: "
           "fence}\n"
           "spec: {tier: Admin, priority: 1, subject: {namespaces: {}},\n"
           " ingress: [{action: " +
           action + ", from: [{namespaces: {}}]}]}\n";
  };
  (void)source.take_changes();
  write("a.yaml", policy("Deny"));
  EXPECT_THAT(source.take_changes().cluster_policies, ElementsAre("fence"));
  write("a.yaml", policy("Drop"));
  EXPECT_EQ(source.state().cluster_policies.at("fence").ingress.at(0).action, model::PolicyAction::kDeny);
  EXPECT_TRUE(source.take_changes().empty());
  EXPECT_THAT(complaints(source),
              ElementsAre("a.yaml:5: ClusterNetworkPolicy fence: spec.ingress[0].action: is Drop, expected "
                          "Accept, Deny, Pass; its last good version stays"));
  write("a.yaml", policy("Pass"));
  EXPECT_EQ(source.state().cluster_policies.at("fence").ingress.at(0).action, model::PolicyAction::kPass);
  EXPECT_THAT(source.take_changes().cluster_policies, ElementsAre("fence"));
  directory.remove("a.yaml");
  EXPECT_TRUE(source.poll(std::chrono::seconds(10)));
  EXPECT_THAT(source.state().cluster_policies, IsEmpty());
}

TEST_F(LastGood, TheRestOfTheFileApplies) {
  write("a.yaml", service("web, labels: 5", "10.96.0.1") + "---\n" + service("other", "10.96.0.2"));
  EXPECT_EQ(cluster_ip(), "none");
  EXPECT_EQ(cluster_ip({"default", "other"}), "10.96.0.2");
}

TEST_F(LastGood, SyntaxErrorCostsOneDocument) {
  write("a.yaml", service("web", "10.96.0.1") + "---\n" + service("other", "10.96.0.2"));
  write("a.yaml", "kind: [Service\n---\n" + service("other", "10.96.0.3"));
  EXPECT_EQ(cluster_ip(), "10.96.0.1");
  EXPECT_EQ(cluster_ip({"default", "other"}), "10.96.0.3");
  ASSERT_EQ(complaints(source).size(), 1u);
  EXPECT_THAT(complaints(source)[0], HasSubstr("not read; what stood here before stays"));
}

TEST_F(LastGood, StillStaysIfTheUnreadableDocumentChanges) {
  write("a.yaml", service("web", "10.96.0.1"));
  write("a.yaml", "kind: [Service\n");
  write("a.yaml", "kind: [Service, x\n");
  EXPECT_EQ(cluster_ip(), "10.96.0.1");
  write("a.yaml", service("web", "10.96.0.4"));
  EXPECT_EQ(cluster_ip(), "10.96.0.4");
  write("a.yaml", "");
  EXPECT_EQ(cluster_ip(), "none");
}

TEST_F(LastGood, AnObjectThatLostItsNameStays) {
  write("a.yaml", service("web", "10.96.0.1"));
  write("a.yaml", service("Web!", "10.96.0.1"));
  EXPECT_EQ(cluster_ip(), "10.96.0.1");
}

TEST_F(LastGood, MakesWayForAGoodVersionElsewhere) {
  write("a.yaml", service("web", "10.96.0.1"));
  write("a.yaml", "kind: [Service\n");
  write("b.yaml", service("web", "10.96.0.9"));
  EXPECT_EQ(cluster_ip(), "10.96.0.9");
  EXPECT_EQ(complaints(source).size(), 1u);
}

TEST_F(LastGood, PolicyDoesNotBecomeWeaker) {
  write("p.yaml", policy("from: [{podSelector: {}}]"));
  write("p.yaml", policy("form: [{podSelector: {}}]"));
  EXPECT_EQ(source.state().policies.at(kPolicy).ingress.at(0).peers.size(), 1u);
  EXPECT_THAT(complaints(source),
              ElementsAre("p.yaml:7: NetworkPolicy default/p: spec.ingress[0].form: is not known "
                          "here, expected ports, from; its last good version stays"));
}

TEST_F(LastGood, PolicyThatWasNeverGoodIsolates) {
  write("p.yaml", policy("form: [{podSelector: {}}]"));
  const model::NetworkPolicy& stand_in = source.state().policies.at(kPolicy);
  EXPECT_TRUE(stand_in.isolates_ingress);
  EXPECT_THAT(stand_in.ingress, IsEmpty());
  EXPECT_TRUE(stand_in.pods.matches({{"app", "web"}}));
  EXPECT_FALSE(stand_in.pods.matches({}));
  EXPECT_THAT(complaints(source), ElementsAre(HasSubstr("; until then the pods it selects are isolated")));
  write("p.yaml", policy("from: []"));
  EXPECT_EQ(source.state().policies.at(kPolicy).ingress.size(), 1u);
}

TEST_F(LastGood, PodThatWasNeverGoodKeepsItsLabels) {
  write("pod.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {app: web}}\nstatus: {podIP: 10.0.0}\n");
  EXPECT_EQ(source.state().pods.at(kWeb).labels.at("app"), "web");
  EXPECT_THAT(complaints(source), ElementsAre(HasSubstr("; until then the pod is known by its labels only")));
}

TEST_F(LastGood, S11_AServiceThatWasNeverGoodDoesWithoutWhatCannotBeRead) {
  const std::string head =
      "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  clusterIP: 10.96.0.1\n";
  write("a.yaml",
        head +
            "  type: NodePort\n  sessionAffinity: Sometimes\n  loadBalancerSourceRanges: 10.0.0.0/8\n"
            "  ports:\n  - {name: a, port: 80, nodePort: many}\n  - {name: b, port: http}\n"
            "  - {name: c, port: 81, protocol: QUIC}\n  - {name: d, port: 80}\n  - {name: e, port: 82}\n");
  const model::Service& web = source.state().services.at(kWeb);
  ASSERT_EQ(web.ports.size(), 2U);
  EXPECT_EQ(web.ports[0], (model::ServicePort{"a", model::Protocol::kTcp, 80, 0}));
  EXPECT_EQ(web.ports[1], (model::ServicePort{"e", model::Protocol::kTcp, 82, 0}));
  EXPECT_FALSE(web.affinity);
  EXPECT_THAT(web.source_ranges,
              ElementsAre(Cidr::parse("0.0.0.0/32").value(), Cidr::parse("::/128").value()))
      << "what should close an address must not open it";
  EXPECT_THAT(complaints(source),
              testing::Contains(HasSubstr("spec.ports[1].port: is http, expected a number from "
                                          "1 to 65535; until then the object counts without this field")));
  write("a.yaml", head + "  ports: [{name: a, port: 90}]\n");
  write("a.yaml", head + "  ports: [{name: a, port: x}]\n");
  EXPECT_EQ(source.state().services.at(kWeb).ports.at(0).port, 90)
      << "from now on the last good version counts";
}

TEST_F(LastGood, ASliceThatWasNeverGoodDoesWithoutTheEndpointsThatCannotBeRead) {
  write("s.yaml",
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: web}\naddressType: IPv4\n"
        "ports: [{name: a, port: 80}, {name: b, port: x}]\n"
        "endpoints:\n- addresses: [10.0.0.1]\n- addresses: [10.0.0]\n- addresses: [\"fd00::1\"]\n"
        "- {addresses: [10.0.0.2], conditions: {ready: \"no\"}}\n- addresses: [10.0.0.3]\n");
  const model::EndpointSlice& slice = source.state().slices.at(kWeb);
  ASSERT_EQ(slice.ports.size(), 1U);
  EXPECT_EQ(slice.ports[0].name, "a");
  ASSERT_EQ(slice.endpoints.size(), 2U);
  EXPECT_EQ(slice.endpoints[0].ip.to_string(), "10.0.0.1");
  EXPECT_EQ(slice.endpoints[1].ip.to_string(), "10.0.0.3");
  EXPECT_EQ(complaints(source).size(), 4U);
}

TEST_F(LastGood, AServiceOfWhichItIsNotCertainWhatIsMeantIsNotUsed) {
  for (const char* text :
       {"apiVersion: v1\nkind: Service\nmetadata: {name: web, labels: "
        "{service.kubernetes.io/service-proxy-name: "
        "\"a b\"}}\nspec: {clusterIP: 10.96.0.1}\n",
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: 10.96.0.1, clusterIP: "
        "10.96.0.2}\n",
        "apiVersion: v2\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: 10.96.0.1}\n"}) {
    write("a.yaml", text);
    EXPECT_EQ(cluster_ip(), "none") << text;
    EXPECT_THAT(complaints(source), ElementsAre(HasSubstr("; the object is not used")));
    write("a.yaml", "# nothing\n");
  }
}

TEST_F(LastGood, RemovalOfARefusedObjectRemovesIt) {
  write("a.yaml", service("web", "10.96.0.1"));
  write("a.yaml", service("web", "10.96.0"));
  EXPECT_EQ(cluster_ip(), "10.96.0.1");
  write("a.yaml", service("other", "10.96.0.2"));
  EXPECT_EQ(cluster_ip(), "none");
}

TEST_F(LastGood, LineNumbersFollowWithoutAChange) {
  write("a.yaml", service("web", "10.96.0.1") + "---\n" + service("other", "10.96.0.2", "x"));
  const uint64_t generation = source.generation();
  (void)source.take_changes();
  write("a.yaml",
        "# one\n# two\n" + service("web", "10.96.0.1") + "---\n" + service("other", "10.96.0.2", "x"));
  EXPECT_EQ(source.generation(), generation);
  EXPECT_TRUE(source.take_changes().empty());
  EXPECT_EQ(source.state().services.at(kWeb).origin.line, 3);
  EXPECT_THAT(complaints(source), ElementsAre(HasSubstr("a.yaml:15: Service default/other")));
}

TEST_F(LastGood, ChangesNameWhatChanged) {
  write("a.yaml", service("web", "10.96.0.1") + "---\n" + service("other", "10.96.0.2"));
  Changes changes = source.take_changes();
  EXPECT_THAT(changes.services, ElementsAre(model::ObjectName{"default", "other"}, kWeb));
  EXPECT_THAT(changes.namespaces, ElementsAre("default"));
  write("a.yaml", service("web", "10.96.0.1") + "---\n" + service("other", "10.96.0.3"));
  changes = source.take_changes();
  EXPECT_THAT(changes.services, ElementsAre(model::ObjectName{"default", "other"}));
  EXPECT_THAT(changes.namespaces, IsEmpty());
  write("a.yaml", "");
  changes = source.take_changes();
  EXPECT_EQ(changes.services.size(), 2u);
  EXPECT_THAT(changes.namespaces, ElementsAre("default"));
  EXPECT_THAT(source.state().namespaces, IsEmpty());
}

TEST_F(LastGood, NamespacesAreImpliedUntilTheyAreWritten) {
  write("a.yaml", service("web, namespace: shop", "10.96.0.1"));
  EXPECT_EQ(source.state().namespaces.at("shop").labels,
            (model::Labels{{"kubernetes.io/metadata.name", "shop"}}));
  write("n.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {team: blue}}\n");
  EXPECT_EQ(source.state().namespaces.at("shop").labels.at("team"), "blue");
  directory.remove("n.yaml");
  ASSERT_TRUE(source.poll(std::chrono::seconds(10)));
  EXPECT_FALSE(source.state().namespaces.at("shop").labels.contains("team"));
}

}  // namespace
}  // namespace bpfnet::sources
