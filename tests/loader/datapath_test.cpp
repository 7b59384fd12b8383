#include "loader/datapath.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gmock/gmock.h>
#include <linux/if_link.h>
#include <sys/vfs.h>

#include <cerrno>
#include <chrono>
#include <set>
#include <thread>

#include "maps/dump.h"
#include "maps/libbpf_options.h"
#include "tests/loader/datapath_fixture.h"

namespace bpfnet::loader {
namespace {

using ::testing::HasSubstr;

/// `bpn0 from_pod tc`; how TC programs are attached depends on the kernel (see
/// ClsactServesKernelsWithoutTcx).
std::set<std::string> attached(const Datapath& datapath) {
  std::set<std::string> result;
  const auto attachments = datapath.attachments();
  EXPECT_TRUE(attachments) << attachments.error().message;
  if (!attachments) return result;
  for (const Attachment& attachment : *attachments) {
    const bool tc = attachment.mechanism == "tcx" || attachment.mechanism == "clsact";
    result.insert(attachment.ifname + " " + attachment.hook + " " + (tc ? "tc" : attachment.mechanism));
  }
  return result;
}

using Set = std::set<std::string>;

/// The kernel frees programs some time after the last reference.
bool program_ends(uint32_t id) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  while (std::chrono::steady_clock::now() < deadline) {
    const int fd = bpf_prog_get_fd_by_id(id);
    if (fd == -ENOENT) return true;
    if (fd >= 0) close(fd);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

// S48: a tick is no second, and idle connections are kept for as long as was promised.
TEST_F(DatapathTest, TimeoutsAreGivenInSeconds) {
  auto datapath = open();
  ASSERT_TRUE(datapath) << datapath.error().message;
  const auto& config = datapath->config();
  const auto seconds = [&](uint32_t ticks) {
    return static_cast<double>(ticks) * static_cast<double>(config.tick_ns) / 1e9;
  };
  EXPECT_GE(seconds(config.timeout_tcp_established), 24 * 3600);
  EXPECT_LE(seconds(config.timeout_tcp_established), 24 * 3600 + 2);
  EXPECT_GE(seconds(config.timeout_tcp_closing), 3600);
  EXPECT_LE(seconds(config.timeout_tcp_closing), 3600 + 2);
}

TEST_F(DatapathTest, AFirstOpenLoadsPinsAndFillsTheConfiguration) {
  auto datapath = open();
  ASSERT_TRUE(datapath) << datapath.error().message;
  EXPECT_FALSE(datapath->adopted());
  EXPECT_TRUE(datapath->warnings().empty());
  EXPECT_EQ(datapath->config().layout_version, static_cast<uint32_t>(ABI_LAYOUT_VERSION));
  EXPECT_NE(datapath->config().hash_seed, 0U);
  EXPECT_GE(datapath->config().tick_ns, 500'000'000U);
  EXPECT_LE(datapath->config().tick_ns, 1'500'000'000U);
  EXPECT_EQ(datapath->maps().flow_slots.max_entries(), 1024U);
  EXPECT_EQ(datapath->maps().flows.max_entries(), 2048U);
  EXPECT_EQ(datapath->maps().node_config.get(0)->hash_seed, datapath->config().hash_seed);
  const auto pinned = maps::Maps::open_pinned(pin_dir);
  ASSERT_TRUE(pinned) << pinned.error().message;
  EXPECT_EQ(pinned->flows.info().id, datapath->maps().flows.info().id);
  EXPECT_FALSE(exists(pin_dir + "/v1/maps-new"));
}

TEST_F(DatapathTest, EveryMapOfTheContractCanBeDumped) {
  const auto datapath = open();
  ASSERT_TRUE(datapath) << datapath.error().message;
  for (const maps::MapSummary& summary : maps::summarize(datapath->maps())) {
    EXPECT_FALSE(summary.purpose.empty()) << summary.name;
    const auto dumped = maps::dump(datapath->maps(), summary.name);
    const bool listed =
        summary.type != "queue" && summary.type != "ringbuf" && summary.type != "socket-storage";
    EXPECT_EQ(dumped.has_value(), listed) << summary.name;
  }
  EXPECT_THAT(maps::dump(datapath->maps(), "flow").error().message,
              HasSubstr("no map `flow`; there are flows, "));
}

TEST_F(DatapathTest, TheExpiryRunsByItself) {
  const auto datapath = open();
  ASSERT_TRUE(datapath) << datapath.error().message;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  uint64_t runs = 0;
  while (runs < 3 && std::chrono::steady_clock::now() < deadline) {
    runs = datapath->maps().flow_table_state.get(0)->gc_runs;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_GE(runs, 3U);
}

TEST_F(DatapathTest, AttachingTwiceIsTheSameAsOnce) {
  auto datapath = open();
  ASSERT_TRUE(datapath) << datapath.error().message;
  const int pod = make_link("bpn0", "pod0");
  const int router = make_link("bpfnet1", "bpfnet0");
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(datapath->attach_pod(pod));
    EXPECT_EQ(*datapath->attach_uplink(uplink, XdpMode::kAuto), "off") << "veth";
    ASSERT_TRUE(datapath->attach_host(router));
    EXPECT_EQ(attached(*datapath), (Set{"bpn0 from_pod tc", "bpn0 to_pod tc", "up0 from_uplink tc",
                                        "up0 to_uplink tc", "bpfnet1 from_host tc", "lo from_host tc"}));
  }
  ASSERT_TRUE(datapath->detach(router));
  ASSERT_TRUE(datapath->detach(pod));
  ASSERT_TRUE(datapath->detach(pod));
  EXPECT_EQ(attached(*datapath), (Set{"up0 from_uplink tc", "up0 to_uplink tc", "lo from_host tc"}));
}

/// `bpn0 clsact` for every device.
Set mechanisms(const Datapath& datapath) {
  Set result;
  const auto attachments = datapath.attachments();
  for (const Attachment& attachment : *attachments)
    result.insert(attachment.ifname + " " + attachment.mechanism);
  return result;
}

TEST_F(DatapathTest, PodsGetFiltersWhichAreQuickAndOtherDevicesLinks) {
  auto datapath = open();
  ASSERT_TRUE(datapath) << datapath.error().message;
  ASSERT_TRUE(datapath->attach_pod(make_link("bpn0", "pod0")));
  ASSERT_TRUE(datapath->attach_uplink(uplink, XdpMode::kOff));
  EXPECT_EQ(mechanisms(*datapath),
            (Set{"bpn0 clsact", datapath->features().has("tcx") ? "up0 tcx" : "up0 clsact"}));
}

TEST_F(DatapathTest, PodsGetLinksOnRequestAndKeepThemWhenAdopted) {
  DatapathOptions links = options();
  links.tc = TcMechanism::kTcx;
  if (!probe_kernel().has("tcx")) {
    EXPECT_EQ(Datapath::open(links).error().code, EOPNOTSUPP);
    return;
  }
  const int pod = make_link("bpn0", "pod0");
  {
    auto datapath = Datapath::open(links);
    ASSERT_TRUE(datapath) << datapath.error().message;
    ASSERT_TRUE(datapath->attach_pod(pod));
  }
  auto datapath = open();
  ASSERT_TRUE(datapath) << datapath.error().message;
  ASSERT_TRUE(datapath->attach_pod(pod));
  EXPECT_EQ(mechanisms(*datapath), (Set{"bpn0 tcx"}));
}

TEST_F(DatapathTest, ADeviceThatIsNotThereIsAnErrorAndLeavesNothing) {
  auto datapath = open();
  ASSERT_TRUE(datapath) << datapath.error().message;
  const auto status = datapath->attach_pod(4711);
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().message, HasSubstr("program from_pod: attach at link 4711: ENODEV"));
  EXPECT_TRUE(attached(*datapath).empty());
}

TEST_F(DatapathTest, NamesWithDotsArePinnedToo) {
  auto datapath = open();
  ASSERT_TRUE(datapath) << datapath.error().message;
  ASSERT_TRUE(datapath->attach_uplink(make_link("eth0.5", "e5"), XdpMode::kOff));
  EXPECT_EQ(attached(*datapath), (Set{"eth0.5 from_uplink tc", "eth0.5 to_uplink tc"}));
}

TEST_F(DatapathTest, PinsOfDevicesThatAreGoneGoToo) {
  auto datapath = open();
  ASSERT_TRUE(datapath) << datapath.error().message;
  ASSERT_TRUE(datapath->attach_pod(make_link("bpn0", "pod0")));
  ASSERT_TRUE(datapath->attach_pod(make_link("bpn1", "pod1")));
  ASSERT_TRUE(netlink->delete_link("bpn0"));
  EXPECT_EQ(*datapath->remove_stale(), (std::vector<std::string>{"bpn0_from_pod", "bpn0_to_pod"}));
  // A new device of the same name gets programs of its own.
  ASSERT_TRUE(netlink->delete_link("bpn1"));
  const int again = make_link("bpn1", "pod1");
  ASSERT_TRUE(datapath->attach_pod(again));
  for (const auto attachments = datapath->attachments(); const Attachment& attachment : *attachments)
    EXPECT_EQ(attachment.ifindex, again);
}

TEST_F(DatapathTest, XdpIsAttachedInTheModeAskedFor) {
  auto datapath = open();
  ASSERT_TRUE(datapath) << datapath.error().message;
  const auto native = datapath->attach_uplink(uplink, XdpMode::kNative);
  ASSERT_TRUE(native) << native.error().message;
  EXPECT_EQ(*native, "xdp-native");
  EXPECT_EQ(attached(*datapath).count("up0 xdp_uplink xdp-native"), 1U);
  EXPECT_EQ(*datapath->attach_uplink(uplink, XdpMode::kGeneric), "xdp-generic");
  EXPECT_EQ(attached(*datapath).count("up0 xdp_uplink xdp-generic"), 1U);
  EXPECT_EQ(*datapath->attach_uplink(uplink, XdpMode::kOff), "off");
  EXPECT_EQ(attached(*datapath), (Set{"up0 from_uplink tc", "up0 to_uplink tc"}));
}

TEST_F(DatapathTest, AnotherXdpProgramIsNamedAndLeftAlone) {
  auto datapath = open();
  ASSERT_TRUE(datapath) << datapath.error().message;
  const bpf_insn pass[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS},
                           {.code = BPF_JMP | BPF_EXIT}};
  const Fd other(bpf_prog_load(BPF_PROG_TYPE_XDP, "other", "GPL", pass, 2, nullptr));
  ASSERT_EQ(bpf_xdp_attach(uplink, other.get(), XDP_FLAGS_DRV_MODE, nullptr), 0);
  const auto mode = datapath->attach_uplink(uplink, XdpMode::kNative);
  ASSERT_FALSE(mode);
  EXPECT_EQ(mode.error().code, EBUSY);
  EXPECT_THAT(mode.error().message, HasSubstr("another XDP program holds the device"));
}

TEST_F(DatapathTest, ASecondAgentOnTheSameDirectoryIsRefused) {
  const auto first = open();
  ASSERT_TRUE(first) << first.error().message;
  const auto second = open();
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, EBUSY);
  EXPECT_THAT(second.error().message, HasSubstr("another bpfnetd serves it"));
  EXPECT_EQ(Datapath::remove(pin_dir).error().code, EBUSY);
}

TEST_F(DatapathTest, InstancesSideBySideShareNothing) {
  auto first = open();
  ASSERT_TRUE(first) << first.error().message;
  DatapathOptions other = options();
  other.pin_dir = new_pin_dir();
  auto second = Datapath::open(other);
  ASSERT_TRUE(second) << second.error().message;
  ASSERT_TRUE(first->attach_pod(make_link("bpn0", "pod0")));
  ASSERT_TRUE(second->attach_pod(make_link("bpn1", "pod1")));
  EXPECT_EQ(attached(*first), (Set{"bpn0 from_pod tc", "bpn0 to_pod tc"}));
  EXPECT_EQ(attached(*second), (Set{"bpn1 from_pod tc", "bpn1 to_pod tc"}));
  EXPECT_NE(first->maps().flows.info().id, second->maps().flows.info().id);
  EXPECT_NE(first->config().hash_seed, second->config().hash_seed);
}

TEST_F(DatapathTest, RemoveLeavesNothing) {
  std::vector<uint32_t> programs;
  {
    auto datapath = open();
    ASSERT_TRUE(datapath) << datapath.error().message;
    ASSERT_TRUE(datapath->attach_pod(make_link("bpn0", "pod0")));
    ASSERT_TRUE(datapath->attach_uplink(uplink, XdpMode::kNative));
    for (const auto attachments = datapath->attachments(); const Attachment& attachment : *attachments)
      programs.push_back(attachment.program);
    EXPECT_EQ(programs.size(), 5U);
  }
  const auto removed = Datapath::remove(pin_dir);
  ASSERT_TRUE(removed) << removed.error().message;
  EXPECT_FALSE(exists(pin_dir));
  for (const uint32_t program : programs) EXPECT_TRUE(program_ends(program)) << program;
  uint32_t xdp = 1;
  EXPECT_EQ(bpf_xdp_query_id(uplink, 0, &xdp), 0);
  EXPECT_EQ(xdp, 0U);
  EXPECT_TRUE(Datapath::remove(pin_dir)) << "nothing to remove is fine";
}

TEST_F(DatapathTest, RemoveKeepsABpffsThatIsNotOurs) {
  ASSERT_EQ(mkdir(pin_dir.c_str(), 0700), 0);
  ASSERT_EQ(mount("theirs", pin_dir.c_str(), "bpf", 0, nullptr), 0);
  ASSERT_TRUE(open());
  ASSERT_TRUE(Datapath::remove(pin_dir));
  struct statfs stat {};
  ASSERT_EQ(statfs(pin_dir.c_str(), &stat), 0);
  EXPECT_EQ(stat.f_type, 0xcafe4a11) << "still a bpffs";
}

bpf_tc_hook ingress_of(int ifindex) {
  auto hook = maps::libbpf_options<bpf_tc_hook>();
  hook.ifindex = ifindex;
  hook.attach_point = BPF_TC_INGRESS;
  return hook;
}

TEST_F(DatapathTest, ClsactServesKernelsWithoutTcx) {
  DatapathOptions old_kernel = options();
  old_kernel.tc = TcMechanism::kClsact;
  uint32_t before = 0;
  {
    auto datapath = Datapath::open(old_kernel);
    ASSERT_TRUE(datapath) << datapath.error().message;
    ASSERT_TRUE(datapath->attach_uplink(uplink, XdpMode::kOff));
    ASSERT_TRUE(datapath->attach_uplink(uplink, XdpMode::kOff));
    EXPECT_EQ(attached(*datapath), (Set{"up0 from_uplink tc", "up0 to_uplink tc"}));
    const auto attachments = datapath->attachments();
    EXPECT_EQ(attachments->front().mechanism, "clsact");
    before = attachments->front().program;
  }
  {
    auto datapath = Datapath::open(old_kernel);
    ASSERT_TRUE(datapath) << datapath.error().message;
    EXPECT_NE(datapath->attachments()->front().program, before);
    const auto hook = ingress_of(uplink);
    auto opts = maps::libbpf_options<bpf_tc_opts>();
    opts.handle = 1;
    opts.priority = 0xb9f0;
    ASSERT_EQ(bpf_tc_query(&hook, &opts), 0);
    EXPECT_EQ(opts.prog_id, datapath->attachments()->front().program) << "the filter runs the new program";
  }
  ASSERT_TRUE(Datapath::remove(pin_dir));
  auto hook = ingress_of(uplink);
  EXPECT_EQ(bpf_tc_hook_create(&hook), 0) << "the qdisc was gone";
}

TEST_F(DatapathTest, AFilterThatSomebodyTookIsMissedAndPutBack) {
  auto datapath = open();
  ASSERT_TRUE(datapath) << datapath.error().message;
  const int pod = make_link("bpn0", "pod0");
  ASSERT_TRUE(datapath->attach_pod(pod));
  auto hook = ingress_of(pod);
  hook.attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS);
  ASSERT_EQ(bpf_tc_hook_destroy(&hook), 0);
  EXPECT_TRUE(attached(*datapath).empty());
  ASSERT_TRUE(datapath->attach_pod(pod));
  EXPECT_EQ(attached(*datapath), (Set{"bpn0 from_pod tc", "bpn0 to_pod tc"}));
}

TEST_F(DatapathTest, ADirectoryThatCannotBeIsNamed) {
  DatapathOptions wrong = options();
  wrong.pin_dir = "relative/dir";
  EXPECT_THAT(Datapath::open(wrong).error().message,
              HasSubstr("bpffs directory `relative/dir`: an absolute path"));
  wrong.pin_dir = "/proc/bpfnet-test";
  EXPECT_THAT(Datapath::open(wrong).error().message,
              HasSubstr("directory /proc/bpfnet-test: create: ENOENT"));
  wrong = options();
  wrong.config.max_flows = 0;
  EXPECT_EQ(Datapath::open(wrong).error().code, EINVAL);
}

TEST_F(DatapathTest, ThisKernelsFeaturesAreReported) {
  const KernelFeatures features = probe_kernel();
  EXPECT_TRUE(features.check()) << features.check().error().message;
  EXPECT_TRUE(features.has("bpf-timer"));
  EXPECT_FALSE(features.has("no-such-feature"));
  KernelFeatures old = features;
  for (Feature& feature : old.list)
    if (feature.name == "bpf-timer") feature.present = false;
  EXPECT_THAT(old.check().error().message, HasSubstr("missing: bpf-timer (flows would never expire)"));
}

}  // namespace
}  // namespace bpfnet::loader
