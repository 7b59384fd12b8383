// deploy/: that the manifests hold together, ask for no more rights than they need, and say only what the
// agent understands. That deploy/kubernetes is what the chart gives is proved by scripts/check-deploy.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace bpfnet {
namespace {

using ::testing::IsSupersetOf;
using ::testing::UnorderedElementsAre;

std::string read(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

std::set<std::string> texts(const YAML::Node& list) {
  std::set<std::string> all;
  for (const YAML::Node& each : list) all.insert(each.as<std::string>());
  return all;
}

/// The long names of the agent's flags.
std::set<std::string> agent_flags() {
  FILE* pipe = popen(BPFNETD_BINARY " --help", "r");
  std::string help;
  char buffer[4096];
  for (size_t got = 0; (got = fread(buffer, 1, sizeof(buffer), pipe)) > 0;) help.append(buffer, got);
  EXPECT_EQ(pclose(pipe), 0);
  std::set<std::string> flags;
  std::istringstream lines(help);
  for (std::string line; std::getline(lines, line);) {
    const size_t begin = line.find("--");
    if (begin == std::string::npos || begin > 5) continue;
    flags.insert(line.substr(begin + 2, line.find_first_of(" ,", begin) - begin - 2));
  }
  return flags;
}

/// The names in a file for --config.
std::set<std::string> configured_flags(const std::string& text) {
  std::set<std::string> flags;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    if (!line.empty() && line[0] != '#') flags.insert(line.substr(0, line.find('=')));
  return flags;
}

class Manifests : public testing::Test {
 protected:
  void SetUp() override {
    for (const YAML::Node& object : YAML::LoadAll(read(BPFNET_DEPLOY_DIR "/kubernetes/bpfnet.yaml")))
      objects_[object["kind"].as<std::string>() + "/" + object["metadata"]["name"].as<std::string>()] =
          object;
  }

  YAML::Node object(const std::string& name) { return objects_.at(name); }
  YAML::Node pod_spec(const std::string& daemon_set) {
    return object("DaemonSet/" + daemon_set)["spec"]["template"]["spec"];
  }
  /// Init containers and containers.
  std::vector<YAML::Node> containers(const std::string& daemon_set) {
    std::vector<YAML::Node> all;
    for (const char* kind : {"initContainers", "containers"})
      for (const YAML::Node& container : pod_spec(daemon_set)[kind]) all.push_back(container);
    return all;
  }

  std::map<std::string, YAML::Node> objects_;
};

TEST_F(Manifests, TheSetIsWhole) {
  std::vector<std::string> names;
  for (const auto& [name, object] : objects_) {
    names.push_back(name);
    EXPECT_TRUE(object["apiVersion"].IsScalar()) << name;
    const bool of_the_cluster = name.starts_with("ClusterRole");
    EXPECT_EQ(object["metadata"]["namespace"].IsDefined(), !of_the_cluster) << name;
  }
  EXPECT_THAT(names,
              UnorderedElementsAre("ServiceAccount/bpfnet", "ClusterRole/bpfnet", "ClusterRoleBinding/bpfnet",
                                   "ConfigMap/bpfnet", "DaemonSet/bpfnet", "DaemonSet/bpfnet-removal"));
  const YAML::Node binding = object("ClusterRoleBinding/bpfnet");
  EXPECT_EQ(binding["roleRef"]["name"].as<std::string>(), "bpfnet");
  EXPECT_EQ(binding["subjects"][0]["name"].as<std::string>(), "bpfnet");
  EXPECT_EQ(binding["subjects"][0]["namespace"].as<std::string>(),
            object("ServiceAccount/bpfnet")["metadata"]["namespace"].as<std::string>());
}

// K17, K18, and the Node condition: these rights and no others.
TEST_F(Manifests, TheRightsAreThoseOfTheSpecification) {
  std::set<std::string> rights;
  for (const YAML::Node& rule : object("ClusterRole/bpfnet")["rules"])
    for (const std::string& group : texts(rule["apiGroups"]))
      for (const std::string& resource : texts(rule["resources"]))
        for (const std::string& verb : texts(rule["verbs"]))
          rights.insert(fmt::format("{}/{} {}", group, resource, verb));
  std::set<std::string> wanted = {"/nodes get",
                                  "/events create",
                                  "/events patch",
                                  "/events update",
                                  "events.k8s.io/events create",
                                  "events.k8s.io/events patch",
                                  "events.k8s.io/events update",
                                  "/nodes/status patch"};
  for (const char* resource :
       {"/services", "discovery.k8s.io/endpointslices", "networking.k8s.io/servicecidrs", "/nodes", "/pods",
        "/namespaces", "networking.k8s.io/networkpolicies",
        "policy.networking.k8s.io/clusternetworkpolicies"})
    for (const char* verb : {"list", "watch"}) wanted.insert(fmt::format("{} {}", resource, verb));
  EXPECT_EQ(rights, wanted);
}

// An agent that does not know a flag ends at once, on every node.
TEST_F(Manifests, FlagsAreTheAgents) {
  const auto known = agent_flags();
  ASSERT_THAT(known, IsSupersetOf({"node-name", "config", "cni-conf"}));
  std::set<std::string> used =
      configured_flags(object("ConfigMap/bpfnet")["data"]["bpfnetd.conf"].as<std::string>());
  EXPECT_GE(used.size(), 5U);
  used.merge(configured_flags(read(BPFNET_DEPLOY_DIR "/systemd/bpfnetd.conf")));
  for (const char* daemon_set : {"bpfnet", "bpfnet-removal"})
    for (const YAML::Node& container : containers(daemon_set))
      for (const std::string& word : texts(container["command"]))
        if (word.starts_with("--")) used.insert(word.substr(2));
  std::istringstream unit(read(BPFNET_DEPLOY_DIR "/systemd/bpfnetd.service"));
  for (std::string line; std::getline(unit, line);) {
    if (!line.starts_with("ExecStart")) continue;
    std::istringstream words(line);
    for (std::string word; words >> word;)
      if (word.starts_with("--")) used.insert(word.substr(2));
  }
  for (const std::string& flag : used) EXPECT_TRUE(known.contains(flag)) << "bpfnetd has no flag --" << flag;
}

TEST_F(Manifests, EveryMountHasItsVolumeAndEveryVolumeAUse) {
  for (const char* daemon_set : {"bpfnet", "bpfnet-removal"}) {
    std::set<std::string> volumes;
    for (const YAML::Node& volume : pod_spec(daemon_set)["volumes"])
      volumes.insert(volume["name"].as<std::string>());
    std::set<std::string> mounted;
    for (const YAML::Node& container : containers(daemon_set))
      for (const YAML::Node& mount : container["volumeMounts"])
        mounted.insert(mount["name"].as<std::string>());
    EXPECT_EQ(mounted, volumes) << daemon_set;
  }
}

TEST_F(Manifests, TheSelectorsSelectTheirPods) {
  for (const char* daemon_set : {"bpfnet", "bpfnet-removal"}) {
    const YAML::Node spec = object(std::string("DaemonSet/") + daemon_set)["spec"];
    for (const auto& label : spec["selector"]["matchLabels"])
      EXPECT_EQ(spec["template"]["metadata"]["labels"][label.first.as<std::string>()].as<std::string>(),
                label.second.as<std::string>())
          << daemon_set;
  }
  EXPECT_NE(
      object("DaemonSet/bpfnet")["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]
          .as<std::string>(),
      object("DaemonSet/bpfnet-removal")["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]
          .as<std::string>())
      << "or each would take the other's pods for its own";
}

// A node without its network can start nothing else.
TEST_F(Manifests, TheAgentRunsOnEveryNode) {
  const YAML::Node spec = pod_spec("bpfnet");
  EXPECT_TRUE(spec["hostNetwork"].as<bool>());
  EXPECT_EQ(spec["priorityClassName"].as<std::string>(), "system-node-critical");
  ASSERT_EQ(spec["tolerations"].size(), 1U);
  EXPECT_EQ(spec["tolerations"][0]["operator"].as<std::string>(), "Exists");
  EXPECT_FALSE(spec["tolerations"][0]["key"]) << "of every taint";
  const YAML::Node agent = spec["containers"][0];
  EXPECT_EQ(agent["livenessProbe"]["httpGet"]["path"].as<std::string>(), "/livez") << "S55";
  EXPECT_EQ(agent["readinessProbe"]["httpGet"]["path"].as<std::string>(), "/readyz")
      << "of the agent: whether load balancers may send here is another question (S54, S55)";
}

// Only what mounts for the host is privileged: Kubernetes allows it to no other.
TEST_F(Manifests, PrivilegesAreTheLeastThatWork) {
  for (const char* daemon_set : {"bpfnet", "bpfnet-removal"}) {
    for (const YAML::Node& container : containers(daemon_set)) {
      const std::string name = container["name"].as<std::string>();
      bool bidirectional = false;
      for (const YAML::Node& mount : container["volumeMounts"])
        bidirectional |= mount["mountPropagation"].as<std::string>("None") == "Bidirectional";
      EXPECT_EQ(container["securityContext"]["privileged"].as<bool>(false), bidirectional) << name;
      if (bidirectional) continue;
      EXPECT_THAT(texts(container["securityContext"]["capabilities"]["drop"]), UnorderedElementsAre("ALL"))
          << name;
      EXPECT_TRUE(container["securityContext"]["readOnlyRootFilesystem"].as<bool>()) << name;
    }
  }
  // An annotation, which every version of Kubernetes reads, and the name in it must be a container's.
  const YAML::Node annotations = object("DaemonSet/bpfnet")["spec"]["template"]["metadata"]["annotations"];
  const std::string agent = pod_spec("bpfnet")["containers"][0]["name"].as<std::string>();
  EXPECT_EQ(annotations["container.apparmor.security.beta.kubernetes.io/" + agent].as<std::string>(""),
            "unconfined");
  EXPECT_THAT(texts(pod_spec("bpfnet")["containers"][0]["securityContext"]["capabilities"]["add"]),
              UnorderedElementsAre("NET_ADMIN", "SYS_ADMIN", "DAC_OVERRIDE"));
}

// The bounding set takes from root whatever it does not name.
TEST(SystemdUnit, ItsRightsAreThoseOfTheDaemonSetAndForeignNamespaces) {
  std::istringstream unit(read(BPFNET_DEPLOY_DIR "/systemd/bpfnetd.service"));
  std::set<std::string> rights;
  const std::string key = "CapabilityBoundingSet=";
  for (std::string line; std::getline(unit, line);) {
    if (!line.starts_with(key)) continue;
    std::istringstream words(line.substr(key.size()));
    for (std::string word; words >> word;) rights.insert(word);
  }
  EXPECT_THAT(rights,
              UnorderedElementsAre("CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_SYS_PTRACE"));
}

}  // namespace
}  // namespace bpfnet
