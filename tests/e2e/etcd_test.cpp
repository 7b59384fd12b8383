// Two nodes on one etcd, without files and without Kubernetes; every object is written by bpfnetctl.
#include <fmt/format.h>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/e2e/e2e.h"
#include "tests/support/etcd/etcd_server.h"

namespace bpfnet::e2e {
namespace {

class Etcd : public TwoNodes {
 public:
  /// The world of TwoNodes, moved from its files into etcd by bpfnetctl; the agents take it over from there.
  static void SetUpTestSuite() {
    TwoNodes::SetUpTestSuite();
    Host& host = network().other_client();
    etcd_ = std::make_unique<test::EtcdServer>(test::EtcdServer::Options{
        .address = host.ip(Family::kIpv4).to_string(), .netns = host.netns().fd(), .port = 2379});
    const std::string applied = check_run(
        {.argv = node_a().ctl_argv({"apply", "-f", node_a().dir("manifests"), "--etcd", etcd_->url()}),
         .netns = node_a().netns().fd()});
    ASSERT_NE(applied.find("service/web created"), std::string::npos) << applied;
    for (Node* node : {&node_a(), &node_b()}) {
      node->stop_agent();
      restart(*node);
    }
  }
  static void TearDownTestSuite() {
    TwoNodes::TearDownTestSuite();
    etcd_.reset();
  }

 protected:
  static std::vector<std::string> flags() { return {"--source", "etcd", "--etcd", etcd_->url()}; }
  static void restart(Node& node) { node.start(flags()); }
  static std::string yaml(int number) {
    return echo_service(name(number), number, {cluster().backend("web-a")}).yaml();
  }
  static std::string name(int number) { return fmt::format("etcd-{}", number); }
  /// A file of this suite, which goes with the run.
  static std::string file(const std::string& text) {
    const std::string path = node_a().dir("object.yaml");
    write_atomically(path, text);
    return path;
  }
  static Output apply(const std::string& text, std::vector<std::string> more = {"--wait"}) {
    more.insert(more.begin(), {"apply", "-f", file(text)});
    return node_a().ctl_text(more);
  }
  static Output remove(const std::string& text) {
    return node_a().ctl_text({"delete", "-f", file(text), "--wait", "--ignore-not-found"});
  }
  static bool answers(const std::string& from, int number) {
    return ask(pod(from).netns(), "tcp", service(number), {.timeout = kSilence}).has_value();
  }
  void SetUp() override {
    TwoNodes::SetUp();
    ASSERT_TRUE(etcd_) << "etcd did not start";
  }

  static std::unique_ptr<test::EtcdServer> etcd_;
};
std::unique_ptr<test::EtcdServer> Etcd::etcd_;

TEST_P(Etcd, TheAgentsTookOverWhatTheFilesHadMade) {
  for (Node* node : {&node_a(), &node_b()}) {
    const auto status = node->api("/v1/status");
    EXPECT_EQ(status["source"], fmt::format("etcd {}, prefix /bpfnet/", etcd_->url()));
    EXPECT_EQ(status["source_state"], "current");
    EXPECT_EQ(status["problems"], 0) << node->api("/v1/problems").dump();
  }
  EXPECT_TRUE(answers("client-a", 11));
  EXPECT_TRUE(answers("client-a", 12));
  EXPECT_TRUE(answers("client-b", 11));
}

TEST_P(Etcd, WhatIsAppliedOnOneNodeIsInTheMapsOfBoth) {
  const std::string text = yaml(40);
  EXPECT_FALSE(answers("client-a", 40));
  const Output created = apply(text);
  ASSERT_EQ(created.status, 0) << created.err;
  EXPECT_NE(created.out.find("service/etcd-40 created"), std::string::npos) << created.out;
  EXPECT_TRUE(answers("client-a", 40)) << "--wait says that it is there";
  EXPECT_TRUE(eventually([] { return answers("client-b", 40); }));
  EXPECT_NE(apply(text).out.find("service/etcd-40 unchanged"), std::string::npos);
  EXPECT_NE(node_b().ctl_text({"get", "svc", "etcd-40"}).out.find("ClusterIP"), std::string::npos);
  const Output deleted = remove(text);
  EXPECT_EQ(deleted.status, 0) << deleted.err;
  EXPECT_FALSE(answers("client-a", 40));
  EXPECT_TRUE(eventually([] { return !answers("client-b", 40); }));
}

TEST_P(Etcd, AChangedSliceMovesTheService) {
  ASSERT_EQ(apply(yaml(41)).status, 0);
  const auto seen = ask(pod("client-a").netns(), "tcp", service(41));
  ASSERT_TRUE(worked(seen));
  EXPECT_EQ(seen->server, "web-a");
  ASSERT_EQ(apply(echo_service(name(41), 41, {cluster().backend("web-b")}).yaml()).status, 0);
  const auto moved = ask(pod("client-a").netns(), "tcp", service(41));
  ASSERT_TRUE(worked(moved));
  EXPECT_EQ(moved->server, "web-b");
  remove(yaml(41));
}

TEST_P(Etcd, APolicyIsEnforcedWhenItsApplyEnds) {
  const std::string policy =
      "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: closed}\nspec:\n"
      "  podSelector: {matchLabels: {app: web-a}}\n  policyTypes: [Ingress]\n";
  ASSERT_TRUE(answers("client-a", 11));
  ASSERT_EQ(apply(policy).status, 0);
  EXPECT_FALSE(answers("client-a", 11));
  EXPECT_TRUE(answers("client-a", 12)) << "of another pod";
  ASSERT_EQ(remove(policy).status, 0);
  EXPECT_TRUE(answers("client-a", 11));
}

TEST_P(Etcd, AMistakeIsRefusedAndNothingOfItIsWritten) {
  const Output refused = apply(
      yaml(42) + "---\napiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: [{port: x}]}\n");
  EXPECT_EQ(refused.status, 1);
  EXPECT_NE(refused.err.find("Service default/bad: spec.ports[0].port"), std::string::npos) << refused.err;
  EXPECT_NE(node_a().ctl_text({"get", "svc", name(42)}).err.find("not found"), std::string::npos);
}

TEST_P(Etcd, AContradictionIsToldByWait) {
  const Output told = apply(
      "apiVersion: v1\nkind: Service\nmetadata: {name: thief}\nspec: {clusterIP: 10.96.0.11, ports: [{port: "
      "80}]}\n");
  EXPECT_EQ(told.status, 1);
  EXPECT_NE(told.out.find("service/thief created"), std::string::npos) << told.out;
  EXPECT_NE(told.err.find("10.96.0.11 belongs to Service default/only-a"), std::string::npos) << told.err;
  EXPECT_TRUE(answers("client-a", 11));
  EXPECT_EQ(node_a().ctl_text({"delete", "svc", "thief", "--wait"}).status, 0);
}

TEST_P(Etcd, AMalformedValueNamesItsKeyAndTheServiceGoesOn) {
  ASSERT_EQ(apply(yaml(43)).status, 0);
  ASSERT_TRUE(answers("client-a", 43));
  const std::string key = "/bpfnet/Service/default/" + name(43);
  etcd_->put(key, "{");
  EXPECT_TRUE(eventually([&] { return node_a().api("/v1/problems").dump().find(key) != std::string::npos; }));
  EXPECT_TRUE(answers("client-a", 43));
  remove(yaml(43));
}

/// Connections made one after the other, and one that is never closed, while the test does something else.
class KeptTraffic {
 public:
  KeptTraffic(const Netns& from, HostPort to) : thread_([this, &from, to] { run(from, to); }) {}
  ~KeptTraffic() { finish(); }
  void finish() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }
  [[nodiscard]] int made() const { return made_; }
  [[nodiscard]] const std::string& failure() const { return failure_; }  ///< after finish()

 private:
  void run(const Netns& from, const HostPort& to) {
    auto kept = TcpClient::connect(from, to, {.timeout = milliseconds(10000)});
    if (!kept) return void(failure_ = "first: " + kept.error().message);
    while (!stop_) {
      const auto fresh = TcpClient::connect(from, to, {.timeout = milliseconds(10000)});
      if (!fresh) return void(failure_ = "new: " + fresh.error().message);
      if (const auto echoed = kept->echo("still here"); !echoed)
        return void(failure_ = "kept: " + echoed.error().message);
      ++made_;
    }
  }
  std::atomic<bool> stop_ = false;
  std::atomic<int> made_ = 0;
  std::string failure_;
  std::thread thread_;
};

TEST_P(Etcd, ItsEndAndReturnAreNotNoticedByTraffic) {
  KeptTraffic traffic(pod("client-a").netns(), service(12));
  etcd_->kill();
  const auto state = [](Node& node) { return node.api("/v1/status")["source_state"].get<std::string>(); };
  for (Node* node : {&node_a(), &node_b()})
    EXPECT_TRUE(eventually([&] { return state(*node) != "current"; }, milliseconds(20000)));
  // An agent that starts meanwhile deletes nothing, and cannot be ready.
  node_b().stop_agent();
  node_b().launch(flags());
  EXPECT_TRUE(eventually(
      [&] {
        try {
          return state(node_b()).find("waiting") != std::string::npos;
        } catch (const std::exception&) {
          return false;
        }
      },
      milliseconds(20000)));
  EXPECT_FALSE(node_b().api("/v1/status")["ready"]);
  const int before = traffic.made();
  EXPECT_TRUE(eventually([&] { return traffic.made() > before + 20; }, milliseconds(20000)));
  etcd_->start();
  for (Node* node : {&node_a(), &node_b()})
    EXPECT_TRUE(eventually([&] { return state(*node) == "current"; }, milliseconds(60000)));
  EXPECT_EQ(node_b().api("/v1/status")["map_writes"], 0) << "it found the maps as they were to be";
  const Output applied = apply(yaml(44));
  EXPECT_EQ(applied.status, 0) << applied.err;
  EXPECT_TRUE(answers("client-a", 44));
  EXPECT_TRUE(eventually([] { return answers("client-b", 44); }));
  remove(yaml(44));
  traffic.finish();
  EXPECT_EQ(traffic.failure(), "");
}

INSTANTIATE_TEST_SUITE_P(, Etcd, testing::Values(Family::kIpv4, Family::kIpv6), family_name);

/// `apply`, `get` and `delete` with an agent that reads files.
class ObjectFiles : public OneNode {
 protected:
  static std::string file(int number) {
    const std::string path = node().dir("object.yaml");
    write_atomically(path, echo_service("filed", number, {cluster_->backend("web-a")}).yaml());
    return path;
  }
};

TEST_F(ObjectFiles, AreInTheMapsWhenApplyEndsAndGoneWhenDeleteDoes) {
  for (int round = 0; round < 20; ++round) {
    const int number = 50 + round % 2;
    const Output applied = node().ctl_text({"apply", "-f", file(number), "--wait"});
    ASSERT_EQ(applied.status, 0) << applied.err;
    ASSERT_TRUE(answers(number)) << "round " << round;
  }
  EXPECT_TRUE(std::filesystem::exists(node().dir("manifests/service.default.filed.yaml")));
  EXPECT_EQ(node().ctl({"get", "svc", "filed"})["metadata"]["name"], "filed");
  const Output deleted = node().ctl_text({"delete", "-f", file(51), "--wait"});
  EXPECT_EQ(deleted.status, 0) << deleted.err;
  EXPECT_FALSE(answers(51));
}

TEST_F(ObjectFiles, ThatOtherFilesDefineAreChangedThere) {
  node().apply("mine", "# mine\n" + echo_service("mine", 52, {cluster_->backend("web-a")}).yaml());
  ASSERT_TRUE(answers(52));
  write_atomically(
      node().dir("object.yaml"),
      "apiVersion: v1\nkind: Service\nmetadata: {name: mine}\nspec:\n  clusterIPs: [10.96.0.53]\n"
      "  ports: [{name: tcp, port: 80, protocol: TCP}]\n");
  const Output applied = node().ctl_text({"apply", "-f", node().dir("object.yaml"), "--wait"});
  EXPECT_EQ(applied.status, 0) << applied.err;
  EXPECT_EQ(applied.out, "service/mine configured\n");
  EXPECT_FALSE(answers(52));
  node().remove_manifest("mine");
}

}  // namespace
}  // namespace bpfnet::e2e
