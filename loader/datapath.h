#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "loader/features.h"
#include "maps/abi/config.h"
#include "maps/maps.h"

namespace bpfnet::loader {

enum class XdpMode {
  kOff,
  kGeneric,
  kNative,  ///< an error where the driver has none
  kAuto,    ///< native, else generic; off on veth, whose packets carry incomplete checksums
};
/// `off`, `generic`, `native`, `auto`
Result<XdpMode> parse_xdp_mode(std::string_view text);
std::string_view to_string(XdpMode mode);

/// How TC programs are attached. Attaching a TCX link waits for an RCU grace period with the kernel's network
/// configuration locked: 22 ms for the two of a pod, 0.2 ms for two clsact filters (120 pods, measured
/// on 6.18). A pod's device is ours alone and comes and goes, so it gets filters; devices that others may use
/// get links.
enum class TcMechanism {
  kAuto,    ///< clsact filters at pods, TCX links elsewhere where the kernel has them (6.6)
  kTcx,     ///< TCX links everywhere
  kClsact,  ///< clsact filters everywhere
};

/// Entries of each map; flow maps follow config.max_flows. A pinned map keeps the size it has.
struct DatapathSizes {
  uint32_t endpoints = 4096;
  uint32_t interfaces = 4096;
  uint32_t addresses = 65536;
  uint32_t cidrs = 16384;
  uint32_t frontends = 131072;
  uint32_t frontend_ranges = 16384;
  uint32_t source_ranges = 65536;
  uint32_t affinities = 65536;
  uint32_t backend_slots = 262144;
  uint32_t backend_states = 65536;
  uint32_t policies = 131072;
  uint32_t fragments = 8192;
  uint32_t event_bytes = 1 << 20;  ///< ring buffer; a power of two, whole pages
};

/// Defaults for everything a user does not say: timeouts, ports, marks, 65536 flows.
datapath_config default_config();

struct DatapathOptions {
  std::string pin_dir;  ///< on a bpffs; made a bpffs when it is on none
  /// Timeouts are seconds here, ticks in what is loaded. layout_version, tick_shift, tick_ns are set by
  /// open(); hash_seed 0: random, and kept over adoption; so is primary_uplink where it is 0.
  datapath_config config = default_config();
  DatapathSizes sizes;
  TcMechanism tc = TcMechanism::kAuto;
  bool sockets = true;      ///< load the programs that attach_sockets() needs
  bool defragment = false;  ///< with a defragmenter: fragments may come in any order (loader/defrag.h)
};

/// A program at a hook of a device.
struct Attachment {
  std::string hook;    ///< `from_pod`, ...: also the program's name
  std::string ifname;  ///< when it was attached
  int ifindex = 0;
  std::string mechanism;  ///< `tcx`, `clsact`, `xdp-native`, `xdp-generic`
  uint32_t program = 0;   ///< kernel id of the program that runs there now
};

/// The loaded datapath: programs, maps and links of one node, all pinned below
///   <pin_dir>/v<layout>/maps/<map>               and
///   <pin_dir>/v<layout>/links/<ifname>_<hook>    (dots of names written %2e: bpffs allows none) and
///   <pin_dir>/v<layout>/sockets/<program>.
/// They outlive this object: ending it leaves the datapath serving. open() on a directory with pins adopts
/// them: maps keep their contents, and every link runs the new program after one in-place update, without a
/// packet in between seeing none. attach calls act in the calling thread's netns. One thread at a time.
class Datapath {
 public:
  /// Locks `pin_dir` (flock on the directory, released with the process): a second agent is refused. Fails
  /// when the kernel lacks a feature, when a pinned map has other records than this build (named, with the
  /// way out), or when the kernel refuses a program (the verifier's last lines go to the log).
  static Result<Datapath> open(const DatapathOptions& options);
  Datapath(Datapath&&) noexcept;
  Datapath& operator=(Datapath&&) noexcept;
  ~Datapath();

  [[nodiscard]] const maps::Maps& maps() const;
  /// What runs: as asked for, with what open() filled in or kept from before.
  [[nodiscard]] const datapath_config& config() const;
  [[nodiscard]] const KernelFeatures& features() const;
  /// True when pinned maps were found and taken over.
  [[nodiscard]] bool adopted() const;
  /// What was done otherwise than asked: sizes kept, stale links removed.
  [[nodiscard]] const std::vector<std::string>& warnings() const;

  /// Empty: fragments may come in any order. Else why only in order.
  [[nodiscard]] const std::string& no_defragmenter() const;

  /// from_pod at ingress and to_pod at egress of the host side of a pod's veth. Attaching twice is the same
  /// as once; on failure nothing stays attached that was not before.
  Status attach_pod(int ifindex);
  /// from_uplink, to_uplink and, by `mode`, xdp_uplink. Gives the mechanism XDP got: `off`, `xdp-native`,
  /// `xdp-generic`.
  Result<std::string> attach_uplink(int ifindex, XdpMode mode);
  /// from_host at ingress of our router device and at egress of lo.
  Status attach_host(int router_ifindex, int lo_ifindex = 1);
  /// from_overlay at ingress of the device of the tunnels.
  Status attach_overlay(int ifindex);
  /// The programs `sock_*` at the cgroup: services are translated at the sockets of all processes below it,
  /// for network namespaces in the map `socket_namespaces`. EOPNOTSUPP: the kernel has no such hooks.
  Status attach_sockets(const std::string& cgroup);
  Status detach_sockets();
  /// Takes all our programs off the device; fine when there are none or the device is gone.
  Status detach(int ifindex);
  /// Removes link pins of devices that are gone, e.g. of pods deleted with their netns. Gives their names.
  Result<std::vector<std::string>> remove_stale();
  [[nodiscard]] Result<std::vector<Attachment>> attachments() const;
  /// From now on this device speaks for the node, see datapath_config.
  Status set_primary_uplink(uint32_t ifindex);
  /// The descriptor of a loaded program, for BPF_PROG_TEST_RUN; owned by the datapath. -1: no such program.
  [[nodiscard]] int program_fd(std::string_view name) const;

  /// Takes away everything a Datapath ever made under `pin_dir`, of every layout version: links (and so the
  /// programs at the devices), maps, directories, and the bpffs mount if open() made it. Refused while an
  /// agent runs. Fine when there is nothing.
  static Status remove(const std::string& pin_dir);
  /// Attachments as pinned, readable while an agent runs or none does; one that somebody took off its device
  /// is left out. From another netns the ifindex of a pod's device is 0.
  static Result<std::vector<Attachment>> pinned_attachments(const std::string& pin_dir);

 private:
  struct State;
  explicit Datapath(std::unique_ptr<State> state);
  Status attach_pair(int ifindex, const char* ingress, const char* egress, TcMechanism mechanism);
  std::unique_ptr<State> state_;
};

}  // namespace bpfnet::loader
