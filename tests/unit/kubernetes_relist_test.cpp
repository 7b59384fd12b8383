// From which version it goes on when that which was seen last is not to be had, and by list or WatchList.
#include <deque>
#include <mutex>

#include "tests/unit/kubernetes_fixture.h"

namespace bpfnet::kubernetes {
namespace {

using testing::Contains;
using testing::Each;
using testing::ElementsAre;
using testing::StartsWith;
using namespace std::chrono_literals;
using test::HttpConnection;
using test::HttpRequest;
using ApiFault = test::ApiServer::Fault;

std::string error_frame(int code, const std::string& reason, const std::string& message) {
  return "{\"type\":\"ERROR\",\"object\":" + test::status_json(code, reason, message) + "}\n";
}

class RelistTest : public SourceTest {
 protected:
  void begin(bool watch_list = false, KubernetesSource::Options options = quick()) {
    server_.set_watch_list(watch_list);
    server_.put_all({service("a", "10.96.0.1"), service("b", "10.96.0.2")});
    open(std::move(options));
    ASSERT_TRUE(until_synced());
    ASSERT_TRUE(server_.wait_for_watches(8));
    server_.forget_requests();
  }
  /// While no service is watched: one goes, one comes; then the server starts anew.
  void change_behind_its_back() {
    server_.set_fault([](const HttpRequest& request, HttpConnection& connection) {
      if (!is_watch(request, "services")) return false;
      connection.answer(429, test::status_json(429, "TooManyRequests", "later"));
      return true;
    });
    server_.http().drop_connections();
    ASSERT_TRUE(until([&] { return status("services").state == "waiting: later"; }));
    server_.remove("Service", "default", "a");
    server_.put(service("c", "10.96.0.3"));
    server_.restart_cache();
    server_.set_fault({});
  }
  bool until_services(const std::vector<std::string>& names) {
    return until([&] { return services() == names; });
  }
};

// K1: a server that started anew still lists the old version exactly, and can never watch from it.
TEST_F(RelistTest, RestartedServerIsListedNotOlderThanWhatWasSeen) {
  begin();
  change_behind_its_back();
  ASSERT_TRUE(until_services({"b", "c"}));
  ASSERT_TRUE(server_.wait_for_watches(8));
  EXPECT_THAT(asked("services"), ElementsAre("watch", "watch", "initial", StartsWith("list 1"), "watch"));
}

// K1: a server that does not know what "not older" means is listed at its newest, again and again if need be.
TEST_F(RelistTest, ServerThatListsExactlyIsListedAtItsNewest) {
  begin();
  server_.set_version_match(false);
  change_behind_its_back();
  std::atomic<int> refusals = 1;
  const auto guard = fault([&](const HttpRequest& request, HttpConnection& connection) {
    if (!is_list(request, "services") || !request.parameter("resourceVersion").empty() || refusals-- <= 0)
      return false;
    connection.answer(500, test::status_json(500, "InternalError", "etcd is away"));
    return true;
  });
  ASSERT_TRUE(until_services({"b", "c"}));
  ASSERT_TRUE(server_.wait_for_watches(8));
  EXPECT_THAT(asked("services"), ElementsAre("watch", "watch", "initial", StartsWith("list 1"), "watch",
                                             "initial", "list", "list", "watch"))
      << "what was chosen is not given up for a failure";
}

// K1: said within a stream, as by a server which waits for its own cache first.
TEST_F(RelistTest, TooLargeVersionWithinAWatch) {
  begin();
  const auto guard = fault([&](const HttpRequest& request, HttpConnection& connection) {
    if (!is_watch(request, "services") || !request.parameter("sendInitialEvents").empty()) return false;
    if (std::stoull(request.parameter("resourceVersion")) > 1100) return false;
    connection.start_chunked(200);
    connection.chunk(error_frame(504, "Timeout", "Too large resource version: 1002, current: 5"));
    connection.end_chunked();
    return true;
  });
  server_.skip_versions(500);
  server_.http().drop_connections();
  server_.remove("Service", "default", "b");
  ASSERT_TRUE(until_services({"a"}));
  ASSERT_TRUE(server_.wait_for_watches(8));
  EXPECT_THAT(asked("services"), ElementsAre("watch", "initial", StartsWith("list 1"), "watch"));
}

/// Answers watches of services with a body of this text, a number of times.
ApiFault bodies(std::deque<std::string> texts) {
  auto left = std::make_shared<std::pair<std::mutex, std::deque<std::string>>>();
  left->second = std::move(texts);
  return [left](const HttpRequest& request, HttpConnection& connection) {
    if (!is_watch(request, "services")) return false;
    std::string text;
    {
      const std::lock_guard lock(left->first);
      if (left->second.empty()) return false;
      text = left->second.front();
      left->second.pop_front();
    }
    if (text == "500") {
      connection.answer(500, test::status_json(500, "InternalError", "etcd is away"));
      return true;
    }
    connection.start_chunked(200);
    connection.chunk(text);
    connection.end_chunked();
    return true;
  };
}

KubernetesSource::Options hasty(KubernetesSource::Options options) {
  options.times.first_wait = 5ms;
  return options;
}

// K5: five failures in a row at one version mean a list, the first is the dropped connection; a bookmark
// between them shows that it is good.
TEST_F(RelistTest, BookmarkShowsThatTheVersionIsGood) {
  begin(false, hasty(quick()));
  const std::string bookmark = fmt::format(
      R"({{"type":"BOOKMARK","object":{{"metadata":{{"resourceVersion":"{}"}}}}}})", server_.version());
  server_.set_fault(bodies({"<", "<", "<", bookmark + "<", "<", "<", "<"}));
  server_.http().drop_connections();
  server_.put(service("c", "10.96.0.3"));
  ASSERT_TRUE(until_services({"a", "b", "c"}));
  EXPECT_THAT(asked("services"), Each("watch"));
  EXPECT_EQ(asked("services").size(), 8u);
}

// K5: a server that is in trouble says nothing about the version.
TEST_F(RelistTest, RefusalsAreNoReasonToList) {
  begin(false, hasty(quick()));
  server_.set_fault(bodies({"<", "500", "500", "500", "500", "500", "<"}));
  server_.http().drop_connections();
  server_.put(service("c", "10.96.0.3"));
  ASSERT_TRUE(until_services({"a", "b", "c"}));
  EXPECT_THAT(asked("services"), Each("watch"));
}

TEST_F(RelistTest, WhatNeverSucceedsIsListedInTheEnd) {
  begin(false, hasty(quick()));
  server_.set_fault(bodies({"<", "<", "<", "<", "<"}));
  server_.http().drop_connections();
  server_.put(service("c", "10.96.0.3"));
  ASSERT_TRUE(until_services({"a", "b", "c"}));
  EXPECT_THAT(asked("services"), Contains(StartsWith("list 1")));
}

/// Serves WatchLists as a server does that does not know them: what happens to one object, all the time.
ApiFault busy(const std::string& type) {
  return [type](const HttpRequest& request, HttpConnection& connection) {
    if (!is_watch(request, "services") || request.parameter("sendInitialEvents").empty()) return false;
    connection.start_chunked(200);
    const std::string object = service("busy", "10.96.0.9").dump();
    while (connection.chunk(fmt::format(R"({{"type":"{}","object":{}}})", type, object)) && connection.open())
      connection.wait(-1, 20ms);
    return true;
  };
}

// K7
TEST_F(RelistTest, BusyServerThatDoesNotKnowWatchListIsListed) {
  server_.put(service("a", "10.96.0.1"));
  for (const std::string type : {"ADDED", "MODIFIED"}) {
    server_.set_fault(busy(type));
    server_.forget_requests();
    open();
    ASSERT_TRUE(until_synced()) << type;
    EXPECT_THAT(services(), ElementsAre("a")) << type;
    EXPECT_THAT(asked("services"), Contains("list 0"));
    close();
  }
}

// K7: and one that tells new objects all the time.
TEST_F(RelistTest, EndlessWatchListIsGivenUp) {
  server_.put(service("a", "10.96.0.1"));
  server_.set_fault([](const HttpRequest& request, HttpConnection& connection) {
    if (!is_watch(request, "services") || request.parameter("sendInitialEvents").empty()) return false;
    connection.start_chunked(200);
    for (int i = 0; connection.open(); ++i) {
      const std::string object = service(fmt::format("new-{}", i), "None").dump();
      if (!connection.chunk(fmt::format(R"({{"type":"ADDED","object":{}}})", object))) break;
      connection.wait(-1, 20ms);
    }
    return true;
  });
  open();
  ASSERT_TRUE(until_synced());
  EXPECT_THAT(services(), ElementsAre("a"));
}

// K7: the first bookmark of a WatchList is its end.
TEST_F(RelistTest, OrdinaryBookmarkShowsThatItIsNoWatchList) {
  server_.put(service("a", "10.96.0.1"));
  KubernetesSource::Options options = quick();
  options.times.initial = 60s;
  server_.set_fault([](const HttpRequest& request, HttpConnection& connection) {
    if (!is_watch(request, "services") || request.parameter("sendInitialEvents").empty()) return false;
    connection.start_chunked(200);
    connection.chunk(R"({"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"7"}}})");
    connection.wait(-1, 60s);
    return true;
  });
  open(options);
  ASSERT_TRUE(until_synced());
  EXPECT_THAT(asked("services"), Contains("list 0"));
}

// K7
TEST_F(RelistTest, WatchListsThatAreCutAreFollowedByAList) {
  server_.put(service("a", "10.96.0.1"));
  server_.set_fault(bodies(std::deque<std::string>(1000)));
  open(hasty(quick()));
  ASSERT_TRUE(until_synced());
  EXPECT_THAT(services(), ElementsAre("a"));
  const auto all = asked("services");
  ASSERT_GE(all.size(), 4u);
  EXPECT_THAT(std::vector(all.begin(), all.begin() + 4),
              ElementsAre("initial", "initial", "initial", "list 0"));
}

// K7: what one answer refused once is asked for again next time.
TEST_F(RelistTest, RefusedWatchListIsNotRefusedForEver) {
  std::atomic<int> refusals = 1;
  const auto guard = fault([&](const HttpRequest& request, HttpConnection& connection) {
    if (!is_watch(request, "services") || refusals-- <= 0) return false;
    connection.answer(400, test::status_json(400, "BadRequest", "a proxy does not like it"));
    return true;
  });
  begin(true);
  server_.set_fault({});
  server_.http().drop_connections();
  server_.put(service("c", "10.96.0.3"));
  server_.compact();
  ASSERT_TRUE(until_services({"a", "b", "c"}));
  EXPECT_THAT(asked("services"), Contains("initial"));
}

nlohmann::json range(const std::string& name) {
  return {{"kind", "ServiceCIDR"}, {"metadata", {{"name", name}}}, {"spec", {{"cidrs", {"10.96.0.0/16"}}}}};
}

// K18: nobody watched when the kind was removed, with all of its objects.
TEST_F(RelistTest, KindThatIsRemovedTakesItsObjectsAlong) {
  server_.put(range("s"));
  begin();
  server_.http().stop();
  server_.set_missing("ServiceCIDR", true);
  ASSERT_TRUE(until([&] { return status("servicecidrs").state.starts_with("waiting: "); }));
  server_.http().restart();
  ASSERT_TRUE(until([&] { return status("servicecidrs").state.starts_with("off"); }))
      << status("servicecidrs").state;
  ASSERT_TRUE(until([&] { return source_->state().service_cidrs.empty(); }));
  const auto all = server_.requests();
  EXPECT_GE(std::ranges::count(all, "/apis/networking.k8s.io/v1", &HttpRequest::path), 2)
      << "it must say so twice";
  server_.set_missing("ServiceCIDR", false);
  ASSERT_TRUE(until([&] { return source_->state().service_cidrs.size() == 1; }));
}

// K18: the same where its whole group goes.
TEST_F(RelistTest, GroupThatIsRemovedTakesItsObjectsAlong) {
  server_.put({{"kind", "ClusterNetworkPolicy"},
               {"metadata", {{"name", "c"}}},
               {"spec",
                {{"tier", "Admin"},
                 {"priority", 1},
                 {"subject", {{"namespaces", nlohmann::json::object()}}},
                 {"ingress", nlohmann::json::array()}}}});
  begin();
  ASSERT_EQ(source_->state().cluster_policies.size(), 1u);
  server_.set_missing("ClusterNetworkPolicy", true);
  server_.http().drop_connections();
  ASSERT_TRUE(until([&] { return source_->state().cluster_policies.empty(); }));
  ASSERT_TRUE(until([&] { return status("clusternetworkpolicies").state.starts_with("off"); }));
}

}  // namespace
}  // namespace bpfnet::kubernetes
