// bpfnet-cni as a runtime calls it. C-numbers are those of the CNI specification notes.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <thread>

#include "tests/e2e/e2e.h"

namespace bpfnet::e2e {
namespace {

using nlohmann::json;

constexpr int kConcurrent = 50;

class Cni : public testing::Test {
 public:
  static void SetUpTestSuite() { cluster_ = std::make_unique<Cluster>(cluster_options({"node-a"})); }
  static void TearDownTestSuite() { cluster_.reset(); }

 protected:
  void SetUp() override { ASSERT_TRUE(cluster_) << "the cluster could not be made"; }
  static Node& node() { return cluster_->node(0); }
  /// Host sides of pods: `bpn` and a hash.
  static int host_links() {
    int count = 0;
    for (const auto& link : json::parse(node().netns().ip_show("-j link show"))) {
      count += link.value("ifname", "").starts_with("bpn") ? 1 : 0;
    }
    return count;
  }
  static int endpoints() {
    const auto reply = node().api("/v1/endpoints");
    return static_cast<int>(reply.is_array() ? reply.size() : reply.at("endpoints").size());
  }
  static void expect_nothing_left() {
    EXPECT_EQ(host_links(), 0) << node().netns().ip_show("link show");
    EXPECT_EQ(endpoints(), 0) << node().api("/v1/endpoints").dump();
  }
  static CniCall call(const std::string& command, const Netns& netns, const std::string& config = {}) {
    return {.command = command, .container_id = netns.name(), .netns = netns.path(), .config = config};
  }
  static std::string with(const std::string& version, const json& extra) {
    return node().cni_config(version, extra.dump());
  }
  void TearDown() override { expect_nothing_left(); }

  static std::unique_ptr<Cluster> cluster_;
};
std::unique_ptr<Cluster> Cni::cluster_;

// C1, C2: ADD, its shape, CHECK at once (C13), DEL twice (C11), for every version.
class CniVersions : public Cni, public testing::WithParamInterface<std::string> {};

TEST_P(CniVersions, AddCheckDel) {
  const std::string& version = GetParam();
  const Netns netns(netns_name("c"));
  const auto config = node().cni_config(version);
  const CniAnswer add = node().cni(call("ADD", netns, config));
  ASSERT_EQ(add.status, 0) << add.text;
  const json& result = *add.json;
  EXPECT_EQ(result.value("cniVersion", ""), version);
  if (version < "0.3.0") {
    EXPECT_TRUE(result.contains("ip4") && result.contains("ip6")) << add.text;
    EXPECT_FALSE(result.contains("interfaces")) << add.text;
  } else {
    ASSERT_EQ(result["ips"].size(), 2U) << add.text;
    EXPECT_EQ(result["ips"][0].contains("version"), version < "1.0.0") << add.text;
    const json& interface = result["interfaces"].at(result["ips"][0].at("interface").get<size_t>());
    EXPECT_EQ(interface["name"], "eth0");
    EXPECT_EQ(interface["sandbox"], netns.path());
    EXPECT_EQ(interface.contains("mtu"), version == "1.1.0") << add.text;
  }
  EXPECT_FALSE(result.contains("dns")) << add.text;

  CniCall check = call("CHECK", netns, with(version, {{"prevResult", result}}));
  const CniAnswer checked = node().cni(check);
  if (version < "0.4.0") {
    EXPECT_EQ(checked.json->value("code", 0), 1) << checked.text;
  } else {
    EXPECT_EQ(checked.status, 0) << checked.text;
    netns.ip("addr flush dev eth0");
    EXPECT_NE(node().cni(check).status, 0);
  }
  EXPECT_EQ(node().cni(call("DEL", netns, config)).status, 0);
  EXPECT_EQ(node().cni(call("DEL", netns, config)).status, 0);
}

INSTANTIATE_TEST_SUITE_P(E2e, CniVersions,
                         testing::Values("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"),
                         [](const testing::TestParamInfo<std::string>& version) {
                           std::string name = "v" + version.param;
                           std::ranges::replace(name, '.', '_');
                           return name;
                         });

TEST_F(Cni, VersionAndStatus) {
  const CniAnswer version = node().cni({.command = "VERSION"});
  EXPECT_EQ(version.status, 0) << version.text;
  EXPECT_EQ(version.json->at("supportedVersions").size(), 7U) << version.text;
  EXPECT_EQ(node().cni({.command = "STATUS", .config = node().cni_config("1.1.0")}).status, 0);
  EXPECT_EQ(node().cni({.command = "STATUS", .config = node().cni_config("1.0.0")}).json->value("code", 0),
            1);
  EXPECT_EQ(node().cni({.command = "DANCE"}).json->value("code", 0), 4);
}

// C9: a second ADD of the same interface fails and leaves the first alone.
TEST_F(Cni, SecondAddFailsAndTheFirstGoesOn) {
  const Netns netns(netns_name("c"));
  ASSERT_EQ(node().cni(call("ADD", netns)).status, 0);
  EXPECT_NE(node().cni(call("ADD", netns)).status, 0);
  EXPECT_NE(netns.ip_show("addr show eth0").find("10.244.1."), std::string::npos);
  EXPECT_EQ(node().cni(call("DEL", netns)).status, 0);
}

// C12: B has A's address now; a late DEL of A must not touch it.
TEST_F(Cni, LateDelOfAnotherContainerTouchesNothing) {
  const Netns first(netns_name("c1"));
  const Netns second(netns_name("c2"));
  const auto config = with("1.0.0", {{"runtimeConfig", {{"ips", {"10.244.1.77", "fd00:10:244:1::77"}}}}});
  ASSERT_EQ(node().cni(call("ADD", first, config)).status, 0);
  ASSERT_EQ(node().cni(call("DEL", first, config)).status, 0);
  const CniAnswer add = node().cni(call("ADD", second, config));
  ASSERT_EQ(add.status, 0) << add.text;
  EXPECT_NE(add.text.find("10.244.1.77"), std::string::npos);
  EXPECT_EQ(node().cni(call("DEL", first, config)).status, 0);
  EXPECT_TRUE(worked(ping(node().netns(), Address::parse("10.244.1.77").value())));
  EXPECT_EQ(node().cni(call("DEL", second, config)).status, 0);
}

TEST_F(Cni, MacAndRangesOfTheRuntimeAreUsed) {
  const Netns netns(netns_name("c"));
  const json runtime = {
      {"mac", "02:00:5e:00:53:01"},
      {"ipRanges",
       {{{{"subnet", "10.244.1.0/24"}, {"rangeStart", "10.244.1.200"}, {"rangeEnd", "10.244.1.201"}}}}}};
  const CniAnswer add = node().cni(call("ADD", netns, with("1.0.0", {{"runtimeConfig", runtime}})));
  ASSERT_EQ(add.status, 0) << add.text;
  EXPECT_NE(netns.ip_show("link show eth0").find("02:00:5e:00:53:01"), std::string::npos);
  EXPECT_NE(add.text.find("10.244.1.20"), std::string::npos) << add.text;
  EXPECT_EQ(node().cni(call("DEL", netns)).status, 0);
}

TEST_F(Cni, DelegatedHostLocal) {
  const Netns netns(netns_name("c"));
  const json ipam = {{"type", "host-local"},
                     {"dataDir", node().dir("host-local")},
                     {"ranges",
                      {{{{"subnet", "10.244.1.0/24"}, {"rangeStart", "10.244.1.240"}}},
                       {{{"subnet", "fd00:10:244:1::/64"}}}}}};
  const auto config = with("1.0.0", {{"ipam", ipam}});
  const CniAnswer add = node().cni(call("ADD", netns, config));
  ASSERT_EQ(add.status, 0) << add.text;
  const Address ip = Address::parse("10.244.1.240").value();
  EXPECT_NE(add.text.find("10.244.1.240"), std::string::npos) << add.text;
  EXPECT_TRUE(worked(ping(node().netns(), ip)));
  EXPECT_EQ(node().cni(call("DEL", netns, config)).status, 0);
  // Its lease is gone with it.
  EXPECT_EQ(read_text(node().dir("host-local/pods/10.244.1.240")), "");
}

TEST_F(Cni, HostPortTakenByAnotherPodIsRefused) {
  const Netns first(netns_name("c1"));
  const Netns second(netns_name("c2"));
  const json mapping = {
      {"portMappings", {{{"hostPort", 18200}, {"containerPort", 80}, {"protocol", "tcp"}}}}};
  const auto config = with("1.0.0", {{"runtimeConfig", mapping}});
  ASSERT_EQ(node().cni(call("ADD", first, config)).status, 0);
  EXPECT_NE(node().cni(call("ADD", second, config)).status, 0);
  EXPECT_EQ(node().cni(call("DEL", first, config)).status, 0);
  EXPECT_EQ(node().cni(call("DEL", second, config)).status, 0);
}

// C16: and each gets its own address, and works at once.
TEST_F(Cni, FiftyAtOnce) {
  std::vector<Netns> netns;
  for (int i = 0; i < kConcurrent; i++) netns.emplace_back(netns_name(fmt::format("c{}", i)));
  std::vector<CniAnswer> answers(kConcurrent);
  const auto all_at_once = [&](const std::string& command) {
    std::vector<std::thread> threads;
    for (int i = 0; i < kConcurrent; i++) {
      threads.emplace_back([&, i] { answers[i] = node().cni(call(command, netns[i])); });
    }
    for (auto& thread : threads) thread.join();
  };
  const auto start = std::chrono::steady_clock::now();
  all_at_once("ADD");
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  fmt::print("{} concurrent ADDs: {:.2f} s\n", kConcurrent, took.count());
  std::set<std::string> addresses;
  for (int i = 0; i < kConcurrent; i++) {
    ASSERT_EQ(answers[i].status, 0) << answers[i].text;
    const std::string ip = answers[i].json->at("ips")[0]["address"];
    addresses.insert(ip);
    EXPECT_TRUE(worked(ping(node().netns(), Address::parse(ip.substr(0, ip.find('/'))).value()))) << ip;
  }
  EXPECT_EQ(addresses.size(), static_cast<size_t>(kConcurrent));
  EXPECT_EQ(host_links(), kConcurrent);
  all_at_once("DEL");
  for (const auto& answer : answers) EXPECT_EQ(answer.status, 0) << answer.text;
}

// A pool of two addresses: the third ADD is told to try again, leaves nothing, and works after a DEL.
TEST_F(Cni, PoolRunningOut) {
  const json ranges = {
      {"ipRanges",
       {{{{"subnet", "10.244.1.0/24"}, {"rangeStart", "10.244.1.30"}, {"rangeEnd", "10.244.1.31"}}}}}};
  const auto config = with("1.0.0", {{"runtimeConfig", ranges}});
  std::vector<Netns> netns;
  for (int i = 0; i < 3; i++) netns.emplace_back(netns_name(fmt::format("c{}", i)));
  ASSERT_EQ(node().cni(call("ADD", netns[0], config)).status, 0);
  ASSERT_EQ(node().cni(call("ADD", netns[1], config)).status, 0);
  const CniAnswer refused = node().cni(call("ADD", netns[2], config));
  EXPECT_EQ(refused.json->value("code", 0), 11) << refused.text;
  EXPECT_EQ(host_links(), 2);
  ASSERT_EQ(node().cni(call("DEL", netns[0], config)).status, 0);
  EXPECT_EQ(node().cni(call("ADD", netns[2], config)).status, 0);
  EXPECT_EQ(node().cni(call("DEL", netns[1], config)).status, 0);
  EXPECT_EQ(node().cni(call("DEL", netns[2], config)).status, 0);
}

// C9, C11: the plugin killed after any time, then DEL. The times are spread over one ADD's duration.
TEST_F(Cni, PluginKilledAtAnyMomentThenDelLeavesNothing) {
  std::mt19937 random(1);
  for (int i = 0; i < 40; i++) {
    const Netns netns(netns_name("c"));
    Child plugin(node().cni_command(call("ADD", netns)), "/dev/null");
    pause(milliseconds(random() % 30));
    plugin.kill();
    const CniAnswer del = node().cni(call("DEL", netns));
    ASSERT_EQ(del.status, 0) << "round " << i << ": " << del.text;
    ASSERT_TRUE(eventually([] { return host_links() == 0 && endpoints() == 0; })) << "round " << i;
  }
}

// C11: the netns is gone, as after the second DEL of containerd.
TEST_F(Cni, DelWithoutNetnsFreesEverything) {
  auto netns = std::make_unique<Netns>(netns_name("c"));
  CniCall del = call("DEL", *netns);
  ASSERT_EQ(node().cni(call("ADD", *netns)).status, 0);
  netns.reset();
  del.netns.clear();
  EXPECT_EQ(node().cni(del).status, 0);
}

// C14
TEST_F(Cni, GcFreesWhatIsNotValid) {
  const Netns kept(netns_name("c1"));
  const Netns gone(netns_name("c2"));
  ASSERT_EQ(node().cni(call("ADD", kept)).status, 0);
  ASSERT_EQ(node().cni(call("ADD", gone)).status, 0);
  const json valid = {{{"containerID", kept.name()}, {"ifname", "eth0"}}};
  const CniAnswer gc =
      node().cni({.command = "GC", .config = with("1.1.0", {{"cni.dev/valid-attachments", valid}})});
  EXPECT_EQ(gc.status, 0) << gc.text;
  EXPECT_TRUE(gc.text.empty()) << gc.text;
  EXPECT_EQ(endpoints(), 1);
  EXPECT_EQ(node().cni(call("DEL", kept)).status, 0);
}

// P20, "first packets of new pods": the very first packets after ADD pass.
TEST_F(Cni, FirstPacketAfterAddPasses) {
  const EchoServer server(node().netns(), "host", 9090);
  for (int i = 0; i < 10; i++) {
    const Netns netns(netns_name("c"));
    ASSERT_EQ(node().cni(call("ADD", netns)).status, 0);
    for (const auto family : {Family::kIpv4, Family::kIpv6}) {
      auto client = TcpClient::connect(netns, {node().ip(family), 9090});
      ASSERT_TRUE(worked(client));
      EXPECT_EQ(client->retransmits(), 0U);
    }
    ASSERT_EQ(node().cni(call("DEL", netns)).status, 0);
  }
}

}  // namespace
}  // namespace bpfnet::e2e
