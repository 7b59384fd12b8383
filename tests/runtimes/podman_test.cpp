// Podman 4.3 with network_backend="cni", our plugin and the agent's own conflist. C-numbers are those of the
// CNI specification notes.
#include "tests/runtimes/podman.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/runtimes/runtimes.h"

namespace bpfnet::e2e {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr uint16_t kPort = 8080;

class PodmanCni : public testing::Test {
 public:
  static void SetUpTestSuite() {
    cluster_ = std::make_unique<Cluster>(runtime_cluster({"node-p"}));
    plugins_ = std::make_unique<PluginDirectory>(node());
    node().stop_agent();
    node().start(plugins_->agent_flags());
    // A second network, with addresses of its own, beside the agent's conflist.
    const json second = {{"cniVersion", "0.4.0"},
                         {"name", "second"},
                         {"plugins",
                          {{{"type", "bpfnet-cni"},
                            {"socket", node().socket()},
                            {"stateDir", node().dir("state")},
                            {"capabilities", {{"portMappings", true}, {"ips", true}}},
                            {"ipam", {{"ranges", {{{{"subnet", "10.250.0.0/24"}}}}}}}}}}};
    write_atomically(plugins_->configurations() + "/20-second.conflist", second.dump());
    podman_ = std::make_unique<Podman>(node(), *plugins_);
  }
  static void TearDownTestSuite() {
    podman_.reset();
    plugins_.reset();
    cluster_.reset();
  }

 protected:
  void SetUp() override {
    ASSERT_TRUE(podman_) << "the cluster could not be made";
    plugins_->forget();
  }
  void TearDown() override {
    if (!podman_) return;
    podman_->must({"rm", "--all", "--force", "--time", "0"});
    EXPECT_TRUE(node().api("/v1/endpoints").at("endpoints").empty())
        << "left by the removal of its container";
  }
  static Node& node() { return cluster_->node(0); }
  static Podman& podman() { return *podman_; }
  static const Host& client() { return cluster_->network().client(); }
  static const PluginDirectory& plugins() { return *plugins_; }
  static std::string ask_in(const std::string& container, const HostPort& server) {
    std::vector<std::string> args = ask_command(server);
    args.insert(args.begin(), {"exec", container});
    return page_of(podman().run(args).out);
  }

  static std::unique_ptr<Cluster> cluster_;
  static std::unique_ptr<PluginDirectory> plugins_;
  static std::unique_ptr<Podman> podman_;
};
std::unique_ptr<Cluster> PodmanCni::cluster_;
std::unique_ptr<PluginDirectory> PodmanCni::plugins_;
std::unique_ptr<Podman> PodmanCni::podman_;

TEST_F(PodmanCni, AContainerHasAddressesOfBothFamilies) {
  const std::string id = podman().serve("web", {"--network", "bpfnet"});
  const json endpoint = endpoint_of(node(), id);
  ASSERT_TRUE(endpoint.is_object()) << node().api("/v1/endpoints").dump(1);
  const json network = podman().network_of("web", "bpfnet");
  EXPECT_THAT(endpoint.at("ips").dump(), HasSubstr(network.at("IPAddress").get<std::string>()));
  EXPECT_THAT(endpoint.at("ips").dump(), HasSubstr(network.at("GlobalIPv6Address").get<std::string>()));
  EXPECT_THAT(plugins().calls("ADD").at(0).variable("CNI_ARGS"), HasSubstr("K8S_POD_NAME=web"));
  for (const auto* key : {"IPAddress", "GlobalIPv6Address"}) {
    const Address ip = Address::parse(network.at(key).get<std::string>()).value();
    EXPECT_EQ(ask_from(node().netns(), {ip, kPort}), answer_of("web", node().ip(ip.family())));
  }
}

// Podman says it in CNI_ARGS.
TEST_F(PodmanCni, AddressAndMacCanBeAskedFor) {
  const std::string id = podman().serve(
      "fixed", {"--network", "bpfnet", "--ip", "10.244.1.77", "--mac-address", "02:00:00:00:00:77"});
  const json endpoint = endpoint_of(node(), id);
  EXPECT_THAT(endpoint.at("ips").dump(), HasSubstr("\"10.244.1.77\""));
  EXPECT_EQ(endpoint.at("mac"), "02:00:00:00:00:77");
  EXPECT_THAT(podman().must({"exec", "fixed", "ip", "link", "show", "eth0"}), HasSubstr("02:00:00:00:00:77"));
  const Output taken =
      podman().run({"run", "--name", "rival", "--network", "bpfnet", "--cgroup-parent",
                    "bpfnet-test-runtimes", "--ip", "10.244.1.77", "--rm", kImage, "sleep", "1"});
  EXPECT_NE(taken.status, 0);
  EXPECT_THAT(taken.err, HasSubstr("10.244.1.77"));
}

// C20: Podman's keys are camelCase. A range comes as one mapping for each port.
TEST_F(PodmanCni, PortsArePublished) {
  const std::string id =
      podman().serve("web", {"--network", "bpfnet", "--publish", "18300:8080", "--publish",
                             "19000-19004:9000-9004/udp", "--publish", "127.0.0.1:18301:8080"});
  for (const Family family : kFamilies)
    EXPECT_EQ(ask_from(client().netns(), {node().ip(family), 18300}), answer_of("web", client().ip(family)));
  EXPECT_EQ(ask_from(node().netns(), {Address::parse("127.0.0.1").value(), 18301}).substr(0, 8), "web saw ");
  EXPECT_EQ(ask_from(client().netns(), {node().ip(Family::kIpv4), 18301}), "")
      << "published on 127.0.0.1 only";
  EXPECT_THAT(endpoint_of(node(), id).at("hostPorts").dump(), HasSubstr(R"("hostPortEnd":19004)"));
  EXPECT_THAT(plugins().calls("ADD").at(0).config.at("runtimeConfig").dump(),
              HasSubstr(R"("hostPort":18300)"));
}

TEST_F(PodmanCni, ASecondNetworkIsEth1) {
  const std::string id = podman().serve("both", {"--network", "bpfnet,second"});
  const json first = endpoint_of(node(), id, "eth0");
  const json second = endpoint_of(node(), id, "eth1");
  ASSERT_TRUE(first.is_object() && second.is_object()) << node().api("/v1/endpoints").dump(1);
  EXPECT_NE(first.at("network"), second.at("network"));
  const json& other = first.at("network") == "second" ? first : second;
  EXPECT_THAT(other.at("ips").dump(), HasSubstr("10.250.0."));
  EXPECT_THAT(podman().must({"exec", "both", "ip", "addr", "show", other.at("ifname")}),
              HasSubstr("10.250.0."));
  // Each network's address is reached and answers by its own interface, whichever came first.
  podman().serve("caller", {"--network", "bpfnet"});
  const Address from =
      Address::parse(podman().network_of("caller", "bpfnet").at("IPAddress").get<std::string>()).value();
  for (const json& endpoint : {first, second}) {
    const Address ip = Address::parse(endpoint.at("ips").at(0).get<std::string>()).value();
    EXPECT_EQ(ask_in("caller", {ip, kPort}), answer_of("both", from)) << endpoint.at("ifname");
    EXPECT_EQ(ask_from(node().netns(), {ip, kPort}), answer_of("both", node().ip(Family::kIpv4)))
        << endpoint.at("ifname");
  }
  EXPECT_THAT(podman().must({"exec", "both", "ip", "route", "get", "198.51.100.1"}), HasSubstr("dev eth0"));
  // Both are told as one container's: DEL of one leaves the other.
  podman().must({"network", "disconnect", "second", "both"});
  EXPECT_TRUE(endpoint_of(node(), id, other.at("ifname")).is_null());
  EXPECT_TRUE(endpoint_of(node(), id, other.at("ifname") == "eth0" ? "eth1" : "eth0").is_object());
}

// DEL repeats what ADD was given, and its result.
TEST_F(PodmanCni, StopAndStartAgain) {
  const std::string id = podman().serve("again", {"--network", "bpfnet"});
  podman().must({"stop", "--time", "0", "again"});
  EXPECT_TRUE(endpoint_of(node(), id).is_null());
  EXPECT_TRUE(plugins().calls("DEL").at(0).config.contains("prevResult"));
  podman().must({"start", "again"});
  ASSERT_TRUE(endpoint_of(node(), id).is_object());
  const Address ip =
      Address::parse(podman().network_of("again", "bpfnet").at("IPAddress").get<std::string>()).value();
  EXPECT_EQ(ask_from(node().netns(), {ip, kPort}), answer_of("again", node().ip(Family::kIpv4)));
}

// Two containers of a node, one asking the other.
TEST_F(PodmanCni, ContainersReachEachOther) {
  podman().serve("web", {"--network", "bpfnet"});
  podman().serve("caller", {"--network", "bpfnet"});
  const json network = podman().network_of("web", "bpfnet");
  const json caller = podman().network_of("caller", "bpfnet");
  for (const auto* key : {"IPAddress", "GlobalIPv6Address"}) {
    const Address web = Address::parse(network.at(key).get<std::string>()).value();
    const Address from = Address::parse(caller.at(key).get<std::string>()).value();
    EXPECT_EQ(ask_in("caller", {web, kPort}), answer_of("web", from));
  }
}

}  // namespace
}  // namespace bpfnet::e2e
