// Policy through the life of pods: addresses that are used again, finished and terminating pods. P-numbers
// are those of the policy specification.
#include <fmt/format.h>

#include "tests/e2e/policy_world.h"

namespace bpfnet::e2e {
namespace {

class PolicyLifecycle : public TwoNodes {
 protected:
  void SetUp() override {
    TwoNodes::SetUp();
    cluster().apply(
        "policy", network_policy("default", "test",
                                 "podSelector: {matchLabels: {app: web-a}}, ingress: [{from: [{podSelector: "
                                 "{matchLabels: {app: friend}}}]}]"));
  }
  void TearDown() override {
    TwoNodes::TearDown();
    for (const auto& name : added_) cluster().remove_pod(name);
    cluster().remove("policy");
  }

  /// A pod on the other node than web-a; `like`: with the addresses that this one had.
  Pod& add(const std::string& name, const std::string& app, const std::vector<Address>& like = {}) {
    PodOptions options{.labels = {{"app", app}}};
    std::string ips;
    for (const auto& ip : like) ips += fmt::format("{}\"{}\"", ips.empty() ? "" : ",", ip.to_string());
    if (!like.empty()) options.runtime_config = fmt::format(R"({{"ips":[{}]}})", ips);
    Pod& pod = cluster().add_pod(1, name, options);
    added_.push_back(name);
    // On a busy machine the kernel takes its time to put a new link to use.
    EXPECT_TRUE(eventually([&] {
      return ping(pod.netns(), pod.node().ip(family()), {.timeout = milliseconds(50)}).has_value();
    }));
    return pod;
  }
  /// The pod is gone, with all that is said of it.
  void remove(const std::string& name) {
    cluster().remove_pod(name);
    std::erase(added_, name);
  }
  static PodManifest object(const Pod& pod) {
    return {.name = pod.name(), .node = pod.node().name(), .labels = pod.options().labels, .ips = pod.ips()};
  }
  static void write(const PodManifest& object) { cluster().apply("pod-" + object.name, object.yaml()); }

  /// Always from the same source port: a datagram of the address's next owner finds the flow of the last one.
  static bool reaches_web(const std::string& from) {
    const HostPort web{pod("web-a").ip(family()), Pod::kPort};
    const Netns& netns = pod(from).netns();
    const bool datagram = ask(netns, "udp", web, {.source_port = 5555, .timeout = kSilence}).has_value();
    const bool connection = ask(netns, "tcp", web, {.timeout = kSilence}).has_value();
    EXPECT_EQ(datagram, connection);
    return connection;
  }
  static bool reached(const std::string& name) {
    return ask(pod("client-a").netns(), "tcp", {pod(name).ip(family()), Pod::kPort}, {.timeout = kSilence})
        .has_value();
  }

 private:
  std::vector<std::string> added_;
};

// P21, C12
TEST_P(PolicyLifecycle, AnAddressBelongsToItsNextOwnerAtOnce) {
  const auto ips = add("friend", "friend").ips();
  ASSERT_TRUE(reaches_web("friend"));
  remove("friend");
  add("stranger", "stranger", ips);
  ASSERT_EQ(pod("stranger").ips(), ips);
  EXPECT_FALSE(reaches_web("stranger"));
  remove("stranger");
  add("friend", "friend", ips);
  EXPECT_TRUE(reaches_web("friend"));
}

// P21, P22: the object of the last owner is still there, as it is while the API server waits for its end.
TEST_P(PolicyLifecycle, ATerminatingPodLosesItsAddressToTheNextOwner) {
  Pod& before = add("a-friend", "friend");
  const auto ips = before.ips();
  PodManifest terminating = object(before);
  terminating.terminating = true;
  write(terminating);
  before.remove();
  add("b-stranger", "stranger", ips);
  EXPECT_FALSE(reaches_web("b-stranger"));

  Pod& stranger = pod("b-stranger");
  PodManifest also_terminating = object(stranger);
  also_terminating.terminating = true;
  write(also_terminating);
  stranger.remove();
  add("c-friend", "friend", ips);
  EXPECT_TRUE(reaches_web("c-friend"));
}

// P21: as a peer
TEST_P(PolicyLifecycle, AFinishedPodIsNoPeerAndItsAddressMayBeAnothers) {
  for (const auto* phase : {"Succeeded", "Failed"}) {
    Pod& job = add("a-job", "friend");
    const auto ips = job.ips();
    ASSERT_TRUE(reaches_web("a-job"));
    PodManifest finished = object(job);
    finished.phase = phase;
    write(finished);
    EXPECT_FALSE(reaches_web("a-job")) << phase;
    job.remove();
    add("b-stranger", "stranger", ips);
    EXPECT_FALSE(reaches_web("b-stranger")) << phase;
    remove("b-stranger");
    add("b-friend", "friend", ips);
    EXPECT_TRUE(reaches_web("b-friend")) << phase;
    remove("b-friend");
    remove("a-job");
  }
}

// P21: as a subject
TEST_P(PolicyLifecycle, AFinishedPodIsNotIsolatedNorIsWhoHasItsAddress) {
  Pod& job = add("a-job", "web-a");
  const auto ips = job.ips();
  ASSERT_FALSE(reached("a-job"));
  PodManifest finished = object(job);
  finished.phase = "Succeeded";
  write(finished);
  EXPECT_TRUE(reached("a-job"));
  job.remove();
  add("b-other", "other", ips);
  EXPECT_TRUE(reached("b-other"));
  remove("b-other");
  add("b-web", "web-a", ips);
  EXPECT_FALSE(reached("b-web"));
}

// P22
TEST_P(PolicyLifecycle, ATerminatingPodKeepsItsNetworkAndItsPolicy) {
  Pod& friend_pod = add("friend", "friend");
  add("stranger", "stranger");
  auto client = TcpClient::connect(friend_pod.netns(), {pod("web-a").ip(family()), Pod::kPort});
  ASSERT_TRUE(worked(client));
  for (const auto* name : {"friend", "web-a"}) {
    PodManifest terminating = object(pod(name));
    terminating.terminating = true;
    write(terminating);
    EXPECT_TRUE(worked(client->echo("still here"))) << name;
    EXPECT_TRUE(reaches_web("friend")) << name;
    EXPECT_FALSE(reaches_web("stranger")) << name;
  }
  EXPECT_EQ(client->retransmits(), 0U);
  write(object(pod("web-a")));
}

INSTANTIATE_TEST_SUITE_P(E2e, PolicyLifecycle, testing::Values(Family::kIpv4, Family::kIpv6), family_name);

}  // namespace
}  // namespace bpfnet::e2e
