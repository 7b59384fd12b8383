// Services that change at random, under connections from everywhere of which each is judged: what the
// specification (S1-S47) says of the state that the deciding node is in, or, while a change is on its way, of
// the state before or after it. BPFNET_CHURN_SEED repeats the changes of a run.
#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>

#include "tests/e2e/churn_caller.h"
#include "tests/e2e/churn_changes.h"
#include "tests/e2e/three_nodes.h"

namespace bpfnet::e2e::churn {
namespace {

constexpr uint16_t kSecondPort = 9090;
constexpr auto kMarker = "churn-marker";

class Churn : public ThreeNodes {
 public:
  static void SetUpTestSuite() {
    ThreeNodes::SetUpTestSuite();
    // A port where nobody listens is refused each time, and not a few times a second.
    for (size_t i = 0; i < cluster().nodes(); i++) {
      node(i).netns().sysctl("net/ipv4/icmp_ratelimit", "0");
      node(i).netns().sysctl("net/ipv6/icmp/ratelimit", "0");
    }
  }

 protected:
  Churn() {
    for (size_t i = 0; i < cluster().nodes(); i++) add_node(i);
    // A pod of the host's network is an endpoint like another.
    const size_t last = cluster().nodes() - 1;
    add_server("host", node(last).netns(), {node(last).ip(Family::kIpv4), node(last).ip(Family::kIpv6)},
               Pod::kPort, last);
    add_server("host-9090", node(last).netns(), {node(last).ip(Family::kIpv4), node(last).ip(Family::kIpv6)},
               kSecondPort, last);
    backends_.push_back(
        {.ips = {node(last).ip(Family::kIpv4), node(last).ip(Family::kIpv6)}, .node = node(last).name()});
    add_outside("client", network().client(), 0);
    add_outside("other client", network().other_client(), 1);
    add_outside("far client", network().far(), 1);
    for (const char* range : {"10.96.0.0/12", "fd00:10:96::/112"})
      ground_.service_ranges.push_back(Cidr::parse(range).value());
  }

  /// Changes until `enough` says so, under all clients, and judges.
  void churn(uint64_t seed, const std::function<bool(size_t changes)>& enough);

  static uint64_t seed_or(uint64_t fallback) {
    const char* text = std::getenv("BPFNET_CHURN_SEED");
    return text == nullptr ? fallback : std::strtoull(text, nullptr, 10);
  }

 private:
  void add_node(size_t index) {
    const char letter = static_cast<char>('a' + index);
    const Node& here = node(index);
    ground_.nodes.push_back(here.name());
    ground_.node_ips.push_back({here.ip(Family::kIpv4), here.ip(Family::kIpv6)});
    clients_.push_back({here.name(), Role::kHost, index, &here.netns(), ground_.node_ips.back()});
    const std::string web = fmt::format("web-{}", letter);
    for (const auto& name : {web, fmt::format("client-{}", letter)})
      clients_.push_back({name, Role::kPod, index, &pod(name).netns(), pod(name).ips()});
    for (const auto& ip : pod(web).ips()) ground_.servers.push_back({web, {ip, Pod::kPort}, index});
    add_server(web + "-9090", pod(web).netns(), pod(web).ips(), kSecondPort, index);
    backends_.push_back(backend(web));
  }
  void add_outside(const std::string& name, const Host& host, size_t by) {
    clients_.push_back(
        {name, Role::kOutside, by, &host.netns(), {host.ip(Family::kIpv4), host.ip(Family::kIpv6)}});
  }
  void add_server(const std::string& name, const Netns& netns, const std::vector<Address>& ips, uint16_t port,
                  size_t at) {
    servers_.push_back(std::make_unique<EchoServer>(netns, name, port));
    for (const auto& ip : ips) ground_.servers.push_back({name, {ip, port}, at});
  }
  void write(const Step& step, History& history);
  void write_file(const std::string& file, const std::string& text);
  void await_visible(History& history);

  Ground ground_;
  std::vector<Client> clients_;
  std::vector<BackendManifest> backends_;
  std::vector<std::unique_ptr<EchoServer>> servers_;
  std::map<std::string, std::string> files_;  ///< as they stand in every node's directory
  std::set<std::string> unseen_;              ///< files whose last change is not known to be visible
  int marker_ = 0;
};

void Churn::write_file(const std::string& file, const std::string& text) {
  for (size_t i = 0; i < cluster().nodes(); i++) {
    if (text.empty()) {
      std::filesystem::remove(node(i).dir("manifests/" + file + ".yaml"));
    } else {
      node(i).write_manifest(file, text);
    }
  }
  files_[file] = text;
  unseen_.insert(file);
}

void Churn::write(const Step& step, History& history) {
  const std::map<std::string, std::string> wanted = {
      {"churn-" + step.subject, service_text(step.world, step.subject)},
      {"churn-" + step.subject + "-slices", slices_text(step.world, step.subject)}};
  // A file that changes twice on its way could be read in its second state before others are in their first.
  for (const auto& [file, text] : wanted)
    if (files_[file] != text && unseen_.contains(file)) await_visible(history);
  history.append(step.world, step.what, step.subject);
  for (const auto& [file, text] : wanted)
    if (files_[file] != text) write_file(file, text);
}

/// An agent that has applied a change which was made after others has applied those.
void Churn::await_visible(History& history) {
  const size_t number = history.latest()->number;
  const std::string marker = NamespaceManifest{kMarker, {{"change", std::to_string(marker_++)}}}.yaml();
  const std::function<void(size_t)> await = [&](size_t index) {
    if (index == cluster().nodes()) {
      for (size_t i = 0; i < index; i++) node(i).write_manifest(kMarker, marker);
      return;
    }
    node(index).await_applied([&] { await(index + 1); });
    history.visible(index, number);
  };
  await(0);
  unseen_.clear();
}

void Churn::churn(uint64_t seed, const std::function<bool(size_t changes)>& enough) {
  fmt::print("churn: BPFNET_CHURN_SEED={}\n", seed);
  std::mt19937_64 random(seed);
  History history(cluster().nodes());
  Changes changes(random(), ground_.nodes, backends_, clients_);
  Tally tally;
  size_t made = 0;
  {
    std::vector<std::unique_ptr<Caller>> callers;
    for (const auto& client : clients_)
      callers.push_back(std::make_unique<Caller>(client, ground_, history, tally, random()));
    for (; !enough(made) && !tally.failed(); made++) {
      for (const Step& step : changes.next(history.latest()->world)) write(step, history);
      // Some follow each other faster than they are seen.
      if (random() % 4 == 0) continue;
      await_visible(history);
      pause(milliseconds(random() % 150));
    }
    await_visible(history);
    for (auto& caller : callers) caller->stop();
  }
  fmt::print(
      "churn: {} changes ({} states); {} connections answered ({} bound by affinity), {} refused, {} "
      "unheard; {} "
      "echoes by kept TCP connections; {} datagrams by kept UDP flows, of which {} moved\n",
      made, history.latest()->number, tally.answered.load(), tally.bound.load(), tally.refused.load(),
      tally.silent.load(), tally.echoes.load(), tally.datagrams.load(), tally.moved.load());
  for (const auto& failure : tally.failures())
    ADD_FAILURE() << "BPFNET_CHURN_SEED=" << seed << "\n" << failure;
  for (const auto* count : {&tally.answered, &tally.bound, &tally.refused, &tally.silent, &tally.echoes,
                            &tally.datagrams, &tally.moved}) {
    EXPECT_TRUE(tally.failed() || count->load() > 0) << "not everything was tried";
  }
  if (HasFailure()) show_state();
  for (const auto& [file, text] : files_)
    if (!text.empty()) cluster().remove(file);
}

TEST_F(Churn, EveryConnectionIsRight) {
  constexpr size_t kChanges = 60;
  churn(seed_or(1), [](size_t changes) { return changes == kChanges; });
}

class ChurnMinute : public Churn {};

TEST_F(ChurnMinute, EveryConnectionIsRight) {
  const auto end = Clock::now() + std::chrono::minutes(1);
  churn(seed_or(std::random_device{}()), [&](size_t) { return Clock::now() >= end; });
}

}  // namespace
}  // namespace bpfnet::e2e::churn
