#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/result.h"
#include "control/cni/endpoint_manager.h"
#include "loader/datapath.h"

namespace bpfnet::agent {

/// Translation at sockets: whether it is on, and whose sockets are translated. The map says it by the cookie
/// of the network namespace, which outlives the agent. Owned by the event loop's thread.
class Sockets {
 public:
  enum class Mode { kOff, kOn, kAuto };
  /// `off`, `on`, `auto`
  static Mode parse_mode(const std::string& text);

  /// `mode` kAuto: without the kernel's or the cgroup's help translation stays off, with one warning; kOn: an
  /// error then. The calling thread's netns is the node's.
  static Result<Sockets> start(loader::Datapath& datapath, Mode mode, const std::string& cgroup,
                               const std::map<uint16_t, cni::LiveEndpoint>& pods);

  /// `on, for processes below /sys/fs/cgroup`, `off: <why>`
  [[nodiscard]] const std::string& state() const { return state_; }
  [[nodiscard]] bool on() const { return on_; }

  /// The cookie of the netns at the endpoint's path, entering it on the calling thread; any thread. An error
  /// where the endpoint's device is not in it: a path /proc/PID/ns/net leads elsewhere once the number is
  /// another process's.
  static Result<uint64_t> cookie_of(const cni::LiveEndpoint& endpoint);

  /// From now on the pod's sockets are translated, or no more.
  Status add_pod(uint16_t endpoint, uint64_t cookie);
  Status remove_pod(uint16_t endpoint);

 private:
  explicit Sockets(const loader::Datapath& datapath) : datapath_(&datapath) {}
  Status set_namespaces(const std::map<uint16_t, cni::LiveEndpoint>& pods);

  const loader::Datapath* datapath_;
  bool on_ = false;
  std::string state_;
  std::map<uint16_t, uint64_t> cookies_;  ///< by endpoint; two networks of one pod share one
};

}  // namespace bpfnet::agent
