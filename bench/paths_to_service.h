#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bench/kube_proxy.h"
#include "bench/population.h"
#include "bench/round_trip.h"
#include "tests/support/cluster/cluster.h"

namespace bpfnet::bench {

/// Who carries a connection from the client's namespace through the node's to the backend's.
enum class Mode {
  kForwarding,      ///< the kernel's routing alone, asked for the backend itself: the floor
  kBpfnet,          ///< an agent, pods wired by bpfnet-cni; packets alone
  kBpfnetSockets,   ///< the same, sockets translated when they connect
  kIptablesLegacy,  ///< kube-proxy's rules, loaded by iptables-legacy-restore
  kIptablesNft,     ///< the same, by iptables-nft-restore
  kNftables,        ///< kube-proxy's nftables mode
};
const char* mode_name(Mode mode);

/// The ports its backend listens on: a service's endpoints differ by them.
constexpr uint16_t kFirstBackendPort = 9000;

/// A client, a node and a backend, joined by veth pairs, and services on the node of which the last one is
/// answered by the backend. Taken down with the object.
class PathToService {
 public:
  virtual ~PathToService() = default;

  [[nodiscard]] Mode mode() const { return mode_; }
  [[nodiscard]] size_t services() const { return services_; }
  [[nodiscard]] const e2e::Netns& client() const { return *client_; }
  /// What the client asks for.
  [[nodiscard]] const e2e::HostPort& target() const { return target_; }
  /// Reading and loading of the services, ms.
  [[nodiscard]] double load_ms() const { return load_ms_; }

  /// Moves the process into the path's cgroup, or back to where it came from if the path has none.
  void enter() const;
  /// Starts the backend's server on the calling thread's CPU.
  void serve();
  /// Asks until every endpoint of the service has answered. Throws if one never does, if another one does, or
  /// if the backend sees another source than the client's address.
  virtual void prove();

 protected:
  PathToService(Mode mode, size_t services, size_t endpoints)
      : mode_(mode), services_(services), endpoints_(endpoints) {}
  /// The services with the last one's endpoints at `backend`; sets the target to it.
  std::vector<Service> population(const Address& backend);

  Mode mode_;
  size_t services_;
  size_t endpoints_;
  const e2e::Netns* client_ = nullptr;
  const e2e::Netns* backend_ = nullptr;
  Address client_ip_;
  e2e::HostPort target_;
  std::string cgroup_;  ///< of the sockets that are translated; empty: none are
  double load_ms_ = 0;
  std::unique_ptr<RequestServer> server_;
};

/// Makes one; `index` (unique, below 200) gives it names and addresses of its own. Throws std::runtime_error.
std::unique_ptr<PathToService> make_path(const e2e::ClusterOptions& options, size_t index, Mode mode,
                                         size_t services, size_t endpoints);

}  // namespace bpfnet::bench
