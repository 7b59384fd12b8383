#include "loader/datapath.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <spdlog/spdlog.h>
#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <thread>

#include "base/fd.h"
#include "bpfnet.skel.h"
#include "loader/attach.h"
#include "loader/bpffs.h"
#include "loader/cgroup.h"
#include "loader/defrag.h"
#include "loader/netlink.h"
#include "loader/pinned_maps.h"
#include "maps/libbpf_options.h"

namespace bpfnet::loader {
namespace {

constexpr int kTimerAttempts = 100;
constexpr std::chrono::milliseconds kTimerPause{2};

std::string layout_dir(const std::string& pin_dir) {
  return fmt::format("{}/v{}", pin_dir, static_cast<int>(ABI_LAYOUT_VERSION));
}
std::string link_dir(const std::string& pin_dir) {
  return layout_dir(pin_dir) + "/links";
}
std::string socket_link_dir(const std::string& layout_dir) {
  return layout_dir + "/sockets";
}

template <typename Visit>
void each_socket_program(bpf_object* object, Visit&& visit) {
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object) {
    if (bpf_program__type(program) == BPF_PROG_TYPE_CGROUP_SOCK_ADDR) visit(program);
  }
}

/// libbpf's warnings, the verifier's log among them. Most answer questions (is there a qdisc yet?); they are
/// shown when a load fails.
std::string& libbpf_warnings() {
  static std::string text;
  return text;
}

int print_libbpf(libbpf_print_level level, const char* format, va_list arguments) {
  char text[16384];
  const int size = vsnprintf(text, sizeof(text), format, arguments);
  std::string_view line(text, size > 0 ? std::min<size_t>(static_cast<size_t>(size), sizeof(text) - 1) : 0);
  if (level == LIBBPF_WARN) {
    libbpf_warnings().append(line);
    if (libbpf_warnings().size() > 2 * sizeof(text)) libbpf_warnings().erase(0, sizeof(text));
  }
  while (line.ends_with('\n')) line.remove_suffix(1);
  spdlog::log(level == LIBBPF_WARN ? spdlog::level::debug : spdlog::level::trace, "{}", line);
  return 0;
}

/// Ticks are jiffies shifted right so that one is nearest to a second; the coarse clock steps once a jiffy.
Status set_clock(datapath_config& config) {
  timespec resolution{};
  if (clock_getres(CLOCK_MONOTONIC_COARSE, &resolution) != 0)
    return fail_errno(errno, "clock: resolution of CLOCK_MONOTONIC_COARSE");
  const uint64_t jiffy_ns =
      static_cast<uint64_t>(resolution.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(resolution.tv_nsec);
  if (jiffy_ns < 100'000 || jiffy_ns > 100'000'000)
    return fail("clock: CLOCK_MONOTONIC_COARSE steps by {} ns, which is no jiffy", jiffy_ns);
  uint32_t shift = 0;
  while ((jiffy_ns << (shift + 1)) <= 1'414'000'000) ++shift;  // up to the square root of two seconds
  config.tick_shift = shift;
  config.tick_ns = jiffy_ns << shift;
  return ok();
}

/// Users speak of seconds; a tick that has begun counts as a whole one, so nothing ends early.
void timeouts_to_ticks(datapath_config& config) {
  for (uint32_t* timeout : {&config.timeout_tcp_new, &config.timeout_tcp_established,
                            &config.timeout_tcp_closing, &config.timeout_tcp_closed, &config.timeout_udp_new,
                            &config.timeout_udp_established, &config.timeout_icmp}) {
    const uint64_t ticks = (uint64_t{*timeout} * 1'000'000'000 + config.tick_ns - 1) / config.tick_ns;
    *timeout = static_cast<uint32_t>(std::min<uint64_t>(ticks, INT32_MAX));
  }
}

Status check_config(const datapath_config& config) {
  if (config.max_flows == 0 || config.max_flows > (1U << 26))
    return fail_errno(EINVAL, "max flows {}: 1 to {} are possible", config.max_flows, 1U << 26);
  if (config.masquerade_port_first == 0 || config.masquerade_port_last < config.masquerade_port_first)
    return fail_errno(EINVAL, "masquerade ports {}-{}: an empty range", config.masquerade_port_first,
                      config.masquerade_port_last);
  if (config.mark_mask == 0 || (config.mark & ~config.mark_mask) != 0)
    return fail_errno(EINVAL, "mark {:#x}/{:#x}: bits outside the mask", config.mark, config.mark_mask);
  return ok();
}

struct SkeletonDeleter {
  void operator()(bpfnet_bpf* skeleton) const { bpfnet_bpf::destroy(skeleton); }
};
using Skeleton = std::unique_ptr<bpfnet_bpf, SkeletonDeleter>;

}  // namespace

datapath_config default_config() {
  return {
      .layout_version = ABI_LAYOUT_VERSION,
      .max_flows = 65536,
      .timeout_tcp_new = 60,
      .timeout_tcp_established = 86400,  // S48
      .timeout_tcp_closing = 3600,       // S48: one side may go on sending for long
      .timeout_tcp_closed = 10,
      .timeout_udp_new = 30,
      .timeout_udp_established = 180,
      .timeout_icmp = 30,
      .masquerade_port_first = 32768,
      .masquerade_port_last = 65535,
      .mark = 0xb9f00000,
      .mark_mask = 0xfff00000,
      .masquerade = 1,
      .event_rate = 1000,
  };
}

Result<XdpMode> parse_xdp_mode(std::string_view text) {
  for (const XdpMode mode : {XdpMode::kOff, XdpMode::kGeneric, XdpMode::kNative, XdpMode::kAuto})
    if (text == to_string(mode)) return mode;
  return fail_errno(EINVAL, "XDP mode `{}`: off, generic, native and auto are possible", text);
}

std::string_view to_string(XdpMode mode) {
  switch (mode) {
    case XdpMode::kOff:
      return "off";
    case XdpMode::kGeneric:
      return "generic";
    case XdpMode::kNative:
      return "native";
    case XdpMode::kAuto:
      return "auto";
  }
  return "";
}

struct Datapath::State {
  std::string pin_dir;
  Fd lock;
  Skeleton skeleton;
  datapath_config config{};
  KernelFeatures features;
  maps::Maps maps;
  AttachmentTable attachments;
  TcMechanism pod_mechanism = TcMechanism::kClsact;
  TcMechanism mechanism = TcMechanism::kClsact;  // at all other devices
  bool adopted = false;
  bool sockets = false;
  Defragmenter defragmenter;
  std::vector<std::string> warnings;

  [[nodiscard]] int program_fd(const std::string& name) const {
    const bpf_program* program = bpf_object__find_program_by_name(skeleton->obj, name.c_str());
    return program == nullptr ? -1 : bpf_program__fd(program);
  }

  /// Opens and loads the object over what is pinned, and pins what is new.
  Status load(const DatapathOptions& options);
  Status start_timer() const;
};

Status Datapath::State::load(const DatapathOptions& options) {
  skeleton.reset(bpfnet_bpf::open(nullptr));
  if (skeleton == nullptr) return fail_errno(errno, "datapath: open the BPF object");

  const std::string map_dir = maps::map_pin_dir(pin_dir);
  auto adoption = adopt_maps(skeleton->obj, map_dir, options.sizes, config);
  if (!adoption) return pass(adoption);
  adopted = adoption->adopted;
  warnings = adoption->warnings;
  while (config.hash_seed == 0)
    if (getrandom(&config.hash_seed, sizeof(config.hash_seed), 0) < 0) return fail_errno(errno, "getrandom");

  // The variable is const volatile to the programs; user space sets it until load freezes it.
  std::memcpy(const_cast<datapath_config*>(const_cast<const datapath_config*>(&skeleton->rodata->config)),
              &config, sizeof(config));
  if (!options.sockets || !features.has("cgroup-sock-addr"))
    each_socket_program(skeleton->obj, [](bpf_program* each) { bpf_program__set_autoload(each, false); });
  libbpf_warnings().clear();
  if (const int rc = bpfnet_bpf::load(skeleton.get()); rc != 0) {
    spdlog::error("datapath: the kernel's words to the failed load:\n{}", libbpf_warnings());
    return fail_errno(rc, "datapath: load (the kernel refused a program or a map; its words are in the log)");
  }

  auto opened = maps::Maps::from_fds([this](const char* name) {
    const bpf_map* map = bpf_object__find_map_by_name(skeleton->obj, name);
    return map == nullptr ? -1 : bpf_map__fd(map);
  });
  if (!opened) return pass(opened);
  maps = std::move(*opened);
  // Before pinning: who finds the pins finds the seed the flows were hashed with.
  BPFNET_TRY(maps.node_config.put(0, config));
  return pin_maps(skeleton->obj, map_dir, *adoption);
}

Status Datapath::State::start_timer() const {
  const int program = program_fd("flow_timer_start");
  if (program < 0) return fail_errno(ENOENT, "program flow_timer_start: not in this build");
  uint8_t packet[64] = {};
  auto opts = maps::libbpf_options<bpf_test_run_opts>();
  opts.data_in = packet;
  opts.data_size_in = sizeof(packet);
  opts.repeat = 1;
  // Linux 6.18 allocates a timer without waiting for the allocator's locks: what another processor holds just
  // now is told as ENOMEM.
  for (int attempt = 0; attempt < kTimerAttempts; attempt++) {
    if (const int rc = bpf_prog_test_run_opts(program, &opts); rc != 0)
      return fail_errno(rc, "program flow_timer_start: run");
    if (static_cast<int>(opts.retval) != -ENOMEM) break;
    std::this_thread::sleep_for(kTimerPause);
  }
  if (opts.retval != 0)
    return fail_errno(static_cast<int>(opts.retval), "program flow_timer_start: the expiry did not start");
  return ok();
}

Datapath::Datapath(std::unique_ptr<State> state) : state_(std::move(state)) {}
Datapath::Datapath(Datapath&&) noexcept = default;
Datapath& Datapath::operator=(Datapath&&) noexcept = default;
Datapath::~Datapath() = default;

Result<Datapath> Datapath::open(const DatapathOptions& options) {
  libbpf_set_print(print_libbpf);
  auto state = std::make_unique<State>();
  state->pin_dir = options.pin_dir;
  state->config = options.config;
  state->config.layout_version = ABI_LAYOUT_VERSION;
  state->sockets = options.sockets;
  BPFNET_TRY(set_clock(state->config));
  timeouts_to_ticks(state->config);
  BPFNET_TRY(check_config(state->config));
  state->features = probe_kernel();
  BPFNET_TRY(state->features.check());

  BPFNET_TRY(ensure_bpffs(state->pin_dir));
  auto lock = lock_directory(state->pin_dir);
  if (!lock) return pass(lock);
  state->lock = std::move(*lock);
  BPFNET_TRY(make_directory(layout_dir(state->pin_dir)));
  BPFNET_TRY(make_directory(link_dir(state->pin_dir)));

  if (options.defragment) {
    state->defragmenter = ensure_defragmenter(state->pin_dir);
    state->config.defrag_ifindex = static_cast<uint32_t>(state->defragmenter.ifindex);
  } else {
    state->defragmenter.missing = "not asked for";
  }
  BPFNET_TRY(state->load(options));
  BPFNET_TRY(state->start_timer());
  if (options.tc == TcMechanism::kTcx && !state->features.has("tcx"))
    return fail_errno(EOPNOTSUPP, "kernel {}: has no TCX links", state->features.release);
  const bool links = options.tc != TcMechanism::kClsact && state->features.has("tcx");
  state->pod_mechanism = options.tc == TcMechanism::kTcx ? TcMechanism::kTcx : TcMechanism::kClsact;
  state->mechanism = links ? TcMechanism::kTcx : TcMechanism::kClsact;
  State* raw = state.get();
  state->attachments = AttachmentTable(link_dir(state->pin_dir),
                                       [raw](const std::string& hook) { return raw->program_fd(hook); });
  auto notes = state->attachments.adopt();
  if (!notes) return pass(notes);
  state->warnings.insert(state->warnings.end(), notes->begin(), notes->end());
  if (state->defragmenter.ifindex != 0) {
    auto defragmenter = state->attachments.attach(state->defragmenter.ifindex, "from_defrag",
                                                  AttachPoint::kIngress, state->mechanism);
    if (!defragmenter) return pass(defragmenter);
  }
  return Datapath(std::move(state));
}

const maps::Maps& Datapath::maps() const {
  return state_->maps;
}
const datapath_config& Datapath::config() const {
  return state_->config;
}
const KernelFeatures& Datapath::features() const {
  return state_->features;
}
bool Datapath::adopted() const {
  return state_->adopted;
}
const std::string& Datapath::no_defragmenter() const {
  return state_->defragmenter.missing;
}
const std::vector<std::string>& Datapath::warnings() const {
  return state_->warnings;
}
Status Datapath::set_primary_uplink(uint32_t ifindex) {
  if (state_->config.primary_uplink == ifindex) return ok();
  datapath_config config = state_->config;
  config.primary_uplink = ifindex;
  BPFNET_TRY(state_->maps.node_config.put(0, config));
  state_->config = config;
  return ok();
}
int Datapath::program_fd(std::string_view name) const {
  return state_->program_fd(std::string(name));
}

Status Datapath::attach_pair(int ifindex, const char* ingress, const char* egress, TcMechanism mechanism) {
  AttachmentTable& table = state_->attachments;
  auto first = table.attach(ifindex, ingress, AttachPoint::kIngress, mechanism);
  if (!first) return pass(first);
  auto second = table.attach(ifindex, egress, AttachPoint::kEgress, mechanism);
  if (second) return ok();
  if (*first)
    if (auto undone = table.detach(ifindex, ingress); !undone) spdlog::warn("{}", undone.error().message);
  return pass(second);
}

Status Datapath::attach_pod(int ifindex) {
  return attach_pair(ifindex, "from_pod", "to_pod", state_->pod_mechanism);
}

Result<std::string> Datapath::attach_uplink(int ifindex, XdpMode mode) {
  BPFNET_TRY(attach_pair(ifindex, "from_uplink", "to_uplink", state_->mechanism));
  if (mode == XdpMode::kAuto) {
    auto netlink = Netlink::open();
    if (!netlink) return pass(netlink);
    auto link = netlink->link(ifindex);
    if (!link) return pass(link);
    if (*link && (*link)->kind == "veth") mode = XdpMode::kOff;
  }
  AttachmentTable& table = state_->attachments;
  if (mode == XdpMode::kOff) {
    BPFNET_TRY(table.detach(ifindex, "xdp_uplink"));
    return std::string("off");
  }
  if (mode != XdpMode::kGeneric) {
    auto native = table.attach(ifindex, "xdp_uplink", AttachPoint::kXdpNative);
    if (native) return std::string("xdp-native");
    if (mode == XdpMode::kNative || native.error().code == EBUSY) return pass(native);
    state_->warnings.push_back(fmt::format("{}; generic XDP is used", native.error().message));
  }
  auto generic = table.attach(ifindex, "xdp_uplink", AttachPoint::kXdpGeneric);
  if (!generic) return pass(generic);
  return std::string("xdp-generic");
}

Status Datapath::attach_host(int router_ifindex, int lo_ifindex) {
  AttachmentTable& table = state_->attachments;
  auto router = table.attach(router_ifindex, "from_host", AttachPoint::kIngress, state_->mechanism);
  if (!router) return pass(router);
  auto lo = table.attach(lo_ifindex, "from_host", AttachPoint::kEgress, state_->mechanism);
  if (lo) return ok();
  if (*router)
    if (auto undone = table.detach(router_ifindex, "from_host"); !undone)
      spdlog::warn("{}", undone.error().message);
  return pass(lo);
}

Status Datapath::attach_overlay(int ifindex) {
  auto attached =
      state_->attachments.attach(ifindex, "from_overlay", AttachPoint::kIngress, state_->mechanism);
  return attached ? ok() : Status(pass(attached));
}

Status Datapath::attach_sockets(const std::string& cgroup) {
  if (!state_->features.has("cgroup-sock-addr"))
    return fail_errno(EOPNOTSUPP, "kernel {}: has no cgroup hooks for socket addresses",
                      state_->features.release);
  if (!state_->sockets) return fail("socket programs: not loaded");
  std::vector<CgroupProgram> programs;
  each_socket_program(state_->skeleton->obj, [&](const bpf_program* program) {
    programs.push_back({.name = bpf_program__name(program),
                        .fd = bpf_program__fd(program),
                        .type = static_cast<uint32_t>(bpf_program__expected_attach_type(program))});
  });
  return attach_cgroup(socket_link_dir(layout_dir(state_->pin_dir)), cgroup, programs);
}

Status Datapath::detach_sockets() {
  return detach_cgroup(socket_link_dir(layout_dir(state_->pin_dir)));
}

Status Datapath::detach(int ifindex) {
  return state_->attachments.detach_all(ifindex);
}

Result<std::vector<std::string>> Datapath::remove_stale() {
  return state_->attachments.remove_stale();
}

Result<std::vector<Attachment>> Datapath::attachments() const {
  return pinned_attachments(state_->pin_dir);
}

Result<std::vector<Attachment>> Datapath::pinned_attachments(const std::string& pin_dir) {
  return AttachmentTable::list(link_dir(pin_dir));
}

Status Datapath::remove(const std::string& pin_dir) {
  if (is_bpffs(pin_dir)) {  // open() pins nowhere else
    auto lock = lock_directory(pin_dir);
    if (!lock) return pass(lock);
    BPFNET_TRY(remove_defragmenter(pin_dir));
    auto names = list_directory(pin_dir);
    if (!names) return pass(names);
    for (const std::string& name : *names) {
      const bool ours =
          name.size() > 1 && name[0] == 'v' && name.find_first_not_of("0123456789", 1) == std::string::npos;
      if (!ours) continue;
      const std::string layout = fmt::format("{}/{}", pin_dir, name);
      BPFNET_TRY(detach_cgroup(socket_link_dir(layout)));
      BPFNET_TRY(AttachmentTable::remove_all(layout + "/links"));
      BPFNET_TRY(remove_tree(layout));
    }
  }
  return unmount_bpffs(pin_dir);
}

}  // namespace bpfnet::loader
