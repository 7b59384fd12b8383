// The source against a gateway whose answers the test writes.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include "base/base64.h"
#include "control/etcd/source.h"
#include "control/etcd/wire.h"
#include "tests/support/etcd/scripted_gateway.h"

namespace bpfnet::etcd {
namespace {

using nlohmann::json;
using sources::Kind;
using test::HttpConnection;
using test::ScriptedGateway;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Request = ScriptedGateway::Request;

std::string service(const std::string& name, int ip, int port = 80) {
  return fmt::format(
      R"({{"apiVersion":"v1","kind":"Service","metadata":{{"name":"{}"}},"spec":{{"clusterIP":"10.96.0.{}","ports":[{{"port":{}}}]}}}})",
      name, ip, port);
}
std::string key(const std::string& name) {
  return "/bpfnet/Service/default/" + name;
}
json kv(const std::string& name, int ip, int64_t revision, int port = 80) {
  return ScriptedGateway::kv(key(name), service(name, ip, port), revision);
}

class EtcdSources : public testing::Test {
 protected:
  void open() { open(gateway.config()); }
  void open(const Config& config) {
    auto opened = EtcdSource::open(config);
    ASSERT_TRUE(opened) << opened.error().message;
    source = std::move(*opened);
  }
  /// Processes what comes until `done`; false after 20 seconds without anything.
  template <typename Done>
  bool wait_for(Done done) {
    while (!done()) {
      pollfd wait{source->fd(), POLLIN, 0};
      if (::poll(&wait, 1, 20'000) <= 0) return done();
      source->process();
      ++processed;
    }
    return true;
  }
  bool wait_for_state(const std::string& state) {
    return wait_for([&] { return source->kinds().at(0).state.find(state) != std::string::npos; });
  }
  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (const auto& [name, object] : source->state().services)
      result.push_back(fmt::format("{}:{}", name.name, object.ports.empty() ? 0 : object.ports[0].port));
    return result;
  }
  [[nodiscard]] std::vector<std::string> complaints() const {
    std::vector<std::string> result;
    for (const auto& problem : source->problems()) result.push_back(problem.to_string());
    return result;
  }
  static int64_t start_of(const Request& watch) {
    return std::stoll(watch.body["create_request"]["start_revision"].get<std::string>());
  }
  static std::string key_of(const Request& range) {
    return from_base64(range.body["key"].get<std::string>()).value_or("?");
  }

  ScriptedGateway gateway;
  std::unique_ptr<EtcdSource> source;
  int processed = 0;
};

TEST_F(EtcdSources, NothingIsThereBeforeTheLastPageWhichIsOfTheRevisionOfTheFirst) {
  gateway.then("kv/range", ScriptedGateway::range(9, {kv("a", 1, 3)}, true));
  open();
  EXPECT_EQ(key_of(gateway.next("kv/range")), "/bpfnet/");
  const Request second = gateway.next("kv/range");
  EXPECT_EQ(key_of(second), key("a") + '\0');
  EXPECT_EQ(second.body["revision"], "9");
  source->process();
  EXPECT_FALSE(source->synced());
  EXPECT_THAT(names(), IsEmpty());
  gateway.then("kv/range", ScriptedGateway::range(12, {kv("b", 2, 5)}));
  gateway.then_watch({ScriptedGateway::created(12)});
  EXPECT_TRUE(wait_for_state("watched"));
  EXPECT_TRUE(source->synced());
  EXPECT_THAT(names(), ElementsAre("a:80", "b:80"));
  EXPECT_EQ(source->revision(), 9);
  EXPECT_EQ(start_of(gateway.next("watch")), 10);
}

TEST_F(EtcdSources, AnEmptyPrefixIsAFullState) {
  gateway.then("kv/range", ScriptedGateway::range(1, {}));
  gateway.then_watch({ScriptedGateway::created(1)});
  open();
  EXPECT_TRUE(wait_for_state("watched"));
  EXPECT_TRUE(source->synced());
  EXPECT_EQ(source->generation(), 0U);
}

TEST_F(EtcdSources, AListThatWasCompactedUnderWayBeginsAnew) {
  gateway.then("kv/range", ScriptedGateway::range(9, {kv("a", 1, 3)}, true));
  gateway.then("kv/range",
               json{{"error", "etcdserver: mvcc: required revision has been compacted"}, {"code", 11}});
  gateway.then("kv/range", ScriptedGateway::range(20, {kv("b", 2, 5)}));
  gateway.then_watch({ScriptedGateway::created(20)});
  open();
  EXPECT_TRUE(wait_for_state("watched"));
  EXPECT_THAT(names(), ElementsAre("b:80"));
  EXPECT_EQ(source->kinds().at(0).failures, 0U);
}

class FramesCutAnywhere : public EtcdSources, public testing::WithParamInterface<size_t> {};

TEST_P(FramesCutAnywhere, GiveTheSame) {
  gateway.then("kv/range", ScriptedGateway::range(9, {kv("a", 1, 3)}));
  gateway.then_watch(
      {ScriptedGateway::created(9), ScriptedGateway::put(key("b"), service("b", 2), 10),
       ScriptedGateway::put(key("a"), service("a", 1, 81), 11), ScriptedGateway::deleted(key("b"), 12)},
      GetParam());
  open();
  EXPECT_TRUE(wait_for([&] { return source->revision() == 12; }));
  EXPECT_THAT(names(), ElementsAre("a:81"));
}
INSTANTIATE_TEST_SUITE_P(Pieces, FramesCutAnywhere, testing::Values(1, 7, 64, 1 << 20));

TEST_F(EtcdSources, FragmentsCountTogether) {
  gateway.then("kv/range", ScriptedGateway::range(9, {}));
  gateway.then_watch({ScriptedGateway::created(9), ScriptedGateway::put(key("a"), service("a", 1), 10, true),
                      ScriptedGateway::put(key("b"), service("b", 2), 10, true),
                      ScriptedGateway::put(key("c"), service("c", 3), 10)});
  open();
  EXPECT_TRUE(wait_for([&] { return !names().empty(); }));
  EXPECT_THAT(names(), ElementsAre("a:80", "b:80", "c:80"));
}

TEST_F(EtcdSources, AClosedWatchGoesOnFromWhereItWasAndReadsNothingAnew) {
  gateway.then("kv/range", ScriptedGateway::range(9, {kv("a", 1, 3)}));
  gateway.then("watch", [](const Request&, HttpConnection& connection) {
    connection.start_chunked(200);
    connection.chunk(json{{"result", ScriptedGateway::created(9)}}.dump() + "\n" +
                     json{{"result", ScriptedGateway::put(key("b"), service("b", 2), 15)}}.dump() +
                     "\n{\"result\":{\"half");
    connection.end_chunked();
  });
  gateway.then_watch({ScriptedGateway::created(16), ScriptedGateway::deleted(key("a"), 16)});
  open();
  EXPECT_TRUE(wait_for([&] { return source->revision() == 16; }));
  EXPECT_EQ(start_of(gateway.next("watch")), 10);
  EXPECT_EQ(start_of(gateway.next("watch")), 16);
  EXPECT_THAT(names(), ElementsAre("b:80"));
  EXPECT_EQ(gateway.count("kv/range"), 1U);
}

TEST_F(EtcdSources, WhatWasCompactedIsReadAnewAsTheDifference) {
  gateway.then("kv/range", ScriptedGateway::range(9, {kv("a", 1, 3), kv("b", 2, 4), kv("c", 3, 5)}));
  gateway.then_watch(
      {ScriptedGateway::created(30),
       json{{"header", {{"cluster_id", "7"}}}, {"canceled", true}, {"compact_revision", "25"}}});
  gateway.then("kv/range", ScriptedGateway::range(40, {kv("a", 1, 3), kv("c", 3, 33, 81), kv("d", 4, 34)}));
  gateway.then_watch({ScriptedGateway::created(40)});
  open();
  ASSERT_TRUE(wait_for([&] { return source->revision() == 9; }));
  (void)source->take_changes();
  ASSERT_TRUE(wait_for([&] {
    EXPECT_GE(source->state().services.size(), 3U) << "never less than before or after";
    return source->revision() == 40;
  }));
  EXPECT_THAT(names(), ElementsAre("a:80", "c:81", "d:80"));
  const auto changes = source->take_changes();
  EXPECT_THAT(changes.services,
              ElementsAre(model::ObjectName{"default", "b"}, model::ObjectName{"default", "c"},
                          model::ObjectName{"default", "d"}));
  EXPECT_EQ(source->kinds().at(0).relists, 1U);
}

TEST_F(EtcdSources, AnotherClusterIsReadAnewWhateverItsRevisions) {
  gateway.then("kv/range", ScriptedGateway::range(9, {kv("a", 1, 3)}));
  gateway.then("watch", [](const Request&, HttpConnection& connection) { connection.answer(503, "{}"); });
  gateway.then_watch({ScriptedGateway::created(9, 8)});
  json other = ScriptedGateway::range(9, {kv("a", 1, 3, 81)});  // the same number, another object
  other["header"] = ScriptedGateway::header(9, 8);
  gateway.then("kv/range", other);
  gateway.then_watch({ScriptedGateway::created(9, 8)});
  open();
  EXPECT_TRUE(wait_for([&] { return names() == std::vector<std::string>{"a:81"}; }));
}

TEST_F(EtcdSources, AStoreThatWentBackIsReadAnew) {
  gateway.then("kv/range", ScriptedGateway::range(90, {kv("a", 1, 80)}));
  gateway.then("watch", [](const Request&, HttpConnection& connection) { connection.answer(503, "{}"); });
  gateway.then_watch({ScriptedGateway::created(50)});
  gateway.then("kv/range", ScriptedGateway::range(50, {kv("b", 1, 4)}));
  gateway.then_watch({ScriptedGateway::created(50), ScriptedGateway::put(key("c"), service("c", 3), 51)});
  open();
  EXPECT_TRUE(wait_for([&] { return source->revision() == 51; }));
  EXPECT_THAT(names(), ElementsAre("b:80", "c:80"));
}

TEST_F(EtcdSources, GarbageEndsTheWatchAndNothingElse) {
  gateway.then("kv/range", ScriptedGateway::range(9, {kv("a", 1, 3)}));
  gateway.then("watch", [](const Request&, HttpConnection& connection) {
    connection.start_chunked(200);
    connection.chunk(json{{"result", ScriptedGateway::created(9)}}.dump() +
                     "\n{\"result\":{\"events\":[{}]}}\n");
    connection.wait(-1, std::chrono::seconds(20));
  });
  gateway.then_watch({ScriptedGateway::created(10), ScriptedGateway::put(key("b"), service("b", 2), 10)});
  open();
  EXPECT_TRUE(wait_for([&] { return source->revision() == 10; }));
  EXPECT_THAT(names(), ElementsAre("a:80", "b:80"));
  EXPECT_EQ(source->kinds().at(0).failures, 1U);
}

TEST_F(EtcdSources, AnErrorInTheStreamEndsItAndIsTold) {
  gateway.then("kv/range", ScriptedGateway::range(9, {kv("a", 1, 3)}));
  gateway.then("watch", [](const Request&, HttpConnection& connection) {
    connection.start_chunked(200);
    connection.chunk(json{{"error", {{"grpc_code", 14}, {"message", "etcdserver: no leader"}}}}.dump() +
                     "\n");
    connection.end_chunked();
  });
  open();
  EXPECT_TRUE(wait_for_state("waiting: etcdserver: no leader"));
  EXPECT_THAT(complaints(), ElementsAre(HasSubstr("etcdserver: no leader; what was read before stays")));
  EXPECT_THAT(names(), ElementsAre("a:80"));
  EXPECT_TRUE(source->synced());
}

TEST_F(EtcdSources, MalformedValuesNameTheirKeyAndKeepTheLastGoodVersion) {
  const std::string bad =
      R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"a"},"spec":{"clusterIP":"None","ports":[{"port":"x"}]}})";
  const std::string policy = "/bpfnet/NetworkPolicy/shop/p";
  gateway.then("kv/range",
               ScriptedGateway::range(9, {kv("a", 1, 3), kv("b", 2, 3), ScriptedGateway::kv(policy, "{", 5),
                                          ScriptedGateway::kv("/bpfnet/stranger", "x", 6)}));
  gateway.then_watch({ScriptedGateway::created(9), ScriptedGateway::put(key("a"), bad, 10),
                      ScriptedGateway::put(key("b"), "no JSON", 11)});
  open();
  EXPECT_TRUE(wait_for([&] { return source->revision() == 11; }));
  EXPECT_THAT(names(), ElementsAre("a:80", "b:80"));
  EXPECT_THAT(
      complaints(),
      ElementsAre(AllOf(HasSubstr(policy + ":1: NetworkPolicy shop/p: is no JSON"),
                        HasSubstr("until then the pods it selects are isolated")),
                  AllOf(HasSubstr(key("a") + ":1: Service default/a: spec.ports[0].port"),
                        HasSubstr("its last good version stays")),
                  AllOf(HasSubstr(key("b") + ":1: Service default/b: is no JSON"),
                        HasSubstr("its last good version stays")),
                  HasSubstr("/bpfnet/stranger: is no object's key, expected /bpfnet/KIND/NAMESPACE/NAME")));
  EXPECT_EQ(source->state().policies.size(), 1U);
}

TEST_F(EtcdSources, ATokenIsFetchedAndFetchedAnewWhenItIsNoGoodAnyMore) {
  Config config = gateway.config();
  char path[] = "/tmp/bpfnet-password-XXXXXX";
  const int file = ::mkstemp(path);
  ASSERT_EQ(::write(file, "secret\n", 7), 7);
  ::close(file);
  config.user = "bpfnet";
  config.password_file = path;
  gateway.then("auth/authenticate", json{{"header", ScriptedGateway::header(1)}, {"token", "first.1"}});
  gateway.then("kv/range", json{{"error", "etcdserver: invalid auth token"}, {"code", 16}, {"status", 401}});
  gateway.then("auth/authenticate", json{{"header", ScriptedGateway::header(1)}, {"token", "second.2"}});
  gateway.then("kv/range", ScriptedGateway::range(9, {kv("a", 1, 3)}));
  json refused = ScriptedGateway::created(9);
  refused.update(
      {{"canceled", true},
       {"cancel_reason", "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token"}});
  gateway.then_watch({refused});
  gateway.then("auth/authenticate", json{{"header", ScriptedGateway::header(1)}, {"token", "third.3"}});
  gateway.then_watch({ScriptedGateway::created(9)});
  open(config);
  EXPECT_TRUE(wait_for_state("watched"));
  ::unlink(path);
  const Request login = gateway.next("auth/authenticate");
  EXPECT_EQ(login.body["name"], "bpfnet");
  EXPECT_EQ(login.body["password"], "secret");
  EXPECT_EQ(login.token, "");
  EXPECT_EQ(gateway.next("kv/range").token, "first.1");
  EXPECT_EQ(gateway.next("kv/range").token, "second.2");
  EXPECT_EQ(gateway.next("watch").token, "second.2");
  EXPECT_EQ(gateway.next("watch").token, "third.3");
}

TEST_F(EtcdSources, WhoeverNeedsAUserIsToldTheFlag) {
  gateway.then("kv/range", json{{"error", "etcdserver: user name is empty"}, {"code", 3}});
  open();
  EXPECT_TRUE(wait_for_state("give --etcd-user and --etcd-password-file"));
  EXPECT_FALSE(source->synced());
}

TEST_F(EtcdSources, TheNextEndpointIsAskedAtOnce) {
  ScriptedGateway second;
  Config config = gateway.config();
  config.endpoints.push_back(second.config().endpoints.front());
  gateway.then("kv/range", ScriptedGateway::range(9, {kv("a", 1, 3)}));
  gateway.then_watch({ScriptedGateway::created(9)});
  second.then_watch({ScriptedGateway::created(10), ScriptedGateway::put(key("b"), service("b", 2), 10)});
  open(config);
  ASSERT_TRUE(wait_for_state("watched"));
  const auto begin = std::chrono::steady_clock::now();
  gateway.server().stop();
  EXPECT_TRUE(wait_for([&] { return source->revision() == 10; }));
  EXPECT_EQ(start_of(second.next("watch")), 10);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
}

TEST_F(EtcdSources, AnEndpointThatIsDownAtTheStartIsPassedOver) {
  ScriptedGateway second;
  Config config = gateway.config();
  config.endpoints.push_back(second.config().endpoints.front());
  gateway.server().stop();
  second.then("kv/range", ScriptedGateway::range(9, {kv("a", 1, 3)}));
  second.then_watch({ScriptedGateway::created(9)});
  open(config);
  EXPECT_TRUE(wait_for_state("watched"));
  EXPECT_EQ(source->kinds().at(0).failures, 0U);
}

TEST_F(EtcdSources, AMemberThatDoesNotAnswerAnyMoreIsLeft) {
  ScriptedGateway second;
  Config config = gateway.config();
  config.endpoints.push_back(second.config().endpoints.front());
  config.look_interval = std::chrono::milliseconds(100);
  config.deadline = std::chrono::milliseconds(500);
  gateway.then("kv/range", ScriptedGateway::range(9, {kv("a", 1, 3)}));
  gateway.then_watch({ScriptedGateway::created(9)});  // and no answer to the look
  second.then_watch({ScriptedGateway::created(9), ScriptedGateway::put(key("b"), service("b", 2), 10)});
  open(config);
  EXPECT_TRUE(wait_for([&] { return source->revision() == 10; }));
  EXPECT_THAT(names(), ElementsAre("a:80", "b:80"));
}

TEST_F(EtcdSources, AWatchThatIsSilentAboutNewKeysIsFoundOut) {
  Config config = gateway.config();
  config.look_interval = std::chrono::milliseconds(50);
  const json two = {{"header", ScriptedGateway::header(10)}, {"count", "2"}};
  gateway.then("kv/range", ScriptedGateway::range(9, {kv("a", 1, 3)}));
  gateway.then_watch({ScriptedGateway::created(9)});
  gateway.then("kv/range", two);
  gateway.then("kv/range", two);
  gateway.then("kv/range", ScriptedGateway::range(10, {kv("a", 1, 3), kv("b", 2, 10)}));
  gateway.then_watch({ScriptedGateway::created(10)});
  open(config);
  EXPECT_TRUE(wait_for([&] { return source->revision() == 10; }));
  EXPECT_THAT(names(), ElementsAre("a:80", "b:80"));
}

TEST_F(EtcdSources, ItEndsWhileARequestIsUnderWay) {
  open();
  (void)gateway.next("kv/range");
  source.reset();
}

}  // namespace
}  // namespace bpfnet::etcd
