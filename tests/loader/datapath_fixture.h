#pragma once

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <optional>
#include <string>

#include "loader/datapath.h"
#include "loader/netlink.h"
#include "loader/netns.h"
#include "maps/abi/reasons.h"

namespace bpfnet::loader {

/// A node in a nameless netns with an uplink `up0` (192.0.2.1), the other end `wire0` (192.0.2.2) in a second
/// one, and a pin directory of its own; the test runs inside the node.
class DatapathTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto node = new_netns();
    auto outside = new_netns();
    ASSERT_TRUE(node) << node.error().message;
    ASSERT_TRUE(outside);
    node_ns = std::move(*node);
    outside_ns = std::move(*outside);
    auto guard = NetnsGuard::enter(node_ns.get());
    ASSERT_TRUE(guard);
    inside_.emplace(std::move(*guard));
    netlink.emplace(*Netlink::open());
    uplink = make_link("up0", "wire0", outside_ns.get());
    ASSERT_TRUE(netlink->add_address(uplink, *Address::parse("192.0.2.1"), 24));
    Netlink outside_link = *Netlink::open(outside_ns.get());
    const auto wire = outside_link.link("wire0");
    ASSERT_TRUE(outside_link.set_up((*wire)->ifindex));
    ASSERT_TRUE(outside_link.add_address((*wire)->ifindex, *Address::parse("192.0.2.2"), 24));
    pin_dir = new_pin_dir();
  }

  void TearDown() override {
    inside_.reset();
    for (const std::string& dir : dirs_) {
      const auto removed = Datapath::remove(dir);
      EXPECT_TRUE(removed) << removed.error().message;
      umount2(dir.c_str(), MNT_DETACH);
      rmdir(dir.c_str());
    }
  }

  /// Up, in the node; gives the ifindex.
  int make_link(const std::string& name, const std::string& peer, int peer_ns = -1) {
    const auto link = netlink->create_veth({.name = name, .peer_name = peer, .peer_netns_fd = peer_ns});
    EXPECT_TRUE(link) << link.error().message;
    if (!link) return 0;
    EXPECT_TRUE(netlink->set_up(link->ifindex));
    return link->ifindex;
  }

  std::string new_pin_dir() {
    static int count = 0;
    dirs_.push_back(fmt::format("/run/bpfnet-test-loader-{}-{}", getpid(), ++count));
    return dirs_.back();
  }

  [[nodiscard]] DatapathOptions options() const {
    DatapathOptions result{.pin_dir = pin_dir};
    result.config.max_flows = 1024;
    result.sizes = {.endpoints = 64,
                    .interfaces = 64,
                    .addresses = 64,
                    .cidrs = 64,
                    .frontends = 64,
                    .backend_slots = 64,
                    .backend_states = 64,
                    .policies = 64,
                    .fragments = 64,
                    .event_bytes = 65536};
    return result;
  }

  Result<Datapath> open() const { return Datapath::open(options()); }

  /// Packets that the hook has counted, with any verdict.
  static uint64_t packets(const maps::Maps& maps, uint32_t which) {
    uint64_t sum = 0;
    const auto counts = maps.verdict_counts.sums();
    EXPECT_TRUE(counts);
    for (uint32_t verdict = 0; verdict < VERDICTS_MAX; ++verdict)
      sum += (*counts)[which * uint32_t{VERDICTS_MAX} + verdict].packets;
    return sum;
  }

  static bool exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

  Fd node_ns;
  Fd outside_ns;
  std::optional<Netlink> netlink;
  int uplink = 0;
  std::string pin_dir;

 private:
  std::optional<NetnsGuard> inside_;
  std::vector<std::string> dirs_;
};

}  // namespace bpfnet::loader
