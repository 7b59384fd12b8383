// What is written to the server: Events for users, and that this node's network stands.
#include <mutex>

#include "tests/unit/kubernetes_fixture.h"

namespace bpfnet::kubernetes {
namespace {

using nlohmann::json;
using testing::SizeIs;
using namespace std::chrono_literals;

class WriteTest : public SourceTest {
 protected:
  static sources::Notice refused(const std::string& name,
                                 const std::string& text = "spec.clusterIP: no address") {
    return {.kind = sources::Kind::kService,
            .object = {"default", name},
            .reason = "ObjectRefused",
            .text = text};
  }
  bool until_events(size_t count) {
    return until([&] { return server_.all("Event").size() == count; });
  }
  /// Requests that the writer made.
  size_t writes(const std::string& method) {
    const auto all = server_.requests();
    return static_cast<size_t>(std::ranges::count_if(all, [&](const auto& request) {
      return request.method == method && request.path.find("/events") != std::string::npos;
    }));
  }
};

// K17: kubectl describe asks for Events of exactly this object, of Nodes by their names.
TEST_F(WriteTest, EventIsAboutThisVeryObject) {
  server_.put(service("web", "10.96.0.10"));
  open();
  ASSERT_TRUE(until_synced());
  source_->notify(refused("web"));
  ASSERT_TRUE(until_events(1));
  const json first = server_.get("Service", "default", "web")["metadata"]["uid"];
  EXPECT_EQ(server_.all("Event").at(0)["involvedObject"]["uid"], first);
  server_.remove("Service", "default", "web");
  server_.put(service("web", "10.96.0.10"));
  ASSERT_TRUE(until_current("services"));
  source_->notify(refused("web"));
  ASSERT_TRUE(until_events(2)) << "one of that name that is another one";
  source_->notify(
      {.kind = sources::Kind::kNode, .object = {"", "node-a"}, .reason = "MapFull", .text = "policies"});
  ASSERT_TRUE(until_events(3));
  for (const json& event : server_.all("Event")) {
    const json& about = event["involvedObject"];
    if (about["kind"] == "Node") {
      EXPECT_EQ(about["uid"], "node-a");
    } else if (about["uid"] != first) {
      EXPECT_EQ(about["uid"], server_.get("Service", "default", "web")["metadata"]["uid"]);
    }
  }
}

// Names of objects may be as long as those of Events.
TEST_F(WriteTest, LongNamesAreCut) {
  open();
  const std::string name = std::string(100, 'a') + "." + std::string(134, 'b') + "-" + std::string(17, 'c');
  source_->notify(refused(name));
  ASSERT_TRUE(until_events(1));
  const std::string event = server_.all("Event").at(0)["metadata"]["name"];
  EXPECT_LE(event.size(), 253u);
  EXPECT_EQ(event.find("-."), std::string::npos);
  EXPECT_EQ(server_.all("Event").at(0)["involvedObject"]["name"], name);
}

// K17
TEST_F(WriteTest, EventSaysWhatIsWrongWithWhichObject) {
  open();
  source_->notify(refused("web"));
  ASSERT_TRUE(until_events(1));
  const json event = server_.all("Event").at(0);
  EXPECT_EQ(event["involvedObject"]["kind"], "Service");
  EXPECT_EQ(event["involvedObject"]["apiVersion"], "v1");
  EXPECT_EQ(event["involvedObject"]["namespace"], "default");
  EXPECT_EQ(event["involvedObject"]["name"], "web");
  EXPECT_EQ(event["metadata"]["namespace"], "default");
  EXPECT_EQ(event["type"], "Warning");
  EXPECT_EQ(event["reason"], "ObjectRefused");
  EXPECT_EQ(event["message"], "spec.clusterIP: no address");
  EXPECT_EQ(event["source"]["component"], "bpfnet");
}

// K17
TEST_F(WriteTest, TheSameIsSaidOnceAndOtherThingsAreSaidToo) {
  open();
  for (int i = 0; i < 20; ++i) source_->notify(refused("web"));
  source_->notify(refused("web", "spec.ports: missing"));
  source_->notify(
      {.kind = sources::Kind::kNode, .object = {"", "node-a"}, .reason = "MapFull", .text = "policies"});
  ASSERT_TRUE(until_events(3));
  EXPECT_EQ(writes("POST"), 3u);
}

// K17: what stands there already, from another node or an earlier life, is renewed by a patch.
TEST_F(WriteTest, EventOfAnotherNodeIsRenewed) {
  open();
  source_->notify(refused("web"));
  ASSERT_TRUE(until_events(1));
  close();
  KubernetesSource::Options other = quick();
  other.node_name = "node-b";
  open(other);
  source_->notify(refused("web"));
  ASSERT_TRUE(until([&] { return server_.all("Event").at(0)["count"] == 2; }));
  EXPECT_THAT(server_.all("Event"), SizeIs(1));
  EXPECT_EQ(server_.all("Event").at(0)["source"]["host"], "node-a");
}

TEST_F(WriteTest, ManyAreSlowedDownAndSomeGivenUp) {
  KubernetesSource::Options options = quick();
  options.events = {.burst = 5, .refill = 50ms, .waiting = 10};
  open(options);
  for (int i = 0; i < 100; ++i) source_->notify(refused("s" + std::to_string(i)));
  ASSERT_TRUE(until_events(11)) << "one on its way, ten waiting";
  std::this_thread::sleep_for(200ms);
  EXPECT_THAT(server_.all("Event"), SizeIs(11));
}

json unavailable(const std::string& name) {
  json object = node(name, "192.0.2.11");
  object["status"]["conditions"] = {
      {{"type", "Ready"}, {"status", "True"}},
      {{"type", "NetworkUnavailable"}, {"status", "True"}, {"reason", "NoRouteCreated"}}};
  return object;
}

json condition(const json& object) {
  for (const json& each : object["status"]["conditions"])
    if (each["type"] == "NetworkUnavailable") return each;
  return {};
}

TEST_F(WriteTest, NetworkUnavailableIsClearedWhenThisNodeIsReady) {
  server_.put_all({unavailable("node-a"), unavailable("node-b")});
  open();
  ASSERT_TRUE(until_synced());
  EXPECT_EQ(condition(server_.get("Node", "", "node-a"))["status"], "True")
      << "the datapath does not stand yet";
  source_->network_ready();
  ASSERT_TRUE(until([&] { return condition(server_.get("Node", "", "node-a"))["status"] == "False"; }));
  EXPECT_EQ(condition(server_.get("Node", "", "node-b"))["status"], "True");
  EXPECT_EQ(server_.get("Node", "", "node-a")["status"]["conditions"].size(), 2u);
  EXPECT_FALSE(server_.get("Node", "", "node-a")["status"]["addresses"].empty());
  // A cloud that sets it again is told again.
  server_.put(unavailable("node-a"));
  ASSERT_TRUE(until([&] { return condition(server_.get("Node", "", "node-a"))["status"] == "False"; }));
}

// The answer to the first question comes after that.
TEST_F(WriteTest, ConditionThatIsSetWhileItIsClearedIsClearedAgain) {
  std::atomic<int> asked = 0;
  std::atomic<bool> seen = false;
  server_.put(unavailable("node-a"));
  const auto guard = fault([&](const test::HttpRequest& request, test::HttpConnection& connection) {
    if (request.method != "PATCH" || ++asked > 1) return false;
    while (!seen && connection.open()) connection.wait(-1, 5ms);
    connection.answer(200, "{}");
    return true;
  });
  open();
  ASSERT_TRUE(until_synced());
  source_->network_ready();
  ASSERT_TRUE(until([&] { return asked == 1; }));
  server_.put(unavailable("node-a"));
  ASSERT_TRUE(until_current("nodes"));
  seen = true;
  EXPECT_TRUE(until([&] { return condition(server_.get("Node", "", "node-a"))["status"] == "False"; }));
}

// K6: one question at a time, however often the Node changes meanwhile.
TEST_F(WriteTest, RefusedConditionIsTriedAgainWithCare) {
  std::mutex mutex;
  std::vector<std::chrono::steady_clock::time_point> times;
  std::atomic<bool> refuse = true;
  server_.put(unavailable("node-a"));
  const auto guard = fault([&](const test::HttpRequest& request, test::HttpConnection& connection) {
    if (request.method != "PATCH" || !refuse) return false;
    connection.answer(500, test::status_json(500, "InternalError", "etcd is away"));
    const std::lock_guard lock(mutex);
    times.push_back(std::chrono::steady_clock::now());
    return true;
  });
  open();
  ASSERT_TRUE(until_synced());
  source_->network_ready();
  ASSERT_TRUE(until([&] {
    json changed = unavailable("node-a");
    changed["metadata"]["annotations"]["changed"] = std::to_string(server_.version());
    server_.put(changed);
    const std::lock_guard lock(mutex);
    return times.size() >= 2;
  }));
  {
    const std::lock_guard lock(mutex);
    EXPECT_GE(times[1] - times[0], 800ms);
  }
  refuse = false;
  EXPECT_TRUE(until([&] { return condition(server_.get("Node", "", "node-a"))["status"] == "False"; }));
}

TEST_F(WriteTest, NodesWithoutTheConditionAreLeftAlone) {
  server_.put(node("node-a", "192.0.2.11"));
  open();
  ASSERT_TRUE(until_synced());
  source_->network_ready();
  source_->notify(refused("web"));
  ASSERT_TRUE(until_events(1));
  for (const auto& request : server_.requests()) EXPECT_NE(request.path, "/api/v1/nodes/node-a/status");
}

}  // namespace
}  // namespace bpfnet::kubernetes
