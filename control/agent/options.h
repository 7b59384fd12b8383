#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/fd.h"
#include "base/result.h"
#include "control/etcd/config.h"

namespace bpfnet::agent {

/// What a user can say to bpfnetd; flags and the file of --config fill it.
struct Options {
  std::string node_name;         ///< empty: the host's name in lower case (S9)
  std::string source = "files";  ///< files, etcd, kubernetes
  etcd::Config etcd;
  std::string manifests = "/etc/bpfnet/manifests";
  std::string kubeconfig;  ///< file; empty: the service account of the Pod
  std::string api_server;  ///< URL; empty: what the former says
  std::string state_dir = "/var/lib/bpfnet";
  std::string bpffs = "/sys/fs/bpf/bpfnet";
  std::string socket = "/run/bpfnet/bpfnet.sock";
  std::string cgroup = "/sys/fs/cgroup";
  std::string sockets = "auto";  ///< on, off, auto
  std::string netns;             ///< path; empty: the caller's
  std::string cni_conf;          ///< conflist that is written when pods can be served; empty: none
  std::string cni_bin_dir;       ///< where bpfnet-cni is copied to; empty: nowhere
  std::vector<std::string> uplinks;
  std::vector<Cidr> pod_cidrs;  ///< empty: the own Node's podCIDRs
  std::vector<Cidr> cluster_cidrs;
  std::vector<Cidr> service_cidrs;     ///< default_service_cidrs()
  bool service_cidrs_guessed = false;  ///< nobody named them, and the cluster may have others
  std::vector<Cidr> node_port_addresses;
  bool node_port_primary = false;                   ///< S35: the Node's primary IPs
  std::string healthz_address = "0.0.0.0:10256";    ///< empty: off
  std::string metrics_address = "127.0.0.1:10249";  ///< empty: off
  uint32_t max_flows = 65536;
  uint32_t endpoint_flow_quota = 0;
  uint32_t max_policy_entries = 131072;
  uint32_t max_addresses = 65536;
  uint32_t max_cidrs = 16384;
  uint32_t tcp_established_timeout = 86400;  ///< seconds (S48)
  uint32_t tcp_close_wait_timeout = 3600;    ///< seconds (S48)
  bool masquerade = true;
  bool policy_audit = false;
  std::string policy_denied = "drop";  ///< drop, reject
  std::string xdp = "auto";
  std::string routing = "native";  ///< native, overlay
  uint16_t overlay_port = 4789;
  uint32_t overlay_vni = 1;
  bool trace = false;
  std::string log_level = "info";

  static std::vector<Cidr> default_service_cidrs();
};

/// The state directory of one agent, locked while this lives: a second agent is refused by name.
class StateDir {
 public:
  static Result<StateDir> lock(const std::string& path);
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string database() const { return path_ + "/bpfnet.db"; }
  /// Where bpfnet-cni leaves DELs that no agent was there to take.
  [[nodiscard]] std::string pending_deletes() const { return path_ + "/deletes"; }
  /// Takes away what an agent made in it, then the directory if nothing else is there. Names what it could
  /// not.
  Status remove();

 private:
  StateDir(std::string path, Fd lock) : path_(std::move(path)), lock_(std::move(lock)) {}
  std::string path_;
  Fd lock_;
};

/// The options in effect as the JSON of /configz, by the names of their flags.
std::string configz(const Options& options);

/// The host's name, lower-cased (S9).
std::string default_node_name();

}  // namespace bpfnet::agent
