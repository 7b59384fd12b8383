#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "tests/support/netns.h"
#include "tests/support/node.h"

namespace bpfnet::test {

/// A node whose programs run at its devices, with the far ends of its uplink and of its pods in a namespace
/// of their own: what they send is met by the programs, what reaches them is read. For what BPF_PROG_TEST_RUN
/// cannot carry: tunnels. One for a node; ends with it.
class Wire {
 public:
  /// Attaches from_pod, from_uplink, to_uplink and from_overlay.
  static Result<std::unique_ptr<Wire>> attach(Node& node);
  ~Wire();

  /// Puts a frame on the far end: `uplinkp`, `pod1p`, ...
  void send(const std::string& device, const Packet& frame);
  /// Forgets what has come so far.
  void drain();
  /// The next frame that comes out at the far end and is none of the stack's own on the link; nullopt: none
  /// for a while. Programs answer at once: a packet that did not come within it was dropped.
  std::optional<Packet> receive(const std::string& device);
  /// Drops counted since the last call, by enum drop_reason, at this hook.
  std::map<int, uint64_t> drops(enum hook hook);

 private:
  struct Tap {
    std::string device;
    Fd socket;
  };
  explicit Wire(Node& node, Netns far) : node_(node), far_(std::move(far)) {}
  Status move_far_ends();
  Status open_taps();
  Status attach_program(const std::string& device, const std::string& program, bool ingress);
  [[nodiscard]] int socket_of(const std::string& device) const;

  Node& node_;
  Netns far_;
  std::vector<Tap> taps_;
  std::vector<packet_count> drops_;
};

}  // namespace bpfnet::test
