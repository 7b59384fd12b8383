#include "loader/clsact.h"

#include <bpf/libbpf.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>

#include <cerrno>

#include "loader/netlink_socket.h"
#include "maps/libbpf_options.h"

namespace bpfnet::loader {
namespace {

/// Ours alone among the filters of a device.
constexpr uint32_t kPriority = 0xb9f0;
constexpr uint32_t kHandle = 1;

bpf_tc_attach_point point_of(Direction direction) {
  return direction == Direction::kIngress ? BPF_TC_INGRESS : BPF_TC_EGRESS;
}

bpf_tc_hook hook_of(int ifindex, Direction direction) {
  auto hook = maps::libbpf_options<bpf_tc_hook>();
  hook.ifindex = ifindex;
  hook.attach_point = point_of(direction);
  return hook;
}

bpf_tc_opts our_filter() {
  auto filter = maps::libbpf_options<bpf_tc_opts>();
  filter.handle = kHandle;
  filter.priority = kPriority;
  return filter;
}

const char* text_of(Direction direction) {
  return direction == Direction::kIngress ? "ingress" : "egress";
}

Result<bool> has_filters(int ifindex, Direction direction) {
  auto socket = NetlinkSocket::open();
  if (!socket) return pass(socket);
  tcmsg request{};
  request.tcm_family = AF_UNSPEC;
  request.tcm_ifindex = ifindex;
  request.tcm_parent =
      TC_H_MAKE(TC_H_CLSACT, direction == Direction::kIngress ? TC_H_MIN_INGRESS : TC_H_MIN_EGRESS);
  bool found = false;
  BPFNET_TRY((*socket)->request(make_message(RTM_GETTFILTER, NLM_F_DUMP, request),
                                fmt::format("filters of link {}: list", ifindex),
                                [&](const nlmsghdr*) { found = true; }));
  return found;
}

}  // namespace

Direction clsact_direction(std::string_view hook, std::string_view ifname) {
  if (hook == "to_pod" || hook == "to_uplink" || hook == "to_overlay") return Direction::kEgress;
  // from_host stands at the egress of lo, and at the ingress of our router device.
  if (hook == "from_host" && ifname == "lo") return Direction::kEgress;
  return Direction::kIngress;
}

Status clsact_attach(int ifindex, Direction direction, int program_fd) {
  auto hook = hook_of(ifindex, direction);
  if (const int rc = bpf_tc_hook_create(&hook); rc != 0 && rc != -EEXIST)
    return fail_errno(rc, "link {}: add the clsact qdisc", ifindex);
  auto opts = our_filter();
  opts.prog_fd = program_fd;
  opts.flags = BPF_TC_F_REPLACE;
  if (const int rc = bpf_tc_attach(&hook, &opts); rc != 0)
    return fail_errno(rc, "link {}: add our {} filter", ifindex, text_of(direction));
  return ok();
}

Result<uint32_t> clsact_program(int ifindex, Direction direction) {
  const auto hook = hook_of(ifindex, direction);
  auto filter = our_filter();
  const int rc = bpf_tc_query(&hook, &filter);
  if (rc == 0) return filter.prog_id;
  // EINVAL: no qdisc.
  if (rc == -ENOENT || rc == -ENODEV || rc == -EINVAL) return 0U;
  return fail_errno(rc, "link {}: look for our {} filter", ifindex, text_of(direction));
}

Status clsact_detach(int ifindex, Direction direction) {
  auto hook = hook_of(ifindex, direction);
  const auto opts = our_filter();
  if (const int rc = bpf_tc_detach(&hook, &opts); rc != 0 && rc != -ENOENT && rc != -ENODEV && rc != -EINVAL)
    return fail_errno(rc, "link {}: delete our {} filter", ifindex, text_of(direction));
  for (const Direction side : {Direction::kIngress, Direction::kEgress}) {
    auto others = has_filters(ifindex, side);
    // No device or no qdisc: nothing of ours either.
    if (!others) return ok();
    if (*others) return ok();
  }
  hook.attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS);
  if (const int rc = bpf_tc_hook_destroy(&hook); rc != 0 && rc != -ENOENT && rc != -ENODEV && rc != -EINVAL)
    return fail_errno(rc, "link {}: delete the clsact qdisc", ifindex);
  return ok();
}

}  // namespace bpfnet::loader
