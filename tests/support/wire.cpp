#include "tests/support/wire.h"

#include <arpa/inet.h>
#include <bpf/libbpf.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <stdexcept>

#include "tests/support/must.h"

namespace bpfnet::test {
namespace {

constexpr std::array<const char*, 3> kFarEnds = {"uplinkp", "pod1p", "pod2p"};
constexpr int kPatienceMs = 300;

/// Frames of the stacks' own (neighbours, multicast groups) are nobody's question.
bool concerns_us(const Packet& frame) {
  constexpr uint8_t kFirstOfTheLink = 130;
  const auto* icmp = frame.find<Icmp6>();
  return frame.find<Ip4>() || frame.find<Tcp>() || frame.find<Udp>() || frame.find<Frag6>() ||
         (icmp && icmp->type < kFirstOfTheLink);
}

}  // namespace

Result<std::unique_ptr<Wire>> Wire::attach(Node& node) {
  auto far = Netns::create();
  if (!far) return pass(far);
  std::unique_ptr<Wire> wire(new Wire(node, std::move(*far)));
  BPFNET_TRY(wire->move_far_ends());
  BPFNET_TRY(wire->open_taps());
  BPFNET_TRY(wire->attach_program("pod1", "from_pod", true));
  BPFNET_TRY(wire->attach_program("pod2", "from_pod", true));
  BPFNET_TRY(wire->attach_program("uplink", "from_uplink", true));
  BPFNET_TRY(wire->attach_program("uplink", "to_uplink", false));
  BPFNET_TRY(wire->attach_program("bpfnet3", "from_overlay", true));
  (void)wire->drops(HOOK_from_overlay);
  return wire;
}

/// A program delivers into another namespace only (bpf_redirect_peer).
Status Wire::move_far_ends() {
  std::string moves;
  std::string ups;
  for (const char* device : kFarEnds) {
    moves += fmt::format("link set {} netns /proc/{}/fd/{}\n", device, getpid(), far_.fd());
    ups += fmt::format("link set {} up\n", device);
  }
  BPFNET_TRY(node_.netns().ip_batch(moves));
  return far_.ip_batch(ups);
}

Status Wire::open_taps() {
  const Netns::Inside inside(far_);
  for (const char* device : kFarEnds) {
    Fd tap(::socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(ETH_P_ALL)));
    if (!tap) return fail_errno(errno, "packet socket: open");
    sockaddr_ll where{};
    where.sll_family = AF_PACKET;
    where.sll_protocol = htons(ETH_P_ALL);
    where.sll_ifindex = static_cast<int>(if_nametoindex(device));
    if (::bind(tap.get(), reinterpret_cast<const sockaddr*>(&where), sizeof(where)) != 0)
      return fail_errno(errno, "packet socket: bind to {}", device);
    taps_.push_back({device, std::move(tap)});
  }
  return ok();
}

/// clsact filters: there on every kernel.
Status Wire::attach_program(const std::string& device, const std::string& program, bool ingress) {
  const Netns::Inside inside(node_.netns());
  bpf_tc_hook hook{};
  hook.sz = sizeof(hook);
  hook.ifindex = static_cast<int>(node_.ifindex(device));
  hook.attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS);
  if (ingress) {  // first at every device
    const int made = bpf_tc_hook_create(&hook);
    if (made != 0) return fail_errno(-made, "clsact at {}: create", device);
  }
  hook.attach_point = ingress ? BPF_TC_INGRESS : BPF_TC_EGRESS;
  bpf_tc_opts options{};
  options.sz = sizeof(options);
  options.prog_fd = node_.program_fd(program);
  const int attached = bpf_tc_attach(&hook, &options);
  return attached == 0 ? ok() : Status(fail_errno(-attached, "{} at {}: attach", program, device));
}

/// The far namespace goes with its devices, and with them the near ends: the node is of no use afterwards.
Wire::~Wire() = default;

int Wire::socket_of(const std::string& device) const {
  for (const Tap& tap : taps_)
    if (tap.device == device) return tap.socket.get();
  throw std::runtime_error("no far end " + device);
}

void Wire::send(const std::string& device, const Packet& frame) {
  const Bytes bytes = frame.bytes();
  if (::send(socket_of(device), bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
    throw std::runtime_error("send by " + device + ": " + errno_name(errno));
}

void Wire::drain() {
  Bytes buffer(1 << 16);
  for (const Tap& tap : taps_)
    while (::recv(tap.socket.get(), buffer.data(), buffer.size(), 0) >= 0) {
    }
}

std::optional<Packet> Wire::receive(const std::string& device) {
  const int tap = socket_of(device);
  Bytes buffer(1 << 16);
  for (;;) {
    sockaddr_ll from{};
    socklen_t size = sizeof(from);
    const ssize_t got =
        ::recvfrom(tap, buffer.data(), buffer.size(), 0, reinterpret_cast<sockaddr*>(&from), &size);
    if (got >= 0) {
      if (from.sll_pkttype == PACKET_OUTGOING) continue;
      Packet frame = Packet::parse(Bytes(buffer.begin(), buffer.begin() + got));
      if (concerns_us(frame)) return frame;
      continue;
    }
    pollfd wait{.fd = tap, .events = POLLIN, .revents = 0};
    if (::poll(&wait, 1, kPatienceMs) <= 0) return std::nullopt;
  }
}

std::map<int, uint64_t> Wire::drops(enum hook hook) {
  const auto now = must(node_.maps().drop_counts.sums());
  std::map<int, uint64_t> fresh;
  for (size_t reason = 0; reason < DROP_REASONS_MAX; ++reason) {
    const size_t index = static_cast<size_t>(hook) * DROP_REASONS_MAX + reason;
    const uint64_t before = drops_.empty() ? 0 : drops_[index].packets;
    if (now[index].packets != before) fresh[static_cast<int>(reason)] = now[index].packets - before;
  }
  drops_ = now;
  return fresh;
}

}  // namespace bpfnet::test
