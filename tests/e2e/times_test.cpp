// How long a runtime waits. Figures depend on the machine: label slow, run by scripts/test-slow.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "tests/e2e/e2e.h"

namespace bpfnet::e2e {
namespace {

using std::chrono::steady_clock;

constexpr int kPresent = 100;
constexpr int kMeasured = 31;

class Times : public testing::Test {};

TEST_F(Times, AddWithHundredPodsPresent) {
  Cluster cluster(cluster_options({"node-a"}));
  Node& node = cluster.node(0);
  std::vector<Netns> netns;
  std::vector<double> times;
  for (int i = 0; i < kPresent + kMeasured; i++) {
    netns.emplace_back(fmt::format("bn-e2e-t{}", i));
    const CniCall call{.command = "ADD", .container_id = netns.back().name(), .netns = netns.back().path()};
    const auto start = steady_clock::now();
    const CniAnswer add = node.cni(call);
    ASSERT_EQ(add.status, 0) << add.text;
    if (i >= kPresent)
      times.push_back(std::chrono::duration<double, std::milli>(steady_clock::now() - start).count());
  }
  std::ranges::sort(times);
  fmt::print("CNI ADD with {} pods present: median {:.1f} ms, fastest {:.1f} ms, slowest {:.1f} ms\n",
             kPresent, times[kMeasured / 2], times.front(), times.back());
  EXPECT_LT(times[kMeasured / 2], 25);
}

}  // namespace
}  // namespace bpfnet::e2e
