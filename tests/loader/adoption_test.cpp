#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <map>
#include <thread>

#include "loader/datapath.h"
#include "maps/convert.h"
#include "tests/loader/datapath_fixture.h"

namespace bpfnet::loader {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

class AdoptionTest : public DatapathTest {};

sockaddr_in node_port() {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(9000);
  inet_pton(AF_INET, "192.0.2.1", &address.sin_addr);
  return address;
}

/// Sends a datagram, waits for its echo, and so on, through the uplink; counts what does not come back.
class PingPong {
 public:
  PingPong(int node_ns, int outside_ns) {
    EXPECT_TRUE(in_netns(node_ns, [&] { return make_socket(server_, 100); }));
    EXPECT_TRUE(in_netns(outside_ns, [&] { return make_socket(client_, 1000); }));
    const sockaddr_in address = node_port();
    EXPECT_EQ(bind(server_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(connect(client_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    echo_ = std::thread([this] { echo(); });
    ask_ = std::thread([this] { ask(); });
  }
  ~PingPong() { stop(); }

  void stop() {
    if (stop_.exchange(true)) return;
    ask_.join();
    asked_ = true;  // the echo outlives the last question
    echo_.join();
  }
  [[nodiscard]] uint64_t sent() const { return sent_; }
  [[nodiscard]] uint64_t lost() const { return lost_; }

 private:
  static Status make_socket(Fd& fd, int timeout_ms) {
    fd = Fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const timeval timeout{.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000L};
    setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    return ok();
  }
  void echo() {
    while (!asked_) {
      uint64_t number = 0;
      sockaddr_in from{};
      socklen_t size = sizeof(from);
      if (recvfrom(server_.get(), &number, sizeof(number), 0, reinterpret_cast<sockaddr*>(&from), &size) > 0)
        sendto(server_.get(), &number, sizeof(number), 0, reinterpret_cast<sockaddr*>(&from), size);
    }
  }
  void ask() {
    for (uint64_t number = 1; !stop_; ++number) {
      if (send(client_.get(), &number, sizeof(number), 0) < 0) ++lost_;
      ++sent_;
      uint64_t answer = 0;
      while (answer != number) {
        if (recv(client_.get(), &answer, sizeof(answer), 0) < 0) {
          ++lost_;
          break;
        }
      }
    }
  }

  Fd server_;
  Fd client_;
  std::atomic<bool> stop_ = false;
  std::atomic<bool> asked_ = false;
  std::atomic<uint64_t> sent_ = 0;
  std::atomic<uint64_t> lost_ = 0;
  std::thread echo_;
  std::thread ask_;
};

TEST_F(AdoptionTest, ProgramsAreSwappedUnderTrafficWithoutAPacketLostOrUnseen) {
  auto first = open();
  ASSERT_TRUE(first) << first.error().message;
  std::optional<Datapath> datapath(std::move(*first));
  ASSERT_TRUE(datapath->attach_uplink(uplink, XdpMode::kNative));
  std::set<uint32_t> programs;
  const uint64_t before = packets(datapath->maps(), HOOK_from_uplink);
  PingPong traffic(node_ns.get(), outside_ns.get());
  for (int restart = 0; restart < 3; ++restart) {
    const uint64_t sent = traffic.sent();
    datapath.reset();
    auto again = open();
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_TRUE(again->adopted());
    datapath.emplace(std::move(*again));
    for (const auto attachments = datapath->attachments(); const Attachment& attachment : *attachments)
      programs.insert(attachment.program);
    EXPECT_GT(traffic.sent(), sent) << "traffic ran meanwhile";
  }
  traffic.stop();
  EXPECT_EQ(traffic.lost(), 0U);
  EXPECT_EQ(programs.size(), 3U * 3U) << "three hooks, a new program at each restart";
  EXPECT_GE(packets(datapath->maps(), HOOK_from_uplink) - before, traffic.sent())
      << "a packet went by unseen";
  RecordProperty("datagrams", static_cast<int>(traffic.sent()));
}

TEST_F(AdoptionTest, MapsKeepTheirContents) {
  const auto address = maps::make_address_key(*Address::parse("10.1.0.2"));
  const auto flow_of =
      maps::make_flow_key(*Address::parse("10.1.0.2"), 1, *Address::parse("10.1.0.3"), 2, IPPROTO_TCP);
  std::map<std::string, uint32_t> ids;
  uint64_t seed = 0;
  {
    const auto datapath = open();
    ASSERT_TRUE(datapath) << datapath.error().message;
    ASSERT_TRUE(
        datapath->maps().addresses.put(address, {.identity = 300, .endpoint = 1, .flags = ADDRESS_POD}));
    ASSERT_TRUE(datapath->maps().flows.put(flow_of, flow{.packets = 7}));
    ASSERT_TRUE(datapath->maps().endpoints.put(1, endpoint{.identity = 300}));
    maps::Maps::each(datapath->maps(), [&](const auto& map, const char* name) { ids[name] = map.info().id; });
    seed = datapath->config().hash_seed;
  }
  const auto datapath = open();
  ASSERT_TRUE(datapath) << datapath.error().message;
  EXPECT_TRUE(datapath->adopted());
  EXPECT_TRUE(datapath->warnings().empty()) << datapath->warnings().front();
  EXPECT_EQ((*datapath->maps().addresses.get(address))->identity, 300U);
  EXPECT_EQ((*datapath->maps().flows.get(flow_of))->packets, 7U);
  EXPECT_EQ(datapath->maps().endpoints.get(1)->identity, 300U);
  maps::Maps::each(datapath->maps(),
                   [&](const auto& map, const char* name) { EXPECT_EQ(map.info().id, ids[name]) << name; });
  EXPECT_EQ(datapath->config().hash_seed, seed);
}

// Programs read it in the map, the old ones until they are replaced too.
TEST_F(AdoptionTest, ThePrimaryUplinkIsKeptUntilAnotherIsSaid) {
  {
    auto first = open();
    ASSERT_TRUE(first) << first.error().message;
    ASSERT_TRUE(first->set_primary_uplink(static_cast<uint32_t>(uplink)));
    EXPECT_EQ(first->maps().node_config.get(0)->primary_uplink, static_cast<uint32_t>(uplink));
    EXPECT_EQ(first->maps().node_config.get(0)->hash_seed, first->config().hash_seed);
  }
  auto second = open();
  ASSERT_TRUE(second) << second.error().message;
  EXPECT_EQ(second->config().primary_uplink, static_cast<uint32_t>(uplink));
  EXPECT_EQ(second->maps().node_config.get(0)->primary_uplink, static_cast<uint32_t>(uplink));
  ASSERT_TRUE(second->set_primary_uplink(7));
  EXPECT_EQ(second->maps().node_config.get(0)->primary_uplink, 7U);
}

TEST_F(AdoptionTest, SizesArePinnedTooAndTheDifferenceIsTold) {
  ASSERT_TRUE(open());
  DatapathOptions larger = options();
  larger.config.max_flows = 4096;
  larger.sizes.frontends = 128;
  const auto datapath = Datapath::open(larger);
  ASSERT_TRUE(datapath) << datapath.error().message;
  EXPECT_EQ(datapath->config().max_flows, 1024U);
  EXPECT_EQ(datapath->maps().node_config.get(0)->max_flows, 1024U);
  EXPECT_EQ(datapath->maps().flows.max_entries(), 2048U);
  EXPECT_THAT(datapath->warnings(), Contains("4096 flows were asked for; the pinned table keeps its 1024"));
  EXPECT_THAT(datapath->warnings(),
              Contains("map frontends: 128 entries were asked for; the pinned map keeps its 64"));
}

/// Puts a map of other records in the place of a pinned one.
void replace_pin(const std::string& path, bpf_map_type type, uint32_t key, uint32_t value) {
  const Fd other(bpf_map_create(type, "other", key, value, 4, nullptr));
  ASSERT_EQ(unlink(path.c_str()), 0);
  ASSERT_EQ(bpf_obj_pin(other.get(), path.c_str()), 0);
}

TEST_F(AdoptionTest, RecordsOfAnotherLayoutAreRefusedWithTheWayOut) {
  ASSERT_TRUE(open());
  replace_pin(pin_dir + "/v1/maps/frontends", BPF_MAP_TYPE_HASH, sizeof(frontend_key), 8);
  const auto datapath = open();
  ASSERT_FALSE(datapath);
  EXPECT_THAT(datapath.error().message, HasSubstr("map frontends: "));
  EXPECT_THAT(datapath.error().message,
              HasSubstr("its records are 24/8 bytes (key/value), this build's 24/40"));
  EXPECT_THAT(datapath.error().message, HasSubstr("bpfnetd --cleanup"));
}

TEST_F(AdoptionTest, MapsWithoutStateAreMadeAnew) {
  ASSERT_TRUE(open());
  replace_pin(pin_dir + "/v1/maps/drop_counts", BPF_MAP_TYPE_ARRAY, 4, 16);
  const auto datapath = open();
  ASSERT_TRUE(datapath) << datapath.error().message;
  EXPECT_THAT(datapath->warnings(), Contains(HasSubstr("map drop_counts: made anew")));
  EXPECT_EQ(maps::Maps::open_pinned(pin_dir)->drop_counts.info().id, datapath->maps().drop_counts.info().id);
}

TEST_F(AdoptionTest, AMapThatIsMissingIsAdded) {
  ASSERT_TRUE(open());
  ASSERT_EQ(unlink((pin_dir + "/v1/maps/fragments").c_str()), 0);
  ASSERT_TRUE(open());
  EXPECT_TRUE(exists(pin_dir + "/v1/maps/fragments"));
}

TEST_F(AdoptionTest, AStartThatEndedMidwayIsNoHindrance) {
  ASSERT_TRUE(open());
  ASSERT_EQ(rename((pin_dir + "/v1/maps").c_str(), (pin_dir + "/v1/maps-new").c_str()), 0);
  const auto datapath = open();
  ASSERT_TRUE(datapath) << datapath.error().message;
  EXPECT_FALSE(datapath->adopted()) << "half a set of maps is none";
  EXPECT_FALSE(exists(pin_dir + "/v1/maps-new"));
}

TEST_F(AdoptionTest, LinksOfDevicesThatAreGoneAreRemoved) {
  {
    auto datapath = open();
    ASSERT_TRUE(datapath) << datapath.error().message;
    ASSERT_TRUE(datapath->attach_pod(make_link("bpn0", "pod0")));
    ASSERT_TRUE(datapath->attach_pod(make_link("bpn1", "pod1")));
  }
  ASSERT_TRUE(netlink->delete_link("bpn0"));
  auto datapath = open();
  ASSERT_TRUE(datapath) << datapath.error().message;
  EXPECT_THAT(datapath->warnings(), Contains("bpn0_from_pod is removed: the device is gone"));
  const auto attachments = datapath->attachments();
  ASSERT_EQ(attachments->size(), 2U);
  EXPECT_EQ(attachments->front().ifname, "bpn1");
  // Known from the pins: attaching again updates, it does not add.
  ASSERT_TRUE(datapath->attach_pod(attachments->front().ifindex));
  EXPECT_EQ(datapath->attachments()->size(), 2U);
}

}  // namespace
}  // namespace bpfnet::loader
