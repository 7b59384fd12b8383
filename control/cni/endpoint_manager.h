#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "control/cni/error.h"
#include "control/cni/keyed_locks.h"
#include "control/cni/types.h"
#include "control/ipam/allocator.h"
#include "control/ipam/store.h"

namespace bpfnet::cni {

/// An endpoint together with what only the kernel knows of it now.
struct LiveEndpoint {
  ipam::EndpointRecord record;
  int host_ifindex = 0;
};

/// The steps of an ADD, in order. Whatever step an agent dies in, DEL or the next start undo it all.
enum class AddStep : uint8_t {
  kRecorded,   ///< endpoint in the store, state creating
  kLeased,     ///< its addresses too
  kLinked,     ///< the veth pair exists, both sides down
  kPublished,  ///< programs attached, in the maps
  kAddressed,  ///< addresses and routes in the pod, both sides up
  kReady,      ///< state ready
};
std::string_view to_string(AddStep step);

/// What the agent does for the endpoint manager. Called from API threads, several at once for different
/// containers, never twice at once for one container.
class EndpointHooks {
 public:
  virtual ~EndpointHooks() = default;
  /// Whether endpoints can be made now (first sync applied). The error tells what is missing.
  virtual Status ready() { return ok(); }
  /// Attach the programs, write endpoint, addresses, services and policy; return when all of it was read
  /// back from the maps. Both sides of the pair are still down: nothing passes before its verdict is in
  /// place. Must be repeatable.
  virtual Status publish(const LiveEndpoint& endpoint) = 0;
  /// Take everything out of the maps again; the device may be gone already. Must be repeatable.
  virtual Status withdraw(const ipam::EndpointRecord& endpoint) = 0;
  /// Whether programs and map entries are there (C13).
  virtual Status verify(const LiveEndpoint& endpoint) = 0;
  /// Who but a pod has this port of the node, or one of the range: `Service default/web:http`; nullopt:
  /// nobody.
  virtual std::optional<std::string> port_holder(const ipam::HostPort& /*port*/) { return std::nullopt; }
  /// An ADD has finished `step`: for traces and timings.
  virtual void reached(const AttachmentKey& /*key*/, AddStep /*step*/) {}
};

/// The agent's side of CNI. Every piece of work is recorded in the store before it begins and undone from
/// there when it fails (C9). All public calls are thread-safe: containers run side by side (C16), the calls
/// of one container one after the other. Bound to the netns it was opened in.
class EndpointManager {
 public:
  struct Options {
    std::string pending_deletes;  ///< directory of DELs the plugin left while no agent ran
    uint32_t default_mtu = 1500;  ///< of pods whose configuration names none
  };

  static Result<std::unique_ptr<EndpointManager>> open(Options options, ipam::Store& store,
                                                       ipam::Allocator& allocator, EndpointHooks& hooks);

  /// Of pods to come whose configuration names none.
  void set_default_mtu(uint32_t mtu) { default_mtu_ = mtu; }

  CniResult<AddReply> add(const AddRequest& request);
  /// Success also when there is nothing to delete (C11).
  CniResult<void> del(const DeleteRequest& request);
  CniResult<void> check(const CheckRequest& request);
  /// Deletes every endpoint of the network that is not valid; goes on after errors and tells them all (C14).
  CniResult<void> gc(const GcRequest& request);
  /// Whether an ADD could be served (C15). `own_ipam`: whether it would need one of our addresses.
  CniResult<void> status(bool own_ipam);

  /// At start, before the API is served: finishes pending and half-done deletes, removes half-made
  /// endpoints, and forgets endpoints whose device is certainly gone. Errors are logged; what failed is
  /// tried again at the next start or by the runtime's DEL. Gives the endpoints that are ready.
  Result<std::vector<LiveEndpoint>> recover();
  /// Works off the DELs the plugin left. To be called once more after the API socket listens: a plugin
  /// that saw no agent may have written its file after recover().
  void finish_pending_deletes();
  /// Forgets the endpoint of a vanished host device (the netns died without a DEL). False: not ours, or
  /// the device is there. Calls the hooks and waits for a call of the container that is under way: not for
  /// the thread that the hooks wait for.
  Result<bool> device_vanished(const std::string& host_ifname);
  /// The ready endpoints whose devices exist.
  Result<std::vector<LiveEndpoint>> endpoints() const;

 private:
  using ContainerLock = KeyedLocks::Guard;

  EndpointManager(Options options, Fd own_netns, ipam::Store& store, ipam::Allocator& allocator,
                  EndpointHooks& hooks);

  CniResult<void> clear_leftovers(const AttachmentKey& key);
  CniResult<void> claim(ipam::EndpointRecord& record);
  [[nodiscard]] CniResult<void> refuse_conflict(const ipam::EndpointRecord& wanted,
                                                const ipam::EndpointRecord& present) const;
  CniResult<void> lease(const AddRequest& request, ipam::EndpointRecord& record);
  CniResult<void> build(const AddRequest& request, ipam::EndpointRecord& record, int netns_fd);
  Status remove(const ipam::EndpointRecord& record);
  Status remove_key(const AttachmentKey& key);

  Options options_;
  std::atomic<uint32_t> default_mtu_;
  Fd own_netns_;
  ipam::Store& store_;
  ipam::Allocator& allocator_;
  EndpointHooks& hooks_;
  std::mutex claims_;
  KeyedLocks locks_;  ///< by container ID
};

}  // namespace bpfnet::cni
