// Policies flip at random under load: no connection ever gets a verdict that is neither that of the policies
// before a change nor that of those after it.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <random>
#include <set>
#include <thread>

#include "tests/e2e/e2e.h"

namespace bpfnet::e2e {
namespace {

std::string policy(const std::string& name, const std::string& spec) {
  return fmt::format(
      "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {}, namespace: default}}\n"
      "spec: {}\n",
      name, spec);
}

/// Which clients and protocols may reach web-a, and which clients may send at all.
struct Rules {
  std::set<std::string> ingress_from;
  std::set<std::string> protocols;
  bool ingress_isolated = false;
  std::set<std::string> egress_shut;

  [[nodiscard]] bool allows(const std::string& client, const std::string& protocol) const {
    if (egress_shut.contains(client)) return false;
    return !ingress_isolated || (ingress_from.contains(client) && protocols.contains(protocol));
  }
  [[nodiscard]] std::string yaml() const {
    std::string text =
        "---\n" + policy("egress", selecting("podSelector", egress_shut, "policyTypes: [Egress]"));
    if (!ingress_isolated) return text;
    std::string rules;
    for (const auto& protocol : protocols)
      rules += fmt::format("{{from: [{}], ports: [{{protocol: {}, port: 8080}}]}}, ",
                           selecting("podSelector", ingress_from, ""), protocol == "tcp" ? "TCP" : "UDP");
    return text + "---\n" +
           policy("ingress", fmt::format("{{podSelector: {{matchLabels: {{app: web-a}}}}, policyTypes: "
                                         "[Ingress], ingress: [{}]}}",
                                         rules));
  }

 private:
  static std::string selecting(const char* field, const std::set<std::string>& apps, const char* more) {
    return fmt::format("{{{}: {{matchExpressions: [{{key: app, operator: In, values: [nobody, {}]}}]}}, {}}}",
                       field, fmt::join(apps, ", "), more);
  }
};

/// The rules over time: what a probe meets is one of those that were in force while it was under way.
class History {
 public:
  void begin(const Rules& rules) {
    const std::lock_guard lock(mutex_);
    rules_.push_back(rules);
  }
  void applied() { applied_ = begun(); }
  /// The newest that are in force everywhere, and the newest of all.
  [[nodiscard]] size_t now() const { return applied_; }
  [[nodiscard]] size_t begun() const {
    const std::lock_guard lock(mutex_);
    return rules_.size() - 1;
  }
  [[nodiscard]] bool ever(size_t since, const std::string& client, const std::string& protocol,
                          bool allowed) const {
    const std::lock_guard lock(mutex_);
    return std::any_of(rules_.begin() + static_cast<std::ptrdiff_t>(since), rules_.end(),
                       [&](const Rules& each) { return each.allows(client, protocol) == allowed; });
  }

 private:
  mutable std::mutex mutex_;
  std::vector<Rules> rules_;
  std::atomic<size_t> applied_ = 0;
};

/// One client and protocol, over and over: new connections, and one that lives as long as it may.
class ChurnProber {
 public:
  ChurnProber(const History& history, std::string client, std::string protocol, const Netns& from,
              const HostPort& to)
      : history_(history), client_(std::move(client)), protocol_(std::move(protocol)) {
    thread_ = std::thread([this, &from, to] {
      for (; !stop_; ++rounds_) probe(from, to);
    });
  }
  ~ChurnProber() { finish(); }
  void finish() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }
  [[nodiscard]] uint64_t rounds() const { return rounds_; }
  std::vector<std::string> wrong;
  uint64_t passed = 0;
  uint64_t denied = 0;

 private:
  static constexpr milliseconds kPatience{1000};

  void judge(size_t since, const char* what, const Status& result) {
    ++(result ? passed : denied);
    // Who sends what is denied is told at once. A wait that runs out is a lost packet, unless a change came
    // between: then it is the other end that was told.
    const bool lost = !result && result.error().code == ETIMEDOUT && history_.begun() == since;
    if (lost || !history_.ever(since, client_, protocol_, static_cast<bool>(result)))
      wrong.push_back(fmt::format("{} {} {} under {}..{}: {}", client_, protocol_, what, since,
                                  history_.now(), result ? "passed" : result.error().message));
  }
  void probe(const Netns& from, const HostPort& to) {
    const size_t since = history_.now();
    const auto fresh = ask(from, protocol_, to, {.timeout = kPatience});
    judge(since, "new", fresh ? Status(ok()) : Status(pass(fresh)));
    if (protocol_ != "tcp") return;
    if (!stream_) {
      stream_since_ = history_.now();
      auto stream = TcpClient::connect(from, to, {.timeout = kPatience});
      if (stream) stream_.emplace(std::move(*stream));
      return;
    }
    const size_t before = history_.now();
    const Status echoed = stream_->echo("live");
    // Cut by any policy since it last worked.
    judge(echoed ? before : stream_since_, "live", echoed);
    stream_since_ = before;
    if (!echoed) stream_.reset();
  }

  const History& history_;
  std::string client_;
  std::string protocol_;
  std::optional<TcpClient> stream_;
  size_t stream_since_ = 0;
  std::atomic<bool> stop_ = false;
  std::atomic<uint64_t> rounds_ = 0;
  std::thread thread_;
};

/// Agents whose pods tell those whom they deny.
class GaplessChurn : public TwoNodes {
 public:
  static void SetUpTestSuite() {
    set_up(cluster_options({"node-a", "node-b"}, {"--policy-denied", "reject"}));
  }

 protected:
  void TearDown() override {
    if (has_cluster()) cluster().remove("policy");
    TwoNodes::TearDown();
  }
  static HostPort target(const std::string& name) { return {pod(name).ip(family()), Pod::kPort}; }
};

// P17-P19: random policies flip under load; each verdict is that of the old or the new ones while they
// change, and of the new ones alone when they have.
TEST_P(GaplessChurn, NoVerdictIsWrongWhilePoliciesChange) {
  std::mt19937 random(family() == Family::kIpv4 ? 4 : 6);
  const auto subset = [&](std::initializer_list<const char*> all) {
    std::set<std::string> some;
    for (const char* each : all)
      if (random() % 2 == 0) some.insert(each);
    return some;
  };
  History history;
  Rules rules;
  history.begin(rules);
  history.applied();
  std::vector<std::unique_ptr<ChurnProber>> probers;
  for (const char* client : {"client-a", "client-b"}) {
    for (const char* protocol : {"tcp", "udp"})
      probers.push_back(
          std::make_unique<ChurnProber>(history, client, protocol, pod(client).netns(), target("web-a")));
  }
  for (int i = 0; i < 120; ++i) {
    // One policy at a time: each node has the old or the new one.
    if (random() % 3 == 0) {
      rules.egress_shut = subset({"client-a", "client-b"});
    } else {
      rules.ingress_isolated = random() % 4 != 0;
      rules.ingress_from = subset({"client-a", "client-b"});
      rules.protocols = subset({"tcp", "udp"});
    }
    history.begin(rules);
    cluster().apply("policy", rules.yaml());
    history.applied();
    // Every other change comes upon probes of the one before it; the rest let each see what holds from now
    // on.
    if (i % 2 == 0) continue;
    for (const auto& prober : probers) {
      const uint64_t begun = prober->rounds();
      ASSERT_TRUE(eventually([&] { return prober->rounds() >= begun + 2; }));
    }
  }
  for (auto& prober : probers) {
    prober->finish();
    EXPECT_THAT(prober->wrong, testing::IsEmpty());
    EXPECT_GT(prober->passed, 20U);
    EXPECT_GT(prober->denied, 20U);
  }
}

INSTANTIATE_TEST_SUITE_P(E2e, GaplessChurn, testing::Values(Family::kIpv4, Family::kIpv6), family_name);

}  // namespace
}  // namespace bpfnet::e2e
