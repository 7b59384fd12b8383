#include <gtest/gtest.h>

#include "control/objects/show.h"

namespace bpfnet::objects {
namespace {

Stored stored(std::string_view yaml) {
  auto read = read_manifests(yaml, "a.yaml", sources::Format::kYaml, false);
  Manifest& manifest = read.documents.at(0).manifests.at(0);
  return {*manifest.key, manifest.json, manifest.text, "a.yaml:1"};
}

constexpr const char* kShownService =
    "kind: Service  # said\nmetadata: {name: web, namespace: shop}\nspec:\n  type: NodePort\n  clusterIPs: "
    "[10.96.0.1, fd00::1]\n"
    "  ports: [{port: 80, nodePort: 30080}, {port: 53, protocol: UDP}]\n";

TEST(Show, TablesAreThoseOfKubectl) {
  EXPECT_EQ(show({stored(kShownService)}, {.form = Form::kTable}),
            "NAME  TYPE      CLUSTER-IP         EXTERNAL-IP  PORT(S)\n"
            "web   NodePort  10.96.0.1,fd00::1  <none>       80:30080/TCP,53/UDP\n");
  EXPECT_EQ(show({stored(kShownService)}, {.form = Form::kWide, .namespaces = true}),
            "NAMESPACE  NAME  TYPE      CLUSTER-IP         EXTERNAL-IP  PORT(S)              DEFINED-AT\n"
            "shop       web   NodePort  10.96.0.1,fd00::1  <none>       80:30080/TCP,53/UDP  a.yaml:1\n");
}

TEST(Show, KindsStandInTablesOfTheirOwn) {
  EXPECT_EQ(show({stored("kind: Node\nmetadata: {name: n}\nspec: {podCIDRs: [10.0.0.0/24]}\nstatus: "
                         "{addresses: [{type: "
                         "InternalIP, address: 192.0.2.1}, {type: Hostname, address: n}]}\n"),
                  stored("kind: EndpointSlice\nmetadata: {name: s, labels: {kubernetes.io/service-name: "
                         "web}}\naddressType: "
                         "IPv4\nports: [{port: 8080}]\nendpoints: [{addresses: [10.0.0.1]}, {addresses: "
                         "[10.0.0.2]}]\n")},
                 {.form = Form::kTable}),
            "NAME    INTERNAL-IP  POD-CIDRS\n"
            "node/n  192.0.2.1    10.0.0.0/24\n"
            "\n"
            "NAME                              SERVICE  ADDRESSTYPE  PORTS  ENDPOINTS\n"
            "endpointslice.discovery.k8s.io/s  web      IPv4         8080   10.0.0.1,10.0.0.2\n");
}

TEST(Show, YamlIsTheTextAsItIsWritten) {
  EXPECT_EQ(show({stored(kShownService)}, {.form = Form::kYaml}), kShownService);
  EXPECT_EQ(show({stored(kShownService), stored(kShownService)}, {.form = Form::kYaml}),
            std::string(kShownService) + "---\n" + kShownService);
}

TEST(Show, JsonIsOneObjectOrAList) {
  const auto one =
      nlohmann::json::parse(show({stored(kShownService)}, {.form = Form::kJson, .single = true}));
  EXPECT_EQ(one["spec"]["ports"][1]["protocol"], "UDP");
  const auto list = nlohmann::json::parse(show({stored(kShownService)}, {.form = Form::kJson}));
  EXPECT_EQ(list["kind"], "List");
  EXPECT_EQ(list["items"].size(), 1U);
}

TEST(Show, ObjectsThatMakeNoSenseAreShownAllTheSame) {
  EXPECT_EQ(
      show({stored("kind: Service\nmetadata: {name: odd}\nspec: [{ports: 3}]\n")}, {.form = Form::kTable}),
      "NAME  TYPE       CLUSTER-IP  EXTERNAL-IP  PORT(S)\n"
      "odd   ClusterIP  <none>      <none>       <none>\n");
  for (const char* kind :
       {"Pod", "Node", "NetworkPolicy", "ClusterNetworkPolicy", "ServiceCIDR", "EndpointSlice", "Namespace"})
    EXPECT_NE(
        show({stored(std::string("kind: ") + kind +
                     "\nmetadata: {name: odd, labels: [1]}\nspec: {cidrs: [{}, []], podSelector: 1}\nstatus: "
                     "x\nports: {}\nendpoints: [1, {addresses: [[]]}]\n")},
             {.form = Form::kWide}),
        "");
}

}  // namespace
}  // namespace bpfnet::objects
