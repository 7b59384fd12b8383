// A published range of ten thousand ports: the runtime sends them one by one, as Podman does.
#include <fmt/format.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "tests/e2e/e2e.h"

namespace bpfnet::e2e {
namespace {

using nlohmann::json;

constexpr uint16_t kHostFirst = 40000;
constexpr uint16_t kPodFirst = 10000;
constexpr int kCount = 10000;

class PublishedPorts : public TwoNodes {
 public:
  static void SetUpTestSuite() {
    set_up(cluster_options());
    json mappings = json::array();
    for (int i = 0; i < kCount; ++i)
      mappings.push_back(
          {{"hostPort", kHostFirst + i}, {"containerPort", kPodFirst + i}, {"protocol", "tcp"}});
    mappings.push_back({{"hostPort", kHostFirst},
                        {"hostPortEnd", kHostFirst + kCount - 1},
                        {"containerPort", kPodFirst},
                        {"protocol", "udp"}});
    PodOptions options{.labels = {{"app", "range"}}};
    options.runtime_config = json{{"portMappings", mappings}}.dump();
    const auto begin = std::chrono::steady_clock::now();
    cluster().add_pod(0, "range-a", options);
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
    sync_us_ = node_a().api("/v1/status").at("last_sync_us").get<int>();
    fmt::print("ADD with {} port mappings: {:.1f} ms, of which the agent's compile and publish {} us\n",
               mappings.size(), took.count(), sync_us_);
  }

 protected:
  /// An ADD that must fail; gives its answer. Nothing of it is left.
  static json refused(const char* mapping) {
    const Netns netns(fmt::format("bn-{}-refused", getpid()));
    const std::string runtime = fmt::format(R"({{"runtimeConfig":{{"portMappings":[{}]}}}})", mapping);
    const CniCall call{.command = "ADD",
                       .container_id = netns.name(),
                       .netns = netns.path(),
                       .args = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=second",
                       .config = node_a().cni_config("1.0.0", runtime)};
    const CniAnswer answer = node_a().cni(call);
    EXPECT_NE(answer.status, 0) << answer.text;
    EXPECT_EQ(netns.ip_show("-o link show").find("eth0"), std::string::npos) << "nothing is made";
    CniCall undo = call;
    undo.command = "DEL";
    EXPECT_EQ(node_a().cni(undo).status, 0);
    return *answer.json;
  }

  static int sync_us_;  ///< what publishing the range took the agent
};
int PublishedPorts::sync_us_ = 0;

// C21: the first, the last, and the borders of blocks between.
TEST_P(PublishedPorts, EachPortReachesItsOwnPortOfThePod) {
  Host& outside = network().client();
  for (const int offset : {0, 1, 959, 960, 4711, 9151, kCount - 1}) {
    const EchoServer server(pod("range-a").netns(), fmt::format("port-{}", offset),
                            static_cast<uint16_t>(kPodFirst + offset));
    const HostPort to{node_a().ip(family()), static_cast<uint16_t>(kHostFirst + offset)};
    for (const char* protocol : {"tcp", "udp"}) {
      EXPECT_TRUE(
          answered(ask(outside.netns(), protocol, to), fmt::format("port-{}", offset), outside.ip(family())))
          << protocol << " " << offset;
      EXPECT_TRUE(answered(ask(pod("client-a").netns(), protocol, to), fmt::format("port-{}", offset),
                           pod("client-a").ip(family())))
          << protocol << " " << offset << " from a pod";
    }
  }
}

TEST_P(PublishedPorts, ThePortsBesideTheRangeAreTheHostsOwn) {
  for (const int beside : {kHostFirst - 1, kHostFirst + kCount}) {
    const HostPort to{node_a().ip(family()), static_cast<uint16_t>(beside)};
    EXPECT_TRUE(failed_with(ask(network().client().netns(), "tcp", to), ECONNREFUSED)) << beside;
  }
}

TEST_P(PublishedPorts, TheRangeIsAHandfulOfEntries) {
  const json blocks = node_a().ctl({"map", "dump", "frontend_ranges"});
  EXPECT_GT(blocks.size(), 0U);
  EXPECT_LE(blocks.size(), 2U * 2U * 16U) << "TCP and UDP, both families";
  EXPECT_LT(sync_us_, 5000);
}

TEST_P(PublishedPorts, AnOverlapIsRefusedNamingBothOwners) {
  const json overlap = refused(R"({"hostPort":49999,"hostPortEnd":50010,"containerPort":80})");
  EXPECT_EQ(overlap.at("code"), 101);
  const std::string text = overlap.at("msg");
  EXPECT_NE(text.find("default/second"), std::string::npos) << text;
  EXPECT_NE(text.find("default/range-a"), std::string::npos) << text;
  const json service = refused(R"({"hostPort":30000,"hostPortEnd":30100,"containerPort":80})");
  EXPECT_EQ(service.at("code"), 101);
  EXPECT_NE(service.at("msg").get<std::string>().find("Service default/web:tcp"), std::string::npos)
      << service;
}

INSTANTIATE_TEST_SUITE_P(E2e, PublishedPorts, testing::Values(Family::kIpv4, Family::kIpv6), family_name);

}  // namespace
}  // namespace bpfnet::e2e
