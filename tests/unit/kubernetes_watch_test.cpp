// What comes after the first state, and what happens when it stops coming.
#include "tests/unit/kubernetes_fixture.h"

namespace bpfnet::kubernetes {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using namespace std::chrono_literals;

class WatchTest : public SourceTest {
 protected:
  /// Two services, watched, without WatchList, so that lists are seen as such.
  void begin() {
    server_.set_watch_list(false);
    server_.put_all({service("a", "10.96.0.1"), service("b", "10.96.0.2")});
    open();
    ASSERT_TRUE(until_synced());
    ASSERT_TRUE(server_.wait_for_watches(8));
    (void)source_->take_changes();
    server_.forget_requests();
  }
  bool until_services(const std::vector<std::string>& names) {
    return until([&] { return services() == names; });
  }
};

// K3, K16
TEST_F(WatchTest, ChangesArriveAndAreTold) {
  begin();
  server_.put(service("c", "10.96.0.3"));
  ASSERT_TRUE(until_services({"a", "b", "c"}));
  server_.put(service("a", "10.96.0.9"));
  server_.remove("Service", "default", "b");
  ASSERT_TRUE(until_services({"a", "c"}));
  EXPECT_EQ(source_->state().services.at({"default", "a"}).cluster_ips.at(0).to_string(), "10.96.0.9");
  EXPECT_EQ(source_->take_changes().services.size(), 3u);
  EXPECT_TRUE(source_->take_changes().empty());
  EXPECT_THAT(asked("services"), IsEmpty()) << "one watch carries it all";
}

// K3
TEST_F(WatchTest, EventsMayBeSplitAnywhere) {
  for (const size_t size : {1, 2, 3, 7, 64, 1000}) {
    server_.set_chunk_size(size);
    open();
    ASSERT_TRUE(until_synced()) << size;
    server_.put_all({service("a", "10.96.0.1"), service("b", "10.96.0.2")});
    ASSERT_TRUE(until_services({"a", "b"})) << size;
    server_.remove("Service", "default", "a");
    server_.remove("Service", "default", "b");
    ASSERT_TRUE(until_services({})) << size;
    close();
  }
}

// K16: a slice before its Service, and what is already known again.
TEST_F(WatchTest, OrderAndRepetitionDoNotMatter) {
  begin();
  server_.put(slice("c-1", "c", {"10.244.1.2"}));
  ASSERT_TRUE(until([&] { return source_->state().slices.size() == 1; }));
  server_.put(service("c", "10.96.0.3"));
  ASSERT_TRUE(until_services({"a", "b", "c"}));
  (void)source_->take_changes();
  const std::string event =
      "{\"type\":\"ADDED\",\"object\":" + server_.get("Service", "default", "c").dump() + "}\n";
  auto once = std::make_shared<std::atomic<bool>>(true);
  server_.set_fault([event, once](const test::HttpRequest& request, test::HttpConnection& connection) {
    if (!is_watch(request, "services") || !once->exchange(false)) return false;
    connection.start_chunked(200);
    connection.chunk(event + event);
    connection.end_chunked();
    return true;
  });
  server_.http().drop_connections();
  ASSERT_TRUE(until([&] { return !*once; }));
  server_.put(service("d", "10.96.0.4"));
  ASSERT_TRUE(until_services({"a", "b", "c", "d"}));
  EXPECT_THAT(source_->take_changes().services, ElementsAre(model::ObjectName{"default", "d"}));
}

// K2
TEST_F(WatchTest, EndOfAWatchIsNoReasonToList) {
  begin();
  std::this_thread::sleep_for(1100ms);  // a watch that is over at once would be an error (K5)
  const uint64_t version = server_.version();
  server_.end_watches();
  ASSERT_TRUE(server_.wait_for([&](const auto& request) { return is_watch(request, "services"); }));
  server_.put(service("c", "10.96.0.3"));
  ASSERT_TRUE(until_services({"a", "b", "c"}));
  EXPECT_THAT(asked("services"), ElementsAre("watch"));
  for (const auto& request : server_.requests())
    if (is_watch(request, "services")) {
      EXPECT_EQ(request.parameter("resourceVersion"), std::to_string(version));
    }
  EXPECT_EQ(status("services").failures, 0u);
}

// K3
TEST_F(WatchTest, BookmarksMoveTheVersionAlone) {
  begin();
  server_.skip_versions(500);
  const uint64_t generation = source_->generation();
  server_.send_bookmarks();
  ASSERT_TRUE(until_current("services"));
  EXPECT_EQ(source_->generation(), generation);
  server_.http().drop_connections();
  const std::string version = std::to_string(server_.version());
  ASSERT_TRUE(server_.wait_for([&](const auto& request) {
    return is_watch(request, "services") && request.parameter("resourceVersion") == version;
  }));
}

// K1, K3, K4, K16: the history is gone, and so are objects: what vanished is deleted, what stays is not
// touched.
TEST_F(WatchTest, ForgottenHistoryBecomesTheDifference) {
  begin();
  // While nobody watches, one goes, one comes, one changes.
  std::atomic<bool> closed = true;
  const auto guard = fault([&](const test::HttpRequest& request, test::HttpConnection& connection) {
    if (!closed || !is_watch(request, "services")) return false;
    connection.answer(429, test::status_json(429, "TooManyRequests", "later"));
    return true;
  });
  server_.http().drop_connections();
  ASSERT_TRUE(server_.wait_for([](const auto& request) { return is_watch(request, "services"); }));
  server_.remove("Service", "default", "a");
  server_.put(service("c", "10.96.0.3"));
  server_.compact();
  closed = false;
  ASSERT_TRUE(until_services({"b", "c"}));
  const sources::Changes changes = source_->take_changes();
  EXPECT_THAT(changes.services,
              ElementsAre(model::ObjectName{"default", "a"}, model::ObjectName{"default", "c"}))
      << "b was not touched";
  EXPECT_TRUE(until([&] { return status("services").relists == 1; }));
}

// K3: the same said by HTTP.
TEST_F(WatchTest, GoneByStatusToo) {
  begin();
  std::atomic<int> left = 1;
  const auto guard = fault([&](const test::HttpRequest& request, test::HttpConnection& connection) {
    if (!is_watch(request, "services") || left-- <= 0) return false;
    connection.answer(410, test::status_json(410, "Expired", "too old"));
    return true;
  });
  server_.http().drop_connections();
  server_.put(service("c", "10.96.0.3"));
  ASSERT_TRUE(until_services({"a", "b", "c"}));
  const auto all = asked("services");
  EXPECT_THAT(all, testing::Contains(testing::StartsWith("list 1")));
}

// K1: "too large resource version", as from a server whose cache is behind, or one restored from a backup.
TEST_F(WatchTest, ServerThatIsBehindIsListedAtAnyVersion) {
  begin();
  const auto guard = fault([&](const test::HttpRequest& request, test::HttpConnection& connection) {
    if (request.parameter("resourceVersion").empty() || !request.path.ends_with("/services")) return false;
    connection.answer(504, test::status_json(504, "Timeout", "Too large resource version: 99, current: 5"));
    return true;
  });
  server_.http().drop_connections();
  server_.remove("Service", "default", "b");
  ASSERT_TRUE(until_services({"a"}));
  EXPECT_THAT(asked("services"), testing::Contains("list"));
}

TEST_F(WatchTest, MalformedObjectKeepsItsLastGoodVersion) {
  begin();
  auto bad = service("a", "no address");
  server_.put(bad);
  ASSERT_TRUE(until([&] { return !problems().empty(); }));
  EXPECT_THAT(problems(), ElementsAre(testing::AllOf(testing::HasSubstr("Service default/a: spec.clusterIP"),
                                                     testing::HasSubstr("last good version stays"))));
  EXPECT_EQ(source_->state().services.at({"default", "a"}).cluster_ips.at(0).to_string(), "10.96.0.1");
  server_.put(service("c", "10.96.0.3"));
  ASSERT_TRUE(until_services({"a", "b", "c"}));
  server_.put(service("a", "10.96.0.4"));
  ASSERT_TRUE(until([&] { return problems().empty(); }));
  server_.put(bad);
  ASSERT_TRUE(until([&] { return !problems().empty(); }));
  server_.remove("Service", "default", "a");
  ASSERT_TRUE(until([&] { return problems().empty() && services().size() == 2; }));
}

}  // namespace
}  // namespace bpfnet::kubernetes
