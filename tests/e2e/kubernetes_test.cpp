// Two nodes whose agents have their state from one API server: what happens while it is away, and what is
// written back to it.
#include <fmt/format.h>

#include <atomic>
#include <nlohmann/json.hpp>

#include "tests/e2e/e2e.h"
#include "tests/e2e/traffic.h"

namespace bpfnet::e2e {
namespace {

using nlohmann::json;

class Kubernetes : public testing::Test {
 public:
  static void SetUpTestSuite() {
    ClusterOptions options = cluster_options();
    options.source = "kubernetes-shared";
    cluster_ = std::make_unique<Cluster>(options);
    for (size_t i = 0; i < 2; ++i) {
      const char letter = static_cast<char>('a' + i);
      for (const auto* role : {"web", "client"}) cluster_->add_pod(i, fmt::format("{}-{}", role, letter));
    }
    cluster_->apply("web",
                    echo_service("web", 10, {cluster_->backend("web-a"), cluster_->backend("web-b")}).yaml());
  }
  static void TearDownTestSuite() { cluster_.reset(); }

 protected:
  void SetUp() override { ASSERT_TRUE(cluster_) << "the cluster could not be made"; }
  void TearDown() override {
    if (!HasFailure()) return;
    for (size_t i = 0; i < 2; ++i) fmt::print("---- {}:\n{}\n", node(i).name(), node(i).log());
  }
  static Cluster& cluster() { return *cluster_; }
  static Node& node(size_t index) { return cluster_->node(index); }
  static test::ApiServer& server() { return cluster_->api().server(); }
  static HostPort service(int number) {
    return {Address::parse(fmt::format("10.96.0.{}", number)).value(), 80};
  }
  static bool answers(const std::string& client, int number) {
    return ask(cluster_->pod(client).netns(), "tcp", service(number), {.timeout = kSilence}).has_value();
  }
  static std::string source_state(size_t index) { return node(index).api("/v1/status").at("source_state"); }
  static bool applied() {
    return eventually([] { return node(0).api_applied() && node(1).api_applied(); }, milliseconds(70000));
  }
  static std::unique_ptr<Cluster> cluster_;
};
std::unique_ptr<Cluster> Kubernetes::cluster_;

TEST_F(Kubernetes, PodsOfBothNodesTalkByAService) {
  for (const auto* client : {"client-a", "client-b"}) EXPECT_TRUE(answers(client, 10)) << client;
  EXPECT_EQ(source_state(0), "current");
}

// The API server is killed and restored under traffic: nothing is lost, pods come and go, and what changed
// meanwhile is there soon after.
TEST_F(Kubernetes, ServerThatIsAwayChangesNothing) {
  Traffic traffic_a(cluster().pod("client-a").netns(), service(10));
  Traffic traffic_b(cluster().pod("client-b").netns(), service(10));
  cluster().api().stop();
  ASSERT_TRUE(eventually([] { return source_state(0).find("waiting") != std::string::npos; }));
  {
    const PodOptions options{.labels = {}};
    Pod meanwhile(node(0), cluster().options(), "meanwhile", options);  // ADD and DEL go on
    EXPECT_EQ(meanwhile.ips().size(), 2u);
  }
  server().put_all(test::objects_of_manifest(echo_service("late", 11, {cluster().backend("web-b")}).yaml()));
  pause(milliseconds(1000));
  EXPECT_FALSE(answers("client-a", 11));
  EXPECT_TRUE(answers("client-a", 10));
  const auto problems = node(0).api("/v1/problems").dump();
  EXPECT_NE(problems.find("is not reached"), std::string::npos) << problems;
  cluster().api().start();
  ASSERT_TRUE(applied());
  EXPECT_TRUE(answers("client-a", 11));
  EXPECT_TRUE(answers("client-b", 11));
  traffic_a.finish();
  traffic_b.finish();
  EXPECT_EQ(traffic_a.failed() + traffic_b.failed(), 0) << "of " << traffic_a.made() + traffic_b.made();
  EXPECT_GT(traffic_a.made(), 50);
  ASSERT_TRUE(eventually([] { return source_state(0) == "current"; }));
}

// S60: an agent that starts without the server serves what it adopts and writes nothing, also when all but
// one kind were read.
TEST_F(Kubernetes, NothingIsWrittenBeforeTheFirstFullState) {
  node(0).stop_agent();
  static std::atomic<bool> held;  // a handler may outlive the test
  held = true;
  server().set_fault([&](const test::HttpRequest& request, test::HttpConnection& connection) {
    if (!held || request.path.find("/endpointslices") == std::string::npos) return false;
    connection.answer(429, test::status_json(429, "TooManyRequests", "not yet"), "Retry-After: 1\r\n");
    return true;
  });
  Traffic traffic(cluster().pod("client-a").netns(), service(10));
  node(0).launch();
  ASSERT_TRUE(eventually(
      [] {
        try {
          const json kinds = node(0).api("/v1/status").at("source_kinds");
          return kinds.at("services").at("synced") == true &&
                 kinds.at("endpointslices").at("state") == "waiting: not yet";
        } catch (const std::exception&) {  // it has no socket yet
          return false;
        }
      },
      milliseconds(20000)));
  const json status = node(0).api("/v1/status");
  EXPECT_EQ(status.at("ready"), false);
  EXPECT_EQ(status.at("map_writes"), 0);
  held = false;
  ASSERT_TRUE(eventually([] { return node(0).api("/v1/status").at("ready") == true; }, milliseconds(20000)));
  server().set_fault({});
  traffic.finish();
  EXPECT_EQ(traffic.failed(), 0) << "of " << traffic.made();
}

// K4: all that the watches know is forgotten by the server; the datapath is not flushed for it.
TEST_F(Kubernetes, RelistUnderTrafficIsNoticedByNobody) {
  Traffic traffic(cluster().pod("client-b").netns(), service(10));
  const uint64_t writes = node(1).api("/v1/status").at("map_writes");
  cluster().api().stop();
  server().skip_versions(1000);
  server().compact();
  cluster().api().start();
  ASSERT_TRUE(applied());
  const json status = node(1).api("/v1/status");
  EXPECT_GE(status.at("source_kinds").at("services").at("relists"), 1);
  EXPECT_EQ(status.at("map_writes"), writes) << "a list that says what is known changes nothing";
  traffic.finish();
  EXPECT_EQ(traffic.failed(), 0) << "of " << traffic.made();
}

// K17
TEST_F(Kubernetes, RefusedObjectIsAnEventForItsOwner) {
  auto broken = test::objects_of_manifest(echo_service("broken", 12, {}).service_yaml()).at(0);
  broken["spec"]["clusterIP"] = "10.96.0.999";
  broken["spec"]["clusterIPs"] = {"10.96.0.999"};
  server().put(broken);
  ASSERT_TRUE(eventually([] { return !server().all("Event").empty(); }, milliseconds(20000)));
  const json event = server().all("Event").at(0);
  EXPECT_EQ(event.at("involvedObject").at("name"), "broken");
  EXPECT_EQ(event.at("type"), "Warning");
  EXPECT_NE(event.at("message").get<std::string>().find("10.96.0.999"), std::string::npos);
  server().remove("Service", "default", "broken");
}

TEST_F(Kubernetes, NetworkUnavailableIsCleared) {
  json object = server().get("Node", "", "node-a");
  object["status"]["conditions"] = json::array({{{"type", "NetworkUnavailable"}, {"status", "True"}}});
  server().put(object);
  EXPECT_TRUE(eventually(
      [] { return server().get("Node", "", "node-a")["status"]["conditions"][0]["status"] == "False"; }));
}

}  // namespace
}  // namespace bpfnet::e2e
