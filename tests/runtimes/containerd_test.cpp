// containerd 1.6 with our plugin and the agent's own conflist, driven by CRI. C-numbers are those of the CNI
// specification notes.
#include "tests/runtimes/containerd.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/runtimes/runtimes.h"

namespace bpfnet::e2e {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

/// Two nodes, each with an agent and a containerd.
class ContainerdCri : public testing::Test {
 public:
  static void SetUpTestSuite() {
    cluster_ = std::make_unique<Cluster>(runtime_cluster({"node-a", "node-b"}));
    for (size_t i = 0; i < 2; i++) {
      plugins_[i] = std::make_unique<PluginDirectory>(cluster_->node(i));
      runtimes_[i] = std::make_unique<Containerd>(cluster_->node(i), plugins_[i]->plugins(),
                                                  plugins_[i]->configurations());
      cluster_->node(i).stop_agent();
      // C24: nothing to serve a pod with, and then, without a restart of containerd, all of it.
      not_ready_before_ = not_ready_before_ && !runtimes_[i]->network_ready();
      cluster_->node(i).start(plugins_[i]->agent_flags());
    }
  }
  static void TearDownTestSuite() {
    for (auto& runtime : runtimes_) runtime.reset();
    for (auto& plugins : plugins_) plugins.reset();
    cluster_.reset();
  }

 protected:
  void SetUp() override { ASSERT_TRUE(runtimes_[1]) << "the cluster could not be made"; }
  static Cluster& cluster() { return *cluster_; }
  static Node& node(size_t index = 0) { return cluster_->node(index); }
  static PluginDirectory& plugins(size_t index = 0) { return *plugins_[index]; }
  static Containerd& runtime(size_t index = 0) { return *runtimes_[index]; }

  /// As kubelet and API server do it: the Pod object, then the sandbox, then the object with its addresses.
  static std::unique_ptr<CriPod> add_pod(size_t on, const std::string& name,
                                         const json& more = json::object()) {
    PodManifest object{.ns = "default", .name = name, .node = node(on).name()};
    cluster_->apply("pod-" + name, object.yaml());
    auto pod = std::make_unique<CriPod>(runtime(on), "default", name, more);
    object.ips = pod->ips();
    cluster_->apply("pod-" + name, object.yaml());
    return pod;
  }

  static std::unique_ptr<Cluster> cluster_;
  static std::unique_ptr<PluginDirectory> plugins_[2];
  static std::unique_ptr<Containerd> runtimes_[2];
  static bool not_ready_before_;
};
std::unique_ptr<Cluster> ContainerdCri::cluster_;
std::unique_ptr<PluginDirectory> ContainerdCri::plugins_[2];
std::unique_ptr<Containerd> ContainerdCri::runtimes_[2];
bool ContainerdCri::not_ready_before_ = true;

TEST_F(ContainerdCri, TheNetworkIsReadyWhenTheAgentIs) {
  EXPECT_TRUE(not_ready_before_) << "without a conflist";
  for (size_t i = 0; i < 2; i++) EXPECT_TRUE(eventually([&] { return runtime(i).network_ready(); })) << i;
}

// C4, C23: addresses of both families reach the runtime, the pod's name the agent.
TEST_F(ContainerdCri, APodHasAddressesAndAName) {
  plugins().forget();
  const auto pod = add_pod(0, "plain");
  const json endpoint = endpoint_of(node(), pod->sandbox());
  ASSERT_TRUE(endpoint.is_object()) << node().api("/v1/endpoints").dump(1);
  EXPECT_EQ(endpoint.at("pod"), "default/plain");
  EXPECT_EQ(endpoint.at("network"), "bpfnet");
  ASSERT_EQ(pod->ips().size(), 2U) << "dual stack";
  for (const Address& ip : pod->ips()) {
    EXPECT_THAT(endpoint.at("ips").dump(), HasSubstr('"' + ip.to_string() + '"'));
    EXPECT_THAT(pod->exec({"ip", "addr", "show", "eth0"}).out, HasSubstr(ip.to_string() + "/"));
  }
  const auto calls = plugins().calls("ADD");
  ASSERT_EQ(calls.size(), 1U);
  EXPECT_EQ(calls[0].config.at("cniVersion"), "1.0.0") << "C17: the newest that containerd 1.6 knows";
  const std::string args = calls[0].variable("CNI_ARGS");
  for (const auto* part : {"K8S_POD_NAMESPACE=default", "K8S_POD_NAME=plain", "K8S_POD_UID=uid-plain"})
    EXPECT_THAT(args, HasSubstr(part));
}

// C20: containerd's keys begin with capitals; what CRI says of ports, bandwidth and DNS arrives.
TEST_F(ContainerdCri, AHostPortLeadsToThePod) {
  plugins().forget();
  const auto pod = add_pod(0, "published",
                           {{"port_mappings", {{{"host_port", 18200}, {"container_port", CriPod::kPort}}}},
                            {"dns_config", {{"servers", {"10.96.0.53"}}, {"options", {"ndots:5"}}}},
                            {"annotations", {{"kubernetes.io/ingress-bandwidth", "10M"}}}});
  const json config = plugins().calls("ADD").at(0).config;
  EXPECT_THAT(config.at("runtimeConfig").dump(), HasSubstr(R"("HostPort":18200)"));
  const Host& client = cluster().network().client();
  for (const Family family : kFamilies)
    EXPECT_EQ(ask_from(client.netns(), {node().ip(family), 18200}),
              answer_of("published", client.ip(family)));
  // A second claim is an error of the runtime, in words that name both.
  try {
    const auto second =
        add_pod(0, "rival", {{"port_mappings", {{{"host_port", 18200}, {"container_port", CriPod::kPort}}}}});
    FAIL() << "a second pod got the same host port";
  } catch (const std::runtime_error& error) {
    for (const auto* part : {"18200", "default/published", "default/rival"})
      EXPECT_THAT(error.what(), HasSubstr(part));
  }
}

// A containerd pod on each node, one asking the other through a ClusterIP.
TEST_F(ContainerdCri, PodsOfTwoNodesMeetAtAClusterIp) {
  const auto a = add_pod(0, "pod-a");
  const auto b = add_pod(1, "pod-b");
  ServiceManifest service;
  service.name = "who";
  service.cluster_ips = {Address::parse("10.96.0.20").value(), Address::parse("fd00:10:96::20").value()};
  service.ports = {{"http", "TCP", 80, CriPod::kPort}};
  service.backends = {{.ips = b->ips(), .node = node(1).name()}};
  cluster().apply("who", service.yaml());
  for (const Family family : kFamilies) {
    const HostPort front{service.cluster_ips[family == Family::kIpv4 ? 0 : 1], 80};
    EXPECT_EQ(a->ask(front), answer_of("pod-b", a->ip(family)));
    EXPECT_EQ(b->ask({a->ip(family), CriPod::kPort}), answer_of("pod-a", b->ip(family)))
        << "without a service";
  }
  cluster().remove("who");
}

// C11: stop, then remove: DEL comes twice, the second time with an empty netns.
TEST_F(ContainerdCri, DelComesTwiceTheSecondTimeWithoutANamespace) {
  auto pod = add_pod(0, "short-lived");
  const std::string sandbox = pod->sandbox();
  const json endpoint = endpoint_of(node(), sandbox);
  plugins().forget();
  runtime().stop(sandbox);
  EXPECT_TRUE(endpoint_of(node(), sandbox).is_null());
  EXPECT_THAT(node().netns().ip_show("link show"), testing::Not(HasSubstr(endpoint.at("hostIfname"))));
  pod.reset();
  const auto calls = plugins().calls("DEL");
  ASSERT_EQ(calls.size(), 2U);
  EXPECT_FALSE(calls[0].variable("CNI_NETNS").empty());
  EXPECT_EQ(calls[1].variable("CNI_NETNS"), "");
  EXPECT_TRUE(calls[0].config.contains("prevResult"));
}

TEST_F(ContainerdCri, PodsEndWhileNoAgentRuns) {
  auto pod = add_pod(0, "orphan");
  const std::string sandbox = pod->sandbox();
  node().stop_agent();
  EXPECT_TRUE(runtime().network_ready()) << "the conflist outlives the agent, whose datapath serves on";
  pod.reset();
  try {
    runtime().run_sandbox({{"metadata", {{"name", "early"}, {"uid", "uid-early"}, {"namespace", "default"}}},
                           {"log_directory", "/tmp"},
                           {"linux", {{"cgroup_parent", "/bpfnet-test-runtimes"}}}});
    ADD_FAILURE() << "a pod was made without an agent";
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(), HasSubstr("is bpfnetd running?"));
  }
  node().start(plugins().agent_flags());
  EXPECT_TRUE(endpoint_of(node(), sandbox).is_null()) << "the agent has done what the plugin left for it";
  const auto next = add_pod(0, "next");
  EXPECT_EQ(next->ips().size(), 2U);
}

// The way out: the conflist first, so that the runtime asks for no more pods, then all else.
TEST_F(ContainerdCri, CleanupTakesTheNetworkFromTheRuntime) {
  node(1).stop_agent();
  ASSERT_EQ(node(1).cleanup(plugins(1).agent_flags()), 0) << read_text(node(1).dir("cleanup.log"));
  EXPECT_TRUE(eventually([&] { return !runtime(1).network_ready(); }));
  EXPECT_FALSE(std::filesystem::exists(plugins(1).conflist()));
  EXPECT_TRUE(std::filesystem::is_empty(node(1).dir("cni-bin")));
  node(1).start(plugins(1).agent_flags());
  EXPECT_TRUE(eventually([&] { return runtime(1).network_ready(); }));
}

}  // namespace
}  // namespace bpfnet::e2e
