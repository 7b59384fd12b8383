// The first state: lists, pages and WatchLists, and what is asked for.
#include "tests/unit/kubernetes_fixture.h"

namespace bpfnet::kubernetes {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using namespace std::chrono_literals;

TEST_F(SourceTest, EverythingIsThereWhenItIsSynced) {
  server_.put_all(
      {service("web", "10.96.0.10"),
       slice("web-1", "web", {"10.244.1.2"}),
       pod("a", "node-a", "10.244.1.2"),
       node("node-a", "192.0.2.11"),
       {{"kind", "Namespace"}, {"apiVersion", "v1"}, {"metadata", {{"name", "shop"}}}},
       {{"kind", "NetworkPolicy"},
        {"metadata", {{"name", "p"}, {"namespace", "shop"}}},
        {"spec", {{"podSelector", nlohmann::json::object()}}}},
       {{"kind", "ServiceCIDR"}, {"metadata", {{"name", "s"}}}, {"spec", {{"cidrs", {"10.96.0.0/16"}}}}},
       {{"kind", "ClusterNetworkPolicy"},
        {"metadata", {{"name", "c"}}},
        {"spec",
         {{"tier", "Admin"},
          {"priority", 1},
          {"subject", {{"namespaces", nlohmann::json::object()}}},
          {"ingress", {{{"action", "Deny"}, {"from", {{{"namespaces", nlohmann::json::object()}}}}}}}}}}});
  open();
  EXPECT_FALSE(source_->synced());
  ASSERT_TRUE(until_synced());
  const model::ClusterState& state = source_->state();
  EXPECT_EQ(state.services.size(), 1u);
  EXPECT_EQ(state.slices.size(), 1u);
  EXPECT_EQ(state.pods.size(), 1u);
  EXPECT_EQ(state.nodes.at("node-a").pod_cidrs.size(), 2u) << "K15: one of each family";
  EXPECT_TRUE(state.namespaces.contains("shop"));
  EXPECT_EQ(state.policies.size(), 1u);
  EXPECT_EQ(state.service_cidrs.size(), 1u);
  EXPECT_EQ(state.cluster_policies.size(), 1u);
  EXPECT_THAT(problems(), IsEmpty());
  for (const auto& kind : source_->kinds()) {
    EXPECT_EQ(kind.state, "watched") << kind.kind;
    EXPECT_TRUE(kind.current);
  }
}

// K7
TEST_F(SourceTest, WatchListIsOneRequestAndThenGoesOn) {
  server_.put(service("web", "10.96.0.10"));
  open();
  ASSERT_TRUE(until_synced());
  server_.put(service("more", "10.96.0.11"));
  ASSERT_TRUE(until([&] { return services().size() == 2; }));
  EXPECT_THAT(asked("services"), ElementsAre("initial"));
  for (const auto& request : server_.requests()) {
    if (!is_watch(request, "services")) continue;
    EXPECT_EQ(request.parameter("resourceVersionMatch"), "NotOlderThan");
    EXPECT_EQ(request.parameter("allowWatchBookmarks"), "true");
  }
}

// K1, K7
TEST_F(SourceTest, ListsInPagesWhereWatchListIsRefused) {
  server_.set_watch_list(false);
  for (int i = 0; i < 1201; ++i)
    server_.put(service("s" + std::to_string(i), fmt::format("10.96.{}.{}", i / 200, 1 + i % 200)));
  open();
  ASSERT_TRUE(until_synced());
  EXPECT_EQ(services().size(), 1201u);
  ASSERT_TRUE(server_.wait_for([](const auto& request) {
    return is_watch(request, "services") && request.parameter("sendInitialEvents").empty();
  }));
  EXPECT_THAT(asked("services"), ElementsAre("initial", "list 0", "page", "page", "watch"));
  for (const auto& request : server_.requests())
    if (is_list(request, "services")) {
      EXPECT_EQ(request.parameter("limit"), "500");
    }
}

// K7: a server that is older than the parameter begins an ordinary watch and never says that it is complete.
TEST_F(SourceTest, ListsWhereWatchListIsNotUnderstood) {
  server_.put(service("web", "10.96.0.10"));
  server_.set_fault([](const test::HttpRequest& request, test::HttpConnection& connection) {
    if (request.parameter("sendInitialEvents").empty()) return false;
    connection.start_chunked(200);
    connection.wait(-1, 20s);
    return true;
  });
  open();
  ASSERT_TRUE(until_synced());
  EXPECT_THAT(services(), ElementsAre("web"));
  ASSERT_TRUE(server_.wait_for_watches(8));
  EXPECT_THAT(asked("services"), ElementsAre("initial", "list 0", "watch"));
}

// K2
TEST_F(SourceTest, WatchesSayHowLongTheyLast) {
  server_.set_watch_list(false);
  open();
  ASSERT_TRUE(server_.wait_for_watches(8));
  std::set<std::string> times;
  for (const auto& request : server_.requests()) {
    if (request.parameter("watch") != "true" || !request.parameter("sendInitialEvents").empty()) continue;
    const int seconds = std::stoi(request.parameter("timeoutSeconds"));
    EXPECT_GE(seconds, 300);
    EXPECT_LE(seconds, 600);
    EXPECT_EQ(request.parameter("allowWatchBookmarks"), "true");
    EXPECT_EQ(request.parameter("resourceVersion"), "1000");
    times.insert(request.parameter("timeoutSeconds"));
  }
  EXPECT_GT(times.size(), 1u) << "not all at the same moment";
}

// S2, S3, K15: both lists and watches carry the selectors; toggling the label is live both ways.
TEST_F(SourceTest, SelectorsLeaveOutWhatIsSomebodyElses) {
  const nlohmann::json proxied = {{"service.kubernetes.io/service-proxy-name", "other"}};
  const nlohmann::json headless = {{"service.kubernetes.io/headless", ""}};
  server_.put_all({service("web", "10.96.0.10"), service("theirs", "10.96.0.11", proxied),
                   service("headless", "None"), service("labelled", "10.96.0.12", headless),
                   slice("web-1", "web", {"10.244.1.2"}),
                   slice("headless-1", "headless", {"10.244.1.3"}, headless)});
  for (const bool watch_list : {true, false}) {
    server_.set_watch_list(watch_list);
    open();
    ASSERT_TRUE(until_synced());
    EXPECT_THAT(services(), ElementsAre("web"));
    EXPECT_EQ(source_->state().slices.size(), 1u);
    server_.put_all({service("web", "10.96.0.10", proxied), service("theirs", "10.96.0.11"),
                     slice("web-1", "web", {"10.244.1.2"}, headless)});
    ASSERT_TRUE(until(
        [&] { return services() == std::vector<std::string>{"theirs"} && source_->state().slices.empty(); }));
    server_.put_all({service("web", "10.96.0.10"), service("theirs", "10.96.0.11", proxied),
                     slice("web-1", "web", {"10.244.1.2"})});
    ASSERT_TRUE(until([&] {
      return services() == std::vector<std::string>{"web"} && source_->state().slices.size() == 1;
    }));
    close();
  }
  for (const auto& request : server_.requests())
    if (request.path.ends_with("/services")) {
      EXPECT_EQ(request.parameter("fieldSelector"), "spec.clusterIP!=None");
    }
}

// K18
TEST_F(SourceTest, MissingKindIsOffAndLookedForAgain) {
  server_.set_missing("ClusterNetworkPolicy", true);
  server_.set_missing("ServiceCIDR", true);
  open();
  ASSERT_TRUE(until_synced());
  EXPECT_THAT(status("clusternetworkpolicies").state, HasSubstr("off"));
  EXPECT_TRUE(status("clusternetworkpolicies").current);
  EXPECT_THAT(problems(), IsEmpty());
  server_.set_missing("ServiceCIDR", false);
  server_.put(
      {{"kind", "ServiceCIDR"}, {"metadata", {{"name", "s"}}}, {"spec", {{"cidrs", {"10.96.0.0/16"}}}}});
  EXPECT_TRUE(until([&] { return !source_->state().service_cidrs.empty(); }));
  EXPECT_TRUE(until([&] { return status("servicecidrs").state == "watched"; }));
}

// A kind that every server has is not off because some proxy says 404, and one with objects is not either.
TEST_F(SourceTest, NotFoundGivesNothingUp) {
  server_.set_missing("Service", true);
  server_.put(
      {{"kind", "ServiceCIDR"}, {"metadata", {{"name", "s"}}}, {"spec", {{"cidrs", {"10.96.0.0/16"}}}}});
  KubernetesSource::Options options = quick();
  options.times.first_wait = 20ms;
  open(options);
  ASSERT_TRUE(until([&] { return status("services").state.starts_with("waiting: HTTP status 404"); }));
  EXPECT_FALSE(source_->synced());
  ASSERT_TRUE(until([&] { return source_->state().service_cidrs.size() == 1; }));
  // A proxy that knows nothing, least of all what the server serves.
  server_.set_fault([](const test::HttpRequest& request, test::HttpConnection& connection) {
    if (!request.path.ends_with("/servicecidrs") && request.path != "/apis") return false;
    connection.answer(404, "404 page not found\n", "Content-Type: text/plain\r\n");
    return true;
  });
  server_.end_watches();
  server_.http().drop_connections();
  ASSERT_TRUE(until([&] { return status("servicecidrs").state.starts_with("waiting: HTTP status 404"); }));
  const auto asked_twice = [&] {
    const auto all = server_.requests();
    return std::ranges::count(all, "/apis", &test::HttpRequest::path) >= 3;
  };
  ASSERT_TRUE(until(asked_twice));
  EXPECT_EQ(source_->state().service_cidrs.size(), 1u);
  server_.set_fault({});
  server_.set_missing("Service", false);
  EXPECT_TRUE(until_synced());
}

// Kubernetes 1.20 has EndpointSlices in v1beta1 alone, 1.25 in v1 alone; a server is replaced while agents
// run.
TEST_F(SourceTest, SlicesOfAnOlderServer) {
  server_.set_watch_list(false);
  server_.set_older("EndpointSlice", "discovery.k8s.io/v1beta1");
  nlohmann::json local = slice("web-1", "web", {"10.244.1.2"});
  local["endpoints"][0]["topology"] = {{"kubernetes.io/hostname", "node-a"}};
  server_.put(local);
  open();
  ASSERT_TRUE(until_synced());
  EXPECT_THAT(problems(), IsEmpty());
  ASSERT_EQ(source_->state().slices.size(), 1u);
  EXPECT_EQ(source_->state().slices.begin()->second.endpoints[0].node_name, "node-a");
  server_.put(slice("web-2", "web", {"10.244.1.3"}));
  ASSERT_TRUE(until([&] { return source_->state().slices.size() == 2; }));

  server_.set_newest("EndpointSlice");
  server_.put(slice("web-3", "web", {"10.244.1.4"}));
  server_.http().drop_connections();
  ASSERT_TRUE(until([&] { return source_->state().slices.size() == 3; }));
  ASSERT_TRUE(until([&] { return status("endpointslices").state == "watched"; }));
}

// Servers before 1.31 know no field of Services but their name.
TEST_F(SourceTest, ServicesOfAServerWithoutTheFieldSelector) {
  server_.set_watch_list(false);
  server_.put_all({service("web", "10.96.0.10"), service("headless", "None")});
  const auto guard = fault([&](const test::HttpRequest& request, test::HttpConnection& connection) {
    if (request.parameter("fieldSelector").empty()) return false;
    connection.answer(400, test::status_json(400, "BadRequest", "field label not supported: spec.clusterIP"));
    return true;
  });
  open();
  ASSERT_TRUE(until_synced());
  EXPECT_THAT(problems(), IsEmpty());
  EXPECT_THAT(services(), ElementsAre("headless", "web"));
  server_.put(service("api", "10.96.0.11"));
  EXPECT_TRUE(until([&] { return services().size() == 3; }));
}

// Nothing is chosen by a server that has neither version.
TEST_F(SourceTest, NoSlicesInAnyVersion) {
  server_.set_missing("EndpointSlice", true);
  open();
  ASSERT_TRUE(until([&] { return status("endpointslices").state.starts_with("waiting: HTTP status 404"); }));
  EXPECT_FALSE(source_->synced());
  server_.set_missing("EndpointSlice", false);
  EXPECT_TRUE(until_synced());
}

// K1: a token of a page that is too old costs one more list, at any version.
TEST_F(SourceTest, ListThatExpiresIsBegunOnceMore) {
  server_.set_watch_list(false);
  for (int i = 0; i < 600; ++i)
    server_.put(service("s" + std::to_string(i), fmt::format("10.96.{}.{}", i / 200, 1 + i % 200)));
  std::atomic<bool> once = true;
  const auto guard = fault([&](const test::HttpRequest& request, test::HttpConnection& connection) {
    if (!is_list(request, "services") || request.parameter("continue").empty() || !once.exchange(false))
      return false;
    connection.answer(410, test::status_json(410, "Expired", "The provided continue parameter is too old"));
    return true;
  });
  open();
  ASSERT_TRUE(until_synced());
  EXPECT_EQ(services().size(), 600u);
  ASSERT_TRUE(server_.wait_for_watches(8));
  EXPECT_THAT(asked("services"), ElementsAre("initial", "list 0", "page", "list", "page", "watch"));
}

/// An object that simdjson gives up on.
nlohmann::json too_deep(const std::string& name) {
  nlohmann::json object = service(name, "10.96.0.9");
  nlohmann::json nest = nlohmann::json::array();
  for (int i = 0; i < 100; ++i) nest = nlohmann::json::array({nest});
  object["metadata"]["managedFields"] = nest;
  return object;
}

// Neither a list nor a watch ends at one object that nobody can read.
TEST_F(SourceTest, UnreadableObjectKeepsNobodyElseAway) {
  for (const bool watch_list : {true, false}) {
    server_.set_watch_list(watch_list);
    server_.put_all({too_deep("deep"), service("web", "10.96.0.10")});
    open();
    ASSERT_TRUE(until_synced());
    EXPECT_THAT(services(), ElementsAre("web"));
    EXPECT_THAT(problems(), ElementsAre(testing::AllOf(HasSubstr("Service default/deep"), HasSubstr("deep"),
                                                       HasSubstr("cannot be read"))));
    server_.put_all({too_deep("web"), service("more", "10.96.0.11")});
    ASSERT_TRUE(until([&] { return services() == std::vector<std::string>{"more", "web"}; }));
    EXPECT_EQ(problems().size(), 2u) << "the last good version of web stays";
    server_.remove("Service", "default", "deep");
    server_.put(service("web", "10.96.0.10"));
    ASSERT_TRUE(until([&] { return problems().empty(); }));
    EXPECT_EQ(status("services").failures, 0u);
    server_.remove("Service", "default", "more");
    close();
  }
}

// Servers give up a list of theirs after a minute: whoever asks must not be quicker.
TEST(ReflectorTimes, ListsAreWaitedForLongerThanServersDo) {
  EXPECT_GT(Reflector::Times{}.stall, 60s);
}

}  // namespace
}  // namespace bpfnet::kubernetes
