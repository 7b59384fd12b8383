#include "loader/defrag.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <string_view>

#include "base/fd.h"
#include "loader/bpffs.h"
#include "loader/netns.h"
#include "loader/sysctl.h"
#include "maps/libbpf_options.h"

namespace bpfnet::loader {
namespace {

constexpr const char* kInnerDevice = "bpfnet3";
constexpr uint32_t kMtu = 65535;  // a stack cuts to the size that the fragments had, not to this

// Beyond the UAPI headers of the oldest build system (Linux 6.1): BPF at netfilter's hooks came with 6.4, its
// defragmentation with 6.6 (kernel commit 91721c2d02d3).
const auto kProgTypeNetfilter = static_cast<bpf_prog_type>(32);
constexpr auto kAttachNetfilter = static_cast<bpf_attach_type>(45);
constexpr int kLinkCreate = 28;
constexpr uint32_t kFlagDefrag = 1;
constexpr int32_t kAccept = 1;          // NF_ACCEPT
constexpr uint32_t kPreRouting = 0;     // NF_INET_PRE_ROUTING
constexpr uint32_t kNetfilterIpv4 = 2;  // NFPROTO_IPV4
constexpr uint32_t kNetfilterIpv6 = 10;

/// union bpf_attr's link_create.netfilter.
struct NetfilterLink {
  uint32_t program = 0;
  uint32_t target = 0;
  uint32_t attach_type = 0;
  uint32_t flags = 0;
  uint32_t family = 0;
  uint32_t hook = 0;
  int32_t priority = 0;  // behind the defragmentation, at -400
  uint32_t netfilter_flags = 0;
};

struct Setting {
  const char* key;
  const char* value;
};

constexpr Setting kOuterSettings[] = {
    {"net/ipv6/conf/bpfnet2/addr_gen_mode", "1"},
    {"net/ipv6/conf/bpfnet2/accept_ra", "0"},
};

/// The namespace may have inherited other values than the kernel's own.
constexpr Setting kInnerSettings[] = {
    {"net/ipv4/conf/all/rp_filter", "0"},        {"net/ipv4/conf/bpfnet3/rp_filter", "0"},
    {"net/ipv4/conf/all/send_redirects", "0"},   {"net/ipv4/conf/bpfnet3/send_redirects", "0"},
    {"net/ipv4/conf/bpfnet3/accept_local", "1"}, {"net/ipv4/ip_forward", "1"},
    {"net/ipv6/conf/all/disable_ipv6", "0"},     {"net/ipv6/conf/bpfnet3/disable_ipv6", "0"},
    {"net/ipv6/conf/all/forwarding", "1"},       {"net/ipv6/conf/bpfnet3/addr_gen_mode", "1"},
};

/// Room for what is incomplete, and seconds until it is given up: less than FRAGMENT_TICKS. The keys of IPv6
/// come with the link.
constexpr Setting kLimits[] = {
    {"net/ipv4/ipfrag_high_thresh", "4194304"},
    {"net/ipv4/ipfrag_time", "3"},
    {"net/ipv4/ipfrag_max_dist", "0"},  // a sender's other datagrams may be in between
    {"net/netfilter/nf_conntrack_frag6_high_thresh", "4194304"},
    {"net/netfilter/nf_conntrack_frag6_timeout", "3"},
};

std::string directory(const std::string& pin_dir) {
  return pin_dir + "/defrag";
}

bool has_ipv6() {
  return std::filesystem::exists("/proc/sys/net/ipv6");
}

template <size_t N>
Status apply(const Setting (&settings)[N]) {
  for (const Setting& setting : settings) {
    auto written = write_sysctl(setting.key, setting.value);
    const bool optional = std::string_view(setting.key).find('6') != std::string_view::npos;
    if (!written && !(optional && written.error().code == ENOENT && !has_ipv6())) return pass(written);
  }
  return ok();
}

/// In the netns of the calling thread.
Status link_family(int program, uint32_t family, const std::string& path) {
  NetfilterLink request;
  request.program = static_cast<uint32_t>(program);
  request.attach_type = static_cast<uint32_t>(kAttachNetfilter);
  request.family = family;
  request.hook = kPreRouting;
  request.netfilter_flags = kFlagDefrag;
  const Fd link(static_cast<int>(syscall(__NR_bpf, kLinkCreate, &request, sizeof(request))));
  if (!link) return fail_errno(errno, "kernel lacks netfilter links with defragmentation (Linux 6.6)");
  if (const int rc = bpf_obj_pin(link.get(), path.c_str()); rc != 0)
    return fail_errno(rc, "pin {}: create", path);
  return ok();
}

Result<Fd> load_accept() {
  const bpf_insn program[] = {
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = kAccept},
      {.code = BPF_JMP | BPF_EXIT},
  };
  auto opts = maps::libbpf_options<bpf_prog_load_opts>();
  opts.expected_attach_type = kAttachNetfilter;
  const int fd = bpf_prog_load(kProgTypeNetfilter, "defrag", "GPL", program, 2, &opts);
  if (fd < 0) return fail_errno(fd, "kernel lacks BPF programs at netfilter (Linux 6.4)");
  return Fd(fd);
}

/// One gateway for all: a device without ARP asks for nobody's link address and sends to its own, which both
/// sides have.
Status configure_inside(int netns) {
  auto netlink = Netlink::open(netns);
  if (!netlink) return pass(netlink);
  auto device = netlink->link(kInnerDevice);
  if (!device) return pass(device);
  if (!*device) return fail("device {}: is not there", kInnerDevice);
  const int ifindex = (*device)->ifindex;
  BPFNET_TRY(apply(kInnerSettings));
  BPFNET_TRY(netlink->set_noarp(ifindex));
  BPFNET_TRY(netlink->set_up(1));  // without lo there is no table of local addresses, and no route resolves
  BPFNET_TRY(netlink->set_up(ifindex));
  const Address any4 = *Address::parse("0.0.0.0");
  const Address any6 = *Address::parse("::");
  auto route4 = netlink->add_route(
      {.dst = Cidr(any4, 0), .gateway = *Address::parse("169.254.1.1"), .ifindex = ifindex, .onlink = true});
  if (!route4) return pass(route4);
  if (!has_ipv6()) return ok();
  auto route6 = netlink->add_route(
      {.dst = Cidr(any6, 0), .gateway = *Address::parse("fe80::1"), .ifindex = ifindex, .onlink = true});
  if (!route6) return pass(route6);
  return ok();
}

/// Pins come last: whoever ends before them leaves nothing, since nothing else holds the namespace.
Result<int> build(Netlink& netlink, const std::string& pin_dir) {
  auto program = load_accept();
  if (!program) return pass(program);
  auto netns = new_netns();
  if (!netns) return pass(netns);
  const Mac mac = Mac::random();
  auto device = netlink.create_veth({.name = kDefragDevice,
                                     .peer_name = kInnerDevice,
                                     .peer_netns_fd = netns->get(),
                                     .mac = mac,
                                     .peer_mac = mac,
                                     .mtu = kMtu});
  if (!device) return pass(device);
  BPFNET_TRY(apply(kOuterSettings));
  BPFNET_TRY(netlink.set_up(device->ifindex));
  const std::string dir = directory(pin_dir);
  BPFNET_TRY(make_directory(dir));
  const int inside = netns->get();
  Status done = in_netns(inside, [&]() -> Status {
    BPFNET_TRY(configure_inside(inside));
    BPFNET_TRY(link_family(program->get(), kNetfilterIpv4, dir + "/ipv4"));
    if (has_ipv6()) BPFNET_TRY(link_family(program->get(), kNetfilterIpv6, dir + "/ipv6"));
    return apply(kLimits);
  });
  if (!done) return pass(done);
  BPFNET_TRY(make_directory(dir + "/complete"));
  return device->ifindex;
}

/// 0: there is none, or one that an agent did not finish or somebody has taken a part of.
Result<int> adopt(Netlink& netlink, const std::string& pin_dir) {
  auto pins = list_directory(directory(pin_dir));
  if (!pins) return pass(pins);
  auto device = netlink.link(kDefragDevice);
  if (!device) return pass(device);
  if (*device && !is_defrag_device(**device))
    return fail_errno(EEXIST, "device {}: is not ours; remove it or rename it", kDefragDevice);
  const auto pinned = [&](const char* name) {
    return std::find(pins->begin(), pins->end(), name) != pins->end();
  };
  const bool complete = pinned("complete") && pinned("ipv4") && (pinned("ipv6") || !has_ipv6());
  if (!complete || !*device || !(*device)->is_up()) return 0;
  return (*device)->ifindex;
}

Result<int> ensure(const std::string& pin_dir) {
  auto netlink = Netlink::open();
  if (!netlink) return pass(netlink);
  auto adopted = adopt(*netlink, pin_dir);
  if (!adopted || *adopted != 0) return adopted;
  BPFNET_TRY(remove_defragmenter(pin_dir));
  auto built = build(*netlink, pin_dir);
  if (built) return built;
  BPFNET_TRY(remove_defragmenter(pin_dir));
  return built;
}

}  // namespace

bool is_defrag_device(const Link& link) {
  return link.name == kDefragDevice && link.kind == "veth" && link.peer_elsewhere;
}

Defragmenter ensure_defragmenter(const std::string& pin_dir) {
  auto made = ensure(pin_dir);
  if (!made) return {.ifindex = 0, .missing = made.error().message};
  return {.ifindex = *made, .missing = ""};
}

Status remove_defragmenter(const std::string& pin_dir) {
  auto netlink = Netlink::open();
  if (!netlink) return pass(netlink);
  // The namespace goes some time after its last pin; the device goes now.
  auto device = netlink->link(kDefragDevice);
  if (!device) return pass(device);
  if (*device && is_defrag_device(**device)) {
    auto deleted = netlink->delete_link(kDefragDevice);
    if (!deleted) return pass(deleted);
  }
  return remove_tree(directory(pin_dir));
}

}  // namespace bpfnet::loader
