// Objects that contradict each other: both places are named, and who has it keeps it.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <numeric>

#include "control/sources/catalog.h"
#include "tests/support/addresses.h"
#include "tests/unit/sources_directory.h"

namespace bpfnet::sources {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::string node_port_service(const std::string& name, const std::string& ip, const std::string& port) {
  return "apiVersion: v1\nkind: Service\nmetadata: {name: " + name +
         "}\nspec: {type: NodePort, clusterIP: " + ip + ", ports: [" + port + "]}\n";
}

std::string pod(const std::string& name, const std::string& ip, const std::string& phase = "Running",
                const std::string& more = "") {
  return "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + ", labels: {app: x}" + more +
         "}\nstatus: {phase: " + phase + ", podIP: " + ip + "}\n";
}

class Conflicts : public testing::Test {
 protected:
  // Takes the source up to date with what was written to `directory`.
  void start() { source.emplace(open_source(directory)); }
  void write(const std::string& name, std::string_view text) {
    directory.write(name, text);
    EXPECT_TRUE(source->poll(std::chrono::seconds(10)));
  }
  void remove(const std::string& name) {
    directory.remove(name);
    EXPECT_TRUE(source->poll(std::chrono::seconds(10)));
  }
  std::string cluster_ip(const std::string& name) {
    const auto found = source->state().services.find({"default", name});
    return found == source->state().services.end() ? "none" : found->second.cluster_ips.at(0).to_string();
  }
  std::vector<Address> pod_ips(const std::string& name) {
    return source->state().pods.at({"default", name}).ips;
  }

  ManifestDirectory directory;
  std::optional<FileSource> source;
};

TEST_F(Conflicts, AtStartTheFirstFileCounts) {
  directory.write("b.yaml", service("web", "10.96.0.2"));
  directory.write("a.yaml", service("web", "10.96.0.1"));
  start();
  EXPECT_EQ(cluster_ip("web"), "10.96.0.1");
  ASSERT_EQ(complaints(*source).size(), 1u);
  EXPECT_THAT(complaints(*source)[0], HasSubstr("b.yaml:1: Service default/web: is also defined at "));
  EXPECT_THAT(complaints(*source)[0], HasSubstr("a.yaml:1, which counts; the object is not used"));
}

TEST_F(Conflicts, TheSecondTakesOverWhenTheFirstGoes) {
  directory.write("a.yaml", service("web", "10.96.0.1"));
  directory.write("b.yaml", service("web", "10.96.0.2"));
  start();
  remove("a.yaml");
  EXPECT_EQ(cluster_ip("web"), "10.96.0.2");
  EXPECT_THAT(complaints(*source), IsEmpty());
}

TEST_F(Conflicts, ALaterFileDoesNotReplaceWhatRuns) {
  directory.write("b.yaml", service("web", "10.96.0.2"));
  start();
  write("a.yaml", service("web", "10.96.0.1"));
  EXPECT_EQ(cluster_ip("web"), "10.96.0.2");
  write("b.yaml", service("web", "10.96.0.3"));
  EXPECT_EQ(cluster_ip("web"), "10.96.0.3") << "an edit does not cost it its name";
}

TEST_F(Conflicts, TwiceInOneFile) {
  directory.write("a.yaml", service("web", "10.96.0.1") + "---\n" + service("web", "10.96.0.2"));
  start();
  EXPECT_EQ(cluster_ip("web"), "10.96.0.1");
  EXPECT_THAT(complaints(*source),
              ElementsAre(HasSubstr("a.yaml:8: Service default/web: is also defined at ")));
}

TEST_F(Conflicts, ClusterIpBelongsToWhoHasIt) {
  directory.write("a.yaml", service("a", "10.96.0.1"));
  directory.write("b.yaml", service("b", "10.96.0.2"));
  start();
  write("b.yaml", service("b", "10.96.0.1"));
  EXPECT_EQ(cluster_ip("a"), "10.96.0.1");
  EXPECT_EQ(cluster_ip("b"), "10.96.0.2") << "its last version that fits";
  ASSERT_EQ(complaints(*source).size(), 1u);
  EXPECT_THAT(
      complaints(*source)[0],
      HasSubstr("b.yaml:1: Service default/b: spec.clusterIP: 10.96.0.1 belongs to Service default/a ("));
  EXPECT_THAT(complaints(*source)[0],
              HasSubstr("a.yaml:1), which keeps it, expected one of its own; its last good version stays"));
  write("a.yaml", service("a", "10.96.0.5"));
  EXPECT_EQ(cluster_ip("a"), "10.96.0.5");
  EXPECT_EQ(cluster_ip("b"), "10.96.0.1") << "free now";
  EXPECT_THAT(complaints(*source), IsEmpty());
}

TEST_F(Conflicts, AnEarlierFileCannotTakeARunningAddress) {
  directory.write("a.yaml", service("a", "10.96.0.1"));
  directory.write("b.yaml", service("b", "10.96.0.2"));
  start();
  write("a.yaml", service("a", "10.96.0.2"));
  EXPECT_EQ(cluster_ip("b"), "10.96.0.2");
  EXPECT_EQ(cluster_ip("a"), "10.96.0.1");
}

TEST_F(Conflicts, TwoServicesMaySwapTheirAddressesInOneFile) {
  directory.write("a.yaml", service("a", "10.96.0.1") + "---\n" + service("b", "10.96.0.2"));
  start();
  write("a.yaml", service("a", "10.96.0.2") + "---\n" + service("b", "10.96.0.1"));
  EXPECT_EQ(cluster_ip("a"), "10.96.0.2");
  EXPECT_EQ(cluster_ip("b"), "10.96.0.1");
  EXPECT_THAT(complaints(*source), IsEmpty());
}

TEST_F(Conflicts, NodePorts) {
  directory.write("a.yaml", node_port_service("a", "10.96.0.1", "{port: 80, nodePort: 30080}"));
  directory.write("b.yaml", node_port_service("b", "10.96.0.2", "{port: 80, nodePort: 30080}"));
  directory.write("c.yaml",
                  node_port_service("c", "10.96.0.3", "{port: 80, nodePort: 30080, protocol: UDP}"));
  start();
  EXPECT_EQ(cluster_ip("b"), "none");
  EXPECT_EQ(cluster_ip("c"), "10.96.0.3");
  EXPECT_THAT(complaints(*source),
              ElementsAre(HasSubstr("spec.ports.nodePort: 30080 TCP belongs to Service default/a (")));
}

// The rest of a Service, its cluster IP above all, is nobody else's.
TEST_F(Conflicts, ExternalAddressesAreSharedByPort) {
  const auto external = [](const std::string& name, const std::string& ip, const std::string& port) {
    return "apiVersion: v1\nkind: Service\nmetadata: {name: " + name + "}\nspec: {clusterIP: " + ip +
           ", externalIPs: [203.0.113.1], ports: [{port: " + port + "}]}\n";
  };
  directory.write("a.yaml", external("a", "10.96.0.1", "80"));
  directory.write("b.yaml", external("b", "10.96.0.2", "81"));
  directory.write("c.yaml", external("c", "10.96.0.3", "80"));
  start();
  EXPECT_EQ(cluster_ip("b"), "10.96.0.2");
  EXPECT_EQ(cluster_ip("c"), "10.96.0.3");
  const auto withheld = [this](const std::string& name) {
    return source->state().services.at({"default", name}).withheld;
  };
  EXPECT_THAT(withheld("a"), IsEmpty());
  EXPECT_THAT(withheld("b"), IsEmpty());
  EXPECT_THAT(withheld("c"), ElementsAre(model::ExternalPort{ip("203.0.113.1"), 80, model::Protocol::kTcp}));
  EXPECT_THAT(complaints(*source),
              ElementsAre(HasSubstr("spec.externalIPs: 203.0.113.1 port 80 TCP belongs to")));
  remove("a.yaml");
  EXPECT_THAT(withheld("c"), IsEmpty());
}

TEST_F(Conflicts, APodLosesOnlyTheAddress) {
  directory.write("a.yaml", pod("a", "10.0.0.1"));
  directory.write("b.yaml", pod("b", "10.0.0.1"));
  start();
  EXPECT_EQ(pod_ips("a").size(), 1u);
  EXPECT_THAT(pod_ips("b"), IsEmpty());
  EXPECT_EQ(source->state().pods.at({"default", "b"}).labels.at("app"), "x") << "policies still select it";
  EXPECT_THAT(complaints(*source),
              ElementsAre(HasSubstr("status.podIPs: 10.0.0.1 belongs to Pod default/a (")));
  write("a.yaml", pod("a", "10.0.0.1", "Succeeded"));  // P21: its address may be another's
  EXPECT_EQ(pod_ips("b").size(), 1u);
  EXPECT_THAT(complaints(*source), IsEmpty());
}

// P22: it has the address until another says that it has it.
TEST_F(Conflicts, ATerminatingPodKeepsNoAddressFromAnother) {
  directory.write("a.yaml", pod("a", "10.0.0.1", "Running", ", deletionTimestamp: \"2026-01-01T00:00:00Z\""));
  directory.write("b.yaml", pod("b", "10.0.0.1"));
  start();
  EXPECT_EQ(pod_ips("a").size(), 1u);
  EXPECT_EQ(pod_ips("b").size(), 1u);
  EXPECT_THAT(complaints(*source), IsEmpty());
}

TEST_F(Conflicts, NodesLoseOnlyTheRange) {
  const auto node = [](const std::string& name) {
    return "apiVersion: v1\nkind: Node\nmetadata: {name: " + name +
           "}\nspec: {podCIDR: 10.1.0.0/24}\nstatus: {addresses: [{type: InternalIP, address: 192.0.2.1}]}\n";
  };
  directory.write("a.yaml", node("a") + "---\n" + node("b"));
  start();
  EXPECT_EQ(source->state().nodes.at("a").pod_cidrs.size(), 1u);
  EXPECT_THAT(source->state().nodes.at("b").pod_cidrs, IsEmpty());
  EXPECT_THAT(source->state().nodes.at("b").internal_ips, IsEmpty());
  EXPECT_EQ(complaints(*source).size(), 2u);
}

TEST_F(Conflicts, AFileMovedKeepsItsObjectsWithoutAChange) {
  directory.write("a.yaml", service("web", "10.96.0.1"));
  start();
  (void)source->take_changes();
  std::filesystem::rename(directory.path() / "a.yaml", directory.path() / "z.yaml");
  ASSERT_TRUE(wait_for(*source, [&] {
    return source->state().services.contains({"default", "web"}) &&
           source->state().services.at({"default", "web"}).origin.source.view().ends_with("z.yaml");
  }));
  EXPECT_TRUE(source->take_changes().empty());
}

// Lists that a tool made may have them.
TEST_F(Conflicts, CreationTimesInFilesDoNotCount) {
  const auto created = [](const std::string& name, const std::string& time) {
    return "apiVersion: v1\nkind: Service\nmetadata: {name: " + name + ", creationTimestamp: \"" + time +
           "\"}\nspec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}\n";
  };
  directory.write("b.yaml", created("b", "2026-01-31T12:00:00Z"));
  start();
  write("a.yaml", created("a", "2020-01-31T12:00:00Z"));
  EXPECT_EQ(cluster_ip("a"), "none");
  EXPECT_EQ(cluster_ip("b"), "10.96.0.1");
}

/// Services that want the same external address and port, as an API server tells of them.
class ConflictsOfServers : public testing::Test {
 protected:
  struct Made {
    std::string ns;
    std::string name;
    std::string created;
  };
  static Decoded decoded(const Made& made, size_t number) {
    const std::string json = fmt::format(
        R"({{"metadata": {{"namespace": "{}", "name": "{}", "creationTimestamp": "{}"}},
             "spec": {{"clusterIP": "10.96.0.{}", "externalIPs": ["198.51.100.1"], "ports": [{{"port": 80}}]}}}})",
        made.ns, made.name, made.created, number + 1);
    const ParsedText text = parse_json(json);
    return std::move(decode_object(*text.documents.at(0).root, Kind::kService).objects.at(0));
  }
  /// Adds them in every order, all at once and one by one.
  static std::set<std::string> winners(std::vector<Made> all) {
    std::vector<size_t> order(all.size());
    std::iota(order.begin(), order.end(), 0);
    std::set<std::string> found;
    do {
      for (const bool at_once : {true, false}) {
        Catalog catalog;
        for (const size_t index : order) {
          catalog.add("kubernetes", 1, decoded(all[index], index));
          if (!at_once) catalog.settle();
        }
        catalog.settle();
        EXPECT_EQ(catalog.state().services.size(), all.size());
        size_t holders = 0;
        for (const auto& [name, each] : catalog.state().services)
          if (each.withheld.empty() && ++holders == 1) found.insert(name.to_string());
        EXPECT_EQ(holders, 1U);
      }
    } while (std::ranges::next_permutation(order).found);
    return found;
  }
};

TEST_F(ConflictsOfServers, TheOldestHasItInWhateverOrderTheyCome) {
  EXPECT_THAT(winners({{"default", "a", "2026-01-31T12:00:01Z"},
                       {"default", "b", "2026-01-31T12:00:00Z"},
                       {"default", "c", "2026-01-31T12:00:02Z"}}),
              ElementsAre("default/b"));
}

TEST_F(ConflictsOfServers, OfThoseOfOneSecondTheFirstByNamespaceAndName) {
  const std::string time = "2026-01-31T12:00:00Z";
  EXPECT_THAT(winners({{"z", "a", time}, {"b", "c", time}, {"b", "b", time}, {"c", "a", time}}),
              ElementsAre("b/b"));
}

TEST_F(ConflictsOfServers, TheNextOneHasItWhenItsOwnerGoes) {
  Catalog catalog;
  catalog.add("kubernetes", 1, decoded({"default", "b", "2026-01-31T12:00:01Z"}, 1));
  Candidate* first = catalog.add("kubernetes", 1, decoded({"default", "c", "2026-01-31T12:00:00Z"}, 2));
  catalog.settle();
  std::vector<Problem> problems;
  catalog.collect_problems(problems);
  ASSERT_EQ(problems.size(), 1U);
  EXPECT_THAT(problems[0].to_string(), HasSubstr("Service default/b: spec.externalIPs"));
  const auto& second = catalog.state().services.at({"default", "b"});
  EXPECT_EQ(second.withheld.size(), 1U);
  catalog.remove(first);
  catalog.settle();
  EXPECT_THAT(catalog.state().services.at({"default", "b"}).withheld, IsEmpty());
}

// A machine that was installed anew under another name: its Node of before is still there.
TEST_F(ConflictsOfServers, OfNodesTheNewerHasTheAddress) {
  const auto node = [](const std::string& name, const std::string& created) {
    const ParsedText text = parse_json(fmt::format(
        R"({{"metadata": {{"name": "{}", "creationTimestamp": "{}"}},
             "status": {{"addresses": [{{"type": "InternalIP", "address": "192.0.2.1"}}]}}}})",
        name, created));
    return std::move(decode_object(*text.documents.at(0).root, Kind::kNode).objects.at(0));
  };
  for (const bool newer_first : {true, false}) {
    Catalog catalog;
    const auto add_newer = [&] { catalog.add("kubernetes", 1, node("b", "2026-01-31T12:00:00Z")); };
    if (newer_first) add_newer();
    catalog.add("kubernetes", 1, node("a", "2025-01-31T12:00:00Z"));
    if (!newer_first) add_newer();
    catalog.settle();
    EXPECT_THAT(catalog.state().nodes.at("a").internal_ips, IsEmpty());
    EXPECT_THAT(catalog.state().nodes.at("b").internal_ips, ElementsAre(ip("192.0.2.1")));
  }
}

}  // namespace
}  // namespace bpfnet::sources
