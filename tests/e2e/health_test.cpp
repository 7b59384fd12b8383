// What load balancers, probes and Prometheus ask a node: health checks of Services, /healthz, /metrics
// (S50-S59).
#include <fmt/format.h>
#include <netinet/in.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/e2e/e2e.h"

namespace bpfnet::e2e {
namespace {

constexpr uint16_t kHealthz = 10256;
constexpr uint16_t kMetrics = 10249;

using Reply = HttpReply;

Reply get(const Netns& from, const HostPort& to, const std::string& path) {
  return http_get(from, to, path);
}

/// A Service of type LoadBalancer with eTP Local; `conditions` are those of its one endpoint, on node-a.
std::string balanced(uint16_t check_port, const Address& backend,
                     const std::string& conditions = "{ready: true}", const std::string& name = "lb",
                     int number = 50) {
  return fmt::format(R"(apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: default}}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.{number}
  clusterIPs: [10.96.0.{number}]
  ipFamilies: [IPv4]
  externalTrafficPolicy: Local
  healthCheckNodePort: {check_port}
  ports:
  - {{name: "", protocol: TCP, port: 80, targetPort: 8080, nodePort: {node_port}}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}-v4
  namespace: default
  labels: {{kubernetes.io/service-name: {name}}}
addressType: IPv4
ports:
- {{name: "", protocol: TCP, port: 8080}}
endpoints:
- addresses: ["{backend}"]
  nodeName: node-a
  conditions: {conditions}
)",
                     fmt::arg("name", name), fmt::arg("number", number), fmt::arg("check_port", check_port),
                     fmt::arg("node_port", 30100 + number), fmt::arg("backend", backend.to_string()),
                     fmt::arg("conditions", conditions));
}

class HealthChecks : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    cluster_ = std::make_unique<Cluster>(cluster_options());
    cluster_->add_pod(0, "web-a");
    cluster_->add_pod(0, "client-a");
  }
  static void TearDownTestSuite() { cluster_.reset(); }
  void SetUp() override { ASSERT_TRUE(cluster_) << "the cluster could not be made"; }

  static Node& node_a() { return cluster_->node(0); }
  static Node& node_b() { return cluster_->node(1); }
  static Address web_ip() { return cluster_->pod("web-a").ip(Family::kIpv4); }
  static void apply(uint16_t port, const std::string& conditions = "{ready: true}") {
    cluster_->apply("lb", balanced(port, web_ip(), conditions));
  }
  /// From outside, as a load balancer asks.
  static Reply probe(Node& node, uint16_t port, Family family = Family::kIpv4,
                     const std::string& path = "/") {
    return get(cluster_->network().client().netns(), {node.ip(family), port}, path);
  }
  static Reply local(Node& node, uint16_t port, const std::string& path) {
    return get(node.netns(), {Address::from_ipv4({127, 0, 0, 1}), port}, path);
  }
  /// The value of one sample; -1: not there.
  static double sample(Node& node, const std::string& name) {
    std::istringstream text(local(node, kMetrics, "/metrics").body());
    for (std::string line; std::getline(text, line);)
      if (line.rfind(name + " ", 0) == 0) return std::stod(line.substr(name.size() + 1));
    return -1;
  }
  /// What GET /v1/problems tells of healthCheckNodePorts.
  static std::vector<nlohmann::json> check_problems(Node& node) {
    std::vector<nlohmann::json> found;
    const nlohmann::json all = node.api("/v1/problems");
    for (const auto& problem : all.at("problems"))
      if (problem.value("reason", "") == "FailedToStartServiceHealthcheck") found.push_back(problem);
    return found;
  }
  static std::unique_ptr<Cluster> cluster_;
};
std::unique_ptr<Cluster> HealthChecks::cluster_;

// S50-S52: both families, any path, weight and body.
TEST_F(HealthChecks, TheNodeWithTheEndpointIsHealthyTheOtherListensAndIsNot) {
  apply(30160);
  for (const Family family : {Family::kIpv4, Family::kIpv6}) {
    const Reply here = probe(node_a(), 30160, family, "/any");
    EXPECT_EQ(here.status, 200);
    EXPECT_NE(here.raw.find("\r\nX-Load-Balancing-Endpoint-Weight: 1\r\n"), std::string::npos) << here.raw;
    EXPECT_NE(here.raw.find("\r\nContent-Type: application/json\r\n"), std::string::npos) << here.raw;
    EXPECT_EQ(nlohmann::json::parse(here.body()),
              (nlohmann::json{{"service", {{"namespace", "default"}, {"name", "lb"}}},
                              {"localEndpoints", 1},
                              {"serviceProxyHealthy", true}}));
    const Reply there = probe(node_b(), 30160, family);
    EXPECT_EQ(there.status, 503);
    EXPECT_NE(there.raw.find("\r\nX-Load-Balancing-Endpoint-Weight: 0\r\n"), std::string::npos) << there.raw;
  }
}

// S50: the node port goes on serving it, new clients should not be sent here.
TEST_F(HealthChecks, ATerminatingEndpointServesButDoesNotCount) {
  apply(30160, "{ready: false, serving: true, terminating: true}");
  EXPECT_EQ(probe(node_a(), 30160).status, 503);
  EXPECT_TRUE(worked(ask(cluster_->network().client().netns(), "tcp", {node_a().ip(Family::kIpv4), 30150})));
  apply(30160);
  EXPECT_EQ(probe(node_a(), 30160).status, 200);
}

// S53
TEST_F(HealthChecks, APortThatChangesMovesAndARemovedServiceCloses) {
  apply(30160);
  ASSERT_EQ(probe(node_a(), 30160).status, 200);
  apply(30161);
  EXPECT_EQ(probe(node_a(), 30161).status, 200);
  EXPECT_EQ(probe(node_a(), 30160).error, ECONNREFUSED);
  cluster_->remove("lb");
  EXPECT_EQ(probe(node_a(), 30161).error, ECONNREFUSED);
  EXPECT_EQ(probe(node_b(), 30161).error, ECONNREFUSED);
}

// S53: the port that somebody else has is told where people look, concerns its Service alone, and is had as
// soon as it is free.
TEST_F(HealthChecks, APortInUseIsToldUntilItIsFree) {
  cluster_->apply("other", balanced(30165, web_ip(), "{ready: true}", "other", 51));
  auto holder = std::make_unique<EchoServer>(node_a().netns(), "holder", 30164);
  apply(30164);
  const auto problems = check_problems(node_a());
  ASSERT_EQ(problems.size(), 1U);
  EXPECT_EQ(problems[0].at("object"), "service default/lb");
  const std::string text = problems[0].at("text");
  EXPECT_NE(text.find("service default/lb: healthCheckNodePort 30164: listen on [::]:30164: EADDRINUSE"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("`ss -ltnp sport = :30164` names the process"), std::string::npos) << text;
  const Output status = node_a().ctl_text({"status"});
  EXPECT_NE(status.out.find(text), std::string::npos) << status.out << status.err;
  EXPECT_GE(sample(node_a(), "bpfnet_problems{from=\"health\"}"), 1);

  EXPECT_EQ(probe(node_a(), 30165).status, 200) << "of the other Service";
  EXPECT_EQ(probe(node_b(), 30164).status, 503) << "of the node whose port is free";
  EXPECT_TRUE(check_problems(node_b()).empty());

  holder.reset();
  EXPECT_TRUE(eventually([] { return check_problems(node_a()).empty(); }));
  EXPECT_EQ(probe(node_a(), 30164).status, 200);
  EXPECT_EQ(sample(node_a(), "bpfnet_problems{from=\"health\"}"), 0);
  EXPECT_EQ(node_a().ctl_text({"status"}).out.find("FailedToStartServiceHealthcheck"), std::string::npos);
  cluster_->remove("other");
}

// S53: the port of a Service that is no load balancer any more, or none with eTP Local, is closed.
TEST_F(HealthChecks, AServiceThatNeedsNoCheckAnyMoreClosesItsPort) {
  for (const auto& [from, to] : {std::pair{"type: LoadBalancer", "type: NodePort"},
                                 std::pair{"externalTrafficPolicy: Local", "externalTrafficPolicy: Cluster"},
                                 std::pair{"healthCheckNodePort: 30166", "healthCheckNodePort: 0"}}) {
    apply(30166);
    ASSERT_EQ(probe(node_a(), 30166).status, 200);
    std::string changed = balanced(30166, web_ip());
    ASSERT_NE(changed.find(from), std::string::npos);
    changed.replace(changed.find(from), std::string(from).size(), to);
    cluster_->apply("lb", changed);
    EXPECT_EQ(probe(node_a(), 30166).error, ECONNREFUSED) << to;
    EXPECT_EQ(probe(node_b(), 30166).error, ECONNREFUSED) << to;
  }
}

// S54, S55
TEST_F(HealthChecks, ANodeToBeDeletedIsNotEligibleButAlive) {
  const auto healthz = [] { return probe(node_a(), kHealthz, Family::kIpv6, "/healthz"); };
  Reply reply = healthz();
  EXPECT_EQ(reply.status, 200);
  auto body = nlohmann::json::parse(reply.body());
  EXPECT_EQ(body["nodeEligible"], true);
  EXPECT_EQ(body["healthy"], true);
  EXPECT_EQ(body["status"]["IPv4"]["healthy"], true);
  EXPECT_EQ(body["status"]["IPv6"]["healthy"], true);

  const std::string before = read_text(node_a().dir("manifests/00-cluster.yaml"));
  std::string tainted = before;
  tainted.insert(tainted.find("spec:\n", tainted.find("name: node-a")) + 6,
                 "  taints: [{key: ToBeDeletedByClusterAutoscaler, effect: NoSchedule}]\n");
  node_a().apply("00-cluster", tainted);
  reply = healthz();
  EXPECT_EQ(reply.status, 503);
  body = nlohmann::json::parse(reply.body());
  EXPECT_EQ(body["nodeEligible"], false);
  EXPECT_EQ(body["healthy"], true);
  EXPECT_EQ(probe(node_a(), kHealthz, Family::kIpv4, "/livez").status, 200);
  EXPECT_EQ(probe(node_b(), kHealthz, Family::kIpv4, "/healthz").status, 200);
  node_a().apply("00-cluster", before);
  EXPECT_EQ(healthz().status, 200);
}

// S56: and only on the node itself.
TEST_F(HealthChecks, MetricsAddressIsOfTheNodeAlone) {
  EXPECT_EQ(local(node_a(), kMetrics, "/healthz").body(), "ok");
  EXPECT_EQ(local(node_a(), kMetrics, "/proxyMode").body(), "bpf");
  const auto options = nlohmann::json::parse(local(node_a(), kMetrics, "/configz").body()).at("bpfnetd");
  EXPECT_EQ(options.at("node-name"), "node-a");
  EXPECT_EQ(options.at("metrics-address"), "127.0.0.1:10249");
  EXPECT_EQ(probe(node_a(), kMetrics).error, ECONNREFUSED);
}

// S57: every name of docs/metrics.md is there.
TEST_F(HealthChecks, MetricsHaveEveryDocumentedName) {
  const std::string metrics = local(node_a(), kMetrics, "/metrics").body();
  std::ifstream docs(BPFNET_DOCS_DIR "/metrics.md");
  int names = 0;
  for (std::string line; std::getline(docs, line);) {
    if (line.rfind("| `", 0) != 0) continue;
    const std::string name = line.substr(3, line.find('`', 3) - 3);
    EXPECT_NE(metrics.find("# TYPE " + name + " "), std::string::npos) << name;
    ++names;
  }
  EXPECT_GT(names, 30);
}

// S57, S59: counts move with traffic, changes and drops.
TEST_F(HealthChecks, MetricsCountWhatHappens) {
  const std::string drops = "bpfnet_drops_total{hook=\"from_pod\",reason=\"no-service\"}";
  const std::string syncs = "kubeproxy_sync_proxy_rules_duration_seconds_count";
  const std::string changes = "kubeproxy_sync_proxy_rules_service_changes_total";
  const double dropped = std::max(0.0, sample(node_a(), drops));
  const double synced = sample(node_a(), syncs);
  const double changed = sample(node_a(), changes);
  const HostPort nobody{Address::from_ipv4({10, 96, 0, 99}), 80};
  EXPECT_TRUE(
      failed_with(ask(cluster_->pod("client-a").netns(), "udp", nobody, {.timeout = kSilence}), ETIMEDOUT));
  EXPECT_GE(sample(node_a(), drops), dropped + 1);
  apply(30163);
  EXPECT_GT(sample(node_a(), syncs), synced);
  EXPECT_GT(sample(node_a(), changes), changed);
  EXPECT_EQ(sample(node_a(), "kubeproxy_sync_proxy_rules_service_changes_pending"), 0);
  EXPECT_GT(sample(node_a(), "bpfnet_sync_map_writes_total{map=\"frontends\",operation=\"put\"}"), 0);
  EXPECT_EQ(sample(node_a(), "bpfnet_endpoints{state=\"open\"}"), 2);
  EXPECT_EQ(sample(node_a(), "bpfnet_flow_table_capacity"), 65536);
  EXPECT_EQ(
      sample(node_b(), "kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy=\"external\"}"),
      1);
  EXPECT_EQ(
      sample(node_a(), "kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy=\"external\"}"),
      0);
}

}  // namespace
}  // namespace bpfnet::e2e
