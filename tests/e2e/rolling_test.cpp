// A rolling replacement of all backends under 200 connections a second: none may fail. Pods are taken away as
// kubelets do: out of service while they still answer, and gone when they are drained.
#include <fmt/format.h>

#include <atomic>
#include <map>
#include <thread>

#include "tests/e2e/three_nodes.h"

namespace bpfnet::e2e {
namespace {

using std::chrono::steady_clock;

constexpr int kRollingNumber = 90;
constexpr int kBackends = 6;
/// Four clients, each with one connection every 20 ms: 200 a second.
constexpr milliseconds kInterval{20};

class Rolling : public ThreeNodes {};

/// Connects, asks and closes at a fixed rate on a thread.
class Stream {
 public:
  Stream(std::string name, const Netns& from, HostPort to) : name_(std::move(name)) {
    thread_ = std::thread([this, &from, to] {
      for (auto next = steady_clock::now(); !stop_; next += kInterval) {
        std::this_thread::sleep_until(next);
        const auto seen = ask(from, "tcp", to, {.timeout = kPatience});
        made_++;
        if (!seen)
          failures_.push_back(fmt::format("{} to {}: {}", name_, to.to_string(), seen.error().message));
      }
    });
  }
  ~Stream() { finish(); }
  Stream(const Stream&) = delete;
  void finish() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }
  [[nodiscard]] int made() const { return made_; }
  /// After finish().
  [[nodiscard]] const std::vector<std::string>& failures() const { return failures_; }

 private:
  std::string name_;
  std::vector<std::string> failures_;
  std::atomic<bool> stop_ = false;
  std::atomic<int> made_ = 0;
  std::thread thread_;
};

TEST_F(Rolling, ReplacementOfAllBackendsFailsNoConnection) {
  const auto name = [](int generation, int index) { return fmt::format("roll-{}-{}", generation, index); };
  std::map<std::string, BackendManifest> backends;
  const auto apply = [&] {
    std::vector<BackendManifest> list;
    for (const auto& [pod_name, each] : backends) list.push_back(each);
    cluster().apply("rolling", open_service("rolling", kRollingNumber, list).yaml());
  };
  const auto add = [&](int generation, int index) {
    cluster().add_pod(static_cast<size_t>(index) % cluster().nodes(), name(generation, index));
    backends[name(generation, index)] = backend(name(generation, index));
  };
  for (int i = 0; i < kBackends; i++) add(0, i);
  apply();

  const HostPort service{cluster_ip(kRollingNumber, Family::kIpv4), 80};
  Stream by_pod("pod", pod("client-a").netns(), service);
  Stream by_pod6("pod", pod("client-b").netns(), {cluster_ip(kRollingNumber, Family::kIpv6), 80});
  Stream by_host("host", node(2).netns(), service);
  Stream by_outside("outside", network().client().netns(),
                    {node(0).ip(Family::kIpv4), node_port(kRollingNumber)});

  const auto start = steady_clock::now();
  int replaced = 0;
  for (int generation = 1; steady_clock::now() - start < std::chrono::seconds(8); generation++) {
    for (int i = 0; i < kBackends; i++, replaced++) {
      add(generation, i);
      apply();
      const std::string old = name(generation - 1, i);
      backends[old].ready = false;
      backends[old].serving = true;
      backends[old].terminating = true;
      apply();
      // Drained: nothing open and nothing new for a while.
      uint64_t accepted = 0;
      ASSERT_TRUE(eventually([&] {
        const EchoServer& server = pod(old).server();
        const bool idle = server.open() == 0 && server.accepted() == accepted;
        accepted = server.accepted();
        pause(milliseconds(30));
        return idle;
      }));
      backends.erase(old);
      apply();
      cluster().remove_pod(old);
    }
  }
  int made = 0;
  for (auto* stream : {&by_pod, &by_pod6, &by_host, &by_outside}) {
    stream->finish();
    made += stream->made();
    for (const auto& failure : stream->failures()) ADD_FAILURE() << failure;
  }
  const std::chrono::duration<double> seconds = steady_clock::now() - start;
  fmt::print("{} backends replaced under {} connections in {:.1f} s\n", replaced, made, seconds.count());
  EXPECT_GE(replaced, kBackends);
  EXPECT_GT(made, 400);
  if (HasFailure()) show_state();
  cluster().remove("rolling");
}

}  // namespace
}  // namespace bpfnet::e2e
