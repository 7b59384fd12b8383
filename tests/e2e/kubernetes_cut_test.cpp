// The network to the API server is cut in silence: no reset, no end, no link that goes down. Sources with
// short times beside agents with theirs, which ride such a cut out; what theirs make of a long one takes 45
// seconds and is the suite KubernetesCutMinute, run by scripts/test-slow.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <poll.h>

#include <algorithm>
#include <atomic>
#include <nlohmann/json.hpp>

#include "control/kubernetes/source.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/traffic.h"
#include "tests/support/cluster/lossy_switch.h"
#include "tests/support/must.h"

namespace bpfnet::e2e {
namespace {

using kubernetes::KubernetesSource;
using nlohmann::json;
using std::chrono::seconds;
using std::chrono::steady_clock;
using testing::Contains;
using testing::ElementsAre;
using testing::IsSupersetOf;

/// Whose packets are lost.
enum class Lost { kBoth, kSent, kReceived };

std::string lost_name(const testing::TestParamInfo<Lost>& info) {
  return std::array{"Both", "Sent", "Received"}.at(static_cast<size_t>(info.param));
}

/// The network is cut between nodes and a server while this lives.
class Cut {
 public:
  Cut(const Cluster& cluster, const Host& server)
      : switch_(cluster.options()), there_(server.ip(Family::kIpv4)) {}
  Cut(const Cluster& cluster, const Host& server, const Host& node, Lost lost) : Cut(cluster, server) {
    begin(node, lost);
  }
  void begin(const Host& node, Lost lost) {
    const Address& here = node.ip(Family::kIpv4);
    if (lost != Lost::kReceived) switch_.lose(here, there_);
    if (lost != Lost::kSent) switch_.lose(there_, here);
  }

 private:
  LossySwitch switch_;
  Address there_;
};

std::vector<json> service_objects(const std::string& name, int number) {
  return test::objects_of_manifest(echo_service(name, number, {}).service_yaml());
}

/// A source of this process in a node's namespace, as an agent has it, with the times of a test.
class QuickSource {
 public:
  QuickSource(const Netns& netns, const std::string& server) {
    KubernetesSource::Options options;
    options.cluster.server = server;
    options.cluster.origin = "test";
    options.node_name = "node-a";
    options.silence = milliseconds(300);
    options.patience = milliseconds(300);
    options.times.acknowledged = milliseconds(60);
    options.times.first_wait = milliseconds(50);
    source_ = test::must(netns.in([&] { return KubernetesSource::start(options); }));
  }

  /// Runs it until `holds`. False: not in 20 seconds.
  bool until(const std::function<bool()>& holds) {
    const auto end = steady_clock::now() + seconds(20);
    while (!holds()) {
      if (steady_clock::now() > end) return false;
      pollfd ready{source_->fd(), POLLIN, 0};
      ::poll(&ready, 1, 20);  // what only the server knows is looked at now and then
      source_->process();
    }
    return true;
  }
  [[nodiscard]] bool current() const { return std::ranges::all_of(kinds(), &sources::KindStatus::current); }
  [[nodiscard]] bool lost() const { return std::ranges::none_of(kinds(), &sources::KindStatus::current); }
  [[nodiscard]] std::vector<sources::KindStatus> kinds() const { return source_->kinds(); }
  [[nodiscard]] std::vector<std::string> services() const {
    std::vector<std::string> names;
    for (const auto& [name, each] : source_->state().services) names.push_back(name.name);
    return names;
  }
  [[nodiscard]] std::vector<std::string> problems() const {
    std::vector<std::string> texts;
    for (const auto& each : source_->problems()) texts.push_back(each.to_string());
    return texts;
  }

 private:
  std::unique_ptr<KubernetesSource> source_;
};

class KubernetesCut : public testing::TestWithParam<Lost> {
 public:
  static void SetUpTestSuite() {
    ClusterOptions options = cluster_options();
    options.source = "kubernetes-shared";
    cluster_ = std::make_unique<Cluster>(options);
    cluster_->add_pod(0, "client-a");
    cluster_->add_pod(1, "web-b");
    cluster_->apply("web", echo_service("web", 10, {cluster_->backend("web-b")}).yaml());
  }
  static void TearDownTestSuite() { cluster_.reset(); }

 protected:
  void SetUp() override { ASSERT_TRUE(cluster_) << "the cluster could not be made"; }
  void TearDown() override {
    if (HasFailure()) fmt::print("---- {}:\n{}\n", node().name(), node().log());
  }
  static Cluster& cluster() { return *cluster_; }
  static Node& node() { return cluster_->node(0); }
  static Network& network() { return cluster_->network(); }
  static std::unique_ptr<Cluster> cluster_;
};
std::unique_ptr<Cluster> KubernetesCut::cluster_;

INSTANTIATE_TEST_SUITE_P(Lost, KubernetesCut, testing::Values(Lost::kBoth, Lost::kSent, Lost::kReceived),
                         lost_name);

// K8, K5: what is known holds, and the watches go on where they ended.
TEST_P(KubernetesCut, UnderStandingWatchesIsNoticedAndMended) {
  Host& host = network().other_client();
  ApiMirror api(host.netns(), host.ip(Family::kIpv4).to_string());
  api.server().put_all(service_objects("before", 20));
  QuickSource source(node().netns(), api.url());
  ASSERT_TRUE(source.until([&] { return source.current() && api.server().watches() == 8; }));
  {
    const Cut cut(cluster(), host, node().host(), GetParam());
    // Where only what we send is lost this still arrives, and is no sign that we are heard.
    api.server().put_all(service_objects("meanwhile", 21));
    api.server().remove("Service", "default", "before");
    ASSERT_TRUE(source.until([&] { return source.lost(); })) << "nothing is noticed";
    EXPECT_THAT(source.problems(), Contains(testing::HasSubstr("is not reached")));
    if (GetParam() != Lost::kSent) {
      EXPECT_THAT(source.services(), ElementsAre("before"));
    }
  }
  ASSERT_TRUE(source.until([&] {
    return source.current() && source.problems().empty() &&
           source.services() == std::vector<std::string>{"meanwhile"};
  })) << testing::PrintToString(source.problems());
  for (const auto& kind : source.kinds()) EXPECT_EQ(kind.relists, 0U) << kind.kind;
}

// K4: half a list takes nothing away, and is read again as a whole.
TEST_P(KubernetesCut, InTheMiddleOfAListIsNoticedAndMended) {
  std::atomic<bool> half_told = false;  // these outlive the server, whose threads use them
  std::atomic<bool> is_cut = false;
  std::atomic<bool> first = true;
  Host& host = network().other_client();
  ApiMirror api(host.netns(), host.ip(Family::kIpv4).to_string());
  test::ApiServer& server = api.server();
  server.set_watch_list(false);
  std::vector<std::string> names;
  for (int i = 0; i < 20; ++i) {
    names.push_back(fmt::format("s-{:02}", i));
    server.put_all(service_objects(names.back(), 20 + i));
  }
  QuickSource source(node().netns(), api.url());
  ASSERT_TRUE(source.until([&] { return source.current() && server.watches() == 8; }));

  // While it is away its history goes, and the list that must follow comes as far as its middle.
  api.stop();
  server.put_all(service_objects("meanwhile", 60));
  server.skip_versions(1000);
  server.compact();
  server.set_fault([&](const test::HttpRequest& request, test::HttpConnection& connection) {
    if (!request.path.ends_with("/services") || request.parameter("limit").empty()) return false;
    if (!first.exchange(false)) return false;
    std::string items;
    for (const json& each : server.all("Service")) items += (items.empty() ? "" : ",") + each.dump();
    const std::string list =
        fmt::format(R"({{"kind":"ServiceList","metadata":{{"resourceVersion":"{}"}},"items":[{}]}})",
                    server.version(), items);
    connection.start_chunked(200);
    connection.chunk(std::string_view(list).substr(0, list.size() / 2));
    half_told = true;
    while (!is_cut && connection.open()) connection.wait(-1, milliseconds(5));
    connection.chunk(std::string_view(list).substr(list.size() / 2));
    connection.end_chunked();
    return true;
  });
  api.start();
  ASSERT_TRUE(source.until([&] { return half_told.load(); }));
  const auto services = [&] {
    const auto all = source.kinds();
    return *std::ranges::find(all, "services", &sources::KindStatus::kind);
  };
  {
    const Cut cut(cluster(), host, node().host(), GetParam());
    if (GetParam() != Lost::kSent) is_cut = true;  // the second half is lost
    ASSERT_TRUE(source.until([&] { return services().state.starts_with("waiting: not reached"); }));
    EXPECT_THAT(source.services(), IsSupersetOf(names));
    is_cut = true;
    server.remove("Service", "default", names.front());
  }
  names.erase(names.begin());
  names.insert(names.begin(), "meanwhile");
  ASSERT_TRUE(source.until([&] { return source.services() == names; }))
      << testing::PrintToString(source.services());
  ASSERT_TRUE(source.until([&] { return source.current(); })) << testing::PrintToString(source.problems());
  EXPECT_EQ(services().relists, 1U);
  server.set_fault({});
}

// An agent does not start anything again for a cut that TCP bridges.
TEST_P(KubernetesCut, ShortOneIsRiddenOut) {
  const auto sum = [](const std::string& what) {
    uint64_t all = 0;
    for (const json& kind : node().api("/v1/status").at("source_kinds")) all += kind.at(what).get<uint64_t>();
    return all;
  };
  const uint64_t failures = sum("failures");
  const uint64_t relists = sum("relists");
  Traffic traffic(cluster().pod("client-a").netns(), {Address::parse("10.96.0.10").value(), 80});
  const std::string name = "late-" + std::to_string(static_cast<int>(GetParam()));
  const HostPort late{Address::parse(fmt::format("10.96.0.{}", 30 + static_cast<int>(GetParam()))).value(),
                      80};
  const auto answers = [&] {
    return ask(cluster().pod("client-a").netns(), "tcp", late, {.timeout = kSilence}).has_value();
  };
  {
    const Cut cut(cluster(), network().client(), node().host(), GetParam());
    cluster().api().server().put_all(test::objects_of_manifest(
        echo_service(name, 30 + static_cast<int>(GetParam()), {cluster().backend("web-b")}).yaml()));
    ASSERT_TRUE(eventually([] { return cluster().node(1).api_applied(); }, milliseconds(10000)))
        << "the other node is not cut off";
    if (GetParam() != Lost::kSent) {
      EXPECT_FALSE(answers());
    }
  }
  ASSERT_TRUE(eventually([] { return node().api_applied(); }, milliseconds(20000)));
  EXPECT_TRUE(answers());
  traffic.finish();
  EXPECT_EQ(traffic.failed(), 0) << "of " << traffic.made();
  EXPECT_EQ(sum("failures"), failures);
  EXPECT_EQ(sum("relists"), relists);
}

// K8, with an agent's own times: three nodes, each cut off in another way.
class KubernetesCutMinute : public testing::Test {};

TEST_F(KubernetesCutMinute, AgentsNoticeWithin45Seconds) {
  ClusterOptions options = cluster_options({"node-a", "node-b", "node-c"});
  options.source = "kubernetes-shared";
  Cluster cluster(options);
  constexpr std::array kLost{Lost::kBoth, Lost::kSent, Lost::kReceived};
  std::vector<BackendManifest> backends;
  for (size_t i = 0; i < kLost.size(); ++i) {
    cluster.add_pod(i, fmt::format("client-{}", i));
    cluster.add_pod(i, fmt::format("web-{}", i));
    backends.push_back(cluster.backend(fmt::format("web-{}", i)));
  }
  cluster.apply("web", echo_service("web", 10, backends).yaml());
  test::ApiServer& server = cluster.api().server();
  Host& host = cluster.network().client();
  const HostPort web{Address::parse("10.96.0.10").value(), 80};
  const HostPort late{Address::parse("10.96.0.11").value(), 80};
  const auto kinds = [&](size_t i) { return cluster.node(i).api("/v1/status").at("source_kinds"); };
  const auto is_lost = [&](size_t i) {
    return std::ranges::none_of(kinds(i), [](const json& kind) { return kind.at("current").get<bool>(); });
  };
  std::vector<std::unique_ptr<Traffic>> traffic;
  for (size_t i = 0; i < kLost.size(); ++i)
    traffic.push_back(std::make_unique<Traffic>(cluster.pod(fmt::format("client-{}", i)).netns(), web));

  std::array<std::optional<double>, kLost.size()> noticed;
  const auto begin = steady_clock::now();
  {
    Cut cut(cluster, host);
    // What the server tells meanwhile, kind after kind, may still arrive where only what a node sends is
    // lost: it is no sign that the server hears that node.
    std::vector<std::function<void()>> tell = {
        [&] {
          server.put({{"kind", "Namespace"}, {"metadata", {{"name", "told"}}}});
        },
        [&] { server.put_all(test::objects_of_manifest(echo_service("late", 11, backends).yaml())); },
        [&] {
          server.put(test::objects_of_manifest(
                         PodManifest{.name = "told", .node = "elsewhere", .labels = {}, .ips = {}}.yaml())
                         .at(0));
        },
        [&] { server.put(server.get("Node", "", "node-c")); },
    };
    for (size_t i = 0; i < kLost.size(); ++i) cut.begin(cluster.node(i).host(), kLost.at(i));
    size_t told = 0;
    const auto passed = [&] { return std::chrono::duration<double>(steady_clock::now() - begin).count(); };
    const bool all = eventually(
        [&] {
          if (told < tell.size() && passed() > 8.0 * static_cast<double>(told + 1)) tell[told++]();
          for (size_t i = 0; i < kLost.size(); ++i)
            if (!noticed.at(i) && is_lost(i)) noticed.at(i) = passed();
          return std::ranges::all_of(noticed, [](const auto& each) { return each.has_value(); });
        },
        seconds(60));
    for (size_t i = 0; i < kLost.size(); ++i) {
      const auto after = noticed.at(i);
      const std::string who = lost_name({kLost.at(i), i});
      fmt::print("lost: {}: noticed after {}\n", who,
                 after ? fmt::format("{:.1f} s", *after) : "more than 60 s");
      EXPECT_LE(after.value_or(60), 45) << who << ": " << kinds(i).dump(1);
      const Node& node = cluster.node(i);
      const std::string metrics =
          http_get(node.netns(), {Address::from_ipv4({127, 0, 0, 1}), 10249}, "/metrics").body();
      EXPECT_NE(metrics.find("bpfnet_source_current{kind=\"services\"} 0"), std::string::npos) << metrics;
      EXPECT_NE(node.api("/v1/problems").dump().find("is not reached"), std::string::npos);
      const PodOptions pod_options{.labels = {}};
      Pod meanwhile(cluster.node(i), cluster.options(), fmt::format("meanwhile-{}", i), pod_options);
      EXPECT_EQ(meanwhile.ips().size(), 2U) << "pods come and go";
    }
    ASSERT_TRUE(all);
    server.put_all(test::objects_of_manifest(echo_service("later", 12, backends).yaml()));
  }
  const auto mended = steady_clock::now();
  const HostPort later{Address::parse("10.96.0.12").value(), 80};
  for (size_t i = 0; i < kLost.size(); ++i) {
    ASSERT_TRUE(eventually([&] { return cluster.node(i).api_applied(); }, seconds(90)))
        << cluster.node(i).log();
    fmt::print("in step again after {:.1f} s\n",
               std::chrono::duration<double>(steady_clock::now() - mended).count());
    for (const HostPort& to : {late, later})
      EXPECT_TRUE(ask(cluster.pod(fmt::format("client-{}", i)).netns(), "tcp", to)) << to.to_string();
    traffic.at(i)->finish();
    EXPECT_EQ(traffic.at(i)->failed(), 0) << "of " << traffic.at(i)->made();
    for (const json& kind : kinds(i)) EXPECT_EQ(kind.at("relists"), 0) << kind.dump();
  }
}

}  // namespace
}  // namespace bpfnet::e2e
