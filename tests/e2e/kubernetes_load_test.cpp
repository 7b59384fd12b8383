// 100 changes of objects a second for a minute: how long each takes to the maps, and that every connection
// goes to a backend of then.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <deque>
#include <nlohmann/json.hpp>
#include <thread>

#include "maps/convert.h"
#include "maps/maps.h"
#include "tests/e2e/e2e.h"

namespace bpfnet::e2e {
namespace {

using nlohmann::json;
using std::chrono::steady_clock;

constexpr int kServices = 50;
constexpr milliseconds kInterval{10};

class KubernetesLoad : public testing::Test {
 protected:
  static std::string ip(int service) { return fmt::format("10.96.1.{}", service + 1); }
  static json slice(int service, const Address& backend) {
    return {{"kind", "EndpointSlice"},
            {"apiVersion", "discovery.k8s.io/v1"},
            {"metadata",
             {{"name", fmt::format("load-{}", service)},
              {"namespace", "default"},
              {"labels", {{"kubernetes.io/service-name", fmt::format("load-{}", service)}}}}},
            {"addressType", "IPv4"},
            {"ports", json::array({{{"name", "tcp"}, {"port", Pod::kPort}, {"protocol", "TCP"}}})},
            {"endpoints", json::array({{{"addresses", json::array({backend.to_string()})}}})}};
  }
  static frontend_key key(int service) {
    frontend_key result{};
    result.addr = maps::to_abi(Address::parse(ip(service)).value());
    result.port = htons(80);
    result.proto = IPPROTO_TCP;
    return result;
  }
};

struct Change {
  int service = 0;
  Address backend;
  steady_clock::time_point when;
};

TEST_F(KubernetesLoad, HundredChangesASecond) {
  const char* asked = std::getenv("BPFNET_E2E_LOAD_SECONDS");
  const std::chrono::seconds length(asked ? std::atoi(asked) : 60);
  ClusterOptions options = cluster_options({"node-a"});
  options.source = "kubernetes-shared";
  Cluster cluster(options);
  const Address one = cluster.add_pod(0, "one").ip(Family::kIpv4);
  const Address two = cluster.add_pod(0, "two").ip(Family::kIpv4);
  cluster.add_pod(0, "client");
  test::ApiServer& server = cluster.api().server();
  std::vector<json> objects;
  for (int i = 0; i < kServices; ++i) {
    ServiceManifest service = echo_service(fmt::format("load-{}", i), 100, {});
    service.cluster_ips = {Address::parse(ip(i)).value()};
    for (json& each : test::objects_of_manifest(service.service_yaml())) objects.push_back(std::move(each));
    objects.push_back(slice(i, one));
  }
  server.put_all(objects);
  ASSERT_TRUE(eventually([&] { return cluster.node(0).api_applied(); }, milliseconds(10000)));
  auto maps = maps::Maps::open_pinned(cluster.node(0).bpffs());
  ASSERT_TRUE(worked(maps));
  const auto backend_now = [&](int service) -> std::optional<Address> {
    const auto value = maps->frontends.get(key(service)).value();
    if (!value || value->count != 1) return {};
    return maps::from_abi(maps->backend_slots.get(value->first).value().addr);
  };

  // Services 0 and 1 never change: whoever asks them must be answered by `one`.
  std::atomic<bool> stop = false;
  std::atomic<int> asked_times = 0;
  std::atomic<int> wrong = 0;
  std::thread client([&] {
    while (!stop) {
      const HostPort to{Address::parse(ip(asked_times % 2)).value(), 80};
      const auto seen = ask(cluster.pod("client").netns(), "tcp", to, {.timeout = milliseconds(8000)});
      if (!seen || seen->server != "one") ++wrong;
      ++asked_times;
    }
  });

  std::vector<double> took;
  std::deque<Change> under_way;
  const auto begin = steady_clock::now();
  auto next = begin;
  int made = 0;
  while (steady_clock::now() - begin < length || !under_way.empty()) {
    const auto now = steady_clock::now();
    if (now >= next && now - begin < length) {
      const int service = 2 + made % (kServices - 2);
      const Address& backend = (made / (kServices - 2)) % 2 == 0 ? two : one;
      server.put(slice(service, backend));
      under_way.push_back({service, backend, steady_clock::now()});
      ++made;
      next += kInterval;
    }
    std::erase_if(under_way, [&](const Change& change) {
      if (backend_now(change.service) != change.backend) return false;
      took.push_back(std::chrono::duration<double, std::milli>(steady_clock::now() - change.when).count());
      return true;
    });
    ASSERT_TRUE(under_way.empty() || steady_clock::now() - under_way.front().when < std::chrono::seconds(10))
        << "service " << under_way.front().service << " never changed";
    pause(milliseconds(1));
  }
  stop = true;
  client.join();
  std::ranges::sort(took);
  const auto percentile = [&](size_t p) { return took.at(took.size() * p / 100); };
  fmt::print("{} changes in {} s: p50 {:.1f} ms, p99 {:.1f} ms, longest {:.1f} ms; {} connections\n", made,
             length.count(), percentile(50), percentile(99), took.back(), asked_times.load());
  EXPECT_EQ(took.size(), static_cast<size_t>(made));
  EXPECT_EQ(wrong, 0) << "of " << asked_times;
  EXPECT_GT(made, 80 * length.count());
  EXPECT_LT(percentile(99), 100);
}

}  // namespace
}  // namespace bpfnet::e2e
