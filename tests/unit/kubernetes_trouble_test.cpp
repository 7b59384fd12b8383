// Servers that are away, slow, dead, rude, or want to know again who one is.
#include <fmt/chrono.h>

#include <ctime>
#include <filesystem>
#include <fstream>
#include <mutex>

#include "tests/support/http/certificates.h"
#include "tests/support/temp_directory.h"
#include "tests/unit/kubernetes_fixture.h"

namespace bpfnet::kubernetes {
namespace {

using testing::Contains;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using namespace std::chrono_literals;

class TroubleTest : public SourceTest {
 protected:
  void begin(KubernetesSource::Options options = quick()) {
    server_.put(service("a", "10.96.0.1"));
    open(std::move(options));
    ASSERT_TRUE(until_synced());
    ASSERT_TRUE(server_.wait_for_watches(8));
    server_.forget_requests();
  }
  bool until_service(const std::string& name) {
    return until([&] { return source_->state().services.contains({"default", name}); });
  }
};

// K5: nothing is lost or listed again while nobody listens; the state stays.
TEST_F(TroubleTest, ServerThatIsAwayIsWaitedFor) {
  begin();
  server_.http().stop();
  ASSERT_TRUE(until([&] { return status("services").state.starts_with("waiting: "); }));
  EXPECT_FALSE(status("services").current);
  EXPECT_TRUE(source_->synced());
  EXPECT_THAT(services(), ElementsAre("a"));
  EXPECT_THAT(problems(), Contains(HasSubstr("stays")));
  server_.put(service("b", "10.96.0.2"));
  server_.http().restart();
  ASSERT_TRUE(until_service("b"));
  ASSERT_TRUE(until([&] { return problems().empty(); })) << testing::PrintToString(problems());
  for (const auto& resource : resources())
    for (const auto& request : server_.requests())
      EXPECT_FALSE(is_list(request, std::string(resource.plural))) << request.path;
  EXPECT_THAT(asked("services"), Not(Contains("initial")));
}

TEST_F(TroubleTest, ServerThatComesLaterIsEnough) {
  server_.http().stop();
  open();
  ASSERT_TRUE(until([&] { return status("pods").state.starts_with("waiting: "); }));
  EXPECT_FALSE(source_->synced());
  server_.http().restart();
  EXPECT_TRUE(until_synced());
}

// K5, K6
TEST_F(TroubleTest, TooManyRequestsWaitsAsLongAsTheServerSays) {
  begin();
  std::atomic<int> asked_times = 0;
  std::atomic<std::chrono::steady_clock::time_point> first{};
  std::atomic<std::chrono::steady_clock::time_point> second{};
  const auto guard = fault([&](const test::HttpRequest& request, test::HttpConnection& connection) {
    if (!is_watch(request, "services")) return false;
    const int count = ++asked_times;
    if (count == 1) first = std::chrono::steady_clock::now();
    if (count == 2) second = std::chrono::steady_clock::now();
    if (count > 1) return false;
    connection.answer(429, test::status_json(429, "TooManyRequests", "slow down"), "Retry-After: 3\r\n");
    return true;
  });
  server_.http().drop_connections();
  server_.put(service("b", "10.96.0.2"));
  ASSERT_TRUE(until([&] { return status("services").state == "waiting: slow down"; }));
  ASSERT_TRUE(until_service("b"));
  EXPECT_GE(second.load() - first.load(), 3s);
  EXPECT_THAT(asked("services"), Each("watch"));
}

/// When services were asked for: watches and lists.
class AskTimes {
 public:
  void note() {
    const std::lock_guard lock(mutex_);
    times_.push_back(std::chrono::steady_clock::now());
  }
  [[nodiscard]] size_t count() const {
    const std::lock_guard lock(mutex_);
    return times_.size();
  }
  /// The shortest time from one to the next.
  [[nodiscard]] std::chrono::steady_clock::duration shortest() const {
    const std::lock_guard lock(mutex_);
    auto shortest = std::chrono::steady_clock::duration::max();
    for (size_t i = 1; i < times_.size(); ++i) shortest = std::min(shortest, times_[i] - times_[i - 1]);
    return shortest;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::chrono::steady_clock::time_point> times_;
};

// K6: what answers, but not with what was asked for, does not make the kinds wake each other.
TEST_F(TroubleTest, NonsenseFromEveryAnswerIsWaitedOut) {
  KubernetesSource::Options options = quick();
  options.times.first_wait = 400ms;
  begin(options);
  AskTimes times;
  const auto guard = fault([&](const test::HttpRequest& request, test::HttpConnection& connection) {
    if (is_watch(request, "services") || is_list(request, "services")) times.note();
    connection.answer(200, "<html>log in first</html>");
    return true;
  });
  server_.http().drop_connections();
  ASSERT_TRUE(until([&] { return times.count() >= 3; }));
  EXPECT_GE(times.shortest(), 800ms);
  EXPECT_THAT(services(), ElementsAre("a"));
}

// K6: also where another kind got through meanwhile.
class RetryAfter : public TroubleTest, public testing::WithParamInterface<bool> {};
INSTANTIATE_TEST_SUITE_P(Form, RetryAfter, testing::Bool(),
                         [](const auto& by_date) { return by_date.param ? "Date" : "Seconds"; });

TEST_P(RetryAfter, UnavailableServerIsAskedWhenItSaysSo) {
  begin();
  server_.http().stop();
  for (const auto& resource : resources())
    ASSERT_TRUE(until([&] { return status(std::string(resource.plural)).state.starts_with("waiting: "); }));
  AskTimes times;
  const auto guard = fault([&](const test::HttpRequest& request, test::HttpConnection& connection) {
    if (!is_watch(request, "services")) {
      while (times.count() == 0 && connection.open()) connection.wait(-1, 5ms);
      return false;
    }
    times.note();
    if (times.count() > 1) return false;
    const auto when = fmt::gmtime(std::time(nullptr) + 4);  // whole seconds: three at least
    connection.answer(503, test::status_json(503, "ServiceUnavailable", "starting"),
                      GetParam() ? fmt::format("Retry-After: {:%a, %d %b %Y %H:%M:%S GMT}\r\n", when)
                                 : "Retry-After: 3\r\n");
    return true;
  });
  server_.http().restart();
  server_.put(service("b", "10.96.0.2"));
  ASSERT_TRUE(until_service("b"));
  EXPECT_GE(times.shortest(), 3s);
}

// Who cannot show who he is does not cut what still works.
TEST_F(TroubleTest, MissingTokenLeavesWatchesAlone) {
  std::atomic<bool> there = true;
  std::atomic<int> looked = 0;
  KubernetesSource::Options options = quick();
  options.silence = 50ms;
  options.cluster.access.authorize = [&]() -> Result<http::Authorization> {
    if (there) return http::Authorization(http::BearerToken{"t"});
    ++looked;
    return fail("token: ENOENT");
  };
  begin(options);
  there = false;
  ASSERT_TRUE(until([&] { return looked >= 4; }));
  server_.put(service("b", "10.96.0.2"));
  ASSERT_TRUE(until_service("b"));
  EXPECT_EQ(server_.watches(), 8u);
  EXPECT_EQ(status("services").failures, 0u);
  close();
}

// K5: a server that closes every watch at once is not asked in a circle.
TEST_F(TroubleTest, WatchThatIsClosedAtOnceIsAnError) {
  begin();
  const auto guard = fault([&](const test::HttpRequest& request, test::HttpConnection& connection) {
    if (!is_watch(request, "services")) return false;
    connection.start_chunked(200);
    connection.end_chunked();
    return true;
  });
  server_.http().drop_connections();
  ASSERT_TRUE(until([&] { return status("services").state == "waiting: the watch is closed at once"; }));
  server_.set_fault({});
  server_.put(service("b", "10.96.0.2"));
  ASSERT_TRUE(until_service("b"));
  EXPECT_LE(asked("services").size(), 3u);
}

// K2: as a load balancer does it to what is silent for a while. The kind is not deaf for the time of a
// backoff, which grows.
TEST_F(TroubleTest, WatchesThatAreCutAgainAndAgainAreResumedAtOnce) {
  begin();
  constexpr auto kLifetime = 1100ms;  // longer than the shortest watch that is taken for one
  for (int cut = 0; cut < 3; cut++) {
    const auto since = std::chrono::steady_clock::now();
    ASSERT_TRUE(until([&] { return std::chrono::steady_clock::now() - since >= kLifetime; }));
    server_.http().drop_connections();
    const std::string name = "cut-" + std::to_string(cut);
    server_.put(service(name, "10.96.0." + std::to_string(10 + cut)));
    bool waited = false;
    ASSERT_TRUE(until([&] {
      waited |= status("services").state.starts_with("waiting: ");
      return source_->state().services.contains({"default", name});
    }));
    EXPECT_FALSE(waited);
    ASSERT_TRUE(server_.wait_for_watches(8));
  }
  for (const auto& request : server_.requests()) EXPECT_FALSE(is_list(request, "services"));
}

TEST_F(TroubleTest, GarbageAndCutChunksLoseNothing) {
  begin();
  server_.send_raw("5\r\n<htm>\r\n");
  ASSERT_TRUE(until([&] { return status("services").state.find("no JSON") != std::string::npos; }));
  server_.put(service("b", "10.96.0.2"));
  ASSERT_TRUE(until_service("b"));
  ASSERT_TRUE(server_.wait_for_watches(8));
  server_.send_raw("20\r\n{\"type\":");  // and the connection ends in the middle of the chunk
  server_.http().drop_connections();
  server_.put(service("c", "10.96.0.3"));
  ASSERT_TRUE(until_service("c"));
  for (const auto& request : server_.requests()) EXPECT_FALSE(is_list(request, "services"));
}

TEST_F(TroubleTest, ErrorsWithinAWatchAreWaitedOut) {
  begin();
  const std::string error =
      "{\"type\":\"ERROR\",\"object\":" + test::status_json(500, "InternalError", "etcd is away") + "}\n";
  server_.send_raw(fmt::format("{:x}\r\n{}\r\n", error.size(), error));
  ASSERT_TRUE(until([&] { return status("services").state.find("etcd is away") != std::string::npos; }));
  server_.put(service("b", "10.96.0.2"));
  ASSERT_TRUE(until_service("b"));
}

// K8: it holds its connections and does nothing any more.
TEST_F(TroubleTest, SilentServerIsFoundOut) {
  KubernetesSource::Options options = quick();
  options.silence = 300ms;
  options.patience = 300ms;
  options.times.initial = 60s;  // not by this
  begin(options);
  server_.set_silent(true);
  ASSERT_TRUE(server_.wait_for([](const auto& request) { return request.path == "/version"; }));
  ASSERT_TRUE(server_.wait_for([](const auto& request) { return is_watch(request, "services"); }))
      << "on a new connection";
  // That the connection stands makes nothing current.
  ASSERT_TRUE(until([&] { return status("services").state.starts_with("waiting: not reached: "); }));
  EXPECT_FALSE(status("services").current);
  EXPECT_THAT(problems(), Contains(HasSubstr("is not reached")));
  server_.set_silent(false);
  server_.put(service("b", "10.96.0.2"));
  ASSERT_TRUE(until_service("b"));
  ASSERT_TRUE(until([&] { return problems().empty(); }));
}

// Who is to wait does not ask by another door.
TEST_F(TroubleTest, ServerThatSaysWhenIsNotAskedMeanwhile) {
  KubernetesSource::Options options = quick();
  options.silence = 20ms;
  begin(options);
  AskTimes times;
  const auto guard = fault([&](const test::HttpRequest& request, test::HttpConnection& connection) {
    if (request.path == "/version") return false;
    if (is_watch(request, "services")) times.note();
    connection.answer(429, test::status_json(429, "TooManyRequests", "slow down"), "Retry-After: 2\r\n");
    return true;
  });
  server_.http().drop_connections();
  for (const auto& resource : resources())
    ASSERT_TRUE(until([&] { return status(std::string(resource.plural)).state == "waiting: slow down"; }));
  server_.forget_requests();
  const size_t before = times.count();
  ASSERT_TRUE(until([&] { return times.count() > before; }));
  const auto all = server_.requests();
  EXPECT_LT(std::ranges::count(all, "/version", &test::HttpRequest::path), 10) << "of about 100";
}

// Others are answered, so that the server is not silent.
TEST_F(TroubleTest, WatchThatNeverBeginsIsAskedForAgain) {
  begin();
  std::atomic<bool> first = true;
  const auto guard = fault([&](const test::HttpRequest& request, test::HttpConnection& connection) {
    if (!is_watch(request, "services") || !first.exchange(false)) return false;
    while (connection.open()) connection.wait(-1, 1s);
    return true;
  });
  server_.http().drop_connections();
  ASSERT_TRUE(until([&] { return status("services").state == "waiting: not reached: no answer in time"; }));
  ASSERT_TRUE(until([&] { return status("endpointslices").state == "watched"; }));
  server_.put(service("b", "10.96.0.2"));
  ASSERT_TRUE(until_service("b"));
}

// A server which has nothing to tell is not a dead one.
TEST_F(TroubleTest, QuietServerIsLeftAlone) {
  KubernetesSource::Options options = quick();
  options.silence = 100ms;
  options.patience = 5s;
  begin(options);
  const auto asked_three_times = [&] {
    const auto all = server_.requests();
    return std::ranges::count(all, "/version", &test::HttpRequest::path) >= 3;
  };
  ASSERT_TRUE(until(asked_three_times));
  EXPECT_THAT(asked("services"), IsEmpty());
}

// K11
TEST_F(TroubleTest, ExpiredTokenIsReadAgain) {
  const test::TempDirectory directory;
  const std::filesystem::path file = directory / "token";
  std::ofstream(file) << "old\n";
  server_.set_tokens({"old"});
  KubernetesSource::Options options = quick();
  options.cluster.access.authorize = token_from(file);
  begin(options);
  server_.set_tokens({"new"});
  server_.http().drop_connections();
  ASSERT_TRUE(until([&] { return status("services").state.find("not accepted") != std::string::npos; }));
  std::ofstream(file) << "new\n";
  server_.put(service("b", "10.96.0.2"));
  ASSERT_TRUE(until_service("b"));
  for (const auto& request : server_.requests()) EXPECT_FALSE(is_list(request, "services"));
}

TEST_F(TroubleTest, ForbiddenSaysWhatToDo) {
  server_.set_fault([](const test::HttpRequest& request, test::HttpConnection& connection) {
    if (!request.path.ends_with("/networkpolicies")) return false;
    connection.answer(403, test::status_json(403, "Forbidden", "networkpolicies is forbidden"));
    return true;
  });
  open();
  ASSERT_TRUE(until([&] { return !problems().empty(); }));
  EXPECT_THAT(problems(), Contains(testing::AllOf(HasSubstr("networkpolicies is forbidden"),
                                                  HasSubstr("docs/kubernetes.md"))));
  EXPECT_FALSE(source_->synced()) << "without policies nothing may be opened";
}

// K12: a replaced client certificate counts for watches too.
TEST(KubernetesTls, ReplacedCertificateRestartsTheWatches) {
  const test::Authority authority("the authority");
  const test::TempDirectory directory;
  const auto put = [&](const std::string& who) {
    const test::KeyPair pair = authority.client(who);
    for (const auto& [name, text] : {std::pair{"tls.crt", pair.certificate}, {"tls.key", pair.key}}) {
      std::ofstream(directory / "new") << text;
      std::filesystem::rename(directory / "new", directory / name);
    }
  };
  test::ApiServer server(
      {.tls = test::HttpServer::Tls{authority.server({"127.0.0.1"}), authority.certificate(), true}});
  put("first");
  KubernetesSource::Options options;
  options.node_name = "node-a";
  options.secrets_every = 100ms;
  options.cluster = {.server = server.url(),
                     .access = {.ca = {.text = authority.certificate()},
                                .certificate = {.file = directory / "tls.crt"},
                                .key = {.file = directory / "tls.key"}},
                     .origin = "test"};
  auto source = KubernetesSource::start(options);
  ASSERT_TRUE(source);
  ASSERT_TRUE(server.wait_for_watches(8));
  put("second");
  for (const auto& resource : resources()) {
    EXPECT_TRUE(server.wait_for([&](const auto& request) {
      return request.client == "second" && is_watch(request, std::string(resource.plural));
    })) << resource.plural;
  }
  source->reset();
}

}  // namespace
}  // namespace bpfnet::kubernetes
