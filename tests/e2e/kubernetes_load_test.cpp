// Services that change all the time under connections to them: how long each change takes to the maps, and
// that every connection goes to a backend of then. Backends are told apart by addresses, which none has
// twice.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <climits>
#include <deque>
#include <nlohmann/json.hpp>

#include "maps/convert.h"
#include "maps/maps.h"
#include "tests/e2e/e2e.h"
#include "tests/e2e/judged_caller.h"

namespace bpfnet::e2e {
namespace {

using nlohmann::json;
using std::chrono::steady_clock;

/// `number` within `group`: 250 of them are one prefix of 24 bits.
Address backend_address(int group, int number) {
  return Address::parse(fmt::format("10.{}.{}.{}", 200 + number / 250, group, 1 + number % 250)).value();
}

json slice(const std::string& service, int index, const std::vector<Address>& backends) {
  json endpoints = json::array();
  for (const Address& each : backends) endpoints.push_back({{"addresses", json::array({each.to_string()})}});
  json ports = json::array();
  for (const auto* protocol : {"TCP", "UDP"})
    ports.push_back({{"name", protocol == std::string("TCP") ? "tcp" : "udp"},
                     {"port", Pod::kPort},
                     {"protocol", protocol}});
  return {{"kind", "EndpointSlice"},
          {"apiVersion", "discovery.k8s.io/v1"},
          {"metadata",
           {{"name", fmt::format("{}-{}", service, index)},
            {"namespace", "default"},
            {"labels", {{"kubernetes.io/service-name", service}}}}},
          {"addressType", "IPv4"},
          {"ports", ports},
          {"endpoints", endpoints}};
}

/// node-a with a pod, `client`, and many backends. The pod and the node's own processes ask.
class KubernetesLoad : public testing::Test {
 public:
  static void SetUpTestSuite() {
    ClusterOptions options = cluster_options({"node-a"});
    options.source = "kubernetes-shared";
    cluster_ = std::make_unique<Cluster>(options);
    backends_ = std::make_unique<ManyBackends>(cluster_->network(), netns_name("backends"));
    backends_->route_from(node());
    cluster_->add_pod(0, "client");
  }
  static void TearDownTestSuite() {
    backends_.reset();
    cluster_.reset();
  }

 protected:
  void SetUp() override { ASSERT_TRUE(backends_) << "the cluster could not be made"; }
  void TearDown() override {
    if (HasFailure()) fmt::print("---- {}:\n{}\n", node().name(), node().log());
  }
  static Node& node() { return cluster_->node(0); }
  static const Netns& client() { return cluster_->pod("client").netns(); }
  static test::ApiServer& server() { return cluster_->api().server(); }
  static frontend_key key(const Address& address, uint8_t protocol) {
    return maps::make_frontend_key(address, 80, protocol);
  }

  /// 100 changes a second. Gives how long each took, in ms, from the shortest.
  static std::vector<double> change(std::chrono::seconds length);

  /// TCP and UDP from the pod and from the node.
  class Callers {
   public:
    Callers(Lifetimes& backends, milliseconds interval, const std::function<HostPort(size_t n)>& where) {
      for (const Netns* from : {&client(), &node().netns()})
        for (const auto* protocol : {"tcp", "udp"})
          all_.push_back(std::make_unique<JudgedCaller>(
              *from, JudgedCaller::Options{.protocol = protocol, .interval = interval, .first_port = 33000},
              backends, where));
    }
    /// How many asked; whatever was wrong is a failure of the test.
    size_t finish() {
      size_t made = 0;
      for (auto& each : all_) {
        each->finish();
        made += each->made();
        for (const auto& failure : each->failures()) ADD_FAILURE() << failure;
      }
      return made;
    }

   private:
    std::vector<std::unique_ptr<JudgedCaller>> all_;
  };

 private:
  static std::unique_ptr<Cluster> cluster_;
  static std::unique_ptr<ManyBackends> backends_;
};
std::unique_ptr<Cluster> KubernetesLoad::cluster_;
std::unique_ptr<ManyBackends> KubernetesLoad::backends_;

std::vector<double> KubernetesLoad::change(std::chrono::seconds length) {
  constexpr int kServices = 50;
  constexpr milliseconds kInterval{10};
  /// The n-th state of a service has the n-th backend, alone.
  struct Change {
    int service = 0;
    int number = 0;
    steady_clock::time_point when;
  };
  const auto name = [](int service) { return fmt::format("load-{}", service); };
  const auto address = [](int service) {
    return Address::parse(fmt::format("10.96.1.{}", service + 1)).value();
  };
  Lifetimes lives;
  std::vector<json> objects;
  for (int i = 0; i < kServices; ++i) {
    ServiceManifest service = echo_service(name(i), 100, {});
    service.cluster_ips = {address(i)};
    for (json& each : test::objects_of_manifest(service.service_yaml())) objects.push_back(std::move(each));
    objects.push_back(slice(name(i), 0, {backend_address(i, 0)}));
    lives.begin(backend_address(i, 0));
  }
  server().put_all(objects);
  if (!eventually([&] { return node().api_applied(); }, milliseconds(10000))) {
    ADD_FAILURE() << "the services never came";
    return {};
  }
  auto maps = maps::Maps::open_pinned(node().bpffs()).value();
  // The state that both protocols have come to.
  const auto number_now = [&](int service) {
    int number = INT_MAX;
    for (const uint8_t protocol : {IPPROTO_TCP, IPPROTO_UDP}) {
      const auto value = maps.frontends.get(key(address(service), protocol)).value();
      if (!value || value->count != 1) return -1;
      const auto ip = maps::from_abi(maps.backend_slots.get(value->first).value().addr).ipv4();
      const auto after = maps.frontends.get(key(address(service), protocol)).value();
      if (!after || after->first != value->first) return -1;  // the slot may be another's by now
      number = std::min(number, (ip[1] - 200) * 250 + ip[3] - 1);
    }
    return number;
  };

  std::atomic<int> newest = 0;
  Callers callers(lives, milliseconds(5), [&](size_t n) {
    // The one that changed last, and each of the others in its turn.
    const int service = n % 2 == 0 ? newest.load() : static_cast<int>(n / 2 % kServices);
    return HostPort{address(service), 80};
  });
  std::vector<double> took;
  std::deque<Change> under_way;
  const auto begin = steady_clock::now();
  auto next = begin;
  int made = 0;
  while (steady_clock::now() - begin < length || !under_way.empty()) {
    const auto now = steady_clock::now();
    if (now >= next && now - begin < length) {
      const int service = made % kServices;
      const int number = 1 + made / kServices;
      lives.begin(backend_address(service, number));
      const auto when = steady_clock::now();
      server().put(slice(name(service), 0, {backend_address(service, number)}));
      newest = service;
      under_way.push_back({service, number, when});
      ++made;
      next += kInterval;
    }
    std::erase_if(under_way, [&](const Change& change) {
      if (number_now(change.service) < change.number) return false;
      lives.end(backend_address(change.service, change.number - 1));
      took.push_back(std::chrono::duration<double, std::milli>(steady_clock::now() - change.when).count());
      return true;
    });
    if (!under_way.empty() && steady_clock::now() - under_way.front().when > std::chrono::seconds(10)) {
      ADD_FAILURE() << "service " << under_way.front().service << " never changed";
      break;
    }
    pause(milliseconds(1));
  }
  const size_t connections = callers.finish();
  std::ranges::sort(took);
  EXPECT_EQ(took.size(), static_cast<size_t>(made));
  if (took.empty()) return took;
  fmt::print(
      "{} changes in {} s: p50 {:.1f} ms, p99 {:.1f} ms, longest {:.1f} ms; {} connections came to {} "
      "backends\n",
      made, length.count(), took.at(took.size() / 2), took.at(took.size() * 99 / 100), took.back(),
      connections, lives.answered());
  EXPECT_GT(lives.answered(), static_cast<size_t>(made) / 10) << "few changes were looked at";
  for (int i = 0; i < kServices; ++i) {
    server().remove("EndpointSlice", "default", name(i) + "-0");
    server().remove("Service", "default", name(i));
  }
  return took;
}

TEST_F(KubernetesLoad, EveryConnectionGoesToABackendOfThen) {
  change(std::chrono::seconds(5));
}

class KubernetesLoadMinute : public KubernetesLoad {};

TEST_F(KubernetesLoadMinute, HundredChangesASecond) {
  const std::vector<double> took = change(std::chrono::seconds(60));
  ASSERT_GT(took.size(), 80U * 60U);
  EXPECT_LT(took.at(took.size() * 99 / 100), 100);
}

// A service of 5,000 endpoints, every slice of which is replaced, and replaced again, under connections to
// it.
TEST_F(KubernetesLoad, FiveThousandEndpointsAreRolled) {
  constexpr int kSlices = 50;
  constexpr int kEach = 100;
  constexpr int kGenerations = 4;
  constexpr int kKept = 20;
  const auto backends = [&](int generation, int index) {
    std::vector<Address> all;
    for (int i = 0; i < kEach; ++i) all.push_back(backend_address(index, generation * 250 + i));
    return all;
  };
  Lifetimes lives;
  const auto begin_slice = [&](int generation, int index) {
    for (const Address& each : backends(generation, index)) lives.begin(each);
    return slice("big", index, backends(generation, index));
  };
  auto objects = test::objects_of_manifest(echo_service("big", 13, {}).service_yaml());
  for (int i = 0; i < kSlices; ++i) objects.push_back(begin_slice(0, i));
  server().put_all(objects);
  ASSERT_TRUE(eventually([&] { return node().api_applied(); }, milliseconds(10000)));
  auto maps = maps::Maps::open_pinned(node().bpffs());
  ASSERT_TRUE(worked(maps));
  const HostPort big{Address::parse("10.96.0.13").value(), 80};

  /// How many backends of each generation a slice has in the maps.
  using Counts = std::array<std::array<int, kSlices>, kGenerations>;
  // Adds what one of the frontends shows; false: it was replaced meanwhile.
  const auto add_counts = [&](uint8_t protocol, Counts& counts) {
    const auto before = maps->frontends.get(key(big.address, protocol)).value();
    for (uint32_t i = 0; before && i < before->count; ++i) {
      const auto ip = maps::from_abi(maps->backend_slots.get(before->first + i).value().addr).ipv4();
      ++counts.at(ip[1] - 200U).at(ip[2]);
    }
    const auto after = maps->frontends.get(key(big.address, protocol)).value();
    return before && after && before->first == after->first && before->count == after->count;
  };
  const auto look = [&]() -> std::optional<Counts> {
    Counts counts{};
    for (const uint8_t protocol : {IPPROTO_TCP, IPPROTO_UDP})
      if (!add_counts(protocol, counts)) return {};
    return counts;
  };
  const auto complete = [](const Counts& counts, int generation) {
    return std::ranges::all_of(counts.at(static_cast<size_t>(generation)),
                               [](int count) { return count == 2 * kEach; });
  };
  ASSERT_TRUE(complete(look().value(), 0));

  std::vector<TcpClient> connections;
  std::vector<UdpClient> flows;
  for (int i = 0; i < kKept; ++i) {
    auto connection = TcpClient::connect(client(), big);
    auto flow = UdpClient::open(client(), big, {.source_port = static_cast<uint16_t>(20000 + i)});
    ASSERT_TRUE(worked(connection));
    ASSERT_TRUE(worked(flow));
    ASSERT_TRUE(worked(flow->request("hello")));
    connections.push_back(std::move(*connection));
    flows.push_back(std::move(*flow));
  }
  Callers callers(lives, milliseconds(2), [&](size_t) { return big; });
  const auto begin = steady_clock::now();
  for (int generation = 1; generation < kGenerations; ++generation) {
    for (int i = 0; i < kSlices; ++i) server().put(begin_slice(generation, i));
    std::array<bool, kSlices> ended{};
    ASSERT_TRUE(eventually(
        [&] {
          const auto counts = look();
          if (!counts) return false;
          for (size_t i = 0; i < kSlices; ++i) {
            if (counts->at(static_cast<size_t>(generation) - 1).at(i) != 0 ||
                std::exchange(ended.at(i), true))
              continue;
            for (const Address& each : backends(generation - 1, static_cast<int>(i))) lives.end(each);
          }
          return complete(*counts, generation);
        },
        milliseconds(30000)));
  }
  const std::chrono::duration<double> took = steady_clock::now() - begin;
  const size_t made = callers.finish();
  fmt::print("5,000 endpoints rolled {} times in {:.2f} s; {} connections came to {} backends\n",
             kGenerations - 1, took.count(), made, lives.answered());
  EXPECT_GT(made, 100U);
  for (int i = 0; i < kKept; ++i) {
    EXPECT_TRUE(worked(connections.at(static_cast<size_t>(i)).echo("still there?"))) << i;  // S33
    const auto from = Lifetimes::Clock::now();
    const auto seen = flows.at(static_cast<size_t>(i)).request("and now?");  // S46
    ASSERT_TRUE(worked(seen)) << i;
    EXPECT_EQ(lives.wrong(seen->server, from, Lifetimes::Clock::now()), "") << i;
  }
  for (int i = 0; i < kSlices; ++i) server().remove("EndpointSlice", "default", fmt::format("big-{}", i));
  server().remove("Service", "default", "big");
}

}  // namespace
}  // namespace bpfnet::e2e
